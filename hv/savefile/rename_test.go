package savefile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestRenameWhileRead: that somebody reads the old file, as a program that looks for
// viruses does, does not fail who has a new one.
func TestRenameWhileRead(t *testing.T) {
	dir := t.TempDir()
	old, next := filepath.Join(dir, "old"), filepath.Join(dir, "next")
	for _, path := range []string{old, next} {
		if err := os.WriteFile(path, []byte(path), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Open(old)
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(100*time.Millisecond, func() { f.Close() })
	if err := Rename(next, old); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(old); err != nil || string(b) != next {
		t.Errorf("it holds %q, %v", b, err)
	}
	began := time.Now()
	if err := Rename(next, old); !errors.Is(err, fs.ErrNotExist) || time.Since(began) > time.Second {
		t.Errorf("what is not there: %v after %v", err, time.Since(began))
	}
}
