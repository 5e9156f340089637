package whp

import (
	"fmt"

	"github.com/hxen-project/hxen/hv/accel"
)

// regNames are the registers of accel.Regs, in the order that toRegs and
// fromRegs have.
var regNames = []uint32{
	WHvX64RegisterRax, WHvX64RegisterRbx, WHvX64RegisterRcx, WHvX64RegisterRdx,
	WHvX64RegisterRsi, WHvX64RegisterRdi, WHvX64RegisterRsp, WHvX64RegisterRbp,
	WHvX64RegisterR8, WHvX64RegisterR8 + 1, WHvX64RegisterR8 + 2, WHvX64RegisterR8 + 3,
	WHvX64RegisterR8 + 4, WHvX64RegisterR8 + 5, WHvX64RegisterR8 + 6, WHvX64RegisterR15,
	WHvX64RegisterRip, WHvX64RegisterRflags,
	WHvX64RegisterCs, WHvX64RegisterDs, WHvX64RegisterEs, WHvX64RegisterFs, WHvX64RegisterGs, WHvX64RegisterSs,
	WHvX64RegisterTr, WHvX64RegisterLdtr,
	WHvX64RegisterGdtr, WHvX64RegisterIdtr,
	WHvX64RegisterCr0, WHvX64RegisterCr2, WHvX64RegisterCr3, WHvX64RegisterCr4, WHvX64RegisterEfer,
}

// Regs asks the platform once for each exit.
func (v *vcpu) Regs() (accel.Regs, error) {
	if v.known {
		return v.regs, nil
	}
	if err := v.host().GetVirtualProcessorRegisters(v.vm.part, v.id, regNames, v.values); err != nil {
		return accel.Regs{}, fmt.Errorf("read registers: %w", err)
	}
	v.regs, v.known = toRegs(v.values), true
	return v.regs, nil
}

func (v *vcpu) SetRegs(r accel.Regs) error {
	fromRegs(&r, v.values)
	if err := v.host().SetVirtualProcessorRegisters(v.vm.part, v.id, regNames, v.values); err != nil {
		v.known = false
		return fmt.Errorf("set registers: %w", err)
	}
	v.regs, v.known = r, true
	return nil
}

// places are where a value's numbers belong.
type places struct {
	numbers  []*uint64
	segments []*accel.Segment
	tables   []*accel.Table
	control  []*uint64
}

func placesOf(r *accel.Regs) places {
	return places{
		[]*uint64{&r.RAX, &r.RBX, &r.RCX, &r.RDX, &r.RSI, &r.RDI, &r.RSP, &r.RBP,
			&r.R8, &r.R9, &r.R10, &r.R11, &r.R12, &r.R13, &r.R14, &r.R15, &r.RIP, &r.RFLAGS},
		[]*accel.Segment{&r.CS, &r.DS, &r.ES, &r.FS, &r.GS, &r.SS, &r.TR, &r.LDT},
		[]*accel.Table{&r.GDT, &r.IDT},
		[]*uint64{&r.CR0, &r.CR2, &r.CR3, &r.CR4, &r.EFER},
	}
}

func toRegs(values []value) accel.Regs {
	var r accel.Regs
	p := placesOf(&r)
	next := func() value {
		v := values[0]
		values = values[1:]
		return v
	}
	for _, n := range p.numbers {
		*n = next().low
	}
	for _, s := range p.segments {
		v := next()
		*s = accel.Segment{Base: v.low, Limit: uint32(v.high), Selector: uint16(v.high >> 32), Attr: uint16(v.high >> 48)}
	}
	for _, t := range p.tables { // WHV_X64_TABLE_REGISTER: the limit comes first
		v := next()
		*t = accel.Table{Base: v.high, Limit: uint16(v.low >> 48)}
	}
	for _, n := range p.control {
		*n = next().low
	}
	return r
}

func fromRegs(r *accel.Regs, values []value) {
	p := placesOf(r)
	next := func(low, high uint64) {
		values[0] = value{low: low, high: high}
		values = values[1:]
	}
	for _, n := range p.numbers {
		next(*n, 0)
	}
	for _, s := range p.segments {
		next(s.Base, uint64(s.Limit)|uint64(s.Selector)<<32|uint64(s.Attr)<<48)
	}
	for _, t := range p.tables {
		next(uint64(t.Limit)<<48, t.Base)
	}
	for _, n := range p.control {
		next(*n, 0)
	}
}
