package guestmem

import (
	"bytes"
	"encoding/binary"
	"io"
)

// Read fills p from guest memory at gpa. On a Fault p is partly written.
func (m *Memory) Read(gpa uint64, p []byte) error {
	return m.each(gpa, uint64(len(p)), func(at uint64, mem []byte) { copy(p[at:], mem) })
}

// Write copies p to guest memory at gpa. On a Fault the part before the first
// missing byte has been written.
func (m *Memory) Write(gpa uint64, p []byte) error {
	return m.each(gpa, uint64(len(p)), func(at uint64, mem []byte) { copy(mem, p[at:]) })
}

// ReadFrom has the host's kernel read n bytes of r, from off on, straight into
// guest memory at gpa. On an error a part of it may have been read.
func (m *Memory) ReadFrom(r io.ReaderAt, off int64, gpa, n uint64) error {
	var failed error
	err := m.each(gpa, n, func(at uint64, mem []byte) {
		if failed != nil {
			return
		}
		if k, err := r.ReadAt(mem, off+int64(at)); k < len(mem) {
			failed = err
		}
	})
	if err != nil {
		return err
	}
	return failed
}

// Index is where pattern stands first in [gpa, gpa+n), as the guest may change
// it at any time. A pattern that lies across two slots is not seen.
func (m *Memory) Index(gpa, n uint64, pattern []byte) (found uint64, ok bool) {
	_ = m.each(gpa, n, func(at uint64, mem []byte) {
		if ok {
			return
		}
		if i := index(mem, pattern); i >= 0 {
			found, ok = gpa+at+uint64(i), true
		}
	})
	return found, ok
}

// index is bytes.Index for tens of megabytes of code, where bytes.Index looks at
// every byte several times: it goes from one to the next of the pattern's byte that
// is the rarest in the memory's beginning, by bytes.IndexByte's 32 at a time.
func index(mem, pattern []byte) int {
	if len(pattern) == 0 {
		return 0
	}
	beginning := mem[:min(len(mem), 64<<10)]
	rare, least := 0, len(mem)+1
	for i := range pattern {
		if n := bytes.Count(beginning, pattern[i:i+1]); n < least {
			rare, least = i, n
		}
	}
	for at := rare; at < len(mem); at++ {
		n := bytes.IndexByte(mem[at:], pattern[rare])
		if n < 0 {
			return -1
		}
		at += n
		if bytes.HasPrefix(mem[at-rare:], pattern) {
			return at - rare
		}
	}
	return -1
}

// Copy copies n bytes inside the guest. The ranges may not overlap unless
// they are the same.
func (m *Memory) Copy(dst, src, n uint64) error {
	return m.each(src, n, func(at uint64, from []byte) {
		// Both ends are checked before a byte moves, so this cannot fail.
		_ = m.Write(dst+at, from)
	}, Range{dst, n})
}

// each calls f for each piece of [gpa, gpa+n) that lies in one slot, after all
// of it, and of also, was found to have memory.
func (m *Memory) each(gpa, n uint64, f func(at uint64, mem []byte), also ...Range) error {
	for _, r := range append(also, Range{gpa, n}) {
		if !m.backed(r.GPA, r.N) {
			return Fault(r)
		}
	}
	for at := uint64(0); at < n; {
		mem := m.from(gpa + at)
		mem = mem[:min(uint64(len(mem)), n-at)]
		f(at, mem)
		at += uint64(len(mem))
	}
	return nil
}

// backed reports whether every byte of [gpa, gpa+n) has memory. Slots are
// only ever added, so the answer stays true.
func (m *Memory) backed(gpa, n uint64) bool {
	if n > m.cfg.Limit || gpa > m.cfg.Limit-n {
		return n == 0
	}
	for n > 0 {
		mem := uint64(len(m.from(gpa)))
		if mem == 0 {
			return false
		}
		if mem >= n {
			return true
		}
		gpa, n = gpa+mem, n-mem
	}
	return true
}

// Backed reports whether every byte of the range has memory.
func (m *Memory) Backed(gpa, n uint64) bool { return m.backed(gpa, n) }

// AppendBuffers adds the n bytes at gpa to bufs, one buffer for each slot that they
// lie in, for one host read or write as Page.Buffer is. On a Fault bufs is as it was.
func (m *Memory) AppendBuffers(bufs [][]byte, gpa, n uint64) ([][]byte, error) {
	old := bufs
	for n > 0 {
		mem := m.from(gpa)
		k := min(uint64(len(mem)), n)
		if k == 0 {
			return old, Fault{gpa, n}
		}
		bufs = append(bufs, mem[:k:k])
		gpa, n = gpa+k, n-k
	}
	return bufs, nil
}

// Page is a checked view of one page of guest memory: it cannot reach another
// page, and it stays usable until the owner of the host memory takes that
// away, which must be after everything that holds a Page has stopped. The
// zero Page has no memory and faults.
type Page struct {
	mem []byte // nil or PageSize long
	gfn uint64
}

// Page returns the page at gfn.
func (m *Memory) Page(gfn uint64) (Page, error) {
	if gfn >= m.cfg.Limit>>PageShift {
		return Page{}, Fault{gfn << PageShift, PageSize}
	}
	mem := m.from(gfn << PageShift)
	if len(mem) < PageSize {
		return Page{}, Fault{gfn << PageShift, PageSize}
	}
	return Page{mem[:PageSize:PageSize], gfn}, nil
}

