package native

import (
	"context"
	"errors"
	"fmt"

	"github.com/hxen-project/hxen/hv/accel"
	"github.com/hxen-project/hxen/hv/guestmem"
	"github.com/hxen-project/hxen/hv/xen"
	"github.com/hxen-project/hxen/hv/xenstore"
)

// rebuild makes the machine that s is a copy of.
func (m *Machine) rebuild(s *Saved) error {
	st := &s.state
	if err := m.fits(st); err != nil {
		return err
	}
	if err := m.makeVM(accel.Config{TSCHz: st.TSCHz, Patched: st.Patched}); err != nil {
		return err
	}
	if st.Patched != m.caps.Patched {
		return errors.New("the guest was saved where hypercalls reach HXEN in another way; it can go on only on a system whose kernel is as it was there, or start anew")
	}
	if err := lacks(st.CPUID, m.caps.CPUID); err != nil {
		return err
	}
	m.cpuid, m.incarnation, m.patched = st.CPUID, st.Incarnation+1, st.KernelFound
	if s.clones(m.config.UUID) {
		m.from = &mapped{saved: s}
	}
	if err := m.makeMemory(); err != nil {
		return err
	}
	for _, gpa := range st.Grown {
		if err := m.growAgain(gpa); err != nil {
			return err
		}
	}
	if m.from == nil {
		if err := s.load(context.Background(), m.memories(), m.config.Progress); err != nil {
			return err
		}
	}
	if err := m.makeProcessors(st.Processors); err != nil {
		return err
	}
	var err error
	if m.domain, err = xen.Restore(m.domainConfig(), st.Domain); err != nil {
		return err
	}
	store, err := xenstore.Restore(xenstore.DefaultQuota, st.Store)
	if err != nil {
		return err
	}
	err = m.connect(store, func(page guestmem.Page, notify func()) (*xenstore.Ring, error) {
		return store.RestoreRing(domid, page, notify, st.Store.Ring)
	})
	if err != nil {
		return err
	}
	if m.from != nil {
		m.from = nil // what appears from now on is new
		return m.become(st)
	}
	return m.attachDevices()
}

// fits compares what was saved with what the guest is now.
func (m *Machine) fits(st *saved) error {
	if st.VCPUs != m.config.VCPUs || st.Memory != m.config.Memory {
		return fmt.Errorf("the guest was saved with %d processors and %d MiB of memory, and its settings say %d and %d MiB: change them back, or discard the saved state",
			st.VCPUs, st.Memory>>20, m.config.VCPUs, m.config.Memory>>20)
	}
	if name := m.hyp.Name(); st.Backend != name {
		return fmt.Errorf("the guest was saved under %s and cannot go on under %s", st.Backend, name)
	}
	return nil
}

// growAgain makes a slot appear that the guest had.
func (m *Machine) growAgain(gpa uint64) error {
	holes := m.layout.holes(gpa, guestmem.GrowSize)
	if gpa%guestmem.GrowSize != 0 || len(holes) == 0 {
		return errDamaged
	}
	before := len(m.grown)
	if err := m.mem.Ensure(holes[0].GPA / guestmem.PageSize); err != nil {
		return err
	}
	if len(m.grown) != before+1 || m.grown[before].gpa != gpa {
		return errDamaged
	}
	return nil
}

// lacks says which features a guest has seen that this computer does not have
// (SDM 2A, CPUID; APM 3 E.4).
func lacks(seen, here []accel.CPUID) error {
	find := func(l accel.CPUID) accel.CPUID {
		for _, h := range here {
			if h.Leaf == l.Leaf && (h.Sub == l.Sub || !h.Indexed) {
				return h
			}
		}
		return accel.CPUID{}
	}
	for _, l := range seen {
		h := find(l)
		missing := false
		switch {
		case l.Leaf == 1, l.Leaf == 0x80000001:
			missing = l.ECX&^h.ECX|l.EDX&^h.EDX != 0
		case l.Leaf == 7:
			missing = l.EBX&^h.EBX|l.ECX&^h.ECX|l.EDX&^h.EDX != 0 || l.Sub > 0 && l.EAX&^h.EAX != 0
		case l.Leaf == 0xd && l.Sub == 0:
			missing = l.EAX&^h.EAX|l.EDX&^h.EDX != 0
		case l.Leaf == 0:
			missing = l.EBX != h.EBX // the vendor
		}
		if missing {
			return fmt.Errorf("the guest was saved on a processor with features that this one lacks (CPUID leaf %#x); it can go on only on a computer like that", l.Leaf)
		}
	}
	return nil
}
