package selftest

import (
	"errors"
	"fmt"
	"slices"

	"github.com/hxen-project/hxen/hv/accel"
)

// at reads what the guest left at dataAt+off.
func (r *rig) at(off int) uint64 { return le.Uint64(r.mem[dataAt+off:]) }

// access is one element of port I/O.
type access struct {
	port  uint16
	size  int
	value uint32
}

// record keeps the guest's writes and answers its reads from a sequence.
func record(writes *[]access, reads func() uint32) func(uint16, []byte, bool) {
	return func(port uint16, data []byte, write bool) {
		var b [4]byte
		if write {
			copy(b[:], data)
			*writes = append(*writes, access{port, len(data), le.Uint32(b[:])})
			return
		}
		le.PutUint32(b[:], reads())
		copy(data, b[:])
	}
}

func testPIO(r *rig) error {
	c, err := r.one(EntryPIO)
	if err != nil {
		return err
	}
	var writes []access
	c.pio = record(&writes, func() uint32 { return 0x87654321 })
	if err := c.finish(); err != nil {
		return err
	}
	want := []access{{portIO, 1, 0x11}, {portIO, 2, 0x2222}, {portIO, 4, 0x33333333}, {0x70, 1, 0x44}}
	if !slices.Equal(writes, want) {
		return fmt.Errorf("the guest wrote %x, want %x", writes, want)
	}
	for i, want := range []uint64{0xffffffffffffff21, 0xffffffffffff4321, 0x87654321, 0xffffffffffffff21} {
		if got := r.at(8 * i); got != want {
			return fmt.Errorf("read %d left %#x in RAX, want %#x", i, got, want)
		}
	}
	return nil
}

func testStringIO(r *rig) error {
	c, err := r.one(EntryString)
	if err != nil {
		return err
	}
	for i := range 16 {
		r.mem[dataAt+i] = byte(i + 1)
	}
	var writes []access
	n := uint32(0)
	c.pio = record(&writes, func() uint32 { n++; return 0x01010101 * n })
	if err := c.finish(); err != nil {
		return err
	}
	var want []access
	for _, s := range []struct{ size, n int }{{1, 5}, {2, 4}, {4, 3}} {
		for i := range s.n {
			var b [4]byte
			copy(b[:s.size], r.mem[dataAt+i*s.size:])
			want = append(want, access{portIO, s.size, le.Uint32(b[:])})
		}
	}
	want = append(want, access{portIO, 1, 3}, access{portIO, 1, 2}, access{portIO, 1, 1}) // downwards
	if !slices.Equal(writes, want) {
		return fmt.Errorf("the guest wrote %x, want %x", writes, want)
	}
	n = 0
	for _, s := range []struct{ at, size, n int }{{0x100, 1, 5}, {0x110, 2, 4}, {0x120, 4, 3}} {
		for i := range s.n {
			n++
			for k := range s.size {
				if got := r.mem[dataAt+s.at+i*s.size+k]; got != byte(n) {
					return fmt.Errorf("element %d of the reads of %d bytes has %#x, want %#x", i, s.size, got, n)
				}
			}
		}
	}
	return nil
}

func testCPUID(r *rig) error {
	if err := r.machine(accel.Config{VCPUs: 2}); err != nil {
		return err
	}
	c, err := r.first(EntryCPUID)
	if err != nil {
		return err
	}
	ask := []uint32{0x40000000, 0, 0x40000001, 0, 0x40000001, 1, 0, 0, ^uint32(0)}
	for i, v := range ask {
		le.PutUint32(r.mem[dataAt+4*i:], v)
	}
	if err := c.finish(); err != nil {
		return err
	}
	mine := leaves(r.vm.Caps(), 0)
	for i := 0; ask[2*i] != ^uint32(0); i++ {
		k := slices.IndexFunc(mine, func(e accel.CPUID) bool {
			return e.Leaf == ask[2*i] && (!e.Indexed || e.Sub == ask[2*i+1])
		})
		if k < 0 {
			return fmt.Errorf("the processor has no leaf %#x", ask[2*i])
		}
		want := []uint32{mine[k].EAX, mine[k].EBX, mine[k].ECX, mine[k].EDX}
		for j, w := range want {
			if got := le.Uint32(r.mem[dataAt+0x100+16*i+4*j:]); got != w {
				return fmt.Errorf("leaf %#x.%d: register %d is %#x, want %#x", ask[2*i], ask[2*i+1], j, got, w)
			}
		}
	}
	return nil
}

