package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/hxen-project/hxen/hv/hvtest"
)

// TestUpgradeUnderGuests puts a newer hxen in the place of one that runs guests. The
// guests go on under the newer service, old workers obey it, and it starts new ones.
func TestUpgradeUnderGuests(t *testing.T) {
	h := newHouse(t)
	place := t.TempDir()
	for _, p := range []string{"hxen", "hxen-worker", "hxen-netd"} {
		if out, err := exec.Command("cp", filepath.Join(h.bin, p), place).CombinedOutput(); err != nil {
			t.Fatalf("%s", out)
		}
	}
	const newer = "99.9.9-test"
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-X main.version="+newer, "-o", filepath.Join(place, "new")+"/",
		"./app/cmd/hxen", "./app/cmd/hxen-worker")
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	h.bin = place
	image := hvtest.GuestDisk(t, t.TempDir())
	for _, name := range []string{"old", "saved"} {
		h.must("new", name, "--disk", image, "--copy", "--memory", "32M")
		h.must("start", name)
	}
	h.must("save", "saved")
	before := h.vm("old")
	worker, model := h.one("hxen-worker"), h.one("qemu-system-x86_64")

	// As an installer does it: the new files beside the old, then renamed.
	for _, p := range []string{"hxen", "hxen-worker"} {
		if err := os.Rename(filepath.Join(place, "new", p), filepath.Join(place, p)); err != nil {
			t.Fatal(err)
		}
	}
	if out := h.must("version"); !strings.Contains(out, "hxen "+newer) || !strings.Contains(out, "service dev") {
		t.Errorf("a newer command line beside the old service says %q", out)
	}
	if got := h.vm("old"); got.PowerState != "Running" {
		t.Errorf("the newer command line is told that the guest is %s by the old service", got.PowerState)
	}
	if err := syscall.Kill(h.one("service"), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	h.eventually("the old service's end", func() bool { return len(h.processes("service")) == 0 })
	if out := h.must("list"); !strings.Contains(out, "old") {
		t.Errorf("the newer service lists %q", out)
	}
	if out := h.must("version"); !strings.Contains(out, "service "+newer) {
		t.Errorf("the service is %q", out)
	}
	after := h.vm("old")
	if after.PowerState != "Running" || after.DomID != before.DomID || h.one("hxen-worker") != worker || h.one("qemu-system-x86_64") != model {
		t.Errorf("the guest is %s with domid %d, and was domid %d", after.PowerState, after.DomID, before.DomID)
	}
	// Its old worker does what the newer service asks.
	h.must("pause", "old")
	h.must("unpause", "old")
	h.must("save", "old")
	// What old workers saved, new ones go on from.
	for _, name := range []string{"old", "saved"} {
		h.must("restore", name)
		if got := h.vm(name).PowerState; got != "Running" {
			t.Errorf("guest %s is %s after it was restored", name, got)
		}
	}
}