// GFN is the page's frame number.
func (p Page) GFN() uint64 { return p.gfn }

// Valid reports whether the page has memory.
func (p Page) Valid() bool { return p.mem != nil }

func (p Page) cut(off, n int) ([]byte, error) {
	if off < 0 || n < 0 || off > len(p.mem) || n > len(p.mem)-off {
		return nil, p.fault(off, n)
	}
	return p.mem[off : off+n : off+n], nil
}

// Read copies out of the page.
func (p Page) Read(off int, b []byte) error {
	mem, err := p.cut(off, len(b))
	copy(b, mem)
	return err
}

// Write copies into the page.
func (p Page) Write(off int, b []byte) error {
	mem, err := p.cut(off, len(b))
	copy(mem, b)
	return err
}

// Buffer returns n bytes of the page for one host read or write that the
// kernel does (a disk's pread, a socket's write), and for nothing else: the
// guest changes it at will, so nobody parses it.
func (p Page) Buffer(off, n int) ([]byte, error) { return p.cut(off, n) }

// Uint16 and its like read a plain little-endian field.
func (p Page) Uint16(off int) (uint16, error) {
	mem, err := p.cut(off, 2)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint16(mem), nil
}

// Load32 reads an aligned word atomically; what follows in program order is
// not moved before it (ring indices).
func (p Page) Load32(off int) (uint32, error) {
	mem, err := p.word(off, 4)
	if err != nil {
		return 0, err
	}
	return load32(mem), nil
}

// Store32 writes an aligned word atomically, after everything before it.
func (p Page) Store32(off int, v uint32) error {
	mem, err := p.word(off, 4)
	if err != nil {
		return err
	}
	store32(mem, v)
	return nil
}

// Load64 reads an aligned 64-bit word atomically.
func (p Page) Load64(off int) (uint64, error) {
	mem, err := p.word(off, 8)
	if err != nil {
		return 0, err
	}
	return load64(mem), nil
}

// Store64 writes an aligned 64-bit word atomically.
func (p Page) Store64(off int, v uint64) error {
	mem, err := p.word(off, 8)
	if err != nil {
		return err
	}
	store64(mem, v)
	return nil
}

// Or64 sets bits of an aligned 64-bit word atomically and returns what was
// there before.
func (p Page) Or64(off int, bits uint64) (old uint64, err error) {
	mem, err := p.word(off, 8)
	if err != nil {
		return 0, err
	}
	return or64(mem, bits), nil
}

// And64 keeps only bits of an aligned 64-bit word, atomically, and returns
// what was there before.
func (p Page) And64(off int, bits uint64) (old uint64, err error) {
	mem, err := p.word(off, 8)
	if err != nil {
		return 0, err
	}
	return and64(mem, bits), nil
}

// CompareAndSwap32 is what lock-free protocols with the guest need.
func (p Page) CompareAndSwap32(off int, old, next uint32) (swapped bool, err error) {
	mem, err := p.word(off, 4)
	if err != nil {
		return false, err
	}
	return cas32(mem, old, next), nil
}

func (p Page) word(off, size int) ([]byte, error) {
	if off&(size-1) != 0 || off < 0 || off > len(p.mem)-size {
		return nil, p.fault(off, size)
	}
	return p.mem[off : off+size], nil
}

func (p Page) fault(off, n int) error { return Fault{p.gfn<<PageShift + uint64(off), uint64(n)} }

// Load32 reads the aligned word at gpa atomically.
func (m *Memory) Load32(gpa uint64) (uint32, error) {
	p, err := m.Page(gpa >> PageShift)
	if err != nil {
		return 0, err
	}
	return p.Load32(int(gpa & (PageSize - 1)))
}

// Store32 writes the aligned word at gpa atomically.
func (m *Memory) Store32(gpa uint64, v uint32) error {
	p, err := m.Page(gpa >> PageShift)
	if err != nil {
		return err
	}
	return p.Store32(int(gpa&(PageSize-1)), v)
}

// Load64 reads the aligned 64-bit word at gpa atomically.
func (m *Memory) Load64(gpa uint64) (uint64, error) {
	p, err := m.Page(gpa >> PageShift)
	if err != nil {
		return 0, err
	}
	return p.Load64(int(gpa & (PageSize - 1)))
}

// Store64 writes the aligned 64-bit word at gpa atomically.
func (m *Memory) Store64(gpa, v uint64) error {
	p, err := m.Page(gpa >> PageShift)
	if err != nil {
		return err
	}
	return p.Store64(int(gpa&(PageSize-1)), v)
}

// In reports whether the page is one of m's.
func (p Page) In(m *Memory) bool {
	mem := m.at(p.gfn<<PageShift, PageSize)
	return p.mem != nil && mem != nil && &mem[0] == &p.mem[0]
}

// Host makes n pages of aligned memory on the Go heap, for pages of the
// hypervisor's own and for tests.
func Host(n int) []byte {
	b := make([]byte, (n+1)*PageSize)
	for i := 0; ; i++ {
		if aligned(b[i:], PageSize) {
			return b[i : i+n*PageSize : i+n*PageSize]
		}
	}
}