func testMSR(r *rig) error {
	const answered, refused = 0x40000000, 0x40000001
	if err := r.machine(accel.Config{VCPUs: 1, MSRs: []uint32{answered, refused}}); err != nil {
		return err
	}
	c, err := r.first(EntryMSR)
	if err != nil {
		return err
	}
	var seen []string
	c.msr = func(index uint32, v *uint64, write bool) bool {
		if write {
			seen = append(seen, fmt.Sprintf("write %#x %#x", index, *v))
		} else {
			seen = append(seen, fmt.Sprintf("read %#x", index))
			*v = 0x0123456789abcdef
		}
		return index == answered
	}
	if err := c.finish(); err != nil {
		return err
	}
	// The second pair of accesses reuses what the first left in EDX:EAX.
	want := []string{"read 0x40000000", "write 0x40000000 0x1122334455667788", "read 0x40000001", "write 0x40000001 0x1122334455667788"}
	if !slices.Equal(seen, want) {
		return fmt.Errorf("the host saw %q, want %q", seen, want)
	}
	if got := r.at(0); got != 0x0123456789abcdef {
		return fmt.Errorf("the guest read %#x", got)
	}
	if got := r.at(0x80); got != 3 {
		return fmt.Errorf("the guest got #GP %d times, want 3", got)
	}
	return nil
}

func testRegs(r *rig) error {
	if err := r.machine(accel.Config{VCPUs: 1}); err != nil {
		return err
	}
	c, err := r.cpu(0)
	if err != nil {
		return err
	}
	r.after = append(r.after, c.v.Close)
	want := longMode(Entry(EntryCount))
	want.RBX, want.R12, want.FS.Base, want.CR2 = 0x1234567890abcdef, 12, 0x5000, 0x777000
	if err := c.v.SetRegs(want); err != nil {
		return err
	}
	got, err := c.v.Regs()
	if err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("registers read back as %+v, want %+v", got, want)
	}
	c.tell = func(n uint32) {
		in, err := c.v.Regs()
		if err != nil || in.RBX != want.RBX || in.R12 != want.R12 || in.FS != want.FS || in.CR3 != want.CR3 || in.R15 != uint64(n)-1 ||
			in.CS != want.CS || in.GDT != want.GDT || in.IDT != want.IDT {
			c.wrong("registers inside a callback: %+v, %v", in, err)
		}
		if n == 3 {
			in.R15 = 99 // counted on from, after this exit
			if err := c.v.SetRegs(in); err != nil {
				c.wrong("%v", err)
			}
		}
		if n >= 100 {
			c.stop()
		}
	}
	if err := c.finish(); err != nil {
		return err
	}
	// XMM5 still has 2 after the third number: the guest compares, and stops.
	if !slices.Equal(c.told, []uint32{1, 2, 3}) {
		return fmt.Errorf("the guest told %d, want it to notice what became of R15", c.told)
	}
	return nil
}

