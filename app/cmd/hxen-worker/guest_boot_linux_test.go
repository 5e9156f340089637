package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/hvtest"
)

// bootOwnDisk boots a copy of the lab's disk with two kernels on it
// (hv/hvtest/lab_test.go), by itself or, with a kernel, by that. at is where the
// disk says which of the two is to be booted.
func bootOwnDisk(t *testing.T, kernel string) (l *hvtest.Live, at int) {
	t.Helper()
	kernels(t) // skips where there is no lab
	disk, err := os.ReadFile(filepath.Join(os.Getenv("HXEN_LAB"), "boot.raw"))
	if err != nil {
		t.Fatal(err)
	}
	if at = bytes.Index(disk, []byte("saved_entry=a")); at < 0 {
		t.Fatal("the disk has no environment block")
	}
	path := filepath.Join(t.TempDir(), "boot.raw")
	if err := os.WriteFile(path, disk, 0o600); err != nil {
		t.Fatal(err)
	}
	s := guest("")
	s.Boot = hv.Boot{Kernel: kernel}
	s.Disks = []hv.Disk{{UUID: "01020304-0000-4000-8000-000000000002", Path: path, Format: hv.Raw, Mode: hv.ReadWrite}}
	return boot(t, s, hv.Host{Dir: t.TempDir(), Cache: t.TempDir(), Work: t.TempDir(), OpenDisk: openDisk}), at
}

// booted is the kernel that runs, and the entry of the disk's menu that it is.
func booted(t *testing.T, l *hvtest.Live, entry string) (release string) {
	t.Helper()
	release = l.Run("uname -r")
	if line := l.Run("cat /proc/cmdline"); !strings.Contains(line, "entry="+entry) {
		t.Errorf("%s was booted with %q, not entry %s", release, line, entry)
	}
	return release
}

// TestGuestOwnDisk: a guest without a kernel on the host boots the one on its disk,
// and once the guest has chosen the other one, that.
func TestGuestOwnDisk(t *testing.T) {
	l, at := bootOwnDisk(t, "")
	first := booted(t, l, "a")
	l.Run(fmt.Sprintf("echo -n saved_entry=b | dd of=/dev/xvda bs=1 seek=%d conv=notrunc 2>/dev/null; sync", at))
	l.Say("reboot -f\n")
	l.Event("reboot", func(e hv.Event) bool { return e.Kind == hv.EventReboot })
	l.Expect(hvtest.GuestReady)
	if second := booted(t, l, "b"); second == first {
		t.Errorf("%s was booted again", second)
	}
	l.Say("poweroff -f\n")
	l.Ended(hv.ExitPoweroff)
}

// TestGuestGRUB: the same disk, booted by GRUB's PVH image, whose kernel comes late.
func TestGuestGRUB(t *testing.T) {
	grub := filepath.Join(os.Getenv("HXEN_LAB"), "grub")
	if _, err := os.Stat(grub); os.Getenv("HXEN_LAB") != "" && err != nil {
		t.Skip("the lab has no GRUB (grub-xen-bin)")
	}
	l, _ := bootOwnDisk(t, grub)
	t.Log(booted(t, l, "a"))
	l.Say("poweroff -f\n")
	l.Ended(hv.ExitPoweroff)
}
