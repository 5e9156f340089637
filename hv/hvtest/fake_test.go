package hvtest_test

import (
	"encoding/binary"
	"testing"

	"github.com/hxen-project/hxen/hv/accel"
	"github.com/hxen-project/hxen/hv/accel/selftest"
	"github.com/hxen-project/hxen/hv/hvtest"
)

// TestFake holds the fake to the same contract as the real ones: its programs do
// what selftest's guest code (testdata/guest.s there) does.
func TestFake(t *testing.T) {
	programs := map[uint64]func(*hvtest.FakeCPU){}
	for entry, program := range twins {
		programs[selftest.Entry(entry)] = program
	}
	hvtest.RunAccel(t, func() (accel.Hypervisor, error) { return &hvtest.FakeAccel{Programs: programs}, nil })
}

// As in guest.s.
const (
	data  = 0x20000
	count = 0xb000
	hole  = 0x40000000
	port  = 0x1234
	event = 0xf3
	ones  = ^uint64(0)
)

func tell(c *hvtest.FakeCPU, n uint32) { c.Out(0x98, 4, n) }
func done(c *hvtest.FakeCPU)           { c.Out(0x99, 1, 0) }

func put64(c *hvtest.FakeCPU, at, v uint64) {
	c.Store(at, binary.LittleEndian.AppendUint64(nil, v))
}

func get(c *hvtest.FakeCPU, at uint64, size int) uint64 {
	var b [8]byte
	c.Load(at, b[:size])
	return binary.LittleEndian.Uint64(b[:])
}

