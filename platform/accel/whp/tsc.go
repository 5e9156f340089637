package whp

import "fmt"

// measureOffset learns what the platform adds to the host's TSC: the guest's is
// read between two looks at the host's, and the closest pair counts.
func (m *vm) measureOffset(vp uint32) (uint64, error) {
	var offset uint64
	best := ^uint64(0)
	for range 16 {
		before := m.h.host.RDTSC()
		guest, err := m.get(vp, WHvX64RegisterTsc)
		after := m.h.host.RDTSC()
		if err != nil {
			return 0, fmt.Errorf("read the guest's TSC: %w", err)
		}
		if d := after - before; d < best {
			best, offset = d, guest-(before+d/2)
		}
	}
	return offset, nil
}

// restoreTSC has the counters of all processors go on together from where the
// first one was. Time stands still for the partition meanwhile.
func (v *vcpu) restoreTSC(tsc uint64) error {
	v.vm.mu.Lock()
	defer v.vm.mu.Unlock()
	if v.id != 0 {
		v.offset.Store(v.vm.offset)
		return nil
	}
	held := v.host().SuspendPartitionTime(v.vm.part) == nil // missing before Windows 10 1903
	for id := range v.vm.vcpus {
		if err := v.vm.set(uint32(id), WHvX64RegisterTsc, tsc); err != nil {
			return fmt.Errorf("set the guest's TSC: %w", err)
		}
	}
	if held {
		if err := v.host().ResumePartitionTime(v.vm.part); err != nil {
			return fmt.Errorf("let the guest's time go on: %w", err)
		}
	}
	offset, err := v.vm.measureOffset(0)
	if err != nil {
		return err
	}
	v.vm.offset = offset
	v.offset.Store(offset)
	return nil
}

// ShiftTSC looks at the offset anew, and shifts all counters with the first one.
func (v *vcpu) ShiftTSC(ticks uint64) error {
	if v.id != 0 {
		return v.restoreTSC(0)
	}
	offset, err := v.vm.measureOffset(0)
	if err != nil {
		return err
	}
	v.offset.Store(offset)
	if ticks != 0 {
		return v.restoreTSC(v.TSC() + ticks)
	}
	v.vm.mu.Lock()
	defer v.vm.mu.Unlock()
	v.vm.offset = offset
	return nil
}

// TSC is the guest's counter now.
func (v *vcpu) TSC() uint64 { return v.host().RDTSC() + v.offset.Load() }
