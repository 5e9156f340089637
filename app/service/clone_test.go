package service

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/hv"
)

// TestClone: a saved guest becomes a template, whose clones go on from its memory
// with their own identities and disks.
func TestClone(t *testing.T) {
	b := newBench(t)
	withNative(&b.opt)
	c := b.up()
	ref := c.create(api.NewGuest{Name: "web", Type: "pvh", Memory: 256 << 20, Kernel: kernelFile(t), DiskSize: 1 << 20, Forwards: []api.Forward{{From: 8080, To: 80}}})
	c.must(nil, "VM.start", ref, false, false)
	wantCode(t, c.call(nil, "VM.set_is_a_template", ref, true), api.ErrVMBadPowerState)
	wantCode(t, c.call(nil, "VM.clone", ref, "x"), api.ErrVMBadPowerState)
	c.must(nil, "VM.suspend", ref)
	disk := filepath.Join(b.opt.Store.Guest(ref.UUID(), "").Dir, c.diskOf(ref))
	if err := os.WriteFile(disk, []byte("the template's"), 0o600); err != nil {
		t.Fatal(err)
	}
	wantCode(t, c.call(nil, "VM.clone", ref, "early"), api.ErrRefused, "is not what it was")
	if err := os.Truncate(disk, 1<<20); err != nil {
		t.Fatal(err)
	}
	wantCode(t, c.call(nil, "VM.clone", ref, "early"), api.ErrRefused, "was changed")

	c.must(nil, "VM.resume", ref, false, true)
	c.must(nil, "VM.suspend", ref)
	c.must(nil, "VM.set_is_a_template", ref, true)
	r := c.vm(ref)
	if !r.IsATemplate || !slices.Equal(r.AllowedOperations, []string{"changing_name", "clone", "make_into_template", "destroy"}) {
		t.Errorf("the template: %+v", r)
	}
	for _, verb := range []string{"VM.resume", "VM.start"} {
		wantCode(t, c.call(nil, verb, ref, false, false), api.ErrVMIsTemplate)
	}
	wantCode(t, c.call(nil, "VM.hard_shutdown", ref), api.ErrVMIsTemplate)

	macs := map[string]bool{}
	var last api.Ref
	for _, name := range []string{"one", "two"} {
		var made api.Ref
		c.must(&made, "VM.clone", ref, name)
		r := c.vm(made)
		if r.PowerState != "Suspended" || r.IsATemplate || r.NameLabel != name || made == ref {
			t.Fatalf("clone %s: %+v", name, r)
		}
		var vif api.VIF
		c.must(&vif, "VIF.get_record", r.VIFs[0])
		macs[vif.MAC] = true
		files := b.opt.Store.Guest(made.UUID(), "")
		here, err1 := os.Stat(files.Clone())
		there, err2 := os.Stat(b.opt.Store.Guest(ref.UUID(), "").Saved())
		if err1 != nil || err2 != nil || !os.SameFile(here, there) {
			t.Errorf("its memory is not the template's: %v, %v", err1, err2)
		}
		if got, err := os.ReadFile(filepath.Join(files.Dir, c.diskOf(made))); err != nil || !strings.HasPrefix(string(got), "the template's") || len(got) != 1<<20 {
			t.Errorf("its disk holds %.20q, %v", got, err)
		}
		c.must(nil, "VM.resume", made, false, false)
		if r := c.vm(made); r.PowerState != "Running" {
			t.Errorf("the clone is %s", r.PowerState)
		}
		last = made
	}
	if len(macs) != 2 {
		t.Errorf("2 clones have the addresses %v", macs)
	}
	wantCode(t, c.call(nil, "VM.clone", ref, "two"), api.ErrRefused, "already")
	c.must(nil, "VM.hard_shutdown", last)
	c.must(nil, "VM.start", last, false, false)
	c.must(nil, "VM.destroy", ref)
	if left, _ := filepath.Glob(filepath.Join(b.opt.Store.Guests(), newPrefix+"*")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// diskOf is the file of a guest's first disk.
func (c *caller) diskOf(ref api.Ref) string {
	c.t.Helper()
	var vbd api.VBD
	c.must(&vbd, "VBD.get_record", c.vm(ref).VBDs[0])
	var vdi api.VDI
	c.must(&vdi, "VDI.get_record", vbd.VDI)
	return filepath.Base(vdi.Location)
}

// TestCheckpoint makes a template of a guest that runs on.
func TestCheckpoint(t *testing.T) {
	b := newBench(t)
	withNative(&b.opt)
	c := b.up()
	ref := c.create(api.NewGuest{Name: "web", Type: "pvh", Memory: 256 << 20, Kernel: kernelFile(t), DiskSize: 1 << 20, NoNetwork: true})
	c.must(nil, "VM.start", ref, false, false)
	wantCode(t, c.call(nil, "VM.checkpoint", ref, "web"), api.ErrRefused, "already")
	var made api.Ref
	c.must(&made, "VM.checkpoint", ref, "web as it was")
	c.until(ref, "running", isState(hv.Running))
	if r := c.vm(made); !r.IsATemplate || r.PowerState != "Suspended" {
		t.Errorf("the template: %+v", r)
	}
	var clone api.Ref
	c.must(&clone, "VM.clone", made, "one")
	c.must(nil, "VM.resume", clone, false, false)
	disk := filepath.Join(b.opt.Store.Guest(made.UUID(), "").Dir, c.diskOf(made))
	if err := os.Chtimes(disk, time.Time{}, time.Now()); err != nil {
		t.Fatal(err)
	}
	wantCode(t, c.call(nil, "VM.clone", made, "two"), api.ErrRefused, "was changed")
	hvm := c.create(api.NewGuest{Name: "hvm", NoNetwork: true})
	c.must(nil, "VM.start", hvm, false, false)
	wantCode(t, c.call(nil, "VM.checkpoint", hvm, "y"), api.ErrRefused, "pvh")
	c.must(nil, "VM.suspend", hvm)
	wantCode(t, c.call(nil, "VM.set_is_a_template", hvm, true), api.ErrRefused, "pvh")
}
