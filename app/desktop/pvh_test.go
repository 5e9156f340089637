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
