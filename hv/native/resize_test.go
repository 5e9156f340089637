package native

import (
	"testing"

	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/hvtest"
	"github.com/hxen-project/hxen/hv/xenabi"
	"github.com/hxen-project/hxen/hv/xenstore"
)

// TestResize: what the guest is asked for is in its XenStore, and what it gives
// back is counted, also after a save.
func TestResize(t *testing.T) {
	s := testSpec(t)
	s.VCPUs, s.Memory = 3, 64*hv.MiB
	m, _ := launchFake(t, s, false, func(c *hvtest.FakeCPU) {
		c.Store(argsAt+0x200, le.AppendUint64(nil, 0x800))
		op(c, xenabi.HYPERVISOR_memory_op, xenabi.XENMEM_decrease_reservation,
			xenabi.MemoryReservation{ExtentStart: argsAt + 0x200, NrExtents: 1, ExtentOrder: 9, Domid: xenabi.DOMID_SELF})
		print(c, ".")
		c.Halt()
	})
	read1(t, m)
	st, err := m.Stats(t.Context())
	if err != nil || st.Memory != 62*hv.MiB {
		t.Errorf("the guest has %d MiB, %v", st.Memory/hv.MiB, err)
	}
	r := m.(hv.Resizer)
	if err := r.SetMemory(t.Context(), 48*hv.MiB); err != nil {
		t.Error(err)
	}
	if err := r.SetVCPUs(t.Context(), 2); err != nil {
		t.Error(err)
	}
	home := xenstore.Home(domid)
	for path, want := range map[string]string{
		"/memory/target": "49152", "/memory/static-max": "65536",
		"/cpu/0/availability": "online", "/cpu/1/availability": "online", "/cpu/2/availability": "offline",
	} {
		if got, err := m.(*Guest).machine.client.Read(home + path); got != want {
			t.Errorf("%s is %q, want %q; %v", path, got, want, err)
		}
	}
	for _, n := range []uint64{0, hv.MiB, 65 * hv.MiB} {
		if r.SetMemory(t.Context(), n) == nil {
			t.Errorf("memory of %d bytes was taken", n)
		}
	}
	for _, n := range []int{0, 4} {
		if r.SetVCPUs(t.Context(), n) == nil {
			t.Errorf("%d processors were taken", n)
		}
	}
}
