package model_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/app/desktop/model"
	"github.com/hxen-project/hxen/app/desktop/model/modeltest"
)

const gib = int64(1) << 30

// drive begins whole paths: C: on Windows, elsewhere nothing.
var drive = filepath.VolumeName(os.TempDir())

func TestWizardFromISOToGuest(t *testing.T) {
	s := modeltest.New()
	s.Add("Debian 12", model.Halted)
	s.SetProbe(drive+"/isos/debian.iso", api.ProbeResult{Kind: "iso", Format: "iso9660", OS: "Debian 12", Label: "Debian 12.9", Size: 660 << 20, BIOS: true, UEFI: true})
	lib, turn := online(t, s)
	turn.until(t, "the guest", func() bool { return lib.Count() == 1 })
	changed := false
	w := lib.NewWizard("", func() { changed = true })
	if p := w.Problems(); len(p) != 1 || w.Next() {
		t.Errorf("nothing is chosen, and the problems are %q", p)
	}
	w.SetPath(" " + drive + "/isos/debian.iso ")
	if w.Next() {
		t.Error("went on before the file was looked at")
	}
	turn.until(t, "the probe", func() bool { return changed })
	if w.Name != "Debian 12 2" || w.Firmware != "bios" || w.Memory != 4*gib || w.VCPUs != 4 || w.DiskSize != 32*gib {
		t.Errorf("defaults: %q %s %d %d %d", w.Name, w.Firmware, w.Memory, w.VCPUs, w.DiskSize)
	}
	if got := w.FileText(); got != "Debian 12, Debian 12.9, iso9660, 660 MiB" {
		t.Errorf("the file is %q", got)
	}
	for w.Page != model.PageSummary {
		if !w.Next() {
			t.Fatalf("page %d: %q", w.Page, w.Problems())
		}
	}
	if w.Next() {
		t.Error("there is a page after the last")
	}
	var made api.Created
	ended := false
	w.Create(func(c api.Created) { made = c }, func(err error) { ended = err == nil })
	turn.until(t, "the guest runs", func() bool {
		vm := lib.Find(string(made.VM))
		return ended && vm != nil && vm.Is(model.Running)
	})
	want := api.NewGuest{Name: "Debian 12 2", Memory: 4 * gib, VCPUs: 4, Firmware: "bios", ISO: drive + "/isos/debian.iso", DiskSize: 32 * gib}
	got := s.Created()[0]
	if got.Name != want.Name || got.Memory != want.Memory || got.ISO != want.ISO || got.DiskSize != want.DiskSize || got.Firmware != want.Firmware || got.VCPUs != want.VCPUs {
		t.Errorf("asked for %+v", got)
	}
}

func TestWizardKeepsWhatTheUserChose(t *testing.T) {
	s := modeltest.New()
	s.SetProbe(drive+"/a.iso", api.ProbeResult{Kind: "iso", OS: "Newer OS", UEFI: true})
	lib, turn := online(t, s)
	w := lib.NewWizard("", func() {})
	w.SetName("mine")
	w.SetMemory(7 * gib)
	w.SetVCPUs(3)
	w.SetDiskSize(0)
	w.SetPath(drive + "/a.iso")
	turn.until(t, "the probe", func() bool { _, known := w.Probed(); return known })
	if w.Name != "mine" || w.Memory != 7*gib || w.VCPUs != 3 || w.DiskSize != 0 {
		t.Errorf("a default replaced what was chosen: %+v", w)
	}
	if w.Firmware != "uefi" {
		t.Error("a medium that boots with UEFI only was given BIOS")
	}
}

