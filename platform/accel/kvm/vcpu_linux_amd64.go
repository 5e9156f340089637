package kvm

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"github.com/hxen-project/hxen/hv/accel"
	"golang.org/x/sys/unix"
)

// vcpu is one processor. Fields without a word on it belong to its thread.
type vcpu struct {
	vm     *vm
	id     int
	fd     int
	area   *runArea // control is also written by nudge
	data   []byte   // the mapping that area begins
	loaded bool     // area holds the registers

	parked bool   // leave Run with Parked
	given  uint32 // the vector that KVM was last given as external interrupt

	mu     sync.Mutex
	closed bool // guarded by mu; area is gone

	thread    atomic.Int32  // the thread inside Run, or 0
	entered   atomic.Bool   // that thread has looked at callback, and may be in KVM_RUN
	kicked    atomic.Bool   // leave Run with Interrupted
	callback  atomic.Uint32 // vector to inject past the LAPIC, with bit 8 set; 0 is none
	tscOffset atomic.Uint64
}

func (m *vm) NewVCPU(id int, ids []accel.CPUID) (accel.VCPU, error) {
	fd, err := m.claim(id)
	if err != nil {
		return nil, err
	}
	v := &vcpu{vm: m, id: id, fd: fd}
	if err := v.setUp(ids); err != nil {
		_ = v.Close()
		return nil, fmt.Errorf("set up processor %d: %w", id, err)
	}
	return v, nil
}

func (v *vcpu) setUp(ids []accel.CPUID) error {
	var err error
	if v.area, v.data, err = mapRun(v.fd, v.vm.h.runSize); err != nil {
		return err
	}
	v.area.validRegs = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS
	if len(ids) > maxCPUID {
		return fmt.Errorf("%d CPUID leaves are more than %d", len(ids), maxCPUID)
	}
	list := &cpuid{nent: uint32(len(ids))}
	for i, e := range ids {
		list.entries[i] = cpuidEntry{function: e.Leaf, index: e.Sub, eax: e.EAX, ebx: e.EBX, ecx: e.ECX, edx: e.EDX}
		if e.Indexed {
			list.entries[i].flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX
		}
	}
	if _, err := ioctlPtr(v.fd, KVM_SET_CPUID2, list); err != nil {
		return fmt.Errorf("KVM_SET_CPUID2: %w", err)
	}
	return v.setUpTSC()
}

// setUpTSC gives all processors of the machine one counter.
func (v *vcpu) setUpTSC() error {
	if v.vm.ratio != 0 {
		if _, err := ioctl(v.fd, KVM_SET_TSC_KHZ, uintptr(v.vm.caps.TSCHz/1000)); err != nil {
			return fmt.Errorf("KVM_SET_TSC_KHZ: %w", err)
		}
	}
	v.vm.mu.Lock()
	defer v.vm.mu.Unlock()
	if v.id == 0 || !v.vm.offsetAttr {
		if err := v.readOffset(); err != nil {
			return err
		}
		if v.id == 0 {
			v.vm.offset = v.tscOffset.Load()
		}
		return nil
	}
	return v.writeOffset(v.vm.offset)
}

func (v *vcpu) Close() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return nil
	}
	v.closed = true
	var err error
	if v.data != nil {
		err = unix.Munmap(v.data)
		v.area, v.data = nil, nil
	}
	return errors.Join(err, unix.Close(v.fd))
}

// Kick: the flag says why, immediate_exit keeps the next KVM_RUN from entering
// the guest, the signal ends the present one.
func (v *vcpu) Kick() {
	v.kicked.Store(true)
	v.nudge()
}

func (v *vcpu) Raise(vector uint8, eoi bool) error {
	if !eoi {
		v.callback.Store(1<<8 | uint32(vector))
		if v.entered.Load() { // else its thread looks before it enters
			v.nudge()
		}
		return nil
	}
	m := &msi{addrLow: msiAddress | uint32(v.id)<<12, data: uint32(vector)} // SDM 3A 11.11: fixed, edge
	if _, err := ioctlPtr(v.vm.fd, KVM_SIGNAL_MSI, m); err != nil {
		return fmt.Errorf("interrupt processor %d: %w", v.id, err)
	}
	return nil
}

// nudge makes KVM_RUN return. The Go runtime uses SIGURG itself and takes one
// too many as nothing. Whoever nudges may be late: what it is about has been
// seen, and the processor is closed.
func (v *vcpu) nudge() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return
	}
	atomic.OrUint32(&v.area.control, immediateExit)
	if t := v.thread.Load(); t != 0 {
		_ = unix.Tgkill(os.Getpid(), int(t), unix.SIGURG) // the thread may be gone by now
	}
}

