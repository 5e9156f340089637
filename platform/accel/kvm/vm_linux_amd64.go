package kvm

import (
	"errors"
	"fmt"
	"runtime"
	"sync"

	"github.com/hxen-project/hxen/hv/accel"
	"golang.org/x/sys/unix"
)

const (
	// Four pages that older Intel processors need (api.rst, 4.35 and 4.62).
	identityAt = 0xfffbc000
	tssAt      = 0xfffbd000

	ioapicPins = 24 // that a split irqchip reserves routes for; ours has no IOAPIC
	maxVCPUs   = 254

	hypercallPort = 0xf5       // XEN-ABI: no device, no quirk of KVM
	hypercallMSR  = 0x40000000 // any; a non-zero one switches interception on
	msrEFER       = 0xc0000080
	msiAddress    = 0xfee00000
)

// vm is a machine. Processor 0 exists from the start, as only a processor tells
// the frequency of its TSC.
type vm struct {
	h          *hypervisor
	fd         int
	caps       accel.Caps
	vcpus      int
	msrs       map[uint32]bool // routed to the handler
	first      int             // file of processor 0
	trapped    bool            // hypercalls are handed on
	ratio      uint64          // tscRatio
	offsetAttr bool            // the kernel tells TSC offsets

	mu     sync.Mutex
	slots  map[uint64]slot // guarded by mu; by guest-physical address
	free   []uint32        // guarded by mu; slot numbers that were used and are free
	taken  bool            // guarded by mu; first has an owner
	offset uint64          // guarded by mu; TSC offset of processor 0
}

type slot struct {
	number uint32
	size   uint64
}

func (h *hypervisor) NewVM(c accel.Config) (accel.VM, error) {
	v, err := h.newVM(c)
	if err != nil {
		return nil, err
	}
	return v, nil
}

func (h *hypervisor) newVM(c accel.Config) (*vm, error) {
	if c.VCPUs < 1 || c.VCPUs > maxVCPUs {
		return nil, fmt.Errorf("a machine with %d processors: 1 to %d can be", c.VCPUs, maxVCPUs)
	}
	fd, err := ioctl(h.fd, KVM_CREATE_VM, 0)
	for errors.Is(err, unix.EINTR) { // a signal for the Go runtime
		fd, err = ioctl(h.fd, KVM_CREATE_VM, 0)
	}
	if err != nil {
		return nil, fmt.Errorf("KVM_CREATE_VM: %w", err)
	}
	m := &vm{h: h, fd: fd, first: -1, vcpus: c.VCPUs, trapped: h.trapped && !c.Patched, slots: map[uint64]slot{}, msrs: map[uint32]bool{}}
	if err := m.setUp(c); err != nil {
		_ = m.Close()
		return nil, err
	}
	return m, nil
}

