package xen

import (
	"bytes"
	"encoding/json"
	"slices"
	"testing"

	"github.com/hxen-project/hxen/hv/guestmem"
	"github.com/hxen-project/hxen/hv/xenabi"
)

// carry restores the domain over the same memory, in another lab at the same
// time, and wants the same state again.
func (l *lab) carry(vcpus int) *lab {
	l.Helper()
	saved, err := json.Marshal(l.Save())
	if err != nil {
		l.Fatal(err)
	}
	l.Close()
	var s State
	if err := json.Unmarshal(saved, &s); err != nil {
		l.Fatal(err)
	}
	next := newLab(l, vcpus, l.long)
	next.mem, next.tsc, next.cfg.Memory = l.mem, l.tsc, l.mem
	next.timers = nil
	if next.Domain, err = Restore(next.cfg, s); err != nil {
		l.Fatal(err)
	}
	return next
}

// again is State as the file has it, less the versions of clocks that have been
// written anew.
func again(l *lab) []byte {
	s := l.Save()
	s.Limbo = nil
	b, err := json.Marshal(s)
	if err != nil {
		l.Fatal(err)
	}
	return b
}

// TestSave has a guest of either width go on in another domain.
func TestSave(t *testing.T) {
	for _, long := range []bool{true, false} {
		l := newLab(t, 2, long)
		l.mapShared()
		l.setVector(0, 0xf3)
		timer := l.bindVIRQ(0, xenabi.VIRQ_TIMER)
		l.bindVIRQ(1, xenabi.VIRQ_TIMER)
		front := l.alloc()
		ch, err := l.Connect(front, nil, func() {})
		if err != nil {
			t.Fatal(err)
		}
		ch.Notify()
		info := xenabi.RegisterVCPUInfo{MFN: 0x31, Offset: 0x40}
		l.want("register vcpu_info", call(l, 1, &info, xenabi.HYPERVISOR_vcpu_op, 10, 1), 0)
		l.want("register area", call(l, 0, &xenabi.RegisterArea{Addr: 0x50ff0}, xenabi.HYPERVISOR_vcpu_op, 5, 0), 0)
		if long {
			l.want("grant frame", call(l, 0, &xenabi.AddToPhysmap{Domid: xenabi.DOMID_SELF, Space: 1, Gpfn: 0x60}, xenabi.HYPERVISOR_memory_op, 7), 0)
		}
		if _, err := l.mem.Page(0x60); err != nil {
			t.Fatal(err)
		}
		deadline := l.Now() + 1000
		r, _ := l.on(0, xenabi.HYPERVISOR_set_timer_op, deadline)
		l.want("set_timer_op", r, 0)
		l.advance(400)
		before := again(l)

		next := l.carry(2)
		if after := again(next); !bytes.Equal(before, after) {
			t.Errorf("long %v: saved as\n%s\nagain as\n%s", long, before, after)
		}
		if !slices.Equal(next.cpus[0].raised, []uint8{0xf3}) || next.cpus[1].raised != nil {
			t.Errorf("long %v: told %v and %v of what was pending", long, next.cpus[0].raised, next.cpus[1].raised)
		}
		if now := next.Now(); now != deadline-600 {
			t.Errorf("long %v: system time %d, want %d", long, now, deadline-600)
		}
		next.advance(599)
		if next.pending(timer) {
			t.Error("the timer fired early")
		}
		next.advance(1)
		if !next.pending(timer) {
			t.Error("the timer did not fire")
		}
		if _, err := next.Connect(front, nil, func() {}); err != nil {
			t.Errorf("the back end cannot connect again: %v", err)
		}
		if _, err := next.Connect(next.StorePort(), nil, func() {}); err != nil {
			t.Errorf("XenStore cannot connect again: %v", err)
		}
	}
}

// TestSuspendCall: a guest that waits to be saved goes on with "cancelled".
func TestSuspendCall(t *testing.T) {
	l := newLab(t, 1, true)
	if err := l.mem.Write(buf, xenabi.Bytes(&xenabi.Shutdown{Reason: xenabi.SHUTDOWN_suspend})); err != nil {
		t.Fatal(err)
	}
	r, action := l.on(0, xenabi.HYPERVISOR_sched_op, xenabi.SCHEDOP_shutdown, buf)
	if r != 1 || action != Park || !slices.Equal(l.shutdown, []uint32{xenabi.SHUTDOWN_suspend}) {
		t.Errorf("result %d, action %v, told %v", r, action, l.shutdown)
	}
}

// FuzzRestore feeds damaged states: an error, or a domain that lives.
func FuzzRestore(f *testing.F) {
	l := newLab(f, 2, true)
	l.mapShared()
	l.bindVIRQ(1, xenabi.VIRQ_TIMER)
	s := l.Save()
	s.Limbo = nil // the same always, and long
	b, err := json.Marshal(s)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		var s State
		if json.Unmarshal(b, &s) != nil {
			return
		}
		if s.Limbo == nil {
			s.Limbo = make([]byte, limboPages*guestmem.PageSize)
		}
		l := newLab(t, 2, true)
		d, err := Restore(l.cfg, s)
		if err != nil {
			return
		}
		l.Domain = d
		for n := range uint32(len(s.Ports) + 2) {
			if ch, err := d.Connect(n, nil, func() {}); err == nil {
				ch.Notify()
			}
			d.Grant(n*600, true)
		}
		l.mapShared()
		l.advance(1 << 40)
		for vcpu := range 2 {
			l.on(vcpu, xenabi.HYPERVISOR_vcpu_op, xenabi.VCPUOP_get_runstate_info, uint64(vcpu), buf)
		}
		d.Save()
	})
}
