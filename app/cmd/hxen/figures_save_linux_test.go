package main

import (
	"os/exec"
	"testing"

	"github.com/hxen-project/hxen/hv/hvtest"
)

// TestFiguresGuestSave has one lab save a guest, copy the file with cp and restore
// the guest in turns, all in memory, and tells the rates.
func TestFiguresGuestSave(t *testing.T) {
	files := guestFiles(t)
	cp, err := exec.LookPath("cp")
	if err != nil {
		t.Fatal(err)
	}
	hvtest.WithLibraries(t, files, "bench/cp", cp)
	sideBySide(t, "TestBenchSave", "cp", files)
}

// TestFiguresGuestClone has one lab boot a guest and start clones of it in turns.
func TestFiguresGuestClone(t *testing.T) { sideBySide(t, "TestBenchClone", "boot", guestFiles(t)) }

// guestFiles are benchFiles with a guest that takes commands.
func guestFiles(t *testing.T) map[string]string {
	files := benchFiles(t)
	benchGuest(t, files, benchKernel)
	files["kernels/0-own/initrd"] = hvtest.GuestInitrd(t, benchKernel)
	return files
}
