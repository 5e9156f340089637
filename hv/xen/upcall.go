package xen

import "github.com/hxen-project/hxen/hv/xenabi"

// A bitmap's bit n is bit n%64 of its little-endian 64-bit word n/64 in both
// layouts, so all updates here are atomic on such words, as the guest's are.

func (d *Domain) bit(bitmap int, number uint32) (off int, mask uint64) {
	return bitmap + int(number)/64*8, 1 << (number % 64)
}

func (d *Domain) pending(number uint32) bool {
	off, mask := d.bit(d.layout.EvtchnPending, number)
	w, err := d.shared.Load64(off)
	return err == nil && w&mask != 0
}

func (d *Domain) clearPending(number uint32) {
	if d.validPort(uint64(number)) {
		off, mask := d.bit(d.layout.EvtchnPending, number)
		_, _ = d.shared.And64(off, ^mask) // the bitmap is in the page, always
	}
}

// raise marks an event and tells its vCPU, in the order of evtchn_2l_set_pending in
// Xen's common/event_2l.c.
func (d *Domain) raise(number uint32) {
	if !d.validPort(uint64(number)) || d.closed {
		return
	}
	off, mask := d.bit(d.layout.EvtchnPending, number)
	if old, _ := d.shared.Or64(off, mask); old&mask != 0 {
		return
	}
	d.wakePollers(number)
	off, mask = d.bit(d.layout.EvtchnMask, number)
	if w, _ := d.shared.Load64(off); w&mask != 0 {
		return
	}
	d.deliver(number)
}

// deliver sets the selector's bit and upcall_pending, and injects. It does so
// even if they were set: the guest may have cleared and not yet looked, or the
// last interrupt may have been lost to a local APIC that was still off, as with
// console input that came before the kernel. A spurious upcall is harmless, a
// missing one hangs the guest for good.
func (d *Domain) deliver(number uint32) {
	v := d.vcpus[d.ports[number].vcpu]
	off, mask := d.selector(v, int(number)/d.layout.WordBits)
	if _, err := v.info.page.Or64(off, mask); err != nil {
		return
	}
	_, _ = v.info.page.Or64(v.info.off, 1)
	d.inject(v)
}

// selector returns the 64-bit word and the bit in it of evtchn_pending_sel:
// with 32-bit longs the selector is the upper half of the first word.
func (d *Domain) selector(v *vcpu, word int) (off int, mask uint64) {
	if d.layout.WordBits == 64 {
		return v.info.off + d.layout.PendingSel, 1 << (word & 63)
	}
	return v.info.off, 1 << (32 + word&31)
}

func (d *Domain) upcallPending(v *vcpu) bool {
	w, err := v.info.page.Load64(v.info.off)
	return err == nil && w&0xff != 0
}

// inject interrupts a vCPU by its own vector or by the domain's callback, and
// ends its park.
func (d *Domain) inject(v *vcpu) {
	if d.closed {
		return
	}
	irq := d.params[xenabi.HVM_PARAM_CALLBACK_IRQ]
	switch {
	case v.vector != 0:
		_ = v.Raise(v.vector, true) // the vCPU's thread finds the same fault and tells it
	case irq>>xenabi.HVM_PARAM_CALLBACK_IRQ_TYPE_BIT == xenabi.HVM_PARAM_CALLBACK_TYPE_VECTOR && irq&0xff >= 16:
		_ = v.Raise(uint8(irq), false)
	}
	d.wake(v)
}

// injectPending is for a vCPU whose way of being told has just been set up.
func (d *Domain) injectPending(v *vcpu) {
	if d.upcallPending(v) {
		d.inject(v)
	}
}

// unmask clears a port's mask bit and delivers what waited behind it.
func (d *Domain) unmask(number uint32) int64 {
	p := d.portAt(uint64(number))
	if p == nil || p.state == portFree {
		return -xenabi.XEN_EINVAL
	}
	off, mask := d.bit(d.layout.EvtchnMask, number)
	_, _ = d.shared.And64(off, ^mask)
	if d.pending(number) {
		d.deliver(number)
	}
	return 0
}
