package hvtest

import (
	_ "embed"
	"os"
	"path/filepath"
	"testing"
)

// bootSector is testdata/guest.s, assembled; its head says how and what it does.
//
//go:embed testdata/guest.bin
var bootSector []byte

// GuestDisk writes the tiny guest as a raw disk image into dir and returns its
// path. Firmware takes no disk smaller than a cylinder for a disk.
func GuestDisk(t testing.TB, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "guest.img")
	if err := os.WriteFile(path, bootSector, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 1<<20); err != nil {
		t.Fatal(err)
	}
	return path
}