func TestWizardSourcesAndRequests(t *testing.T) {
	s := modeltest.New()
	s.SetProbe(drive+"/d.qcow2", api.ProbeResult{Kind: "disk", Format: "qcow2", Size: 8 << 30})
	s.SetProbe(drive+"/vmlinuz", api.ProbeResult{Kind: "kernel"})
	lib, turn := online(t, s)
	probed := func(w *model.Wizard) {
		turn.until(t, "the probe", func() bool { _, known := w.Probed(); return known })
	}
	w := lib.NewWizard("", func() {})
	w.SetSource(model.FromDisk)
	w.SetPath(drive + "/d.qcow2")
	w.CopyDisk = true
	probed(w)
	if r := w.Request(); r.Disk != drive+"/d.qcow2" || !r.CopyDisk || r.DiskSize != 0 || r.ISO != "" || r.Name != "d" {
		t.Errorf("from a disk: %+v", r)
	}
	w.SetSource(model.FromKernel)
	w.SetPath(drive + "/vmlinuz")
	w.Initrd, w.Cmdline = drive+"/initrd ", "console=ttyS0"
	probed(w)
	if r := w.Request(); r.Kernel != drive+"/vmlinuz" || r.Initrd != drive+"/initrd" || r.Cmdline != "console=ttyS0" || r.Disk != "" || r.DiskSize != 0 || r.Memory != gib/2 {
		t.Errorf("from a kernel: %+v", r)
	}
	w.SetSource(model.FromBlank)
	if r := w.Request(); r.Kernel != "" || r.DiskSize != 32*gib || len(w.Problems()) != 0 {
		t.Errorf("from nothing: %+v, %q", r, w.Problems())
	}
}

func TestWizardRefusesWithSentences(t *testing.T) {
	s := modeltest.New()
	s.Add("taken", model.Halted)
	s.SetHost(func(h *api.HostInfo) { h.UEFI = false })
	s.SetProbe(drive+"/disk.img", api.ProbeResult{Kind: "disk", Format: "raw"})
	s.SetProbe(drive+"/bad", api.ProbeResult{Kind: "unknown", Problem: "the file is empty"})
	lib, turn := online(t, s)
	turn.until(t, "the guest", func() bool { return lib.Count() == 1 })
	cases := []struct {
		name string
		page model.Page
		set  func(*model.Wizard)
		want string
	}{
		{"no file", model.PageSource, func(w *model.Wizard) {}, "Choose the CD image"},
		{"relative", model.PageSource, func(w *model.Wizard) { w.SetPath("x.iso") }, "whole path"},
		{"other kind", model.PageSource, func(w *model.Wizard) { w.SetPath(drive + "/disk.img") }, "This is a disk image, not a CD image"},
		{"bad file", model.PageSource, func(w *model.Wizard) { w.SetPath(drive + "/bad") }, "The file is empty."},
		{"no file there", model.PageSource, func(w *model.Wizard) { w.SetPath(drive + "/missing.iso") }, "There is no file"},
		{"little memory", model.PageResources, func(w *model.Wizard) { w.SetMemory(1 << 20) }, "at least"},
		{"much memory", model.PageResources, func(w *model.Wizard) { w.SetMemory(100 * gib) }, "This computer has only 16 GiB"},
		{"no processor", model.PageResources, func(w *model.Wizard) { w.SetVCPUs(0) }, "needs a processor"},
		{"many processors", model.PageResources, func(w *model.Wizard) { w.SetVCPUs(1000) }, "at most"},
		{"no disk at all", model.PageResources, func(w *model.Wizard) { w.SetSource(model.FromBlank); w.SetDiskSize(0) }, "Give the disk a size"},
		{"huge disk", model.PageResources, func(w *model.Wizard) { w.SetDiskSize(1 << 60) }, "A disk can have"},
		{"no UEFI", model.PageResources, func(w *model.Wizard) { w.SetFirmware("uefi") }, "UEFI firmware is not installed"},
		{"no name", model.PageName, func(w *model.Wizard) { w.SetName("  ") }, "Give the machine a name"},
		{"taken", model.PageName, func(w *model.Wizard) { w.SetName("taken ") }, "named taken already"},
	}
	for _, c := range cases {
		w := lib.NewWizard("", func() {})
		c.set(w)
		w.Page = c.page
		turn.until(t, c.name, func() bool { return strings.Contains(strings.Join(w.Problems(), "\n"), c.want) })
		if w.Next() {
			t.Errorf("%s: went on", c.name)
		}
	}
}

