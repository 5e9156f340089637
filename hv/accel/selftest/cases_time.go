package selftest

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync/atomic"

	"github.com/hxen-project/hxen/hv/accel"
)

// testKickHalted has another thread kick a processor that sleeps in HLT.
func testKickHalted(r *rig) error {
	c, err := r.one(EntryHalt)
	if err != nil {
		return err
	}
	for i := range 100 {
		end := r.when(func() bool { return i > 0 || r.counter() != 0 }, c.v.Kick)
		exit, err := c.enter()
		end()
		if err != nil || exit != accel.Interrupted {
			return fmt.Errorf("Run ended with %v, %w", exit, err)
		}
	}
	return nil
}

// testKickBusy has another thread kick a processor that never leaves by itself.
func testKickBusy(r *rig) error {
	c, err := r.one(EntrySpin)
	if err != nil {
		return err
	}
	for range 20 {
		before := r.counter()
		end := r.when(func() bool { return r.counter() != before }, c.v.Kick)
		for r.counter() == before { // a Run may end for no reason
			if exit, err := c.enter(); err != nil || exit != accel.Interrupted {
				end()
				return fmt.Errorf("Run ended with %v, %w", exit, err)
			}
		}
		end()
	}
	return nil
}

// counter is what the guest counts at dataAt while we look.
func (r *rig) counter() uint32 { return atomic.LoadUint32(word(r.mem[dataAt:])) }

// when has another thread wait for a sign of the guest and then do something.
// The function that it returns waits for that thread, which it also ends.
func (r *rig) when(sign func() bool, do func()) (end func()) {
	var quit atomic.Bool
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for !sign() {
			if quit.Load() {
				return
			}
			runtime.Gosched()
		}
		do()
	}()
	return func() { quit.Store(true); <-ended }
}

func testKickBefore(r *rig) error {
	c, err := r.one(EntrySpin)
	if err != nil {
		return err
	}
	for range 100 {
		c.v.Kick()
		c.v.Kick()
		if exit, err := c.enter(); err != nil || exit != accel.Interrupted {
			return fmt.Errorf("Run ended with %v, %w", exit, err)
		}
	}
	return nil
}

// testKickRace sends the processor requests as a run loop gets them: made
// visible, then kicked, at any moment. A request that is never seen is a lost
// kick, and hangs.
func testKickRace(r *rig) error {
	c, err := r.one(EntryHalt)
	if err != nil {
		return err
	}
	const rounds = 1000
	var asked atomic.Int64
	seen := make(chan int64)
	go func() {
		for i := range int64(rounds) {
			asked.Store(i + 1)
			c.v.Kick()
			for <-seen != i+1 {
			}
		}
	}()
	for last := int64(0); last < rounds; {
		if exit, err := c.enter(); err != nil || exit != accel.Interrupted {
			return fmt.Errorf("round %d: Run ended with %v, %w", last, exit, err)
		}
		if n := asked.Load(); n != last {
			last = n
			seen <- n
		}
	}
	return nil
}

// testRaiseEOI raises the next interrupt when the guest has told of the last,
// from another thread, while the guest sleeps or is about to.
func testRaiseEOI(r *rig) error {
	c, err := r.one(EntryLAPIC)
	if err != nil {
		return err
	}
	if !r.vm.Caps().LAPIC {
		return fmt.Errorf("%w: no LAPIC in the host", ErrSkip)
	}
	gate(r.mem, vectorEvent, EntryEOI)
	return c.raiseAll(200, true)
}

func testRaiseCallback(r *rig) error {
	c, err := r.one(EntryCallback)
	if err != nil {
		return err
	}
	gate(r.mem, vectorEvent, EntryNoEOI)
	return c.raiseAll(200, false)
}

// raiseAll raises n interrupts, one after the other, and has each arrive once.
func (c *cpu) raiseAll(n uint32, eoi bool) error {
	raise := make(chan struct{}, 1)
	failed := make(chan error, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for range raise {
			if err := c.v.Raise(vectorEvent, eoi); err != nil {
				failed <- err
				c.v.Kick()
				return
			}
		}
	}()
	defer func() { close(raise); <-ended }()
	c.tell = func(k uint32) {
		if k == n {
			c.stop()
			return
		}
		raise <- struct{}{}
	}
	for !c.done {
		if exit, err := c.enter(); err != nil || exit != accel.Interrupted {
			return fmt.Errorf("after %d: Run ended with %v, %w", len(c.told), exit, err)
		}
		select {
		case err := <-failed:
			return err
		default:
		}
	}
	for i, k := range c.told {
		if k != uint32(i) {
			return fmt.Errorf("interrupts arrived as %d", c.told)
		}
	}
	return nil
}

