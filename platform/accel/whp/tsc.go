package whp

import (
	"errors"
	"fmt"
)

// measureOffset learns what the platform adds to the host's TSC: the guest's is
// read between two looks at the host's, and the closest pair counts.
func (m *vm) measureOffset() error {
	var offset uint64
	best := ^uint64(0)
	for range 16 {
		before := m.h.host.RDTSC()
		guest, err := m.get(0, WHvX64RegisterTsc)
		after := m.h.host.RDTSC()
		if err != nil {
			return fmt.Errorf("read the guest's TSC: %w", err)
		}
		if d := after - before; d < best {
			best, offset = d, guest-(before+d/2)
		}
	}
	m.offset.Store(offset)
	return nil
}

// setTSC has the counters of all processors go on together from what next makes
// of the first one's. Time stands still for the partition meanwhile.
func (m *vm) setTSC(next func(now uint64) uint64) error {
	held := m.h.host.SuspendPartitionTime(m.part) == nil // missing before Windows 10 1903
	now, err := m.get(0, WHvX64RegisterTsc)
	to := next(now)
	for id := 0; err == nil && id < m.vcpus; id++ {
		err = m.set(uint32(id), WHvX64RegisterTsc, to)
	}
	if held {
		err = errors.Join(err, m.h.host.ResumePartitionTime(m.part))
	}
	if err != nil {
		return fmt.Errorf("set the guest's TSC: %w", err)
	}
	return m.measureOffset()
}

// ShiftTSC shifts all counters when processor 0 is asked to.
func (v *vcpu) ShiftTSC(ticks uint64) error {
	if v.id != 0 {
		return nil
	}
	if ticks == 0 {
		return v.vm.measureOffset()
	}
	return v.vm.setTSC(func(now uint64) uint64 { return now + ticks })
}

// TSC is the guest's counter now.
func (v *vcpu) TSC() uint64 { return v.vm.h.host.RDTSC() + v.vm.offset.Load() }
