package desktop

import (
	"testing"

	"fyne.io/fyne/v2/test"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/app/desktop/model"
)

// The wizard offers the type where the source is a kernel, and where it cannot
// be had it is greyed and says why.
func TestWizardOffersPVH(t *testing.T) {
	for name, why := range map[string]string{"wizard-kernel": "", "wizard-kernel-no-pvh": "KVM is present but does not run guests"} {
		t.Run(name, func(t *testing.T) {
			svc := scene("main")
			svc.SetProbe("/boot/vmlinuz", api.ProbeResult{Kind: "kernel"})
			if why != "" {
				svc.SetHost(func(h *api.HostInfo) { h.Native, h.NativeWhy, h.NativeCure = "", why, "switch it on" })
			}
			s := newStage(t, svc)
			l := s.open(800, 600)
			s.until("the host", func() bool { return l.app.lib.Host() != nil })
			w := l.newVM("")
			w.state.SetSource(model.FromKernel)
			w.state.SetPath("/boot/vmlinuz")
			w.state.PVH = true
			w.show()
			s.until("the probe", func() bool { _, known := w.state.Probed(); return known })
			if got := w.state.Request().Type; (got == "pvh") != (why == "") {
				t.Errorf("it asks for a guest of type %q", got)
			}
			s.dialogIs(l, name)
		})
	}
}

// A start without an accelerator ends in a dialog with one click that runs the
// guest all the same.
func TestRunAsHVM(t *testing.T) {
	svc := scene("main")
	ref := svc.Add("quick", model.Halted, func(v *api.VM) { v.DomainType = "pvh" })
	svc.SetHost(func(h *api.HostInfo) {
		h.Native, h.NativeWhy = "", "KVM is present but does not run guests: it hung"
	})
	s := newStage(t, svc)
	l := s.open(800, 600)
	vm := s.pick(l, "quick")
	l.failed("quick could not be started", vm, api.NewError(api.ErrNoAccelerator, string(ref), "accelerator",
		"a guest of type pvh needs hardware virtualisation, and it cannot be used: KVM is present but does not run guests", "switch on nested virtualisation", "hvm"))
	s.dialogIs(l, "run-as-hvm")
	for _, o := range l.top().left.Objects {
		if b, ok := o.(*button); ok && b.Text == "Run as hvm (slower, emulated)" {
			test.Tap(b)
		}
	}
	s.until("it runs as hvm", func() bool { return vm.Is(model.Running) && !vm.PVH() && l.top() != nil })
}

// The window of a pvh guest begins with the serial line, and turns to the screen
// once the guest has one that takes keys, unless the user has chosen.
func TestConsoleOfPVHGuest(t *testing.T) {
	display := func(d string) func(*api.VM) {
		return func(v *api.VM) {
			v.DomainType = "pvh"
			v.OtherConfig = map[string]string{api.KeyDisplay: d}
		}
	}
	s := newStage(t, scene("main"))
	ref := s.svc.Add("quick", model.Running, display(model.DisplayNone))
	c := s.console("quick")
	if !c.onTab {
		t.Error("the window does not begin with the serial line")
	}
	s.svc.Change(ref, display(model.DisplayView))
	s.until("a screen without keys", func() bool { return c.vm.Display() == model.DisplayView })
	if !c.onTab {
		t.Error("it turned to a screen that takes no keys")
	}
	s.svc.Change(ref, display(model.DisplayFull))
	s.until("the window turns to the screen", func() bool { return !c.onTab && c.dialled })
	s.svc.Change(ref, display(model.DisplayNone)) // it restarts
	s.until("the screen is covered meanwhile", func() bool { return c.overlay.now.title == "Nothing on the screen yet" })
	c.chooseTab()
	s.svc.Change(ref, display(model.DisplayFull))
	s.until("the screen is there again", func() bool { return c.vm.Display() == model.DisplayFull })
	if !c.onTab {
		t.Error("the user's choice was changed")
	}
}