func (m *vm) setUp(c accel.Config) error {
	if _, err := ioctl(m.fd, KVM_SET_TSS_ADDR, tssAt); err != nil {
		return fmt.Errorf("KVM_SET_TSS_ADDR: %w", err)
	}
	identity := uint64(identityAt)
	if _, err := ioctlPtr(m.fd, KVM_SET_IDENTITY_MAP_ADDR, &identity); err != nil {
		return fmt.Errorf("KVM_SET_IDENTITY_MAP_ADDR: %w", err)
	}
	if err := m.enable(KVM_CAP_SPLIT_IRQCHIP, ioapicPins); err != nil {
		return fmt.Errorf("have a LAPIC in the kernel: %w", err)
	}
	if err := m.enable(KVM_CAP_X86_USER_SPACE_MSR, KVM_MSR_EXIT_REASON_FILTER); err != nil {
		return fmt.Errorf("have MSR accesses handed on: %w", err)
	}
	if m.trapped {
		if _, err := ioctlPtr(m.fd, KVM_XEN_HVM_CONFIG, &xenConfig{flags: KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL, msr: hypercallMSR}); err != nil {
			return fmt.Errorf("have hypercalls handed on: %w", err)
		}
	}
	if err := m.route(c.MSRs); err != nil {
		return err
	}
	if err := m.setUpTSC(c.TSCHz); err != nil {
		return err
	}
	ids, err := m.h.cpuid()
	if err != nil {
		return err
	}
	m.caps.CPUID, m.caps.LAPIC, m.caps.EOIExits = ids, true, m.h.eoiExits
	if m.trapped {
		m.caps.Call = [3]byte{0x0f, 0x01, 0xc1} // vmcall
		if amd(ids) {
			m.caps.Call[2] = 0xd9 // vmmcall
		}
	} else {
		m.caps.Patched, m.caps.Port = true, hypercallPort
		m.caps.Call = [3]byte{0xe7, hypercallPort, 0x90} // out %eax,$port; nop
	}
	return nil
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

func (m *vm) enable(ability uint32, arg uint64) error {
	_, err := ioctlPtr(m.fd, KVM_ENABLE_CAP, &enableCap{cap: ability, args: [4]uint64{arg}})
	return err
}

// route has the kernel deny accesses to MSRs, which then come to us. A filter
// goes before whatever else the kernel would do with an MSR.
func (m *vm) route(msrs []uint32) error {
	ranges := len(msrs)
	if !m.trapped {
		ranges++
	}
	if ranges > KVM_MSR_FILTER_MAX_RANGES {
		return fmt.Errorf("route %d MSRs: this is more than %d", len(msrs), KVM_MSR_FILTER_MAX_RANGES)
	}
	deny := make([]byte, 8) // one bit in a long
	var pin runtime.Pinner
	pin.Pin(&deny[0])
	defer pin.Unpin()
	f := &msrFilter{}
	for i, index := range msrs {
		m.msrs[index] = true
		f.ranges[i] = msrRange{flags: KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE, nmsrs: 1, base: index, bitmap: address(deny)}
	}
	if !m.trapped {
		// Kernels that only show themselves later are found when they switch long
		// mode on (accel.Handler.LongMode).
		f.ranges[len(msrs)] = msrRange{flags: KVM_MSR_FILTER_WRITE, nmsrs: 1, base: msrEFER, bitmap: address(deny)}
	}
	if _, err := ioctlPtr(m.fd, KVM_X86_SET_MSR_FILTER, f); err != nil {
		return fmt.Errorf("route MSRs: %w", err)
	}
	return nil
}

// setUpTSC makes processor 0 and learns the frequency of its TSC.
func (m *vm) setUpTSC(want uint64) error {
	var err error
	if m.first, err = ioctl(m.fd, KVM_CREATE_VCPU, 0); err != nil {
		return fmt.Errorf("create processor 0: %w", err)
	}
	host, err := ioctl(m.first, KVM_GET_TSC_KHZ, 0)
	if err != nil {
		return fmt.Errorf("learn the frequency of the TSC: %w", err)
	}
	if host == 0 {
		return errors.New("KVM does not know the frequency of this processor's TSC")
	}
	guest := uint64(host)
	if want != 0 && want/1000 != guest {
		guest = want / 1000
		if !m.h.tscScaling {
			return fmt.Errorf("a guest with a TSC of %d kHz cannot run here: this processor's runs at %d kHz and cannot be scaled", guest, host)
		}
	}
	m.ratio = tscRatio(guest, uint64(host))
	m.caps.TSCHz = guest * 1000
	var offset uint64
	m.offsetAttr = tscOffsetAttr(m.first, KVM_HAS_DEVICE_ATTR, &offset) == nil
	return nil
}

func (m *vm) Caps() accel.Caps { return m.caps }

func (m *vm) Map(gpa uint64, r accel.RAM, off, n uint64) error {
	mem, ok := r.(*ram)
	if !ok {
		return fmt.Errorf("map memory at %#x: %T is of another back end", gpa, r)
	}
	if n == 0 || (gpa|off|n)%page != 0 || off > uint64(len(mem.mem)) || n > uint64(len(mem.mem))-off {
		return fmt.Errorf("map %#x bytes from %#x of %#x at %#x: not whole pages of the memory", n, off, len(mem.mem), gpa)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	number := uint32(len(m.slots))
	if k := len(m.free); k > 0 {
		number, m.free = m.free[k-1], m.free[:k-1]
	}
	region := &memoryRegion{slot: number, guest: gpa, size: n, userspaceStart: address(mem.mem[off:])}
	if _, err := ioctlPtr(m.fd, KVM_SET_USER_MEMORY_REGION, region); err != nil {
		m.free = append(m.free, number)
		return fmt.Errorf("map %#x bytes at %#x: %w", n, gpa, err)
	}
	m.slots[gpa] = slot{number, n}
	return nil
}

func (m *vm) Unmap(gpa, n uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok := m.slots[gpa]
	if !ok || s.size != n {
		return fmt.Errorf("unmap %#x bytes at %#x: no such thing was mapped", n, gpa)
	}
	if _, err := ioctlPtr(m.fd, KVM_SET_USER_MEMORY_REGION, &memoryRegion{slot: s.number, guest: gpa}); err != nil {
		return fmt.Errorf("unmap %#x bytes at %#x: %w", n, gpa, err)
	}
	delete(m.slots, gpa)
	m.free = append(m.free, s.number)
	return nil
}

// claim returns the file of a new processor.
func (m *vm) claim(id int) (int, error) {
	if id < 0 || id >= m.vcpus {
		return -1, fmt.Errorf("create processor %d: the machine has %d", id, m.vcpus)
	}
	if id > 0 {
		fd, err := ioctl(m.fd, KVM_CREATE_VCPU, uintptr(id))
		if err != nil {
			return -1, fmt.Errorf("create processor %d: %w", id, err)
		}
		return fd, nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.taken {
		return -1, fmt.Errorf("create processor 0: %w", unix.EEXIST)
	}
	m.taken = true
	return m.first, nil
}

func (m *vm) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.first >= 0 && !m.taken {
		m.taken = true
		unix.Close(m.first)
	}
	if m.fd < 0 {
		return nil
	}
	err := unix.Close(m.fd)
	m.fd = -1
	return err
}
