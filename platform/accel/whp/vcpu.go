package whp

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/hxen-project/hxen/hv/accel"
)

// vcpu is one processor. Fields without a word on them belong to its thread.
type vcpu struct {
	vm     *vm
	id     uint32
	ids    []accel.CPUID
	exit   *runExit
	window bool       // the platform tells when the guest takes interrupts
	regs   accel.Regs // as the platform has them, where known
	known  bool
	values []value // for regNames
	few    []value // for short lists
	at     uint64  // the address of memory that the guest was last sent back to
	again  int     // how often in a row

	mu     sync.Mutex
	closed bool // guarded by mu

	kicked   atomic.Bool   // leave Run with Interrupted
	callback atomic.Uint32 // vector to inject past the LAPIC, with bit 8 set; 0 is none
}

func (m *vm) NewVCPU(id int, ids []accel.CPUID) (accel.VCPU, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if id < 0 || id >= m.vcpus || m.taken[id] {
		return nil, fmt.Errorf("create processor %d: the machine has %d, each once", id, m.vcpus)
	}
	m.taken[id] = true
	v := &vcpu{vm: m, id: uint32(id), ids: ids, exit: &runExit{}, values: make([]value, len(regNames)), few: make([]value, 8)}
	return v, nil
}

// Close leaves the processor to the end of its partition.
func (v *vcpu) Close() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.closed = true
	return nil
}

func (v *vcpu) Kick() {
	v.kicked.Store(true)
	v.nudge()
}

// nudge ends the present run, or the next if there is none: the platform
// remembers it.
func (v *vcpu) nudge() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.closed {
		_ = v.host().CancelRunVirtualProcessor(v.vm.part, v.id) // it cannot fail for a processor that is there
	}
}

func (v *vcpu) host() host { return v.vm.h.host }

func (v *vcpu) Raise(vector uint8, eoi bool) error {
	if !eoi {
		v.callback.Store(1<<8 | uint32(vector))
		v.nudge()
		return nil
	}
	c := &interruptControl{kind: WHvX64InterruptTypeFixed, destination: v.id, vector: uint32(vector)}
	if err := v.host().RequestInterrupt(v.vm.part, c); err != nil {
		return fmt.Errorf("interrupt processor %d: %w", v.id, err)
	}
	return nil
}

func (v *vcpu) Run(h accel.Handler) (accel.Exit, error) {
	defer v.kicked.Store(false)
	for {
		if v.kicked.Load() {
			return accel.Interrupted, nil
		}
		if v.callback.Load() != 0 {
			if err := v.inject(); err != nil {
				return 0, err
			}
		}
		v.known = false
		if err := v.host().RunVirtualProcessor(v.vm.part, v.id, v.exit); err != nil {
			return 0, fmt.Errorf("run processor %d: %w", v.id, err)
		}
		exit, over, err := v.serve(h)
		if over || err != nil {
			return exit, err
		}
	}
}

// inject gives the guest the callback's vector as an external interrupt, which
// has no EOI, or has the platform tell when it can be taken. A processor that
// halts is taken out of it, as the platform would not deliver before something
// else wakes it.
func (v *vcpu) inject() error {
	names := []uint32{WHvX64RegisterRflags, WHvRegisterInterruptState, WHvRegisterPendingInterruption, WHvRegisterPendingEvent, WHvRegisterInternalActivityState}
	n := v.few[:len(names)]
	if err := v.host().GetVirtualProcessorRegisters(v.vm.part, v.id, names, n); err != nil {
		return fmt.Errorf("look whether processor %d takes interrupts: %w", v.id, err)
	}
	const interruptFlag = 1 << 9 // SDM 3A 2.3
	if n[0].low&interruptFlag == 0 || n[1].low&interruptShadow != 0 || n[2].low&interruptionPending != 0 ||
		n[3].low&eventPending != 0 || n[4].low&startupSuspend != 0 {
		if v.window {
			return nil
		}
		v.window = true
		return v.set(WHvX64RegisterDeliverabilityNotifications, interruptNotification)
	}
	c := v.callback.Swap(0)
	n[0] = value{low: eventPending | WHvX64PendingEventExtInt<<1 | uint64(c&0xff)<<8}
	n[1] = value{}
	if err := v.host().SetVirtualProcessorRegisters(v.vm.part, v.id, []uint32{WHvRegisterPendingEvent, WHvRegisterInternalActivityState}, n[:2]); err != nil {
		return fmt.Errorf("interrupt processor %d: %w", v.id, err)
	}
	return nil
}

// raise has the guest take an exception at the instruction it is at.
func (v *vcpu) raise(vector uint8, hasCode bool, code uint32, parameter uint64) error {
	e := value{low: eventPending | WHvX64PendingEventException<<1 | uint64(vector)<<16 | uint64(code)<<32, high: parameter}
	if hasCode {
		e.low |= 1 << 8
	}
	v.few[0] = e
	if err := v.host().SetVirtualProcessorRegisters(v.vm.part, v.id, []uint32{WHvRegisterPendingEvent}, v.few[:1]); err != nil {
		return fmt.Errorf("raise exception %d in processor %d: %w", vector, v.id, err)
	}
	return nil
}

const vectorGP = 13

