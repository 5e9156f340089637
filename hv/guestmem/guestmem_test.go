package guestmem

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"testing"
)

func pages(n int) []byte {
	b := make([]byte, (n+1)*PageSize)
	for i := range PageSize {
		if aligned(b[i:], PageSize) {
			return b[i : i+n*PageSize]
		}
	}
	panic("no page in a page")
}

func mustAdd(t testing.TB, m *Memory, gpa uint64, n int) []byte {
	t.Helper()
	mem := pages(n)
	if err := m.Add(gpa, mem); err != nil {
		t.Fatal(err)
	}
	return mem
}

func isFault(err error) bool { return errors.As(err, new(Fault)) }

func TestBounds(t *testing.T) {
	m := New(Config{})
	mustAdd(t, m, 0x1000, 2)
	mustAdd(t, m, 0x3000, 1) // adjacent: an access may span both
	mustAdd(t, m, 0x10000, 1)
	for _, c := range []struct {
		gpa, n uint64
		ok     bool
	}{
		{0x1000, 0x3000, true}, {0xfff, 1, false}, {0xfff, 2, false}, {0x3fff, 1, true}, {0x3fff, 2, false},
		{0x2fff, 2, true}, {0x10000, 0x1000, true}, {0x10000, 0x1001, false}, {^uint64(0), 1, false},
		{^uint64(0) - 1, 4, false}, {1 << 46, 1, false}, {5, 0, true},
	} {
		b := make([]byte, c.n)
		if err := m.Read(c.gpa, b); (err == nil) != c.ok || err != nil && !isFault(err) {
			t.Errorf("read %d bytes at %#x: %v", c.n, c.gpa, err)
		}
		if err := m.Write(c.gpa, b); (err == nil) != c.ok {
			t.Errorf("write %d bytes at %#x: %v", c.n, c.gpa, err)
		}
	}
	want := bytes.Repeat([]byte("guest"), 1000)
	if err := m.Write(0x1800, want); err != nil {
		t.Fatal(err)
	}
	if err := m.Copy(0x1000, 0x1800, 0x200); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 0x200)
	if err := m.Read(0x1000, got); err != nil || !bytes.Equal(got, want[:0x200]) {
		t.Errorf("copy inside the guest: %v", err)
	}
	if err := m.Copy(0x10f00, 0x1800, 0x200); !isFault(err) {
		t.Errorf("copy over the end: %v", err)
	}
	if m.Size() != 4*PageSize || m.End() != 0x11000 {
		t.Errorf("size %#x, end %#x", m.Size(), m.End())
	}
}

