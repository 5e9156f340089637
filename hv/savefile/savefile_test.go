package savefile

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

type state struct{ Name string }

func write(t testing.TB, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "saved")
	err := Write(t.Context(), path, "test", func(f *os.File) (p Parts, err error) {
		if _, err := f.WriteAt(data, Begin); err != nil {
			return p, err
		}
		p[Data] = Part{Begin, uint64(len(data)), Sum(0, data)}
		p[State], err = WriteState(f, Begin+uint64(len(data)), state{"a guest"})
		return p, err
	})
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFile(t *testing.T) {
	path := write(t, []byte("the data"))
	f, err := Open(path, "test")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var s state
	if err := f.ReadState(&s); err != nil || s.Name != "a guest" {
		t.Errorf("its state is %+v, %v", s, err)
	}
	if b, err := io.ReadAll(f.Data()); err != nil || string(b) != "the data" {
		t.Errorf("its data is %q, %v", b, err)
	}
	if _, err := Open(path, "other"); err == nil || !strings.Contains(err.Error(), `engine "test"`) {
		t.Errorf("opened by another engine: %v", err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for what, b := range map[string][]byte{"cut": whole[:len(whole)-1], "header": whole[:20], "empty": nil} {
		if _, err := Read(bytes.NewReader(b), uint64(len(b)), "test"); err == nil {
			t.Errorf("%s: opened", what)
		}
	}
	whole[len(whole)-2] ^= 1
	if f, err = Read(bytes.NewReader(whole), uint64(len(whole)), "test"); err != nil {
		t.Fatal(err)
	}
	if err := f.ReadState(&s); err == nil {
		t.Error("a damaged state was read")
	}
}

// FuzzRead: a saved guest may come from anywhere.
func FuzzRead(f *testing.F) {
	b, err := os.ReadFile(write(f, []byte("data")))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(magic + "\x02\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		b = bytes.Clone(b)      // it is the fuzzer's
		if len(b) >= headSize { // what only a sum would keep out
			clear(b[12:16])
			sum := Sum(0, b[:headSize])
			b[12], b[13], b[14], b[15] = byte(sum), byte(sum>>8), byte(sum>>16), byte(sum>>24)
		}
		file, err := Read(bytes.NewReader(b), uint64(len(b)), "test")
		if err != nil {
			return
		}
		var s state
		_ = file.ReadState(&s)
		_, _ = file.ReadPart(Table)
		if got, err := io.ReadAll(file.Data()); err != nil || uint64(len(got)) != file.Parts[Data].N {
			t.Errorf("%d bytes of %d, %v", len(got), file.Parts[Data].N, err)
		}
	})
}
