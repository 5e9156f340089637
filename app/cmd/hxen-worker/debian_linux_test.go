package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/hvtest"
	"github.com/hxen-project/hxen/hv/native"
	"github.com/hxen-project/hxen/platform/accel"
	"github.com/hxen-project/hxen/platform/diskfile"
)

// debianPatience is for a whole system, and a package that is unpacked there.
const debianPatience = 40 * time.Minute

// bootDebian starts the lab's Debian disk, and logs in.
func bootDebian(t *testing.T, kernel string) *hvtest.Live {
	t.Helper()
	const disk = "/dev/nvme1n1"
	if _, err := os.Stat(disk); os.Getenv("HXEN_LAB") == "" || err != nil {
		t.Skip("the Debian disk is in the lab (HXEN_LONG=1 make test-guest)")
	}
	if err := hold(); err != nil {
		t.Fatal(err)
	}
	s := hv.Spec{
		Version: hv.SpecVersion, UUID: "01020304-0000-4000-8000-000000000007", Name: "debian", Type: hv.PVH,
		VCPUs: 1, Memory: 512 * hv.MiB, Boot: hv.Boot{Kernel: kernel},
		Disks: []hv.Disk{{UUID: "01020304-0000-4000-8000-000000000008", Path: disk, Format: hv.Raw, Mode: hv.ReadWrite}},
	}
	m, err := native.New(accel.Open).Launch(t.Context(), s, hv.Host{
		Dir: t.TempDir(), Cache: t.TempDir(), Work: t.TempDir(),
		OpenDisk: func(path string, readonly bool) (hv.DiskFile, error) { return diskfile.Open(path, readonly) },
	})
	if err != nil {
		t.Fatal(err)
	}
	l := hvtest.Follow(t, shownMachine{m})
	l.Guard = debianPatience
	logIn(l)
	return l
}

// shownMachine shows what its guest says, as it may take long to say it.
type shownMachine struct{ hv.Machine }

func (m shownMachine) Console() io.ReadWriter {
	con := m.Machine.(hv.Consoler).Console()
	return struct {
		io.Reader
		io.Writer
	}{io.TeeReader(con, os.Stdout), con}
}

func logIn(l *hvtest.Live) {
	l.Expect("login: ")
	l.Say("root\n")
	l.Expect("# ")
	l.Say("bind 'set enable-bracketed-paste off'; stty -echo; PS1=; echo quiet'-'now\n")
	l.Expect("quiet-now")
}

// shell has Debian's shell run a command, and returns what it printed.
func shell(l *hvtest.Live, command string) string {
	l.Say(command + "; echo '@'@ $?.\n")
	out := l.Expect("@@ ")
	l.Expect(".")
	return strings.TrimSpace(strings.ReplaceAll(out, "\r", ""))
}

// release is the running kernel's; it may have said something itself before.
func release(l *hvtest.Live) string { return lastLine(shell(l, "uname -r")) }

// TestDebianBoots: the disk boots by itself, and once another kernel was installed
// by the distribution's own means, that one.
func TestDebianBoots(t *testing.T) {
	l := bootDebian(t, "")
	before := release(l)
	t.Logf("booted %s with %s", before, shell(l, "cat /proc/cmdline"))
	t.Log(shell(l, "DEBIAN_FRONTEND=noninteractive dpkg --force-unsafe-io -i /root/next.deb 2>&1; sync"))
	l.Say("reboot\n")
	l.Event("reboot", func(e hv.Event) bool { return e.Kind == hv.EventReboot })
	logIn(l)
	after := release(l)
	t.Logf("booted %s with %s", after, shell(l, "cat /proc/cmdline"))
	if before == after || !strings.HasPrefix(after, "6.12") {
		t.Errorf("%s booted first, and %s after another kernel was installed", before, after)
	}
	l.Say("poweroff\n")
	l.Ended(hv.ExitPoweroff)
}

// TestDebianGRUB: the same disk, started by GRUB, whose kernel comes late.
func TestDebianGRUB(t *testing.T) {
	grub := filepath.Join(os.Getenv("HXEN_LAB"), "grub")
	if _, err := os.Stat(grub); err != nil {
		t.Skip("the lab has no GRUB (grub-xen-bin)")
	}
	l := bootDebian(t, grub)
	t.Logf("booted %s with %s", release(l), shell(l, "cat /proc/cmdline"))
	l.Say("poweroff\n")
	l.Ended(hv.ExitPoweroff)
}