// testRaiseClosed raises while the guest has interrupts off: it arrives when
// they are let in, not before, and once, however often it was raised.
func testRaiseClosed(r *rig) error {
	c, err := r.one(EntryClosed)
	if err != nil {
		return err
	}
	gate(r.mem, vectorEvent, EntryNoEOI)
	c.tell = func(k uint32) {
		if k > 0 {
			c.stop()
			return
		}
		for range 3 {
			if err := c.v.Raise(vectorEvent, false); err != nil {
				c.wrong("%v", err)
			}
		}
	}
	if err := c.finish(); err != nil {
		return err
	}
	if early := le.Uint32(r.mem[dataAt+12:]); early != 1 {
		return errors.New("the callback came while interrupts were off")
	}
	if !slices.Equal(c.told, []uint32{0, 0, 1}) {
		return fmt.Errorf("callbacks arrived as %d", c.told)
	}
	return nil
}

func testMapRunning(r *rig) error {
	const n = 2 << 20
	c, err := r.one(EntryMapped)
	if err != nil {
		return err
	}
	more, err := r.h.NewRAM(accel.RAMConfig{Size: n})
	if err != nil {
		return err
	}
	r.after = slices.Insert(r.after, 0, more.Close) // after the machine
	failed := make(chan error, 1)
	elsewhere := func(f func() error) { // on another thread, while the guest runs
		go func() {
			if err := f(); err != nil {
				failed <- err
				c.v.Kick()
			}
		}()
	}
	c.tell = func(k uint32) {
		switch len(c.told) {
		case 1:
			le.PutUint32(more.Bytes(), 0x11111111)
			elsewhere(func() error { return r.vm.Map(holeAt, more, 0, n) })
		case 2:
			elsewhere(func() error { return r.vm.Unmap(holeAt, n) })
		case 3: // and inside a callback
			le.PutUint32(more.Bytes()[4096:], 0x22222222)
			if err := r.vm.Map(holeAt, more, 4096, 4096); err != nil {
				c.wrong("%v", err)
			}
		case 4:
			if err := r.vm.Unmap(holeAt, 4096); err != nil {
				c.wrong("%v", err)
			}
		default:
			c.stop()
		}
	}
	for !c.done {
		if exit, err := c.enter(); err != nil || exit != accel.Interrupted {
			return fmt.Errorf("Run ended with %v, %w", exit, err)
		}
		select {
		case err := <-failed:
			return err
		default:
		}
	}
	want := []uint32{^uint32(0), 0x11111111, ^uint32(0), 0x22222222, ^uint32(0)}
	if !slices.Equal(c.told, want) {
		return fmt.Errorf("the guest saw %x, want %x", c.told, want)
	}
	if err := r.vm.Map(0x1000, more, 0, n); err == nil {
		return errors.New("memory was mapped over other memory")
	}
	if err := r.vm.Unmap(holeAt, n); err == nil {
		return errors.New("memory was unmapped that was not there")
	}
	return nil
}

// testSMP has processor 0 start seven others by INIT and SIPI.
func testSMP(r *rig) error {
	const n = 8
	if err := r.machine(accel.Config{VCPUs: n}); err != nil {
		return err
	}
	if !r.vm.Caps().LAPIC {
		return fmt.Errorf("%w: no LAPIC in the host", ErrSkip)
	}
	c, err := r.first(EntrySMP)
	if err != nil {
		return err
	}
	le.PutUint32(r.mem[dataAt:], n-1)
	made, ended := make(chan error), make(chan error)
	for id := 1; id < n; id++ {
		go func() {
			runtime.LockOSThread()
			o, err := r.cpu(id)
			made <- err
			if err != nil {
				return
			}
			err = o.finish()
			ended <- errors.Join(err, o.v.Close())
		}()
		if err := <-made; err != nil {
			return err
		}
	}
	err = c.finish()
	for range n - 1 {
		err = errors.Join(err, <-ended)
	}
	return err
}

