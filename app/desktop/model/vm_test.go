package model_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/app/desktop/model"
	"github.com/hxen-project/hxen/app/desktop/model/modeltest"
)

func one(t *testing.T, state string, change ...func(*api.VM)) (*modeltest.Service, *model.VM, loop) {
	t.Helper()
	s := modeltest.New()
	ref := s.Add("guest", state, change...)
	lib, turn := online(t, s)
	turn.until(t, "the guest and its parts", func() bool {
		vm := lib.Find(string(ref))
		return vm != nil && len(vm.Disks()) == 2 && len(vm.Cards()) == 1 && vm.Metrics() != nil
	})
	return s, lib.Find(string(ref)), turn
}

func TestVMSaysWhatItIs(t *testing.T) {
	_, vm, _ := one(t, model.Running, func(v *api.VM) { v.VCPUsMax = 1 })
	if vm.StateText() != "Running" || vm.Hardware() != "2 GiB, 1 CPU" || vm.Firmware() != "bios" {
		t.Errorf("%q, %q, %q", vm.StateText(), vm.Hardware(), vm.Firmware())
	}
	if got := vm.Addresses(); !reflect.DeepEqual(got, []string{"192.168.127.3"}) {
		t.Errorf("addresses %v", got)
	}
	d := vm.Disks()
	if d[0].CD || d[0].Format != "qcow2" || d[0].Name() != "disk-1.qcow2" || !d[1].CD || d[1].Name() != "Empty" {
		t.Errorf("disks %+v", d)
	}
	if cd, ok := vm.CD(); !ok || !cd.Empty {
		t.Errorf("CD drive %+v %v", cd, ok)
	}
}

func TestVMBusyAndBroken(t *testing.T) {
	s, vm, turn := one(t, model.Halted)
	s.Change(vm.Ref, func(v *api.VM) { v.CurrentOperations = map[string]string{"OpaqueRef:t": model.OpStart} })
	turn.until(t, "starting", func() bool { return vm.StateText() == "Starting" })
	s.Change(vm.Ref, func(v *api.VM) { v.CurrentOperations = nil; v.OtherConfig[api.KeyBroken] = "no spec" })
	turn.until(t, "broken", func() bool { return vm.Broken() == "no spec" })
	if vm.StateText() != "Cannot be used" {
		t.Errorf("a broken guest is %q", vm.StateText())
	}
}

func TestBadgeSaysWhatRunsTheGuestAndWhy(t *testing.T) {
	s := modeltest.New()
	s.SetHost(func(h *api.HostInfo) { h.Accel, h.AccelWhy = "tcg", "KVM is not there." })
	s.Add("off", model.Halted)
	s.Add("pv", model.Halted, func(v *api.VM) { v.DomainType = "pvh" })
	s.Add("on", model.Running)
	s.SetHost(func(h *api.HostInfo) { h.Accel = "kvm" }) // what runs does not change with the host's verdict
	lib, turn := online(t, s)
	turn.until(t, "metrics", func() bool { vm := lib.Find("on"); return vm != nil && vm.Metrics() != nil })
	for name, want := range map[string]string{"off": "QEMU · KVM", "pv": "Native · KVM", "on": "QEMU · emulated"} {
		if got := lib.Find(name).Badge().Text(); got != want {
			t.Errorf("%s: badge %q, want %q", name, got, want)
		}
	}
	if b := lib.Find("on").Badge(); !b.Slow || b.Reason != "KVM is not there." {
		t.Errorf("the reason is lost: %+v", b)
	}
}