func TestAddRefuses(t *testing.T) {
	m := New(Config{})
	mustAdd(t, m, 0x4000, 2)
	for name, c := range map[string]struct {
		gpa uint64
		mem []byte
	}{
		"overlap": {0x5000, pages(1)}, "around": {0x3000, pages(4)}, "odd address": {0x8001, pages(1)},
		"odd length": {0x8000, pages(1)[:100]}, "nothing": {0x8000, nil}, "beyond the limit": {1<<46 - PageSize, pages(2)},
		"odd host memory": {0x8000, pages(2)[8 : 8+PageSize]},
	} {
		if m.Add(c.gpa, c.mem) == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

func TestPageView(t *testing.T) {
	m := New(Config{})
	mem := mustAdd(t, m, 0, 2)
	p, err := m.Page(1)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Store32(0xffc, 0x11223344); err != nil || binary.LittleEndian.Uint32(mem[0x1ffc:]) != 0x11223344 {
		t.Errorf("store: %v", err)
	}
	if old, err := p.Or64(8, 1<<63); err != nil || old != 0 {
		t.Errorf("or: %#x %v", old, err)
	}
	if old, err := p.And64(8, 1); err != nil || old != 1<<63 || mem[0x100f] != 0 {
		t.Errorf("and: %#x %v", old, err)
	}
	for _, off := range []int{-4, 2, 0x1000, 1 << 40} {
		if _, err := p.Load32(off); !isFault(err) {
			t.Errorf("load at %#x: %v", off, err)
		}
	}
	if _, err := p.Buffer(0xff0, 17); !isFault(err) {
		t.Error("a buffer reached over the page's end")
	}
	if b, err := p.Buffer(0xff0, 16); err != nil || cap(b) != 16 {
		t.Errorf("buffer: cap %d, %v", cap(b), err)
	}
	if _, err := m.Page(2); !isFault(err) {
		t.Error("a page without memory")
	}
	if _, err := (Page{}).Load32(0); !isFault(err) {
		t.Error("the zero page has memory")
	}
}

func TestGrow(t *testing.T) {
	var calls []uint64
	grown := pages(GrowSize / PageSize)
	m := New(Config{MaxGrown: 2, Reserved: []Range{{GrowSize + 0x5000, 0x1000}}, Grow: func(gpa uint64) ([]byte, error) {
		calls = append(calls, gpa)
		return grown, nil
	}})
	mustAdd(t, m, GrowSize, 3) // RAM ends inside the slot that is to grow
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := m.Ensure(GrowSize>>PageShift + 3); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if len(calls) != 1 || calls[0] != GrowSize {
		t.Fatalf("grown at %#x", calls)
	}
	if !m.Backed(GrowSize, 5*PageSize) || m.Backed(GrowSize+0x5000, 1) || !m.Backed(GrowSize+0x6000, GrowSize-0x6000) {
		t.Error("the slot around RAM and the reserved page is wrong")
	}
	if err := m.Store32(GrowSize+0x6000, 7); err != nil || grown[0x6000] != 7 {
		t.Error("the pages are not at their place in the slot")
	}
	if !isFault(m.Ensure(GrowSize>>PageShift + 5)) {
		t.Error("a reserved page was backed")
	}
	if err := m.Ensure(0); err != nil {
		t.Error(err)
	}
	if !isFault(m.Ensure(2*GrowSize>>PageShift)) || len(calls) != 2 {
		t.Error("more slots than allowed")
	}
	if !isFault(m.Ensure(1<<52)) || !isFault(m.Ensure(^uint64(0))) {
		t.Error("a page beyond all addresses was backed")
	}
	if err := New(Config{MaxGrown: 1, Grow: func(uint64) ([]byte, error) { return nil, errors.New("no memory") }}).Ensure(1); err == nil || isFault(err) {
		t.Errorf("the host's failure is told as %v", err)
	}
}

func TestWalk(t *testing.T) {
	m := New(Config{})
	mustAdd(t, m, 0, 32)
	put64 := func(gpa, v uint64) {
		if err := m.Store64(gpa, v); err != nil {
			t.Fatal(err)
		}
	}
	put32 := func(gpa uint64, v uint32) {
		if err := m.Store32(gpa, v); err != nil {
			t.Fatal(err)
		}
	}
	const nx = 1 << 63
	put64(0x1ff8, 0x2003)      // PML5[511] -> PML4
	put64(0x2ff8, 0x3003)      // PML4[511] -> PDPT
	put64(0x3ff0, 0x4003)      // PDPT[510] -> PD
	put64(0x3ff8, 0x40000083)  // PDPT[511]: 1 GiB page
	put64(0x4000, 0x200083|nx) // PD[0]: 2 MiB page
	put64(0x4008, 0x5003)
	put64(0x5000, 0x7001) // read-only
	put64(0x5008, 0x8002) // not present
	put64(0x6000, 0x4001) // PAE: PDPTE
	put32(0x9000, 0x400083|1<<13)
	put32(0x9004, 0xa003)
	put32(0xa004, 0xb003)
	put64(0xc000, 0xfffff000_00000003) // points where nothing is
	const pg, pae, lma = 1<<31 | 1<<16, 1 << 5, 1 << 10
	long := Paging{CR0: pg, CR3: 0x2000, CR4: pae, EFER: lma}
	la57 := Paging{CR0: pg, CR3: 0x1000, CR4: pae | 1<<12, EFER: lma}
	for _, c := range []struct {
		name   string
		p      Paging
		linear uint64
		write  bool
		gpa    uint64
		ok     bool
	}{
		{"off", Paging{}, 0x1_0000_1234, true, 0x1234, true},
		{"1 GiB", long, 0xffffffffc0123456, true, 0x40123456, true},
		{"2 MiB", long, 0xffffffff80012345, true, 0x212345, true},
		{"4 KiB", long, 0xffffffff80200123, false, 0x7123, true},
		{"read-only", long, 0xffffffff80200123, true, 0, false},
		{"read-only without WP", Paging{1 << 31, 0x2000, pae, lma}, 0xffffffff80200123, true, 0x7123, true},
		{"not present", long, 0xffffffff80201000, false, 0, false},
		{"not canonical", long, 0x7fffff80200123, false, 0, false},
		{"5 levels", la57, 0xffffffff80200123, false, 0x7123, true},
		{"5 levels, not mapped", la57, 0xff0fffff80200123, false, 0, false},
		{"PAE 2 MiB", Paging{CR0: pg, CR3: 0x6000, CR4: pae}, 0x12345, true, 0x212345, true},
		{"32-bit 4 MiB with PSE-36", Paging{CR0: pg, CR3: 0x9000, CR4: 1 << 4}, 0x12345, true, 0x1_0041_2345, true},
		{"32-bit 4 KiB", Paging{CR0: pg, CR3: 0x9000}, 0x401042, true, 0xb042, true},
		{"tables outside memory", Paging{CR0: pg, CR3: 0xc000, CR4: pae, EFER: lma}, 0, false, 0, false},
	} {
		gpa, ok := m.Translate(c.p, c.linear, c.write)
		if ok != c.ok || ok && gpa != c.gpa {
			t.Errorf("%s: %#x is %#x, %v; want %#x, %v", c.name, c.linear, gpa, ok, c.gpa, c.ok)
		}
	}
	if err := m.WriteLinear(Paging{CR0: pg, CR3: 0x9000}, 0x401ff0, make([]byte, 32)); !isFault(err) {
		t.Errorf("a write over the last mapped page: %v", err)
	}
	if err := m.WriteLinear(Paging{}, 0xdff0, []byte("over the end of a page")); err != nil {
		t.Error(err)
	}
	b := make([]byte, 22)
	if err := m.ReadLinear(Paging{}, 0xdff0, b); err != nil || string(b) != "over the end of a page" {
		t.Errorf("%q, %v", b, err)
	}
}

// FuzzAccess plays accesses on memory with a hole and compares with a map.
func FuzzAccess(f *testing.F) {
	f.Add([]byte{0, 0x10, 0, 4, 1, 0x2f, 0xff, 8, 2, 0x10, 4, 1})
	f.Fuzz(func(t *testing.T, ops []byte) {
		m := New(Config{})
		mustAdd(t, m, 0x1000, 1)
		mustAdd(t, m, 0x2000, 1)
		mustAdd(t, m, 0x4000, 1)
		var model [0x8000]byte
		in := func(gpa, n int) bool {
			for i := gpa; i < gpa+n; i++ {
				if i < 0x1000 || i >= 0x5000 || i >= 0x3000 && i < 0x4000 {
					return false
				}
			}
			return true
		}
		for ; len(ops) >= 4; ops = ops[4:] {
			gpa, n := int(ops[1]&0x7f)<<8|int(ops[2]), int(ops[3])
			want := in(gpa, n)
			switch ops[0] % 3 {
			case 0:
				b := bytes.Repeat(ops[3:4], n)
				if err := m.Write(uint64(gpa), b); (err == nil) != want {
					t.Fatalf("write %d at %#x: %v", n, gpa, err)
				} else if want {
					copy(model[gpa:], b)
				}
			case 1:
				b := make([]byte, n)
				if err := m.Read(uint64(gpa), b); (err == nil) != want || want && !bytes.Equal(b, model[gpa:gpa+n]) {
					t.Fatalf("read %d at %#x: %v", n, gpa, err)
				}
			case 2:
				err := m.Store32(uint64(gpa), uint32(n))
				if (err == nil) != (gpa&3 == 0 && in(gpa, 4)) {
					t.Fatalf("store at %#x: %v", gpa, err)
				} else if err == nil {
					binary.LittleEndian.PutUint32(model[gpa:], uint32(n))
				}
			}
		}
	})
}

// FuzzTranslate walks random tables with random registers: whatever a guest
// writes there, the walk ends and stays inside.
func FuzzTranslate(f *testing.F) {
	f.Add(uint64(1<<31), uint64(0), uint64(1<<5), uint64(1<<10), uint64(0x1234), []byte{3, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, cr0, cr3, cr4, efer, linear uint64, tables []byte) {
		m := New(Config{})
		mem := mustAdd(t, m, 0, 4)
		for i := 0; len(tables) > 0 && i < len(mem); i += copy(mem[i:], tables) {
		}
		_, _ = m.Translate(Paging{cr0, cr3, cr4, efer}, linear, true)
		_ = m.WriteLinear(Paging{cr0, cr3, cr4, efer}, linear, make([]byte, 3*PageSize))
	})
}

// TestAppendBuffers: a range is one buffer for each slot it lies in, and one that is not
// all there is none.
func TestAppendBuffers(t *testing.T) {
	m := New(Config{})
	host := Host(8)
	for i := range host {
		host[i] = byte(i >> 9) // each half KiB is another
	}
	if err := m.Add(0, host[:4*PageSize]); err != nil {
		t.Fatal(err)
	}
	if err := m.Add(4*PageSize, host[4*PageSize:6*PageSize]); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		gpa, n uint64
		want   []int
	}{
		{0, 0, nil},
		{512, 3 * PageSize, []int{3 * PageSize}},
		{3*PageSize + 512, PageSize, []int{3584, 512}},
		{0, 6 * PageSize, []int{4 * PageSize, 2 * PageSize}},
	} {
		bufs, err := m.AppendBuffers(nil, c.gpa, c.n)
		var sizes []int
		for _, b := range bufs {
			sizes = append(sizes, len(b))
			if cap(b) != len(b) {
				t.Errorf("a buffer of %d bytes reaches %d", len(b), cap(b))
			}
		}
		if err != nil || !slices.Equal(sizes, c.want) || !bytes.Equal(bytes.Join(bufs, nil), host[c.gpa:c.gpa+c.n]) {
			t.Errorf("%d bytes at %#x are buffers of %v bytes, %v; want %v", c.n, c.gpa, sizes, err, c.want)
		}
	}
	for _, r := range []Range{{5 * PageSize, PageSize + 1}, {6 * PageSize, 1}, {1<<64 - 1, 2}} {
		if bufs, err := m.AppendBuffers(nil, r.GPA, r.N); err == nil || len(bufs) > 0 {
			t.Errorf("%d bytes at %#x are there", r.N, r.GPA)
		}
	}
}