// serve answers one exit; over ends Run.
func (v *vcpu) serve(h accel.Handler) (exit accel.Exit, over bool, err error) {
	if v.exit.reason != WHvRunVpExitReasonMemoryAccess {
		v.again = 0
	}
	switch v.exit.reason {
	case WHvRunVpExitReasonX64IoPortAccess:
		err = v.serveIO(h)
	case WHvRunVpExitReasonMemoryAccess:
		err = v.serveMemory()
	case WHvRunVpExitReasonHypercall:
		return v.serveCall(h)
	case WHvRunVpExitReasonException:
		return v.serveException(h)
	case WHvRunVpExitReasonX64MsrAccess:
		err = v.serveMSR(h)
	case WHvRunVpExitReasonX64Cpuid:
		err = v.serveCPUID()
	case WHvRunVpExitReasonX64InterruptWindow:
		v.window = false
	case WHvRunVpExitReasonCanceled, WHvRunVpExitReasonX64Halt, WHvRunVpExitReasonX64ApicEoi:
	case WHvRunVpExitReasonUnrecoverableException:
		return accel.Shutdown, true, nil
	case WHvRunVpExitReasonInvalidVpRegisterValue:
		err = v.crashed("the processor refuses its state")
	case WHvRunVpExitReasonUnsupportedFeature:
		err = v.crashed("it uses what the Windows Hypervisor Platform does not have")
	default:
		err = fmt.Errorf("run processor %d: unknown exit %#x of the Windows Hypervisor Platform", v.id, v.exit.reason)
	}
	return 0, false, err
}

func (v *vcpu) crashed(what string) error {
	r, _ := v.Regs()
	return fmt.Errorf("%w: processor %d: %s at rip %#x, cr0 %#x, cr3 %#x, efer %#x", accel.ErrGuest, v.id, what, r.RIP, r.CR0, r.CR3, r.EFER)
}

// serveCall takes a hypercall out of the registers; the platform's exit does not
// have them all. Both instructions have three bytes.
func (v *vcpu) serveCall(h accel.Handler) (exit accel.Exit, over bool, err error) {
	r, err := v.Regs()
	if err != nil {
		return 0, false, err
	}
	c := accel.Hypercall{CPL: uint8(v.exit.vp.state & stateCPL), Long: v.exit.vp.long()}
	if c.Long {
		c.Number, c.Args = r.RAX, [5]uint64{r.RDI, r.RSI, r.RDX, r.R10, r.R8}
	} else {
		c.Number = r.RAX & 0xffffffff
		for i, a := range [5]uint64{r.RBX, r.RCX, r.RDX, r.RSI, r.RDI} {
			c.Args[i] = a & 0xffffffff
		}
	}
	park := h.Hypercall(&c)
	if !c.Long {
		c.Result &= 0xffffffff
	}
	if err := v.goOn(3, reg{WHvX64RegisterRax, c.Result}); err != nil {
		return 0, false, err
	}
	if park {
		return accel.Parked, true, nil
	}
	return 0, false, nil
}

// serveException looks for hypercalls among the instructions that the processor
// does not know; the others are the guest's own affair.
func (v *vcpu) serveException(h accel.Handler) (exit accel.Exit, over bool, err error) {
	e := v.exit.exception()
	if e.vector == vectorUD {
		b, err := v.instruction(e.bytes[:min(e.count, 15)], 3)
		if err != nil {
			return 0, false, err
		}
		if len(b) >= 3 && b[0] == 0x0f && b[1] == 0x01 && (b[2] == 0xc1 || b[2] == 0xd9) {
			return v.serveCall(h)
		}
	}
	return 0, false, v.raise(e.vector, e.info&1 != 0, e.code, e.parameter)
}

func (v *vcpu) serveMSR(h accel.Handler) error {
	m := v.exit.msr()
	if m.write&1 != 0 {
		value := m.rax&0xffffffff | m.rdx<<32
		if v.vm.msrs[m.index] && h.MSR(m.index, &value, true) {
			return v.goOn(v.exit.vp.length())
		}
		return v.raise(vectorGP, true, 0, 0)
	}
	var value uint64
	if v.vm.msrs[m.index] && h.MSR(m.index, &value, false) {
		return v.goOn(v.exit.vp.length(), reg{WHvX64RegisterRax, value & 0xffffffff}, reg{WHvX64RegisterRdx, value >> 32})
	}
	return v.raise(vectorGP, true, 0, 0)
}

// reg is a register and what it shall have.
type reg struct {
	name uint32
	to   uint64
}

// goOn sets registers and goes on behind the instruction of n bytes.
func (v *vcpu) goOn(n uint64, set ...reg) error {
	rip := v.exit.vp.rip + n
	if !v.exit.vp.long() {
		rip &= 0xffffffff
	}
	var names [8]uint32
	names[0], v.few[0] = WHvX64RegisterRip, value{low: rip}
	for i, s := range set {
		names[i+1], v.few[i+1] = s.name, value{low: s.to}
	}
	v.known = false
	if err := v.host().SetVirtualProcessorRegisters(v.vm.part, v.id, names[:len(set)+1], v.few[:len(set)+1]); err != nil {
		return fmt.Errorf("go on with processor %d: %w", v.id, err)
	}
	return nil
}

func (v *vcpu) set(name uint32, to uint64) error {
	v.few[0] = value{low: to}
	if err := v.host().SetVirtualProcessorRegisters(v.vm.part, v.id, []uint32{name}, v.few[:1]); err != nil {
		return fmt.Errorf("set register %#x of processor %d: %w", name, v.id, err)
	}
	return nil
}

var errTwice = errors.New("the Windows Hypervisor Platform does not let the guest at memory that it has")
