package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/hxen-project/hxen/hv/hvtest"
)

// TestFiguresGuestScreen has one lab run a guest that paints its whole screen, on
// Xen's vfb and on QEMU's std VGA in turns, and tells how many screens a second the
// same viewer gets of both.
func TestFiguresGuestScreen(t *testing.T) {
	files := benchFiles(t)
	benchQEMU(t, files)
	files["bench/qemu/share/vgabios-stdvga.bin"] = "/usr/share/seabios/vgabios-stdvga.bin"
	files["bench/qemu/share/keymaps/en-us"] = "/usr/share/qemu/keymaps/en-us"
	files["bench/initrd"] = screenInitrd(t)
	benchGuest(t, files, "linux-image-amd64") // the cloud kernel has no driver for std VGA
	sideBySide(t, "TestBenchScreen", "qemu", files)
}

// screenInitrd is for a guest that paints.
func screenInitrd(t *testing.T) string {
	stage := t.TempDir()
	hvtest.Mkdirs(t, stage, "dev", "proc", "sys")
	hvtest.PutBusybox(t, stage)
	if err := os.Rename(build(t, t.TempDir(), "../hxen-worker/testdata/screenbench"), filepath.Join(stage, "init")); err != nil {
		t.Fatal(err)
	}
	return hvtest.PackInitrd(t, stage)
}