var twins = map[int]func(*hvtest.FakeCPU){
	selftest.EntryPIO: func(c *hvtest.FakeCPU) {
		c.Out(port, 1, 0x11)
		c.Out(port, 2, 0x2222)
		c.Out(port, 4, 0x33333333)
		c.Out(0x70, 1, 0x44)
		put64(c, data, ^uint64(0xff)|uint64(c.In(port, 1)))
		put64(c, data+8, ^uint64(0xffff)|uint64(c.In(port, 2)))
		put64(c, data+16, uint64(c.In(port, 4)))
		put64(c, data+24, ^uint64(0xff)|uint64(c.In(0x71, 1)))
		done(c)
	},
	selftest.EntryString: func(c *hvtest.FakeCPU) {
		out := func(at uint64, size, n, step int) {
			for range n {
				c.Out(port, size, uint32(get(c, at, size)))
				at += uint64(step)
			}
		}
		out(data, 1, 5, 1)
		out(data, 2, 4, 2)
		out(data, 4, 3, 4)
		out(data+2, 1, 3, -1)
		in := func(at uint64, size, n int) {
			for range n {
				c.Store(at, binary.LittleEndian.AppendUint32(nil, c.In(port, size))[:size])
				at += uint64(size)
			}
		}
		in(data+0x100, 1, 5)
		in(data+0x110, 2, 4)
		in(data+0x120, 4, 3)
		done(c)
	},
	selftest.EntryCPUID: func(c *hvtest.FakeCPU) {
		for at, to := uint64(data), uint64(data+0x100); get(c, at, 4) != 0xffffffff; at, to = at+8, to+16 {
			e := c.CPUID(uint32(get(c, at, 4)), uint32(get(c, at+4, 4)))
			put64(c, to, uint64(e.EAX)|uint64(e.EBX)<<32)
			put64(c, to+8, uint64(e.ECX)|uint64(e.EDX)<<32)
		}
		done(c)
	},
	selftest.EntryMSR: func(c *hvtest.FakeCPU) {
		access := func(index uint32, v uint64, write bool) uint64 {
			if !c.MSR(index, &v, write) {
				c.Add(data+0x80, 1)
			}
			return v
		}
		put64(c, data, access(0x40000000, 0, false))
		access(0x40000000, 0x1122334455667788, true)
		access(0x40000001, 0, false)
		access(0x40000001, 0x1122334455667788, true)
		access(0x4b564dfe, 0, false)
		done(c)
	},
	selftest.EntryHalt: func(c *hvtest.FakeCPU) {
		c.Open(true)
		for {
			c.Add(data, 1)
			c.Halt()
		}
	},
	selftest.EntrySpin: func(c *hvtest.FakeCPU) {
		for {
			c.Add(data, 1)
			c.Step()
		}
	},
	selftest.EntryCall64: func(c *hvtest.FakeCPU) {
		args := []uint64{0x1111111111111111, 0x2222222222222222, 0x3333333333333333, 0x4444444444444444, 0x5555555555555555}
		put64(c, data, c.Call(true, 34, args...))
		for i, a := range append(args, 0x6666666666666666) {
			put64(c, data+8+uint64(i)*8, a)
		}
		put64(c, data+56, c.Call(true, 29, args...))
		done(c)
	},
	selftest.EntryCall32: func(c *hvtest.FakeCPU) {
		put64(c, data, c.Call(false, 34, 0x11111111, 0x22222222, 0x33333333, 0x44444444, 0x55555555))
		put64(c, data+8, 0x11111111)
		put64(c, data+16, 0x55555555)
		done(c)
	},
	selftest.EntryLAPIC:    awaitEvents,
	selftest.EntryCallback: awaitEvents,
	selftest.EntryClosed: func(c *hvtest.FakeCPU) {
		c.On(event, countEvent)
		tell(c, 0)
		tell(c, 0)
		for range 100 {
			c.Step()
		}
		c.Add(data+8, 1)
		c.Open(true)
		for {
			c.Halt()
		}
	},
	selftest.EntryMapped: func(c *hvtest.FakeCPU) {
		for seen := uint64(0); ; c.Step() {
			if n := get(c, hole, 4); n != seen {
				seen = n
				tell(c, uint32(n))
			}
		}
	},
	selftest.EntryUnbacked: func(c *hvtest.FakeCPU) {
		for i, size := range []int{1, 2, 4, 8} {
			put64(c, data+uint64(i)*8, get(c, hole+uint64(size), size))
		}
		put64(c, hole, 0)
		put64(c, data+32, get(c, hole, 8))
		done(c)
	},
	selftest.EntryTriple: func(c *hvtest.FakeCPU) { c.TripleFault() },
	selftest.EntryWild:   func(c *hvtest.FakeCPU) { c.Crash("no code there") },
	selftest.EntrySMP: func(c *hvtest.FakeCPU) {
		others := uint32(get(c, data, 4))
		for id := range others {
			c.Start(int(id)+1, func(c *hvtest.FakeCPU) {
				c.Add(count, 1)
				done(c)
			})
		}
		for c.Add(count, 0) != others {
			c.Step()
		}
		done(c)
	},
	selftest.EntryTSC: func(c *hvtest.FakeCPU) {
		last := uint64(0)
		for i := range 2000 {
			now := c.TSC()
			if now < last {
				c.Add(data, 1)
			}
			if last = now; i%128 == 0 {
				put64(c, data+8, now)
				tell(c, uint32(now))
			}
		}
		done(c)
	},
	selftest.EntryEFER: func(c *hvtest.FakeCPU) {
		c.Regs().EFER ^= 1
		put64(c, data, c.Regs().EFER)
		c.Add(data+0x80, 1) // the reserved bit
		done(c)
	},
	selftest.EntryCount: func(c *hvtest.FakeCPU) { // R14: the number that was told last
		for r := c.Regs(); ; r.R15++ {
			was := r.R15
			if r.R14 != was+1 {
				r.R14 = was + 1
				tell(c, uint32(r.R14))
			}
			if r.R15 != was {
				break
			}
		}
		done(c)
	},
}

func awaitEvents(c *hvtest.FakeCPU) {
	c.On(event, countEvent)
	tell(c, 0)
	c.Open(true)
	for {
		c.Halt()
	}
}

func countEvent(c *hvtest.FakeCPU) {
	put64(c, data+12, get(c, data+8, 4)) // by four bytes too many, which nobody reads
	tell(c, c.Add(data, 1))
}
