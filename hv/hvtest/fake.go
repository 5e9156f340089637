package hvtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hxen-project/hxen/hv/accel"
)

// FakeAccel is the accel port without hardware, for tests of what stands above
// it. Its guests are Go functions instead of machine code: a processor runs the
// program that stands at the RIP that SetRegs gave it.
//
// It has a LAPIC, and hypercalls trap. A program is served on the processor's
// thread inside Run, like a guest, and sees interrupts and kicks only at calls of
// its FakeCPU.
type FakeAccel struct {
	Programs map[uint64]func(*FakeCPU)
}

func (f *FakeAccel) Name() string { return "fake" }
func (f *FakeAccel) Close() error { return nil }

type fakeRAM struct{ mem []byte }

func (f *FakeAccel) NewRAM(c accel.RAMConfig) (accel.RAM, error) {
	r := &fakeRAM{mem: make([]byte, c.Size)}
	if c.File != nil {
		if _, err := c.File.ReadAt(r.mem, c.Offset); err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
	}
	return r, nil
}

func (r *fakeRAM) Bytes() []byte { return r.mem }
func (r *fakeRAM) Close() error  { return nil }

func (r *fakeRAM) Discard(off, n uint64) error {
	if off > uint64(len(r.mem)) || n > uint64(len(r.mem))-off {
		return fmt.Errorf("discard %#x bytes at %#x of %#x", n, off, len(r.mem))
	}
	clear(r.mem[off : off+n])
	return nil
}

type fakeVM struct {
	f    *FakeAccel
	c    accel.Config
	born time.Time

	mu    sync.RWMutex
	slots []fakeSlot        // guarded by mu; by address
	vcpus map[int]*fakeVCPU // guarded by mu
}

type fakeSlot struct {
	gpa uint64
	mem []byte
}

func (f *FakeAccel) NewVM(c accel.Config) (accel.VM, error) {
	return &fakeVM{f: f, c: c, born: time.Now(), vcpus: map[int]*fakeVCPU{}}, nil
}

func (m *fakeVM) Close() error { return nil }

func (m *fakeVM) NewTimer(f func()) accel.Timer { return accel.NewTimer(f) }
func (m *fakeVM) NewBell(f func()) accel.Bell   { return accel.NewBell(f) }

func (m *fakeVM) Caps() accel.Caps {
	return accel.Caps{
		CPUID: []accel.CPUID{{Leaf: 0, EAX: 1, EBX: 0x656b6146}, {Leaf: 1}}, // "Fake"
		TSCHz: 1e9, LAPIC: true, Call: [3]byte{0x0f, 0x01, 0xd9},
	}
}

func (m *fakeVM) Map(gpa uint64, r accel.RAM, off, n uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := sort.Search(len(m.slots), func(i int) bool { return m.slots[i].gpa+uint64(len(m.slots[i].mem)) > gpa })
	if i < len(m.slots) && m.slots[i].gpa < gpa+n {
		return fmt.Errorf("map %#x bytes at %#x: there is memory at %#x", n, gpa, m.slots[i].gpa)
	}
	m.slots = append(m.slots[:i:i], append([]fakeSlot{{gpa, r.Bytes()[off : off+n]}}, m.slots[i:]...)...)
	return nil
}

func (m *fakeVM) Unmap(gpa, n uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, s := range m.slots {
		if s.gpa == gpa && uint64(len(s.mem)) == n {
			m.slots = append(m.slots[:i:i], m.slots[i+1:]...)
			return nil
		}
	}
	return fmt.Errorf("unmap %#x bytes at %#x: no such thing was mapped", n, gpa)
}

// at returns the memory from gpa to the end of its slot.
func (m *fakeVM) at(gpa uint64) []byte {
	for _, s := range m.slots {
		if off := gpa - s.gpa; off < uint64(len(s.mem)) {
			return s.mem[off:]
		}
	}
	return nil
}

type fakeVCPU struct {
	m    *fakeVM
	id   int
	ids  []accel.CPUID
	regs accel.Regs
	cpu  *FakeCPU
	h    accel.Handler // of the Run that is going on
	next func() (fakeExit, bool)
	stop func()

	offset atomic.Uint64 // of the TSC

	mu      sync.Mutex
	more    *sync.Cond
	kicked  bool           // guarded by mu
	pending []uint8        // guarded by mu; raised and not taken
	program func(*FakeCPU) // guarded by mu; set by SetRegs, or by another processor's Start
	asleep  bool           // guarded by mu; waits for Start
}

