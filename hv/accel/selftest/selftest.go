// Package selftest holds the cases that every back end of the accel port passes:
// a few bytes of guest code each, what they must see, and what the host must see
// of them. Tests run them on every back end, and hxen doctor --self-test on the
// computer it is asked about.
//
//	for _, c := range selftest.Cases {
//		err := c.Run(hypervisor)
//	}
//
// A hypervisor that lies can hang a thread inside the kernel for good: where it
// has not been probed, run the cases in a child process that can be given up.
//
// The package knows the port alone: no back end, no Xen, no testing package.
package selftest

import (
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/hxen-project/hxen/hv/accel"
)

// Guard is how long a case may take before it counts as hung. It measures nothing.
const Guard = 30 * time.Second

// Case is one thing that a back end must do.
type Case struct {
	Name string
	run  func(*rig) error
}

// Cases are all of them; each makes machines of its own.
var Cases = []Case{
	{"ports, each width", testPIO},
	{"ports, string instructions", testStringIO},
	{"CPUID per processor", testCPUID},
	{"MSRs answered, refused and unknown", testMSR},
	{"kick a halted processor", testKickHalted},
	{"kick a busy processor", testKickBusy},
	{"kick before Run", testKickBefore},
	{"kicks and entries race", testKickRace},
	{"registers", testRegs},
	{"hypercall from 64-bit code, and park", testCall64},
	{"hypercall from 32-bit code", testCall32},
	{"LAPIC interrupt, ended by EOI", testRaiseEOI},
	{"callback without EOI", testRaiseCallback},
	{"callback while interrupts are off", testRaiseClosed},
	{"map and unmap while running", testMapRunning},
	{"memory that is not there", testUnbacked},
	{"code that is not there", testWild},
	{"triple fault", testTriple},
	{"EFER", testEFER},
	{"eight processors", testSMP},
	{"TSC", testTSC},
	{"state", testState},
	{"memory from a file, and discard", testRAM},
}

// ErrSkip is wrapped by Run's error when the back end lacks what a case is about.
var ErrSkip = errors.New("not on this back end")

// Run runs the case; nil is a pass. A case that hangs is given up after Guard
// and its machine left behind, as nothing can end a processor that does not
// listen.
func (c Case) Run(h accel.Hypervisor) error {
	ended := make(chan error, 1)
	r := &rig{h: h}
	go func() {
		runtime.LockOSThread() // processors belong to threads; never unlocked
		err := c.run(r)
		ended <- errors.Join(err, r.close())
	}()
	t := time.NewTimer(2 * Guard) // cases guard themselves; this is for when that fails
	defer t.Stop()
	select {
	case err := <-ended:
		return err
	case <-t.C:
		return errors.New("it hangs, and does not answer a kick")
	}
}

// rig is a case's machine. It belongs to the case's goroutine.
type rig struct {
	h     accel.Hypervisor
	vm    accel.VM
	ram   accel.RAM
	mem   []byte
	after []func() error // undo, backwards
}

func (r *rig) close() error {
	var errs []error
	for i := len(r.after) - 1; i >= 0; i-- {
		errs = append(errs, r.after[i]())
	}
	return errors.Join(errs...)
}

// machine makes the machine with the guest's code in it, and no processor yet.
func (r *rig) machine(c accel.Config) error {
	var err error
	if r.ram, err = r.h.NewRAM(accel.RAMConfig{Size: memSize}); err != nil {
		return err
	}
	r.after = append(r.after, r.ram.Close)
	r.mem = r.ram.Bytes()
	if r.vm, err = r.h.NewVM(c); err != nil {
		return err
	}
	r.after = append(r.after, r.vm.Close)
	if err := r.vm.Map(0, r.ram, 0, memSize); err != nil {
		return err
	}
	load(r.mem, r.vm.Caps())
	return nil
}

// cpu makes processor id, on the calling thread.
func (r *rig) cpu(id int) (*cpu, error) {
	v, err := r.vm.NewVCPU(id, leaves(r.vm.Caps(), id))
	if err != nil {
		return nil, err
	}
	return &cpu{v: v}, nil
}

// one makes a machine with one processor that begins at entry in 64-bit code.
func (r *rig) one(entry int) (*cpu, error) {
	if err := r.machine(accel.Config{VCPUs: 1}); err != nil {
		return nil, err
	}
	return r.first(entry)
}

// first makes processor 0, which begins at entry in 64-bit code.
func (r *rig) first(entry int) (*cpu, error) {
	c, err := r.cpu(0)
	if err != nil {
		return nil, err
	}
	r.after = append(r.after, c.v.Close)
	return c, c.v.SetRegs(longMode(Entry(entry)))
}

// cpu is a processor and what its guest does. Methods run on its thread.
type cpu struct {
	v    accel.VCPU
	done bool
	late atomic.Bool
	told []uint32 // numbers that the guest told

	tell func(uint32)
	pio  func(port uint16, data []byte, write bool)
	call func(*accel.Hypercall) bool
	msr  func(uint32, *uint64, bool) bool
	long func()

	strange error // something that must not happen
}

// finish enters the guest again and again until it, or the host, says that it is
// done; exits other than Interrupted are an error.
func (c *cpu) finish() error {
	for !c.done {
		exit, err := c.enter()
		if err != nil {
			return err
		}
		if exit != accel.Interrupted {
			return fmt.Errorf("Run ended with %v", exit)
		}
	}
	return nil
}

// enter is Run under guard.
func (c *cpu) enter() (accel.Exit, error) {
	guard := time.AfterFunc(Guard, func() { c.late.Store(true); c.v.Kick() })
	exit, err := c.v.Run(c)
	guard.Stop()
	switch {
	case err != nil:
		return exit, err
	case c.strange != nil:
		return exit, c.strange
	case c.late.Load():
		regs, _ := c.v.Regs()
		return exit, fmt.Errorf("the guest hangs at %#x; it told %x", regs.RIP, c.told)
	}
	return exit, nil
}

// stop ends finish, from inside a callback.
func (c *cpu) stop() {
	c.done = true
	c.v.Kick()
}

func (c *cpu) PIO(port uint16, data []byte, write bool) {
	switch {
	case write && port == portDone:
		c.stop()
	case write && port == portTell && len(data) == 4:
		c.told = append(c.told, le.Uint32(data))
		if c.tell != nil {
			c.tell(le.Uint32(data))
		}
	case c.pio != nil:
		c.pio(port, data, write)
	default:
		c.wrong("access to port %#x", port)
	}
}

func (c *cpu) Hypercall(h *accel.Hypercall) bool {
	if c.call == nil {
		c.wrong("hypercall %d", h.Number)
		return false
	}
	return c.call(h)
}

func (c *cpu) MSR(index uint32, v *uint64, write bool) bool {
	if c.msr == nil {
		c.wrong("access to MSR %#x", index)
		return false
	}
	return c.msr(index, v, write)
}

func (c *cpu) LongMode() {
	if c.long != nil {
		c.long()
	}
}

// wrong notes what must not happen and ends Run.
func (c *cpu) wrong(format string, a ...any) {
	if c.strange == nil {
		c.strange = fmt.Errorf("unexpected "+format, a...)
	}
	c.stop()
}
