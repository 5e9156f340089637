package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/hxen-project/hxen/hv/hvtest"
)

// TestSaveAndRestore saves a Linux guest and lets it go on, with what it had in
// memory and its uptime; a service that dies in between forgets nothing.
func TestSaveAndRestore(t *testing.T) {
	hvtest.Require(t, "images")
	h := newHouse(t)
	h.must("demo")
	s := h.console("demo")
	s.expect("demo# ")
	s.run("echo remembered > /run/word")
	uptime := func(s *shell) float64 {
		for _, f := range strings.Fields(s.run("cat /proc/uptime")) {
			if v, err := strconv.ParseFloat(f, 64); err == nil {
				return v
			}
		}
		t.Fatal("the guest does not know its uptime")
		return 0
	}
	before := uptime(s)
	h.must("save", "demo")
	if vm := h.vm("demo"); vm.PowerState != "Suspended" {
		t.Fatalf("after save: %s", vm.PowerState)
	}
	if n := h.processes("qemu-system-x86_64"); len(n) != 0 {
		t.Errorf("QEMU still runs: %v", n)
	}
	if err := syscall.Kill(h.one("hxen"), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	saved, _ := filepath.Glob(filepath.Join(h.home, "guests", "*", "worker", "memory.save"))
	if len(saved) != 1 {
		t.Fatalf("saved states: %q", saved)
	}
	if n := len(colours(h.screen("demo"))); n < 2 {
		t.Errorf("the picture of the saved guest has %d colours", n)
	}
	h.must("restore", "demo")
	if _, err := os.Stat(saved[0]); err == nil {
		t.Error("the saved state is still there although the guest runs")
	}
	s = h.console("demo")
	s.say("")
	s.expect("demo# ")
	if got := s.run("cat /run/word"); !strings.Contains(got, "remembered") {
		t.Errorf("the guest has forgotten: %q", got)
	}
	if after := uptime(s); after <= before || after > before+120 {
		t.Errorf("its uptime went from %v to %v", before, after)
	}
	// Discarded, it boots.
	h.must("save", "demo")
	h.must("destroy", "demo")
	h.must("start", "demo")
	s = h.console("demo")
	s.expect("demo# ")
	if got := s.run("cat /run/word; true"); strings.Contains(got, "remembered") {
		t.Error("it did not boot although its saved state was discarded")
	}
}