// fakeExit is what a program leaves Run with.
type fakeExit struct {
	exit accel.Exit
	err  error
}

func (m *fakeVM) NewVCPU(id int, ids []accel.CPUID) (accel.VCPU, error) {
	v := &fakeVCPU{m: m, id: id, ids: ids, asleep: id > 0, regs: accel.Regs{RFLAGS: 2}}
	v.more = sync.NewCond(&v.mu)
	m.mu.Lock()
	defer m.mu.Unlock()
	if id < 0 || id >= m.c.VCPUs || m.vcpus[id] != nil {
		return nil, fmt.Errorf("create processor %d: out of range, or there already", id)
	}
	m.vcpus[id] = v
	return v, nil
}

func (v *fakeVCPU) Close() error {
	if v.stop != nil {
		v.stop()
	}
	return nil
}

func (v *fakeVCPU) Regs() (accel.Regs, error) { return v.regs, nil }

func (v *fakeVCPU) SetRegs(r accel.Regs) error {
	if r.RIP != v.regs.RIP {
		program, ok := v.m.f.Programs[r.RIP]
		if !ok {
			return fmt.Errorf("the fake has no program at %#x", r.RIP)
		}
		v.mu.Lock()
		v.program, v.asleep = program, false
		v.mu.Unlock()
		if v.stop != nil {
			v.stop()
		}
		v.next, v.stop = nil, nil
	}
	v.regs = r
	return nil
}

func (v *fakeVCPU) Kick() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.kicked = true
	v.more.Broadcast()
}

func (v *fakeVCPU) Raise(vector uint8, _ bool) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, p := range v.pending {
		if p == vector {
			return nil
		}
	}
	v.pending = append(v.pending, vector)
	v.more.Broadcast()
	return nil
}

func (v *fakeVCPU) TSC() uint64 {
	return uint64(time.Since(v.m.born)) + v.offset.Load()
}

func (v *fakeVCPU) ShiftTSC(ticks uint64) error {
	v.offset.Add(ticks)
	return nil
}

func (v *fakeVCPU) Run(h accel.Handler) (accel.Exit, error) {
	defer func() {
		v.mu.Lock()
		v.kicked = false
		v.mu.Unlock()
	}()
	v.h = h
	v.mu.Lock()
	for !v.kicked && v.asleep {
		v.more.Wait()
	}
	kicked, program := v.kicked, v.program
	v.mu.Unlock()
	if kicked {
		return accel.Interrupted, nil
	}
	if program == nil {
		return 0, errors.New("the fake processor has no program: SetRegs gives it one")
	}
	if v.next == nil {
		v.start(program)
	}
	e, ok := v.next()
	if !ok {
		return 0, errors.New("the fake processor has been closed")
	}
	return e.exit, e.err
}

// start makes the program a coroutine of Run: it runs inside next, and yields
// what Run shall return.
func (v *fakeVCPU) start(program func(*FakeCPU)) {
	v.cpu = &FakeCPU{v: v, handlers: map[uint8]func(*FakeCPU){}}
	v.next, v.stop = iter.Pull(func(yield func(fakeExit) bool) {
		defer func() {
			if r := recover(); r != nil && r != errFakeStop {
				panic(r)
			}
		}()
		v.cpu.yield = yield
		program(v.cpu)
		for { // what returns halts for good
			v.cpu.Halt()
		}
	})
}

// errFakeStop unwinds a program whose processor is closed or started anew.
var errFakeStop = errors.New("stopped")

// fakeState is what a processor carries over: not where its program stands,
// which a Go function cannot tell.
type fakeState struct {
	TSC  uint64
	Regs accel.Regs
}

func (v *fakeVCPU) State() (accel.State, error) {
	b, err := json.Marshal(fakeState{v.TSC(), v.regs})
	return accel.State{Backend: v.m.f.Name(), Data: b}, err
}

func (v *fakeVCPU) SetState(s accel.State) error {
	var f fakeState
	if s.Backend != v.m.f.Name() {
		return fmt.Errorf("restore processor %d: it was saved under %q", v.id, s.Backend)
	}
	if err := json.Unmarshal(s.Data, &f); err != nil {
		return fmt.Errorf("restore processor %d: %w", v.id, err)
	}
	v.offset.Add(f.TSC - v.TSC())
	return v.SetRegs(f.Regs)
}
