package kvm

import (
	"fmt"
	"math/bits"
)

// msrTSC is IA32_TIME_STAMP_COUNTER, SDM 4.
const msrTSC = 0x10

// rdtsc reads the host's time-stamp counter.
func rdtsc() uint64

// tscRatio is guest/host frequency with 48 bits behind the point, as VMX has it;
// 0 if both are the same.
func tscRatio(guestKHz, hostKHz uint64) uint64 {
	if guestKHz == hostKHz {
		return 0
	}
	q, _ := bits.Div64(guestKHz>>16, guestKHz<<48, hostKHz)
	return q
}

// scaleTSC turns host ticks into guest ticks.
func scaleTSC(host, ratio uint64) uint64 {
	if ratio == 0 {
		return host
	}
	hi, lo := bits.Mul64(host, ratio)
	return hi<<16 | lo>>48
}

// readOffset learns what KVM adds to the host's TSC, scaled, to make the guest's.
func (v *vcpu) readOffset() error {
	var offset uint64
	if v.vm.offsetAttr {
		if err := tscOffsetAttr(v.fd, KVM_GET_DEVICE_ATTR, &offset); err != nil {
			return fmt.Errorf("read the processor's TSC offset: %w", err)
		}
	} else {
		var err error
		if offset, err = v.measureOffset(); err != nil {
			return err
		}
	}
	v.tscOffset.Store(offset)
	return nil
}

// measureOffset is for kernels before 5.16, which do not tell the offset: the
// guest's counter is read between two looks at the host's, and the closest pair
// counts.
func (v *vcpu) measureOffset() (uint64, error) {
	var offset uint64
	best := ^uint64(0)
	for range 16 {
		before := rdtsc()
		guest, err := v.readMSR(msrTSC)
		after := rdtsc()
		if err != nil {
			return 0, fmt.Errorf("read the guest's TSC: %w", err)
		}
		if d := after - before; d < best {
			best, offset = d, guest-scaleTSC(before+d/2, v.vm.ratio)
		}
	}
	return offset, nil
}

// writeTSC makes the guest's counter go on from now.
func (v *vcpu) writeTSC(now uint64) error {
	if !v.vm.offsetAttr {
		// KVM joins processors whose counters are set to nearly the same.
		if err := v.writeMSR(msrTSC, now); err != nil {
			return fmt.Errorf("set the guest's TSC: %w", err)
		}
		return v.readOffset()
	}
	return v.writeOffset(now - scaleTSC(rdtsc(), v.vm.ratio))
}

func (v *vcpu) writeOffset(offset uint64) error {
	if err := tscOffsetAttr(v.fd, KVM_SET_DEVICE_ATTR, &offset); err != nil {
		return fmt.Errorf("set the processor's TSC offset: %w", err)
	}
	v.tscOffset.Store(offset)
	return nil
}

// ShiftTSC looks at the offset first: where the host's counter began anew in its
// sleep, KVM has adjusted it (kvm_arch_hardware_enable in arch/x86/kvm/x86.c).
func (v *vcpu) ShiftTSC(ticks uint64) error {
	if err := v.readOffset(); err != nil {
		return err
	}
	if ticks != 0 {
		var err error
		if v.vm.offsetAttr {
			err = v.writeOffset(v.tscOffset.Load() + ticks)
		} else {
			err = v.writeTSC(v.TSC() + ticks)
		}
		if err != nil {
			return err
		}
	}
	if v.id == 0 {
		v.vm.mu.Lock()
		defer v.vm.mu.Unlock()
		v.vm.offset = v.tscOffset.Load()
	}
	return nil
}

// TSC is the guest's counter now.
func (v *vcpu) TSC() uint64 { return scaleTSC(rdtsc(), v.vm.ratio) + v.tscOffset.Load() }
