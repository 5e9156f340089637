package diskfile

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// split cuts b into pieces of odd sizes, some empty.
func split(b []byte) (out [][]byte) {
	g := rand.New(rand.NewPCG(3, 4))
	for len(b) > 0 {
		n := min(len(b), g.IntN(600))
		out, b = append(out, b[:n:n]), b[n:]
	}
	return out
}

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	want := make([]byte, 1<<20)
	random := rand.NewChaCha8([32]byte{5})
	random.Read(want)
	if err := os.WriteFile(path, want, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path, false)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.Size() != 1<<20 {
		t.Errorf("it has %d bytes", f.Size())
	}
	got := make([]byte, 1<<20-7) // in more pieces than one call takes
	if err := f.ReadV(split(got), 7); err != nil || !bytes.Equal(got, want[7:]) {
		t.Errorf("read: %v", err)
	}
	random.Read(got)
	copy(want[7:], got)
	if err := f.WriteV(split(got), 7); err != nil {
		t.Error(err)
	}
	if err := f.ReadV([][]byte{make([]byte, 512)}, 1<<20-256); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("read beyond the end: %v", err)
	}
	switch err := f.Discard(4096, 8192); {
	case err == nil:
		clear(want[4096 : 4096+8192])
	case !errors.Is(err, errors.ErrUnsupported):
		t.Error(err)
	}
	if err := f.Flush(); err != nil {
		t.Error(err)
	}
	if b, err := os.ReadFile(path); err != nil || !bytes.Equal(b, want) {
		t.Errorf("the file does not hold what was written, %v", err)
	}
	if _, err := Open(path+".not", true); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
}

func TestReadOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, make([]byte, 512), 0o400); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chmod(path, 0o600) }) // what is read-only cannot be deleted everywhere
	f, err := Open(path, true)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.WriteV([][]byte{{1}}, 0); err == nil {
		t.Error("it was written")
	}
}