// TestWizardTypesFasterThanProbes: the answer for a path that is no longer the
// one typed does not become the answer for the one that is.
func TestWizardTypesFasterThanProbes(t *testing.T) {
	s := modeltest.New()
	for _, p := range []string{drive + "/a", drive + "/ab", drive + "/abc"} {
		s.SetProbe(p, api.ProbeResult{Kind: "iso", Label: p})
	}
	lib, turn := online(t, s)
	w := lib.NewWizard("", func() {})
	for _, p := range []string{drive + "/a", drive + "/ab", drive + "/abc"} {
		w.SetPath(p)
	}
	turn.until(t, "the last probe", func() bool { r, known := w.Probed(); return known && r.Label == drive+"/abc" })
	w.SetPath(drive + "/a")
	turn.until(t, "the first again", func() bool { r, known := w.Probed(); return known && r.Label == drive+"/a" })
	w.Close()
}

func TestWizardCreateFails(t *testing.T) {
	s := modeltest.New()
	full := api.NewError(api.ErrRefused, "disk", "there is no room", "free some")
	s.Fail("Create", full)
	lib, turn := online(t, s)
	w := lib.NewWizard("", nil)
	w.SetSource(model.FromBlank)
	var got error
	w.Create(func(api.Created) { t.Error("created all the same") }, func(err error) { got = err })
	turn.until(t, "the failure", func() bool { return got != nil })
	if !errors.Is(got, full) || lib.Count() != 0 {
		t.Errorf("%v, %d guests", got, lib.Count())
	}
}

func TestWizardWarns(t *testing.T) {
	s := modeltest.New()
	s.SetHost(func(h *api.HostInfo) { h.MemoryFree, h.DiskFree, h.Missing = 2*gib, 10*gib, "QEMU is missing" })
	s.SetProbe(drive+"/u.iso", api.ProbeResult{Kind: "iso", UEFI: true})
	lib, turn := online(t, s)
	w := lib.NewWizard(drive+"/u.iso", func() {})
	turn.until(t, "the probe", func() bool { _, known := w.Probed(); return known })
	w.SetFirmware("bios")
	w.SetVCPUs(16)
	w.Page = model.PageSummary
	all := strings.Join(w.Warnings(), "\n")
	for _, want := range []string{"Only 2 GiB of memory are free", "This computer has 8 processors", "10 GiB are free", "boots with UEFI only", "QEMU is missing."} {
		if !strings.Contains(all, want) {
			t.Errorf("no warning %q in\n%s", want, all)
		}
	}
	if len(w.Problems()) != 0 {
		t.Errorf("a warning forbids: %q", w.Problems())
	}
}

// A disk alone is enough for a guest of type pvh: it boots the kernel on it.
func TestWizardDiskAsPVH(t *testing.T) {
	s := modeltest.New()
	s.SetProbe(drive+"/disks/cloud.raw", api.ProbeResult{Kind: "disk", Format: "raw", Size: 4 << 30})
	lib, turn := online(t, s)
	turn.until(t, "the host", func() bool { return lib.Host() != nil })
	changed := false
	w := lib.NewWizard("", func() { changed = true })
	w.SetSource(model.FromDisk)
	w.SetPath(drive + "/disks/cloud.raw")
	turn.until(t, "the probe", func() bool { return changed })
	w.PVH = true
	for w.Page != model.PageSummary {
		if !w.Next() {
			t.Fatalf("page %d: %q", w.Page, w.Problems())
		}
	}
	if g := w.Request(); g.Type != "pvh" || g.Disk != drive+"/disks/cloud.raw" || g.Kernel != "" || g.Firmware != "" || w.HasFirmware() {
		t.Errorf("asks for %+v", g)
	}
}
