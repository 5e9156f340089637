package service

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/hv"
)

// withNative has the host run guests of type pvh.
func withNative(o *Options) {
	o.Host.Accel = func(context.Context) []hv.AccelInfo {
		return []hv.AccelInfo{{Name: "kvm", Usable: true, Native: hv.NativeInfo{Usable: true}}, {Name: "tcg", Usable: true}}
	}
}

// withoutNative has it say why it does not.
func withoutNative(o *Options) {
	o.Host.Accel = func(context.Context) []hv.AccelInfo {
		no := hv.NativeInfo{Reason: "it is a test", Cure: "end the test"}
		return []hv.AccelInfo{{Name: "kvm", Reason: no.Reason, Native: no}, {Name: "tcg", Usable: true}}
	}
}

func kernelFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "vmlinuz")
	if err := os.WriteFile(path, []byte("kernel"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestPVHGuest(t *testing.T) {
	b := newBench(t)
	withNative(&b.opt)
	b.opt.Host.QEMU = func(context.Context) hv.QEMUInfo { return hv.QEMUInfo{Missing: "QEMU is not installed"} }
	c := b.up()
	ref := c.create(api.NewGuest{Name: "demo", Type: "pvh", Memory: 256 << 20, Kernel: kernelFile(t), DiskSize: 1 << 20})
	r := c.vm(ref)
	if r.DomainType != "pvh" || r.PVArgs != "console=hvc0" || len(r.VBDs) != 1 || r.HVMBootParams[api.KeyFirmware] != "" || r.Platform["vga"] != "" {
		t.Fatalf("new guest: %+v", r)
	}
	var vbd api.VBD
	c.must(&vbd, "VBD.get_record", r.VBDs[0])
	var vdi api.VDI
	c.must(&vdi, "VDI.get_record", vbd.VDI)
	if vdi.SMConfig["image-format"] != "raw" || vdi.VirtualSize != 1<<20 || !strings.HasSuffix(vdi.Location, ".raw") {
		t.Errorf("its new disk: %+v", vdi)
	}
	// QEMU is not there, and is not needed.
	c.must(nil, "VM.start", ref, false, false)
	r = c.vm(ref)
	if r.PowerState != "Running" || len(r.Consoles) != 2 {
		t.Fatalf("started guest: %+v", r)
	}
	for i, want := range []string{api.ProtocolRFB, api.ProtocolVT100} {
		var console api.Console
		c.must(&console, "console.get_record", r.Consoles[i])
		if console.Protocol != want {
			t.Errorf("its console %d speaks %s, not %s", i, console.Protocol, want)
		}
	}
	wantCode(t, c.call(nil, "VM.set_domain_type", ref, "hvm"), api.ErrVMBadPowerState)
	c.must(nil, "VM.hard_shutdown", ref)

	var info api.HostInfo
	if err := c.plugin(&info, api.FnDefault, nil); err != nil || info.Native != "kvm" || info.NativeWhy != "" {
		t.Errorf("host: %+v, %v", info, err)
	}
}

// Without an accelerator the guest can be made but not started; the error says
// as what it can be run, and it then can.
func TestPVHWithoutAccelerator(t *testing.T) {
	b := newBench(t)
	withoutNative(&b.opt)
	c := b.up()
	ref := c.create(api.NewGuest{Name: "demo", Type: "pvh", Memory: 256 << 20, Kernel: kernelFile(t), DiskSize: 1 << 20, Cmdline: "root=/dev/xvda1 ro"})
	err := c.call(nil, "VM.start", ref, false, false)
	wantCode(t, err, api.ErrNoAccelerator, "hardware virtualisation", "it is a test", "end the test")
	e := err.(*api.Error)
	if e.RunAs() != "hvm" || e.Stage() != "accelerator" || e.Cure() != "end the test" {
		t.Errorf("%+v", e)
	}
	var info api.HostInfo
	if err := c.plugin(&info, api.FnDefault, nil); err != nil || info.Native != "" || info.NativeWhy != "it is a test" || info.NativeCure != "end the test" {
		t.Errorf("host: %+v, %v", info, err)
	}
	var out api.Retyped
	if err := c.plugin(&out, api.FnRetype, api.Retype{VM: ref, Type: "hvm"}); err != nil {
		t.Fatal(err)
	}
	if all := strings.Join(out.Notes, "\n"); !strings.Contains(all, "/dev/xvda is now /dev/vda") {
		t.Errorf("notes: %q", out.Notes)
	}
	r := c.vm(ref)
	if r.DomainType != "hvm" || r.PVArgs != "root=/dev/vda1 ro console=tty0 console=ttyS0" || r.HVMBootParams[api.KeyFirmware] != "bios" {
		t.Errorf("the guest as hvm: %+v", r)
	}
	c.must(nil, "VM.start", ref, false, false)
	if r = c.vm(ref); r.PowerState != "Running" || len(r.Consoles) != 2 {
		t.Errorf("started as hvm: %+v", r)
	}
	c.must(nil, "VM.hard_shutdown", ref)
	c.must(nil, "VM.set_domain_type", ref, "pvh")
	if r = c.vm(ref); r.DomainType != "pvh" || !strings.Contains(r.PVArgs, "console=hvc0") {
		t.Errorf("back again: %+v", r)
	}

	b.stop()
	b.opt.Host.QEMU = func(context.Context) hv.QEMUInfo { return hv.QEMUInfo{Missing: "QEMU is not installed"} }
	c = b.up()
	err = c.call(nil, "VM.start", ref, false, false)
	wantCode(t, err, api.ErrNoAccelerator)
	if got := err.(*api.Error).RunAs(); got != "" {
		t.Errorf("without QEMU it is to be run as %q", got)
	}
}

func TestPVHDisks(t *testing.T) {
	b := newBench(t)
	withNative(&b.opt)
	c := b.up()
	qcow2 := filepath.Join(t.TempDir(), "d.qcow2")
	ref := c.create(api.NewGuest{Name: "maker", DiskSize: 1 << 20}) // its disk is a qcow2 image
	disks, err := filepath.Glob(filepath.Join(b.opt.Store.Guest(ref.UUID(), "").Dir, "disk-*.qcow2"))
	if err != nil || len(disks) != 1 {
		t.Fatalf("disks: %q, %v", disks, err)
	}
	if err := os.Link(disks[0], qcow2); err != nil {
		t.Fatal(err)
	}
	ref = c.create(api.NewGuest{Name: "demo", Type: "pvh", Memory: 256 << 20, Kernel: kernelFile(t), Disk: qcow2})
	wantCode(t, c.call(nil, "VM.start", ref, false, false), api.ErrStartFailed, "disk", "qemu-storage-daemon", "convert -O raw")
	b.stop()
	qemu := b.opt.Host.QEMU
	b.opt.Host.QEMU = func(ctx context.Context) hv.QEMUInfo {
		q := qemu(ctx)
		q.Storage = "/qemu-storage-daemon"
		return q
	}
	c = b.up()
	c.must(nil, "VM.start", ref, false, false)
}

func TestPVHRefuses(t *testing.T) {
	c := newBench(t).up()
	kernel := kernelFile(t)
	for _, n := range []api.NewGuest{
		{Name: "x", Type: "pvh", DiskSize: 1 << 20},
		{Name: "x", Type: "pvh", Kernel: kernel, Firmware: "uefi"},
		{Name: "x", Type: "pvh", Kernel: kernel, Display: "virtio"},
		{Name: "x", Type: "pvh", Kernel: kernel, Audio: true},
	} {
		wantCode(t, c.plugin(nil, api.FnCreate, n), api.ErrRefused, "pvh")
	}
	ref := c.create(api.NewGuest{Name: "disk", DiskSize: 1 << 20})
	if err := c.plugin(nil, api.FnRetype, api.Retype{VM: ref, Type: "pvh"}); err != nil {
		t.Errorf("a guest with a disk, which may have a kernel on it: %v", err)
	}
}