func (v *vcpu) Run(h accel.Handler) (accel.Exit, error) {
	v.thread.Store(int32(unix.Gettid()))
	defer v.leave()
	for {
		v.entered.Store(true)
		if v.callback.Load() != 0 {
			if err := v.inject(); err != nil {
				return 0, err
			}
		}
		errno := run(v.fd)
		v.entered.Store(false)
		v.area.dirtyRegs, v.loaded = 0, true
		switch errno {
		case 0:
			exit, over, err := v.serve(h)
			if over || err != nil {
				return exit, err
			}
		case unix.EINTR, unix.EAGAIN: // EAGAIN: a processor left its wait for SIPI
			// First the bit, then the reasons: who comes in between sets it again.
			atomic.AndUint32(&v.area.control, ^uint32(immediateExit))
			if v.parked {
				return accel.Parked, nil
			}
			if v.kicked.Load() {
				return accel.Interrupted, nil
			}
		default:
			return 0, fmt.Errorf("run processor %d: %w", v.id, errno)
		}
	}
}

// leave uses up the kicks.
func (v *vcpu) leave() {
	v.thread.Store(0)
	v.parked = false
	v.kicked.Store(false)
	atomic.AndUint32(&v.area.control, ^uint32(immediateExit))
}

// inject hands KVM the callback's vector as an external interrupt, which has no
// EOI. KVM keeps one until the guest takes it; the same one need not wait twice.
func (v *vcpu) inject() error {
	atomic.AndUint32(&v.area.control, ^uint32(wantWindow))
	if err := v.openLINT0(); err != nil {
		return err
	}
	c := v.callback.Swap(0)
	vector := c & 0xff
	_, err := ioctlPtr(v.fd, KVM_INTERRUPT, &vector)
	switch {
	case err == nil:
		v.given = vector
	case !errors.Is(err, unix.EEXIST):
		return fmt.Errorf("interrupt processor %d: %w", v.id, err)
	case v.given != vector: // when the other one was taken
		v.callback.CompareAndSwap(0, c)
		atomic.OrUint32(&v.area.control, wantWindow)
	}
	return nil
}

// SDM 3A 11.5.1.
const (
	lvt0        = 0x350
	lvtMasked   = 1 << 16
	lvtMode     = 7 << 8
	lvtExtINT   = 7 << 8
	lapicLength = 1024
)

// openLINT0 lets external interrupts through the LAPIC. A guest without a PIC
// masks them, and none of its business would ever undo it (XEN-ABI 8.4).
func (v *vcpu) openLINT0() error {
	lapic := make([]byte, lapicLength)
	if err := ioctlBytes(v.fd, KVM_GET_LAPIC, lapic); err != nil {
		return fmt.Errorf("read the LAPIC: %w", err)
	}
	entry := uint32(lapic[lvt0]) | uint32(lapic[lvt0+1])<<8 | uint32(lapic[lvt0+2])<<16
	if entry&(lvtMasked|lvtMode) == lvtExtINT {
		return nil
	}
	lapic[lvt0], lapic[lvt0+1], lapic[lvt0+2], lapic[lvt0+3] = 0, lvtExtINT>>8, 0, 0
	if err := ioctlBytes(v.fd, KVM_SET_LAPIC, lapic); err != nil {
		return fmt.Errorf("open the LAPIC for interrupts: %w", err)
	}
	return nil
}

// serve answers one exit; over ends Run.
func (v *vcpu) serve(h accel.Handler) (exit accel.Exit, over bool, err error) {
	switch v.area.exitReason {
	case KVM_EXIT_IO:
		v.serveIO(h)
	case KVM_EXIT_MMIO: // memory that is not there: all ones, and writes go nowhere
		if m := v.area.mmio(); m.isWrite == 0 {
			for i := range m.data {
				m.data[i] = 0xff
			}
		}
	case KVM_EXIT_XEN:
		v.serveXen(h)
	case KVM_EXIT_X86_RDMSR:
		m := v.area.msr()
		m.err = failed(v.vm.msrs[m.index] && h.MSR(m.index, &m.data, false))
	case KVM_EXIT_X86_WRMSR:
		err = v.serveWRMSR(h)
	case KVM_EXIT_IRQ_WINDOW_OPEN, KVM_EXIT_INTR:
	case KVM_EXIT_SHUTDOWN:
		return accel.Shutdown, true, nil
	case KVM_EXIT_INTERNAL_ERROR:
		err = v.crashed(fmt.Sprintf("an instruction cannot be emulated (KVM internal error %d)", v.area.internal().suberror))
	case KVM_EXIT_FAIL_ENTRY:
		err = v.crashed(fmt.Sprintf("the processor refuses its state (reason %#x)", v.area.failEntry().reason))
	default:
		err = fmt.Errorf("run processor %d: unknown exit %d of KVM", v.id, v.area.exitReason)
	}
	return 0, false, err
}

