package whp

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/hxen-project/hxen/hv/accel"
)

const (
	maxVCPUs = 254
	// tolerance is how far, in parts per million, the TSC of a machine may run from
	// the frequency that was asked for: a host measures its own anew at each start.
	tolerance = 250
)

// vm is a partition. All its processors exist from the start: their counters are
// set together, and an INIT finds them.
type vm struct {
	h      *hypervisor
	part   partition
	caps   accel.Caps
	vcpus  int
	msrs   map[uint32]bool // routed to the handler
	x2apic bool
	offset atomic.Uint64 // of the guest's TSC, one for all processors

	mu     sync.RWMutex
	slots  []slot // guarded by mu; by address
	taken  []bool // guarded by mu; by processor
	closed bool   // guarded by mu
}

// slot is memory at an address.
type slot struct {
	gpa    uint64
	r      *ram
	off, n uint64
}

func (h *hypervisor) NewVM(c accel.Config) (accel.VM, error) {
	if c.VCPUs < 1 || c.VCPUs > maxVCPUs {
		return nil, fmt.Errorf("a machine with %d processors: 1 to %d can be", c.VCPUs, maxVCPUs)
	}
	if c.TSCHz != 0 && max(c.TSCHz, h.tscHz)-min(c.TSCHz, h.tscHz) > h.tscHz/1e6*tolerance {
		return nil, fmt.Errorf("a guest with a TSC of %d kHz cannot run here: this processor's runs at %d kHz and cannot be scaled", c.TSCHz/1000, h.tscHz/1000)
	}
	part, err := h.host.CreatePartition()
	if err != nil {
		return nil, fmt.Errorf("create a partition: %w", err)
	}
	m := &vm{h: h, part: part, vcpus: c.VCPUs, msrs: map[uint32]bool{}, taken: make([]bool, c.VCPUs)}
	if err := m.setUp(c); err != nil {
		_ = m.Close()
		return nil, err
	}
	return m, nil
}

func (m *vm) NewTimer(f func()) accel.Timer { return accel.NewTimer(f) }
func (m *vm) NewBell(f func()) accel.Bell   { return accel.NewBell(f) }

func (m *vm) setUp(c accel.Config) error {
	if err := m.configure(c); err != nil {
		return err
	}
	if err := m.h.host.SetupPartition(m.part); err != nil {
		return fmt.Errorf("set up the partition: %w", err)
	}
	for id := range m.vcpus {
		if err := m.h.host.CreateVirtualProcessor(m.part, uint32(id)); err != nil {
			return fmt.Errorf("create processor %d: %w", id, err)
		}
		if id == 0 {
			continue
		}
		if err := m.set(uint32(id), WHvRegisterInternalActivityState, startupSuspend); err != nil {
			return fmt.Errorf("have processor %d wait to be started: %w", id, err)
		}
	}
	m.caps = accel.Caps{CPUID: m.cpuid(), TSCHz: m.h.tscHz, LAPIC: true, Call: [3]byte{0x0f, 0x01, 0xc1}} // vmcall
	if amd(m.caps.CPUID) {
		m.caps.Call[2] = 0xd9 // vmmcall
	}
	if c.TSCHz != 0 {
		m.caps.TSCHz = c.TSCHz
	}
	return m.measureOffset()
}

