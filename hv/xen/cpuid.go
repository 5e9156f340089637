package xen

import (
	"github.com/hxen-project/hxen/hv/accel"
	"github.com/hxen-project/hxen/hv/xenabi"
)

// HypercallMSR is the MSR that a guest writes to get a hypercall page.
const HypercallMSR = 0x40000000

// CPUIDConfig is what the leaves say about the domain.
type CPUIDConfig struct {
	Domid       uint16
	VCPUs       int
	TSCHz       uint64
	Incarnation uint32 // grows with each restore; 0 means the first
	Callback    bool   // guests shall take their events by the domain's callback, not by a vector of each vCPU's LAPIC
}

// CPUID makes the leaves of one vCPU from what the host offers: the Xen leaves
// in place of any other hypervisor's, the vCPU's own ids, and no features that
// an unnested PVH guest must not see (arch-x86/cpuid.h).
func CPUID(host []accel.CPUID, c CPUIDConfig, vcpu int) []accel.CPUID {
	out := make([]accel.CPUID, 0, len(host)+8)
	for _, l := range host {
		if l.Leaf>>16 == xenabi.XEN_CPUID_FIRST_LEAF>>16 {
			continue
		}
		out = append(out, ordinary(l, c, vcpu))
	}
	return append(out, xenLeaves(c, vcpu)...)
}

// ordinary adapts a leaf of the processor's own.
func ordinary(l accel.CPUID, c CPUIDConfig, vcpu int) accel.CPUID {
	const (
		vmx, x2apic, tscDeadline, hypervisor = 1 << 5, 1 << 21, 1 << 24, 1 << 31 // 1.ECX
		htt                                  = 1 << 28                           // 1.EDX
		svm                                  = 1 << 2                            // 0x80000001.ECX
		la57                                 = 1 << 16                           // 7.0.ECX
	)
	switch l.Leaf {
	case 1:
		l.ECX = l.ECX&^vmx | x2apic | tscDeadline | hypervisor
		l.EBX = l.EBX&0xffff | uint32(min(c.VCPUs, 255))<<16 | uint32(vcpu&0xff)<<24
		l.EDX &^= htt
		if c.VCPUs > 1 {
			l.EDX |= htt
		}
	case 7:
		if l.Sub == 0 {
			l.ECX &^= la57
		}
	case 0xb, 0x1f:
		l.EDX = uint32(vcpu)
	case 0x80000001:
		l.ECX &^= svm
	}
	return l
}

func xenLeaves(c CPUIDConfig, vcpu int) []accel.CPUID {
	const (
		base         = xenabi.XEN_CPUID_FIRST_LEAF
		tscReliable  = 1 << 1
		neverEmulate = 2 // tsc_mode
	)
	features := uint32(xenabi.XEN_HVM_CPUID_VCPU_ID_PRESENT | xenabi.XEN_HVM_CPUID_DOMID_PRESENT)
	if !c.Callback {
		features |= xenabi.XEN_HVM_CPUID_UPCALL_VECTOR
	}
	mul, shift := scale(c.TSCHz)
	khz := uint32(c.TSCHz / 1000)
	return []accel.CPUID{
		{Leaf: base, EAX: base + 4, EBX: xenabi.XEN_CPUID_SIGNATURE_EBX, ECX: xenabi.XEN_CPUID_SIGNATURE_ECX, EDX: xenabi.XEN_CPUID_SIGNATURE_EDX},
		{Leaf: base + 1, EAX: Version},
		{Leaf: base + 2, EAX: 1, EBX: HypercallMSR},
		{Leaf: base + 3, Indexed: true, EAX: tscReliable, EBX: neverEmulate, ECX: khz, EDX: max(c.Incarnation, 1)},
		{Leaf: base + 3, Indexed: true, Sub: 1, ECX: mul, EDX: uint32(uint8(shift))},
		{Leaf: base + 3, Indexed: true, Sub: 2, EAX: khz},
		{Leaf: base + 4, Indexed: true, EAX: features, EBX: uint32(vcpu), ECX: uint32(c.Domid)},
	}
}
