package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hxen-project/hxen/hv/hvtest"
)

// TestDemoGuest is what "make run" does without a display, and then a user's
// first minutes.
func TestDemoGuest(t *testing.T) {
	hvtest.Require(t, "images")
	h := newHouse(t)
	h.must("demo")
	h.must("demo") // again: nothing to do
	if out := h.must("console", "--until", "demo# ", "demo"); !strings.Contains(out, "What you can do here") {
		t.Errorf("the console showed no page of help:\n%s", out)
	}

	s := h.console("demo")
	s.expect("demo# ")
	if got := s.run("uname -a"); !strings.Contains(got, "Linux demo ") {
		t.Errorf("uname said %q", got)
	}
	s.run("until [ -f /run/gateway ]; do sleep 0.1; done")
	if got := s.run("ping -c 1 $(cat /run/gateway)"); !strings.Contains(got, "1 packets received") {
		t.Errorf("the gateway does not answer: %q", got)
	}

	if n := len(colours(h.screen("demo"))); n < 2 {
		t.Errorf("the screen has %d colours", n)
	}
	vm := h.vm("demo")
	if vm.PowerState != "Running" || vm.DomID < 1 {
		t.Errorf("%s, domid %d", vm.PowerState, vm.DomID)
	}
	if got := strings.TrimSpace(h.must("domid", "demo")); got != fmt.Sprint(vm.DomID) {
		t.Errorf("domid says %s, the record %d", got, vm.DomID)
	}
	if got := strings.TrimSpace(h.must("domname", fmt.Sprint(vm.DomID))); got != "demo" {
		t.Errorf("domname says %s", got)
	}

	h.must("pause", "demo")
	if got := h.must("list"); !strings.Contains(got, "--p---") {
		t.Errorf("a paused guest is listed as\n%s", got)
	}
	h.must("unpause", "demo")
	s.run("true")

	h.must("shutdown", "demo")
	if vm := h.vm("demo"); vm.PowerState != "Halted" || vm.DomID != -1 {
		t.Errorf("after shutdown: %s, domid %d", vm.PowerState, vm.DomID)
	}
	if n := h.processes("qemu-system-x86_64"); len(n) != 0 {
		t.Errorf("QEMU still runs: %v", n)
	}
	h.must("rename", "demo", "my demo")
	h.must("remove", "--yes", "my demo")
	if _, _, code := h.hxen("", "start", "my demo"); code != 3 {
		t.Errorf("starting a guest that is gone: exit code %d, want 3", code)
	}
}

// TestGuestPowersItselfOff: what ends inside the guest shows outside.
func TestGuestPowersItselfOff(t *testing.T) {
	hvtest.Require(t, "images")
	h := newHouse(t)
	h.must("demo")
	s := h.console("demo")
	s.expect("demo# ")
	s.say("poweroff")
	s.expect("demo has ended")
	if vm := h.vm("demo"); vm.PowerState != "Halted" {
		t.Errorf("after poweroff: %s", vm.PowerState)
	}
}

// TestConsoleLeavesTheTerminalAsItWas drives "hxen console" in a terminal.
func TestConsoleLeavesTheTerminalAsItWas(t *testing.T) {
	hvtest.Require(t, "images")
	h := newHouse(t)
	h.must("demo")
	outer, inner := openTerminal(t)
	before, err := unix.IoctlGetTermios(int(inner.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(h.bin, "hxen"), "console", "demo")
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = h.env, inner, inner, inner
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := &shell{h: h, in: outer}
	readUntil(t, outer, "demo# ")
	s.say("echo tw''o")
	readUntil(t, outer, "two")
	if during, _ := unix.IoctlGetTermios(int(inner.Fd()), unix.TCGETS); during.Lflag&unix.ICANON != 0 {
		t.Error("the terminal is not raw while the console is shown")
	}
	if _, err := outer.Write([]byte{0x1d}); err != nil { // Ctrl-]
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("Ctrl-] ended it with %v", err)
	}
	after, err := unix.IoctlGetTermios(int(inner.Fd()), unix.TCGETS)
	if err != nil || *after != *before {
		t.Errorf("the terminal was %+v, is %+v (%v)", before, after, err)
	}
	if vm := h.vm("demo"); vm.PowerState != "Running" {
		t.Errorf("leaving the console left the guest %s", vm.PowerState)
	}
}

// openTerminal makes a pseudo terminal, see pty(7).
func openTerminal(t *testing.T) (outer, inner *os.File) {
	t.Helper()
	outer, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(outer.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(outer.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	inner, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { inner.Close(); outer.Close() })
	return outer, inner
}

func readUntil(t *testing.T, f *os.File, want string) {
	t.Helper()
	var seen []byte
	for buf := make([]byte, 4096); !strings.Contains(string(seen), want); {
		n, err := f.Read(buf)
		if err != nil {
			t.Fatalf("waiting for %q: %v after %q", want, err, seen)
		}
		seen = append(seen, buf[:n]...)
	}
}
