package kvm

import (
	"fmt"

	"github.com/hxen-project/hxen/hv/accel"
)

// Regs reads the area that KVM_RUN leaves the registers in, once it has run.
func (v *vcpu) Regs() (accel.Regs, error) {
	if err := v.load(); err != nil {
		return accel.Regs{}, err
	}
	return fromKVM(&v.area.regs, &v.area.sregs), nil
}

func (v *vcpu) SetRegs(r accel.Regs) error {
	if err := v.load(); err != nil {
		return err
	}
	gp, s := v.area.regs, v.area.sregs
	toKVM(&r, &gp, &s)
	v.area.regs = gp
	v.area.dirtyRegs |= KVM_SYNC_X86_REGS
	if s != v.area.sregs { // dearer, and seldom changed
		v.area.sregs = s
		v.area.dirtyRegs |= KVM_SYNC_X86_SREGS
	}
	return nil
}

// load fills the area with the registers if it does not have them yet.
func (v *vcpu) load() error {
	if v.loaded {
		return nil
	}
	if _, err := ioctlPtr(v.fd, KVM_GET_REGS, &v.area.regs); err != nil {
		return fmt.Errorf("read registers: %w", err)
	}
	if _, err := ioctlPtr(v.fd, KVM_GET_SREGS, &v.area.sregs); err != nil {
		return fmt.Errorf("read segments: %w", err)
	}
	v.loaded = true
	return nil
}

// store writes what was changed in the area without running.
func (v *vcpu) store() error {
	if v.area.dirtyRegs&KVM_SYNC_X86_SREGS != 0 {
		if _, err := ioctlPtr(v.fd, KVM_SET_SREGS, &v.area.sregs); err != nil {
			return fmt.Errorf("set segments: %w", err)
		}
	}
	if v.area.dirtyRegs&KVM_SYNC_X86_REGS != 0 {
		if _, err := ioctlPtr(v.fd, KVM_SET_REGS, &v.area.regs); err != nil {
			return fmt.Errorf("set registers: %w", err)
		}
	}
	v.area.dirtyRegs = 0
	return nil
}

func fromKVM(r *regs, s *sregs) accel.Regs {
	return accel.Regs{
		RAX: r.rax, RBX: r.rbx, RCX: r.rcx, RDX: r.rdx, RSI: r.rsi, RDI: r.rdi, RSP: r.rsp, RBP: r.rbp,
		R8: r.r8, R9: r.r9, R10: r.r10, R11: r.r11, R12: r.r12, R13: r.r13, R14: r.r14, R15: r.r15,
		RIP: r.rip, RFLAGS: r.flg,
		CS: fromSegment(&s.cs), DS: fromSegment(&s.ds), ES: fromSegment(&s.es), FS: fromSegment(&s.fs),
		GS: fromSegment(&s.gs), SS: fromSegment(&s.ss), TR: fromSegment(&s.tr), LDT: fromSegment(&s.ld),
		GDT: accel.Table{Base: s.gdt.base, Limit: s.gdt.limit}, IDT: accel.Table{Base: s.idt.base, Limit: s.idt.limit},
		CR0: s.cr0, CR2: s.cr2, CR3: s.cr3, CR4: s.cr4, EFER: s.efer,
	}
}

// toKVM leaves what accel.Regs does not have as it is: CR8, the LAPIC's base, an
// interrupt on its way.
func toKVM(a *accel.Regs, r *regs, s *sregs) {
	*r = regs{
		rax: a.RAX, rbx: a.RBX, rcx: a.RCX, rdx: a.RDX, rsi: a.RSI, rdi: a.RDI, rsp: a.RSP, rbp: a.RBP,
		r8: a.R8, r9: a.R9, r10: a.R10, r11: a.R11, r12: a.R12, r13: a.R13, r14: a.R14, r15: a.R15,
		rip: a.RIP, flg: a.RFLAGS,
	}
	s.cs, s.ds, s.es, s.fs = toSegment(&a.CS), toSegment(&a.DS), toSegment(&a.ES), toSegment(&a.FS)
	s.gs, s.ss, s.tr, s.ld = toSegment(&a.GS), toSegment(&a.SS), toSegment(&a.TR), toSegment(&a.LDT)
	s.gdt, s.idt = dtable{base: a.GDT.Base, limit: a.GDT.Limit}, dtable{base: a.IDT.Base, limit: a.IDT.Limit}
	s.cr0, s.cr2, s.cr3, s.cr4, s.efer = a.CR0, a.CR2, a.CR3, a.CR4, a.EFER
}

func fromSegment(s *segment) accel.Segment {
	attr := uint16(s.typ)&15 | uint16(s.s)<<4 | uint16(s.dpl)<<5 | uint16(s.present)<<7 |
		uint16(s.avl)<<12 | uint16(s.l)<<13 | uint16(s.db)<<14 | uint16(s.g)<<15
	if s.unusable != 0 {
		attr &^= 1 << 7
	}
	return accel.Segment{Base: s.base, Limit: s.limit, Selector: s.selector, Attr: attr}
}

func toSegment(a *accel.Segment) segment {
	bit := func(n uint) uint8 { return uint8(a.Attr>>n) & 1 }
	return segment{base: a.Base, limit: a.Limit, selector: a.Selector, typ: uint8(a.Attr) & 15, s: bit(4),
		dpl: uint8(a.Attr>>5) & 3, present: bit(7), avl: bit(12), l: bit(13), db: bit(14), g: bit(15), unusable: 1 - bit(7)}
}

func (v *vcpu) readMSR(index uint32) (uint64, error) {
	m := &oneMSR{nmsrs: 1, entry: msr{index: index}}
	n, err := ioctlPtr(v.fd, KVM_GET_MSRS, m)
	if err == nil && n != 1 {
		err = fmt.Errorf("MSR %#x cannot be read", index)
	}
	return m.entry.data, err
}

func (v *vcpu) writeMSR(index uint32, value uint64) error {
	n, err := ioctlPtr(v.fd, KVM_SET_MSRS, &oneMSR{nmsrs: 1, entry: msr{index: index, data: value}})
	if err == nil && n != 1 {
		err = fmt.Errorf("MSR %#x does not take %#x", index, value)
	}
	return err
}
