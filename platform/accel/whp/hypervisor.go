package whp

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/hxen-project/hxen/hv/accel"
)

var le = binary.LittleEndian

// hypervisor is the platform as it was found.
type hypervisor struct {
	host         host
	tscHz        uint64
	hypercalls   bool // it has the hypercall exit
	exceptions   bool // it has the exit for #UD
	partialUnmap bool
	leaves       []accel.CPUID // what the processor shows, where the platform does not tell
}

// vectorUD is the exception of an instruction that the processor does not know.
const vectorUD = 6

// open looks at what the platform can do.
func open(h host) (*hypervisor, error) {
	v := &hypervisor{host: h}
	present, err := v.capability(WHvCapabilityCodeHypervisorPresent, 4)
	if err != nil {
		return nil, fmt.Errorf("ask the Windows Hypervisor Platform: %w", err)
	}
	if present == 0 {
		return nil, errors.New("the Windows hypervisor does not run")
	}
	features, err := v.capability(WHvCapabilityCodeFeatures, 8)
	if err != nil {
		return nil, fmt.Errorf("ask the Windows Hypervisor Platform for its features: %w", err)
	}
	exits, err := v.capability(WHvCapabilityCodeExtendedVmExits, 8)
	if err != nil {
		return nil, fmt.Errorf("ask the Windows Hypervisor Platform for its exits: %w", err)
	}
	exceptions, _ := v.capability(WHvCapabilityCodeExceptionExitBitmap, 8)
	v.partialUnmap = features&featurePartialUnmap != 0
	v.hypercalls = exits&exitHypercall != 0
	v.exceptions = exits&exitException != 0 && exceptions&(1<<vectorUD) != 0
	for _, n := range []struct {
		there bool
		name  string
	}{
		{features&featureLocalApicEmulation != 0, "a local APIC"},
		{exits&exitCpuid != 0, "exits for CPUID"},
		{exits&exitMsr != 0, "exits for MSRs"},
		{v.hypercalls || v.exceptions, "a way for hypercalls"},
	} {
		if !n.there {
			return nil, fmt.Errorf("this Windows Hypervisor Platform has not %s; HXEN needs Windows 10 version 1809 or later", n.name)
		}
	}
	if v.tscHz, err = v.capability(WHvCapabilityCodeProcessorClockFrequency, 8); err != nil || v.tscHz == 0 {
		return nil, fmt.Errorf("the Windows Hypervisor Platform does not tell the frequency of the TSC (%w)", err)
	}
	v.leaves = enumerate(func(leaf, sub uint32) (cpuidOutput, error) { return h.CPUID(leaf, sub), nil })
	return v, nil
}

// capability asks for a number of n bytes.
func (h *hypervisor) capability(code uint32, n int) (uint64, error) {
	var b [8]byte
	err := h.host.GetCapability(code, b[:n])
	return le.Uint64(b[:]), err
}

func (h *hypervisor) Name() string { return "whpx" }

func (h *hypervisor) Close() error { return nil }

// enumerate collects all leaves that a processor has (SDM 2A, CPUID).
func enumerate(ask func(leaf, sub uint32) (cpuidOutput, error)) []accel.CPUID {
	var out []accel.CPUID
	for _, first := range []uint32{0, 0x80000000} {
		top, err := ask(first, 0)
		if err != nil {
			return nil
		}
		for leaf := first; leaf <= min(top.eax, first+0xff); leaf++ {
			for sub := uint32(0); ; sub++ {
				o, err := ask(leaf, sub)
				if err != nil {
					return nil
				}
				again, indexed := more(leaf, sub, o)
				if !(indexed && sub > 0 && o == (cpuidOutput{})) {
					out = append(out, accel.CPUID{Leaf: leaf, Sub: sub, Indexed: indexed, EAX: o.eax, EBX: o.ebx, ECX: o.ecx, EDX: o.edx})
				}
				if !again {
					break
				}
			}
		}
	}
	return out
}

// more tells whether a leaf has subleaves and another one follows this.
func more(leaf, sub uint32, o cpuidOutput) (again, indexed bool) {
	switch leaf {
	case 4, 0x8000001d: // caches, to the first without a type
		return o.eax&31 != 0 && sub < 31, true
	case 7, 0x14, 0x17, 0x18, 0x20: // EAX of the first tells the last; below, only the first is looked at
		return sub == 0 && leaf == 7 && o.eax > 0 || leaf == 7 && sub == 1, true
	case 0xb, 0x1f, 0x80000026: // levels, to the first without a type
		return o.ecx>>8&0xff != 0 && sub < 31, true
	case 0xd:
		return sub < 63, true
	case 0xf, 0x10, 0x12, 0x1d:
		return sub < 2, true
	}
	return false, false
}
