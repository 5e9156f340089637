package main

import (
	"crypto/sha256"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hxen-project/hxen/hv/bootdisk"
	"github.com/hxen-project/hxen/hv/hvtest"
)

// TestDebianDiskIsRead: what hv/bootdisk finds on a whole Debian disk is what
// e2fsprogs reads there too.
func TestDebianDiskIsRead(t *testing.T) {
	long(t)
	hvtest.Require(t, "images")
	raw := filepath.Join(t.TempDir(), "disk.raw")
	if out, err := exec.Command("qemu-img", "convert", "-O", "raw", debianImage(t), raw).CombinedOutput(); err != nil {
		t.Fatalf("qemu-img: %v\n%s", err, out)
	}
	checkDiskIsRead(t, raw, "66060288") // 63 MiB
}

// checkDiskIsRead compares what a disk boots with what debugfs reads from the file
// system at offset.
func checkDiskIsRead(t *testing.T, raw, offset string) {
	t.Helper()
	f, err := os.Open(raw)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	menu, err := bootdisk.Find(t.Context(), []bootdisk.Disk{{Data: f, Size: st.Size()}})
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range menu.Entries {
		kernel, initrd, err := entry.Open()
		if err != nil {
			t.Fatal(err)
		}
		if initrd == nil || !strings.Contains(entry.Cmdline, "root=") {
			t.Fatalf("entry %q has initrd %v and command line %q", entry.ID, initrd, entry.Cmdline)
		}
		for _, file := range []*bootdisk.File{kernel, initrd} {
			out := filepath.Join(t.TempDir(), "file")
			cmd := exec.Command("/sbin/debugfs", "-R", "dump "+file.Path+" "+out, raw+"?offset="+offset)
			if said, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("debugfs: %v\n%s", err, said)
			}
			want, err := os.ReadFile(out)
			if err != nil {
				t.Fatal(err)
			}
			got := sha256.New()
			if _, err := io.Copy(got, io.NewSectionReader(file, 0, file.Size)); err != nil {
				t.Fatal(err)
			}
			if sum := sha256.Sum256(want); len(want) < 1<<20 || string(got.Sum(nil)) != string(sum[:]) {
				t.Errorf("%s: %d bytes were read, debugfs reads others (%d bytes)", file.Path, file.Size, len(want))
			}
		}
		t.Logf("%s: %s, %d bytes, and %s, %d bytes", entry.ID, kernel.Path, kernel.Size, initrd.Path, initrd.Size)
	}
}