// A pvh guest has no screen, says when it cannot run here, and runs as hvm on one
// click.
func TestPVHGuest(t *testing.T) {
	s := modeltest.New()
	s.SetHost(func(h *api.HostInfo) { h.Native, h.NativeWhy, h.NativeCure = "", "KVM is not there", "load it" })
	s.Add("pv", model.Halted, func(v *api.VM) { v.DomainType = "pvh" })
	lib, turn := online(t, s)
	turn.until(t, "the guest", func() bool { return lib.Find("pv") != nil && lib.Host() != nil })
	vm := lib.Find("pv")
	if b := vm.Badge(); b.Text() != "Native · cannot run here" || b.Reason != "KVM is not there" || b.Slow {
		t.Errorf("badge %q: %+v", b.Text(), b)
	}
	if vm.NoScreen() != "" || vm.Display() != model.DisplayNone || !vm.SerialFirst() {
		t.Errorf("before its drivers its screen is %q, %q", vm.NoScreen(), vm.Display())
	}
	for display, first := range map[string]bool{model.DisplayView: true, model.DisplayFull: false} {
		vm.Record.OtherConfig = map[string]string{api.KeyDisplay: display}
		if vm.Display() != display || vm.SerialFirst() != first {
			t.Errorf("with display %s: %q, serial first %v", display, vm.Display(), vm.SerialFirst())
		}
	}
	vm.Record.Platform = map[string]string{"vga": "none"}
	if vm.NoScreen() == "" || !vm.SerialFirst() {
		t.Error("made without a screen it has one")
	}
	err := api.NewError(api.ErrNoAccelerator, string(vm.Ref), "accelerator", "KVM is not there", "load it", "hvm")
	p, _ := model.Explain("pv could not be started", vm, err)
	if p.RunAs != "hvm" || p.Cure != "Load it." || strings.Contains(p.Why, "load it") {
		t.Errorf("%+v", p)
	}
	var notes []string
	ended := false
	vm.RunAs(p.RunAs, func(n []string, err error) {
		notes, ended = n, true
		if err != nil {
			t.Error(err)
		}
	})
	turn.until(t, "it runs", func() bool { return ended && vm.Is(model.Running) })
	if vm.PVH() || len(notes) == 0 || vm.NoScreen() != "" {
		t.Errorf("as hvm: %+v, notes %q", vm.Record, notes)
	}
}

func TestDoLeavesTheStateToTheService(t *testing.T) {
	s, vm, turn := one(t, model.Halted)
	release := s.Hold("Do start")
	ended := false
	vm.Do(model.OpStart, func(err error) {
		ended = true
		if err != nil {
			t.Error(err)
		}
	})
	turn.until(t, "the task", func() bool { return len(vm.Library().Tasks()) == 1 })
	if !vm.Is(model.Halted) {
		t.Error("the state was guessed before the service told it")
	}
	release()
	turn.until(t, "running", func() bool { return ended && vm.Is(model.Running) })
	if vm.Allows(model.OpStart) || !vm.Allows(model.OpPause) {
		t.Error("the allowed operations are not the service's")
	}
}

func TestLastExit(t *testing.T) {
	s, vm, turn := one(t, model.Running)
	if vm.LastExit() != "" {
		t.Error("a running guest has an end")
	}
	s.SetState(vm.Ref, model.Halted)
	for exit, want := range map[string]string{"poweroff": "The guest powered itself off.", "crash": "The guest crashed.", "odd": "odd"} {
		s.Change(vm.Ref, func(v *api.VM) { v.OtherConfig[api.KeyLastExit] = exit })
		turn.until(t, want, func() bool { return vm.LastExit() == want })
		if vm.Unclean() != (exit == "crash") {
			t.Errorf("%s: unclean %v", exit, vm.Unclean())
		}
	}
	s.Change(vm.Ref, func(v *api.VM) { v.OtherConfig[api.KeyLastText] = "Triple fault." })
	turn.until(t, "the sentence", func() bool { return vm.LastExit() == "Triple fault." })
}

func TestExplain(t *testing.T) {
	_, vm, _ := one(t, model.Halted)
	p, is := model.Explain("guest could not be started", vm, api.NewError(api.ErrStartFailed, string(vm.Ref), "memory", "8 GiB are asked for, 2 GiB are free", "close something"))
	if !is || p.Why != "8 GiB are asked for, 2 GiB are free." || p.Cure != "Close something." || p.Log == "" {
		t.Errorf("%+v", p)
	}
	if p, _ := model.Explain("x", nil, api.NewError(api.ErrRefused, "image", "it is empty", "")); p.Why != "It is empty." || p.Cure != "" || p.Log != "" {
		t.Errorf("%+v", p)
	}
	if p, _ := model.Explain("x", nil, errors.New("it broke!")); p.Text() != "x\nIt broke!" {
		t.Errorf("text %q", p.Text())
	}
	if _, is := model.Explain("x", nil, nil); is {
		t.Error("nil is a problem")
	}
	if !model.TimedOut(api.NewError(api.ErrVMShutdownTimeout, "ref", "60")) || model.TimedOut(errors.New("x")) {
		t.Error("a shutdown that timed out is not told from other errors")
	}
}

func TestHostNotice(t *testing.T) {
	for want, h := range map[string]api.HostInfo{
		"":                 {Accel: "kvm"},
		"QEMU is missing.": {Accel: "tcg", Missing: "QEMU is missing"},
		"Guests run by emulation, several times slower than they could. No KVM.\nLoad it.": {Accel: "tcg", AccelWhy: "no KVM", AccelCure: "load it"},
		"Guests run by emulation, several times slower than they could.":                   {Accel: "tcg"},
	} {
		if got := model.HostNotice(h); got != want {
			t.Errorf("%+v: %q, want %q", h, got, want)
		}
	}
}