func (v *vcpu) crashed(what string) error {
	r, s := &v.area.regs, &v.area.sregs
	return fmt.Errorf("%w: processor %d: %s at rip %#x, cr0 %#x, cr3 %#x, efer %#x", accel.ErrGuest, v.id, what, r.rip, s.cr0, s.cr3, s.efer)
}

// serveIO goes through the elements of a string instruction one by one.
func (v *vcpu) serveIO(h accel.Handler) {
	io := *v.area.io()
	write := io.direction == KVM_EXIT_IO_OUT
	if write && io.port == hypercallPort && io.size == 4 && io.count == 1 && v.vm.caps.Patched {
		v.servePatched(h)
		return
	}
	size := uint64(io.size)
	data := v.data[io.dataOffset : io.dataOffset+size*uint64(io.count)]
	for ; len(data) > 0; data = data[size:] {
		h.PIO(io.port, data[:size:size], write)
	}
}

// servePatched takes a hypercall out of the registers. KVM goes on behind the
// OUT by itself.
func (v *vcpu) servePatched(h accel.Handler) {
	r, s := &v.area.regs, &v.area.sregs
	c := accel.Hypercall{CPL: s.ss.dpl, Long: s.efer&eferLMA != 0 && s.cs.l != 0}
	if c.Long {
		c.Number, c.Args = r.rax, [5]uint64{r.rdi, r.rsi, r.rdx, r.r10, r.r8}
	} else {
		c.Number = r.rax & 0xffffffff
		for i, a := range [5]uint64{r.rbx, r.rcx, r.rdx, r.rsi, r.rdi} {
			c.Args[i] = a & 0xffffffff
		}
	}
	v.park(h.Hypercall(&c))
	if !c.Long {
		c.Result &= 0xffffffff
	}
	r.rax = c.Result
	v.area.dirtyRegs |= KVM_SYNC_X86_REGS
}

func (v *vcpu) serveXen(h accel.Handler) {
	x := v.area.xen()
	if x.typ != KVM_EXIT_XEN_HCALL {
		return
	}
	c := accel.Hypercall{Number: x.input, Long: x.longmode != 0, CPL: uint8(x.cpl)}
	copy(c.Args[:], x.params[:])
	v.park(h.Hypercall(&c))
	x.result = c.Result
	if !c.Long {
		x.result &= 0xffffffff
	}
}

// park has the next KVM_RUN complete the hypercall and come back at once.
func (v *vcpu) park(yes bool) {
	if yes {
		v.parked = true
		atomic.OrUint32(&v.area.control, immediateExit)
	}
}

// Bits of EFER, SDM 3A 2.2.1 and APM 2 3.1.7.
const (
	eferLME     = 1 << 8
	eferLMA     = 1 << 10
	eferAllowed = 1 | eferLME | eferLMA | 1<<11 | 1<<13 | 1<<14 | 1<<21 // SCE, NXE, LMSLE, FFXSR, AIBRSE
	cr0PG       = 1 << 31
)

func (v *vcpu) serveWRMSR(h accel.Handler) error {
	m := v.area.msr()
	if m.index != msrEFER || v.vm.msrs[msrEFER] {
		value := m.data
		m.err = failed(v.vm.msrs[m.index] && h.MSR(m.index, &value, true))
		return nil
	}
	// What KVM does not check when the host writes (arch/x86/kvm/x86.c, set_efer).
	s := &v.area.sregs
	wrong := m.data&^eferAllowed != 0 || s.cr0&cr0PG != 0 && (s.efer^m.data)&eferLME != 0
	m.err = failed(!wrong && v.writeMSR(msrEFER, m.data) == nil)
	if m.err != 0 {
		return nil
	}
	if _, err := ioctlPtr(v.fd, KVM_GET_SREGS, &v.area.sregs); err != nil {
		return fmt.Errorf("read segments: %w", err)
	}
	h.LongMode()
	return nil
}

// failed is the error member of an MSR exit: 1 raises #GP.
func failed(ok bool) uint8 {
	if ok {
		return 0
	}
	return 1
}