// configure sets what must be set before the partition is there.
func (m *vm) configure(c accel.Config) error {
	exits := uint64(exitCpuid | exitMsr)
	if m.h.hypercalls {
		exits |= exitHypercall
	}
	if m.h.exceptions {
		exits |= exitException
	}
	apic := uint32(WHvX64LocalApicEmulationModeX2Apic)
	m.x2apic = true
	if m.property(WHvPartitionPropertyCodeLocalApicEmulationMode, le.AppendUint32(nil, apic)) != nil {
		apic, m.x2apic = WHvX64LocalApicEmulationModeXApic, false // before Windows 10 2004
	}
	var list []byte
	for _, leaf := range m.exitLeaves() {
		list = le.AppendUint32(list, leaf)
	}
	for _, p := range []struct {
		what string
		code uint32
		data []byte
	}{
		{"the number of processors", WHvPartitionPropertyCodeProcessorCount, le.AppendUint32(nil, uint32(c.VCPUs))},
		{"a local APIC", WHvPartitionPropertyCodeLocalApicEmulationMode, le.AppendUint32(nil, apic)},
		{"exits", WHvPartitionPropertyCodeExtendedVmExits, le.AppendUint64(nil, exits)},
		{"exits for CPUID", WHvPartitionPropertyCodeCpuidExitList, list},
	} {
		if err := m.property(p.code, p.data); err != nil {
			return fmt.Errorf("have the partition get %s: %w", p.what, err)
		}
	}
	if m.h.exceptions {
		if err := m.property(WHvPartitionPropertyCodeExceptionExitBitmap, le.AppendUint64(nil, 1<<vectorUD)); err != nil {
			return fmt.Errorf("have the partition hand unknown instructions on: %w", err)
		}
	}
	return m.routeMSRs(c.MSRs)
}

// routeMSRs: what the platform does not know exits by default. Its own synthetic
// registers, whose numbers Xen uses too, are switched off, and newer platforms
// can be told more clearly.
func (m *vm) routeMSRs(msrs []uint32) error {
	var actions []byte
	for _, index := range msrs {
		m.msrs[index] = true
		actions = le.AppendUint32(actions, index)
		actions = append(actions, WHvMsrActionExit, WHvMsrActionExit, 0, 0)
	}
	type optional struct {
		code uint32
		data []byte
	}
	try := []optional{
		{WHvPartitionPropertyCodeX64MsrExitBitmap, le.AppendUint64(nil, msrUnhandled)},
		{WHvPartitionPropertyCodeSyntheticProcessorFeaturesBanks, le.AppendUint64(le.AppendUint64(nil, 1), 0)}, // one bank, no feature
	}
	if len(msrs) > 0 {
		try = append(try, optional{WHvPartitionPropertyCodeMsrActionList, actions})
	}
	for _, p := range try {
		err := m.property(p.code, p.data)
		if err != nil && !errors.Is(err, hresult(WHV_E_UNKNOWN_PROPERTY)) {
			return fmt.Errorf("route MSRs (property %#x): %w", p.code, err)
		}
	}
	return nil
}

func (m *vm) property(code uint32, data []byte) error {
	return m.h.host.SetPartitionProperty(m.part, code, data)
}