func testCall64(r *rig) error {
	c, err := r.one(EntryCall64)
	if err != nil {
		return err
	}
	var seen []accel.Hypercall
	c.call = func(h *accel.Hypercall) bool {
		seen = append(seen, *h)
		h.Result = ^uint64(37) // -38
		return h.Number == 29
	}
	exit, err := c.enter()
	if err != nil {
		return err
	}
	if exit != accel.Parked || len(seen) != 2 {
		return fmt.Errorf("Run ended with %v after the calls %+v, want it parked by the second", exit, seen)
	}
	regs, err := c.v.Regs()
	if err != nil {
		return err
	}
	if regs.RAX != ^uint64(37) {
		return fmt.Errorf("a parked processor has %#x in RAX: its call is not complete", regs.RAX)
	}
	if err := c.finish(); err != nil {
		return err
	}
	args := [5]uint64{0x1111111111111111, 0x2222222222222222, 0x3333333333333333, 0x4444444444444444, 0x5555555555555555}
	for i, number := range []uint64{34, 29} {
		want := accel.Hypercall{Number: number, Args: args, Long: true}
		if seen[i] != want {
			return fmt.Errorf("call %d came as %+v, want %+v", i, seen[i], want)
		}
	}
	for i, want := range []uint64{^uint64(37), args[0], args[1], args[2], args[3], args[4], 0x6666666666666666, ^uint64(37)} {
		if got := r.at(8 * i); got != want {
			return fmt.Errorf("register %d is %#x after the call, want %#x", i, got, want)
		}
	}
	return nil
}

func testCall32(r *rig) error {
	c, err := r.one(EntryCall32)
	if err != nil {
		return err
	}
	if err := c.v.SetRegs(flat32(Entry(EntryCall32))); err != nil {
		return err
	}
	var seen accel.Hypercall
	c.call = func(h *accel.Hypercall) bool {
		seen = *h
		h.Result = ^uint64(37)
		return false
	}
	if err := c.finish(); err != nil {
		return err
	}
	want := accel.Hypercall{Number: 34, Args: [5]uint64{0x11111111, 0x22222222, 0x33333333, 0x44444444, 0x55555555}}
	if seen != want {
		return fmt.Errorf("the call came as %+v, want %+v", seen, want)
	}
	if r.at(0) != 0xffffffda || r.at(8) != 0x11111111 || r.at(16) != 0x55555555 {
		return fmt.Errorf("EAX %#x, EBX %#x, EDI %#x after the call", r.at(0), r.at(8), r.at(16))
	}
	return nil
}

func testUnbacked(r *rig) error {
	c, err := r.one(EntryUnbacked)
	if err != nil {
		return err
	}
	if err := c.finish(); err != nil {
		return err
	}
	for i, want := range []uint64{0xff, 0xffff, 0xffffffff, ^uint64(0), ^uint64(0)} {
		if got := r.at(8 * i); got != want {
			return fmt.Errorf("read %d gave %#x, want %#x", i, got, want)
		}
	}
	return nil
}

func testWild(r *rig) error {
	c, err := r.one(EntryWild)
	if err != nil {
		return err
	}
	if err := c.finish(); !errors.Is(err, accel.ErrGuest) {
		return fmt.Errorf("Run ended with %v, want the guest's own fault", err)
	}
	return nil
}

func testTriple(r *rig) error {
	c, err := r.one(EntryTriple)
	if err != nil {
		return err
	}
	exit, err := c.enter()
	if err != nil {
		return err
	}
	if exit != accel.Shutdown {
		return fmt.Errorf("Run ended with %v, want a shutdown", exit)
	}
	return nil
}

func testEFER(r *rig) error {
	c, err := r.one(EntryEFER)
	if err != nil {
		return err
	}
	calls := 0
	c.long = func() {
		calls++
		if regs, err := c.v.Regs(); err != nil || regs.EFER != 0x501 {
			c.wrong("EFER %#x, %v where it should have been applied", regs.EFER, err)
		}
	}
	if err := c.finish(); err != nil {
		return err
	}
	if r.at(0) != 0x501 || r.at(0x80) != 1 {
		return fmt.Errorf("EFER became %#x, with %d #GP; want 0x501, and one for the reserved bit", r.at(0), r.at(0x80))
	}
	want := 0
	if r.vm.Caps().Patched {
		want = 1
	}
	if calls != want {
		return fmt.Errorf("LongMode was called %d times, want %d", calls, want)
	}
	return nil
}
