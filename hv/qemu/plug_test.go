package qemu

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/hvtest"
)

// TestPlug: QEMU takes a disk while the guest runs. The guest here has no driver
// that would let go of it.
func TestPlug(t *testing.T) {
	l := newLab(t)
	m := boots(t, l, l.spec(t))
	d := hv.Disk{UUID: "01020304-0000-4000-8000-0000000000aa", Path: hvtest.GuestDisk(t, t.TempDir()), Format: hv.Raw, Mode: hv.ReadWrite}
	if err := m.AttachDisk(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if err := m.AttachDisk(t.Context(), d); err == nil {
		t.Error("a disk was attached twice")
	}
	var blocks []struct{ Qdev string }
	if err := m.mon.Do(t.Context(), "query-block", nil, &blocks); err != nil {
		t.Fatal(err)
	}
	found := false
	for _, b := range blocks {
		found = found || strings.Contains(b.Qdev, hotID(0))
	}
	if !found {
		t.Errorf("QEMU has the disks %+v", blocks)
	}
	if err := m.Save(t.Context(), t.TempDir()+"/saved", nil); err == nil || !strings.Contains(err.Error(), "plugged in") {
		t.Errorf("save: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := m.DetachDisk(ctx, d.UUID); err == nil || !strings.Contains(err.Error(), "let go") {
		t.Errorf("detach from a guest without a driver: %v", err)
	}
	if err := m.DetachDisk(t.Context(), m.spec.Disks[0].UUID); err == nil {
		t.Error("the disk of the start was detached")
	}
	if err := m.SetMemory(t.Context(), m.spec.Memory); err != nil {
		t.Error(err)
	}
	if err := m.SetMemory(t.Context(), 2*m.spec.Memory); err == nil {
		t.Error("a guest was given more memory than it was started with")
	}
}
