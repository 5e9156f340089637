package diskfile

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestPrompt: what is moved at once is what would be moved else, and file systems
// that are known to read so do.
func TestPrompt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	content := make([]byte, 1<<20)
	_, _ = rand.NewChaCha8([32]byte{}).Read(content)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path, false)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil {
		t.Fatal(err)
	}
	bufs := [][]byte{make([]byte, 512), make([]byte, 8192)}
	read := f.ReadVNow(bufs, 4096)
	switch fs.Type {
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC:
		if !read {
			t.Error("what was just written could not be read at once")
		}
	}
	if read && !bytes.Equal(bytes.Join(bufs, nil), content[4096:][:8704]) {
		t.Error("it read something else")
	}
	if f.ReadVNow(bufs, 1<<20-512) {
		t.Error("it read beyond the end")
	}
	// With or without what was tried at once, the write is whole.
	if !f.WriteVNow(bufs, 65536) {
		if err := f.WriteV(bufs, 65536); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got[65536:][:8704], bytes.Join(bufs, nil)) || len(got) != len(content) {
		t.Error("it wrote something else")
	}
}
