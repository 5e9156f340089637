package main

import (
	"context"
	"testing"

	"github.com/hxen-project/hxen/hv"
)

// TestGuestPlug gives a running guest a disk and a card, has it use them, and takes
// them away.
func TestGuestPlug(t *testing.T) {
	longOnly(t)
	s := guest(kernels(t)[0])
	s.Memory = 128 * hv.MiB
	dir := t.TempDir()
	nic := hv.NIC{UUID: "01020304-0000-4000-8000-00000000000a", MAC: "52:54:00:00:00:01", Network: netUUID}
	net := newNetwork(t, nic)
	h := testHost(t, s)
	h.OpenDisk = openDisk
	net.connect(hv.Spec{UUID: s.UUID, NICs: []hv.NIC{nic}}, &h)
	socket := h.NICs[0]
	h.NICs = nil
	l := boot(t, s, h)
	p := l.Machine.(hv.Plugger)
	d := disk(0, diskImage(t, dir, "plugged", 2<<20))
	comes := func(path string) {
		t.Helper()
		l.Run(await("[ -e " + path + " ]"))
	}
	goes := func(path string) {
		t.Helper()
		l.Run(await("[ ! -e " + path + " ]"))
	}
	for range 3 {
		l.Do("attach a disk", func(ctx context.Context) error { return p.AttachDisk(ctx, d) })
		comes("/sys/block/xvda")
		comes("/dev/xvda")
		l.Run("dd if=/dev/urandom of=/dev/xvda bs=64k count=8 conv=fsync 2>/dev/null")
		if got, want := sumOf(l, "xvda"), sum(t, d.Path); got != want {
			t.Errorf("the disk reads as %s, is %s", got, want)
		}
		l.Do("detach the disk", func(ctx context.Context) error { return p.DetachDisk(ctx, d.UUID) })
		goes("/sys/block/xvda")

		l.Do("attach a card", func(ctx context.Context) error { return p.AttachNIC(ctx, nic, socket) })
		comes("/sys/class/net/eth0")
		if got := l.Run("cat /sys/class/net/eth0/address"); got != nic.MAC {
			t.Errorf("the card is %s", got)
		}
		l.Run("udhcpc -i eth0 -s /sbin/udhcpc -n -q -t 20 2>&1")
		l.Do("detach the card", func(ctx context.Context) error { return p.DetachNIC(ctx, nic.UUID) })
		goes("/sys/class/net/eth0")
	}
	l.Say("poweroff -f\n")
	l.Ended(hv.ExitPoweroff)
}