// exitLeaves are the leaves whose CPUID comes to us: all that this processor
// has, and a hypervisor's.
func (m *vm) exitLeaves() []uint32 {
	var out []uint32
	for _, l := range m.h.leaves {
		out = append(out, l.Leaf)
	}
	for leaf := uint32(0x40000000); leaf <= 0x4000000f; leaf++ {
		out = append(out, leaf)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// cpuid is what a guest can be shown. Platforms that do not tell answer with
// their own at each exit, and the guest sees what is in both (vcpu.serveCPUID).
func (m *vm) cpuid() []accel.CPUID {
	told := enumerate(func(leaf, sub uint32) (cpuidOutput, error) {
		return m.h.host.GetVirtualProcessorCpuidOutput(m.part, 0, leaf, sub)
	})
	if told == nil {
		return m.h.leaves
	}
	return told
}

// amd tells by the vendor whether the processor has SVM's instruction rather
// than VMX's.
func amd(ids []accel.CPUID) bool {
	for _, e := range ids {
		if e.Leaf == 0 {
			return e.EBX == 0x68747541 || e.EBX == 0x6f677948 // "Auth", "Hygo"
		}
	}
	return false
}

func (m *vm) Caps() accel.Caps { return m.caps }

func (m *vm) Map(gpa uint64, r accel.RAM, off, n uint64) error {
	mem, ok := r.(*ram)
	if !ok {
		return fmt.Errorf("map memory at %#x: %T is of another back end", gpa, r)
	}
	if n == 0 || (gpa|off|n)%page != 0 || off > uint64(len(mem.mem)) || n > uint64(len(mem.mem))-off || gpa > 1<<52-n {
		return fmt.Errorf("map %#x bytes from %#x of %#x at %#x: not whole pages of the memory", n, off, len(mem.mem), gpa)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	// The platform would put one thing over the other.
	i := m.find(gpa)
	if i < len(m.slots) && m.slots[i].gpa < gpa+n {
		return fmt.Errorf("map %#x bytes at %#x: there is memory at %#x", n, gpa, m.slots[i].gpa)
	}
	s := slot{gpa: gpa, r: mem, off: off, n: n}
	if err := m.put(s); err != nil {
		return fmt.Errorf("map %#x bytes at %#x: %w", n, gpa, err)
	}
	m.slots = slices.Insert(m.slots, i, s)
	mem.mapped(m, 1)
	return nil
}

func (m *vm) put(s slot) error {
	return m.h.host.MapGpaRange(m.part, s.r.mem[s.off:s.off+s.n], s.gpa, WHvMapGpaRangeFlagRead|WHvMapGpaRangeFlagWrite|WHvMapGpaRangeFlagExecute)
}

// find returns the first slot that ends behind gpa. The caller holds mu.
func (m *vm) find(gpa uint64) int {
	i, _ := slices.BinarySearchFunc(m.slots, gpa, func(s slot, gpa uint64) int {
		if s.gpa+s.n <= gpa {
			return -1
		}
		return 1
	})
	return i
}

func (m *vm) Unmap(gpa, n uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := m.find(gpa)
	if i == len(m.slots) || m.slots[i].gpa != gpa || m.slots[i].n != n {
		return fmt.Errorf("unmap %#x bytes at %#x: no such thing was mapped", n, gpa)
	}
	if err := m.h.host.UnmapGpaRange(m.part, gpa, n); err != nil {
		return fmt.Errorf("unmap %#x bytes at %#x: %w", n, gpa, err)
	}
	m.slots[i].r.mapped(m, -1)
	m.slots = slices.Delete(m.slots, i, i+1)
	return nil
}

// without takes n bytes of r from off out of the machine while do runs.
func (m *vm) without(r *ram, off, n uint64, do func() error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []slot // parts of slots
	for _, s := range m.slots {
		from, to := max(s.off, off), min(s.off+s.n, off+n)
		if s.r != r || from >= to {
			continue
		}
		if m.h.partialUnmap {
			s = slot{gpa: s.gpa + from - s.off, r: r, off: from, n: to - from}
		}
		out = append(out, s)
	}
	var err error
	taken := 0
	for ; taken < len(out) && err == nil; taken++ {
		err = m.h.host.UnmapGpaRange(m.part, out[taken].gpa, out[taken].n)
	}
	if err == nil {
		err = do()
	}
	for _, s := range out[:taken] {
		err = errors.Join(err, m.put(s))
	}
	return err
}

// backed reports whether there is memory at gpa. It waits while memory is being
// exchanged.
func (m *vm) backed(gpa uint64) bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	i := m.find(gpa)
	return i < len(m.slots) && m.slots[i].gpa <= gpa
}

// copy reads or writes guest memory within a page; what is not there reads as
// all ones.
func (m *vm) copy(gpa uint64, b []byte, write bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	i := m.find(gpa)
	if i == len(m.slots) || m.slots[i].gpa > gpa || gpa-m.slots[i].gpa > m.slots[i].n-uint64(len(b)) {
		if !write {
			for k := range b {
				b[k] = 0xff
			}
		}
		return
	}
	s := m.slots[i]
	at := s.r.mem[s.off+gpa-s.gpa:]
	if write {
		copy(at, b)
	} else {
		copy(b, at)
	}
}

// get and set are for one register of 64 bits.
func (m *vm) get(vp uint32, name uint32) (uint64, error) {
	v := make([]value, 1)
	err := m.h.host.GetVirtualProcessorRegisters(m.part, vp, []uint32{name}, v)
	return v[0].low, err
}

func (m *vm) set(vp uint32, name uint32, to uint64) error {
	v := make([]value, 1)
	v[0].low = to
	return m.h.host.SetVirtualProcessorRegisters(m.part, vp, []uint32{name}, v)
}

// Close deletes the partition with its processors.
func (m *vm) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil
	}
	m.closed = true
	for _, s := range m.slots {
		s.r.mapped(m, -1)
	}
	m.slots = nil
	return m.h.host.DeletePartition(m.part)
}
