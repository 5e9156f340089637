package hvtest

import (
	"fmt"
	"sync/atomic"

	"github.com/hxen-project/hxen/hv/accel"
)

// FakeCPU is a FakeAccel's processor as its program sees it. A program keeps
// what must outlive State and SetState in Regs(): it is started anew with them.
type FakeCPU struct {
	v        *fakeVCPU
	yield    func(fakeExit) bool
	open     bool // interrupts are let in
	handlers map[uint8]func(*FakeCPU)
}

// Regs are the processor's registers.
func (c *FakeCPU) Regs() *accel.Regs { return &c.v.regs }

// TSC is RDTSC.
func (c *FakeCPU) TSC() uint64 { return c.v.TSC() }

// Out writes the low size bytes of value to a port.
func (c *FakeCPU) Out(port uint16, size int, value uint32) {
	b := [4]byte{byte(value), byte(value >> 8), byte(value >> 16), byte(value >> 24)}
	c.v.h.PIO(port, b[:size:size], true)
	c.Step()
}

// In reads size bytes from a port.
func (c *FakeCPU) In(port uint16, size int) uint32 {
	var b [4]byte
	c.v.h.PIO(port, b[:size:size], false)
	c.Step()
	return uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24
}

// Call makes a hypercall with up to five arguments.
func (c *FakeCPU) Call(long bool, number uint64, args ...uint64) uint64 {
	h := accel.Hypercall{Number: number, Long: long}
	copy(h.Args[:], args)
	park := c.v.h.Hypercall(&h)
	if !long {
		h.Result &= 0xffffffff
	}
	c.v.regs.RAX = h.Result
	if park {
		c.leave(fakeExit{exit: accel.Parked})
	}
	c.Step()
	return h.Result
}

// MSR reads or writes a routed MSR; false is #GP.
func (c *FakeCPU) MSR(index uint32, v *uint64, write bool) bool {
	for _, m := range c.v.m.c.MSRs {
		if m == index {
			ok := c.v.h.MSR(index, v, write)
			c.Step()
			return ok
		}
	}
	return false
}

// CPUID returns a leaf; one that is not there is all zero.
func (c *FakeCPU) CPUID(leaf, sub uint32) accel.CPUID {
	for _, e := range c.v.ids {
		if e.Leaf == leaf && (!e.Indexed || e.Sub == sub) {
			return e
		}
	}
	return accel.CPUID{}
}

// On has f handle a vector, with interrupts off.
func (c *FakeCPU) On(vector uint8, f func(*FakeCPU)) { c.handlers[vector] = f }

// Open lets interrupts in, or keeps them out: STI and CLI.
func (c *FakeCPU) Open(yes bool) {
	c.open = yes
	c.Step()
}

// Halt waits for an interrupt and handles it; with interrupts off, for good.
func (c *FakeCPU) Halt() {
	for !c.interrupt() {
		v := c.v
		v.mu.Lock()
		for !v.kicked && !(c.open && len(v.pending) > 0) {
			v.more.Wait()
		}
		v.mu.Unlock()
		c.kick()
	}
	c.kick()
}

// Step is a place between two instructions.
func (c *FakeCPU) Step() {
	c.interrupt()
	c.kick()
}

// interrupt takes one interrupt, if there is one and it is let in.
func (c *FakeCPU) interrupt() bool {
	v := c.v
	v.mu.Lock()
	if !c.open || len(v.pending) == 0 {
		v.mu.Unlock()
		return false
	}
	vector := v.pending[0]
	v.pending = v.pending[1:]
	v.mu.Unlock()
	f := c.handlers[vector]
	if f == nil {
		c.leave(fakeExit{exit: accel.Shutdown}) // no gate, and none for that fault
		return true
	}
	c.open = false
	f(c)
	c.open = true
	return true
}

// kick leaves Run if it shall.
func (c *FakeCPU) kick() {
	c.v.mu.Lock()
	kicked := c.v.kicked
	c.v.mu.Unlock()
	if kicked {
		c.leave(fakeExit{exit: accel.Interrupted})
	}
}

func (c *FakeCPU) leave(e fakeExit) {
	if !c.yield(e) {
		panic(errFakeStop)
	}
}

// TripleFault ends the processor.
func (c *FakeCPU) TripleFault() { c.leave(fakeExit{exit: accel.Shutdown}) }

// Crash does what no machine can go on from.
func (c *FakeCPU) Crash(what string) {
	c.leave(fakeExit{err: fmt.Errorf("%w: processor %d: %s", accel.ErrGuest, c.v.id, what)})
}

// Load reads guest memory; what is not there reads as all ones.
func (c *FakeCPU) Load(gpa uint64, p []byte) {
	m := c.v.m
	m.mu.RLock()
	defer m.mu.RUnlock()
	for i := range p {
		p[i] = 0xff
		if mem := m.at(gpa + uint64(i)); mem != nil {
			p[i] = mem[0]
		}
	}
}

// Store writes guest memory; where there is none, nothing happens.
func (c *FakeCPU) Store(gpa uint64, p []byte) {
	m := c.v.m
	m.mu.RLock()
	defer m.mu.RUnlock()
	for i, b := range p {
		if mem := m.at(gpa + uint64(i)); mem != nil {
			mem[0] = b
		}
	}
}

// Add adds to an aligned word of guest memory, atomically, and returns the sum.
func (c *FakeCPU) Add(gpa uint64, n uint32) uint32 {
	m := c.v.m
	m.mu.RLock()
	defer m.mu.RUnlock()
	mem := m.at(gpa)
	if len(mem) < 4 {
		return 0xffffffff
	}
	return atomic.AddUint32(fakeWord(mem), n)
}

// Start has processor id begin with a program, as INIT and SIPI do.
func (c *FakeCPU) Start(id int, program func(*FakeCPU)) {
	c.v.m.mu.RLock()
	o := c.v.m.vcpus[id]
	c.v.m.mu.RUnlock()
	if o == nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.asleep {
		o.program, o.asleep = program, false
		o.more.Broadcast()
	}
}
