package whp

// serveCPUID answers with the processor's leaves. Features are shown as far as
// the platform has them too, and what follows the processor's state is as the
// platform says. A leaf that is not listed reads as the platform has it below
// 0x40000000, and else as zero.
func (v *vcpu) serveCPUID() error {
	c := v.exit.cpuid()
	leaf, sub := uint32(c.rax), uint32(c.rcx)
	own := cpuidOutput{eax: uint32(c.defaultRAX), ebx: uint32(c.defaultRBX), ecx: uint32(c.defaultRCX), edx: uint32(c.defaultRDX)}
	o, ok := v.leaf(leaf, sub)
	switch {
	case ok:
		o = v.agree(leaf, sub, o, own)
	case leaf>>28 != 4 && !v.listed(leaf):
		o = own
	}
	return v.goOn(v.exit.vp.length(), reg{WHvX64RegisterRax, uint64(o.eax)}, reg{WHvX64RegisterRbx, uint64(o.ebx)},
		reg{WHvX64RegisterRcx, uint64(o.ecx)}, reg{WHvX64RegisterRdx, uint64(o.edx)})
}

// leaf looks a leaf up among the processor's.
func (v *vcpu) leaf(leaf, sub uint32) (cpuidOutput, bool) {
	for _, e := range v.ids {
		if e.Leaf == leaf && (!e.Indexed || e.Sub == sub) {
			return cpuidOutput{eax: e.EAX, ebx: e.EBX, ecx: e.ECX, edx: e.EDX}, true
		}
	}
	return cpuidOutput{}, false
}

// listed reports whether the processor has any subleaf of the leaf.
func (v *vcpu) listed(leaf uint32) bool {
	for _, e := range v.ids {
		if e.Leaf == leaf {
			return true
		}
	}
	return false
}

// Bits of CPUID, SDM 2A: what leaves of features must agree in is and-ed.
const (
	osxsave = 1 << 27 // 1.ECX; CR4.OSXSAVE
	present = 1 << 31 // 1.ECX
	x2apic  = 1 << 21 // 1.ECX
	apic    = 1 << 9  // 1.EDX; the LAPIC is on
	htt     = 1 << 28 // 1.EDX
	ospke   = 1 << 4  // 7.0.ECX; CR4.PKE
)

// agree joins what the guest shall see with what the platform says.
func (v *vcpu) agree(leaf, sub uint32, o, own cpuidOutput) cpuidOutput {
	switch {
	case leaf == 1:
		keep := uint32(present)
		if v.vm.x2apic {
			keep |= x2apic
		}
		o.ecx = o.ecx&(own.ecx|keep)&^osxsave | own.ecx&osxsave
		o.edx = o.edx&(own.edx|htt)&^apic | own.edx&apic
	case leaf == 7 && sub == 0:
		o.ebx, o.ecx, o.edx = o.ebx&own.ebx, o.ecx&own.ecx&^ospke|own.ecx&ospke, o.edx&own.edx
	case leaf == 7:
		o.eax, o.ebx, o.ecx, o.edx = o.eax&own.eax, o.ebx&own.ebx, o.ecx&own.ecx, o.edx&own.edx
	case leaf == 0xd: // the areas of XSAVE follow XCR0
		return own
	case leaf == 0x80000001:
		o.ecx, o.edx = o.ecx&own.ecx, o.edx&own.edx
	case leaf == 0x80000007:
		o.edx &= own.edx
	case leaf == 0x80000008:
		o.ebx &= own.ebx
	}
	return o
}