// testTSC holds the guest's counter between two looks from outside, also when it
// has jumped by a day.
func testTSC(r *rig) error {
	c, err := r.one(EntryTSC)
	if err != nil {
		return err
	}
	before := c.v.TSC()
	c.tell = func(uint32) {
		guest, after := r.at(8), c.v.TSC()
		if guest < before || guest > after {
			c.wrong("TSC: the guest read %d, which is not between %d and %d outside", guest, before, after)
		}
		before = after
		if len(c.told) == 2 {
			c.v.Kick()
		}
	}
	for shifted := false; !c.done; {
		if exit, err := c.enter(); err != nil || exit != accel.Interrupted {
			return fmt.Errorf("Run ended with %v, %w", exit, err)
		}
		if !shifted && len(c.told) >= 2 {
			shifted = true
			day := 86400 * r.vm.Caps().TSCHz
			if err := errors.Join(c.v.ShiftTSC(0), c.v.ShiftTSC(day)); err != nil {
				return err
			}
			before += day
		}
	}
	if len(c.told) < 3 || r.at(0) != 0 {
		return fmt.Errorf("the guest's TSC ran backwards %d times", r.at(0))
	}
	if hz := r.vm.Caps().TSCHz; hz < 1e6 {
		return fmt.Errorf("a TSC of %d Hz", hz)
	}
	return nil
}

// testState moves a processor into another machine, in the middle of its count.
func testState(r *rig) error {
	c, err := r.one(EntryCount)
	if err != nil {
		return err
	}
	c.tell = func(k uint32) {
		if k >= 10 {
			c.stop()
		}
	}
	if err := c.finish(); err != nil {
		return err
	}
	tsc, last := c.v.TSC(), c.told[len(c.told)-1]
	state, err := c.v.State()
	if err != nil {
		return err
	}

	other := &rig{h: r.h}
	defer func() { r.after = append(r.after, other.close) }()
	if err := other.machine(accel.Config{VCPUs: 1}); err != nil {
		return err
	}
	copy(other.mem, r.mem)
	d, err := other.cpu(0)
	if err != nil {
		return err
	}
	other.after = append(other.after, d.v.Close)
	if err := d.v.SetState(state); err != nil {
		return err
	}
	d.tell = c.tell
	c = d
	if err := d.finish(); err != nil {
		return err
	}
	if d.told[0] != last+1 {
		return fmt.Errorf("the count went from %d to %d", last, d.told[0])
	}
	if now := d.v.TSC(); now-tsc > 60*r.vm.Caps().TSCHz {
		return fmt.Errorf("the TSC went from %d to %d", tsc, now)
	}
	for _, wrong := range []accel.State{{Backend: "none", Data: state.Data}, {Backend: state.Backend}, {Backend: state.Backend, Data: state.Data[:len(state.Data)/2]}} {
		if err := d.v.SetState(wrong); err == nil {
			return fmt.Errorf("a state of %q with %d bytes was taken", wrong.Backend, len(wrong.Data))
		}
	}
	return nil
}

// testRAM: a file's content, then zeros; private; zeros after a discard.
func testRAM(r *rig) error {
	f, err := os.CreateTemp("", "hxen-selftest-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	content := make([]byte, 3*4096+100)
	for i := range content {
		content[i] = byte(i>>12 + 1)
	}
	if _, err := f.Write(content); err != nil {
		return err
	}
	ram, err := r.h.NewRAM(accel.RAMConfig{Size: 4 << 20, File: f, Offset: 4096})
	if err != nil {
		return err
	}
	r.after = append(r.after, ram.Close)
	mem := ram.Bytes()
	if len(mem) != 4<<20 {
		return fmt.Errorf("memory of %d bytes, want %d", len(mem), 4<<20)
	}
	for _, p := range []struct {
		at   int
		want byte
	}{{0, 2}, {2*4096 - 1, 3}, {2*4096 + 99, 4}, {2*4096 + 100, 0}, {3 * 4096, 0}, {4<<20 - 1, 0}} {
		if mem[p.at] != p.want {
			return fmt.Errorf("byte %#x is %d, want %d", p.at, mem[p.at], p.want)
		}
	}
	mem[0], mem[1<<20] = 77, 78
	var b [1]byte
	if _, err := f.ReadAt(b[:], 4096); err != nil || b[0] != 2 {
		return fmt.Errorf("the file has %d, %w: the mapping is not private", b[0], err)
	}
	if err := ram.Discard(0, 2<<20); err != nil {
		return err
	}
	if mem[0] != 0 || mem[4096] != 0 || mem[1<<20] != 0 {
		return errors.New("discarded memory is not zero")
	}
	if err := ram.Discard(4<<20-4096, 8192); err == nil {
		return errors.New("memory behind the end was discarded")
	}
	return nil
}
