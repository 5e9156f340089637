package service

import (
	"os"
	"path/filepath"
	"testing"
)

// TestProgramLog: a log that has grown is put aside before the program that writes it
// starts, also in the place of an older one, and one that is in use stops no start.
func TestProgramLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "worker.log")
	grown := func(size int64) {
		t.Helper()
		f, err := openProgramLog(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteString("a line"); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, size); err != nil {
			t.Fatal(err)
		}
	}
	sizes := func(want, older int64) {
		t.Helper()
		now, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if now.Size() != want {
			t.Errorf("the log has %d bytes, want %d", now.Size(), want)
		}
		if old, err := os.Stat(path + ".1"); (err == nil) != (older > 0) || err == nil && old.Size() != older {
			t.Errorf("the older log: %v, %v, want %d bytes", old, err, older)
		}
	}
	grown(programLog)
	grown(programLog + 1)
	sizes(programLog+1, 0)
	grown(programLog + 2)
	sizes(programLog+2, programLog+1)
	grown(0)
	sizes(0, programLog+2)

	grown(programLog + 3)
	reader, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	f, err := openProgramLog(path)
	if err != nil {
		t.Fatalf("while somebody reads it: %v", err)
	}
	f.Close()
}
