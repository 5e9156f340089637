// Package guestmem is a guest's physical memory as bounds-checked slots of host
// memory, and the walk from a guest's linear addresses to it. It is the one
// home of guest pointers: everything else names guest memory by address and
// copies through here.
//
// It does not know where host memory comes from or how a hypervisor maps it;
// both are the caller's, who hands in byte slices and, for pages that a guest
// asks for later, a callback. It knows nothing of Xen.
//
// Guest memory changes under the reader at any time. Copy, then check, then
// use; the copy is the only thing worth checking.
package guestmem

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
)

const (
	PageShift = 12
	PageSize  = 1 << PageShift

	// GrowSize is the size and alignment of slots made on demand: Linux puts its
	// grant frames into unpopulated 128 MiB resources above its RAM.
	GrowSize = 128 << 20
)

// Fault is the error of an access that some byte of has no memory behind it,
// or that is not aligned as its kind demands.
type Fault struct {
	GPA, N uint64
}

func (f Fault) Error() string {
	return fmt.Sprintf("no guest memory for %d bytes at %#x", f.N, f.GPA)
}

// Range is a stretch of guest physical addresses.
type Range struct {
	GPA, N uint64
}

func (r Range) overlaps(gpa, n uint64) bool {
	return n != 0 && r.N != 0 && gpa <= r.GPA+(r.N-1) && r.GPA <= gpa+(n-1)
}

// Config bounds what a guest can make appear beyond the slots that were added.
type Config struct {
	// Grow backs GrowSize bytes at gpa (aligned to GrowSize) with new zeroed host
	// memory and maps it for the guest. nil: nothing appears on demand.
	Grow func(gpa uint64) ([]byte, error)
	// MaxGrown is how many slots Grow may make in all.
	MaxGrown int
	// Reserved is never backed on demand (the local APIC, the engine's own pages).
	Reserved []Range
	// Limit is the end of the guest's physical addresses; 0 means 1<<46.
	Limit uint64
}

type slot struct {
	Range
	mem []byte
}

// Memory is one guest's RAM. All methods may be called from any goroutine.
type Memory struct {
	cfg Config

	mu    sync.Mutex // serialises changes of slots
	grown int        // guarded by mu

	slots atomic.Pointer[[]slot] // sorted by address; replaced, never changed
}

// New makes a guest's memory without any slot.
func New(cfg Config) *Memory {
	if cfg.Limit == 0 {
		cfg.Limit = 1 << 46
	}
	m := &Memory{cfg: cfg}
	m.slots.Store(new([]slot))
	return m
}

// Add puts host memory behind gpa. Both must be page aligned, as must the
// length; slots do not overlap. The caller keeps mem valid for as long as
// anybody uses m or a Page of it.
func (m *Memory) Add(gpa uint64, mem []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.addLocked(gpa, mem)
}

func (m *Memory) addLocked(gpa uint64, mem []byte) error {
	n := uint64(len(mem))
	switch {
	case n == 0 || n%PageSize != 0 || gpa%PageSize != 0 || !aligned(mem, PageSize):
		return fmt.Errorf("add guest memory at %#x: %d bytes are not whole aligned pages", gpa, n)
	case gpa >= m.cfg.Limit || n > m.cfg.Limit-gpa:
		return fmt.Errorf("add guest memory at %#x: %d bytes end beyond %#x", gpa, n, m.cfg.Limit)
	}
	old := *m.slots.Load()
	for _, s := range old {
		if s.overlaps(gpa, n) {
			return fmt.Errorf("add guest memory at %#x: it overlaps the memory at %#x", gpa, s.GPA)
		}
	}
	next := append(slices.Clone(old), slot{Range{gpa, n}, mem[:n:n]})
	slices.SortFunc(next, func(a, b slot) int {
		if a.GPA < b.GPA {
			return -1
		}
		return 1
	})
	m.slots.Store(&next)
	return nil
}

// Ensure sees to it that the page at gfn has memory, growing a slot when it
// has none and the bounds allow it.
func (m *Memory) Ensure(gfn uint64) error {
	if gfn >= m.cfg.Limit>>PageShift {
		return Fault{gfn << PageShift, PageSize}
	}
	gpa := gfn << PageShift
	if m.at(gpa, PageSize) != nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.at(gpa, PageSize) != nil { // another goroutine was first
		return nil
	}
	for _, r := range m.cfg.Reserved {
		if r.overlaps(gpa, PageSize) {
			return Fault{gpa, PageSize}
		}
	}
	base := gpa &^ uint64(GrowSize-1)
	if m.cfg.Grow == nil || m.grown >= m.cfg.MaxGrown || m.cfg.Limit-base < GrowSize {
		return Fault{gpa, PageSize}
	}
	return m.growLocked(base)
}

// growLocked makes the slots around what already lies in [base, base+GrowSize):
// RAM may end in the middle of it, and reserved ranges stay without memory.
func (m *Memory) growLocked(base uint64) error {
	mem, err := m.cfg.Grow(base)
	if err != nil {
		return fmt.Errorf("back guest pages at %#x: %w", base, err)
	}
	if len(mem) != GrowSize {
		return fmt.Errorf("back guest pages at %#x: %d bytes instead of %d", base, len(mem), GrowSize)
	}
	m.grown++
	taken := slices.Clone(m.cfg.Reserved)
	for _, s := range *m.slots.Load() {
		taken = append(taken, s.Range)
	}
	for at := uint64(0); at < GrowSize; {
		end := uint64(GrowSize)
		skipTo := uint64(0)
		for _, r := range taken {
			if r.N == 0 || r.GPA >= base+end || r.GPA+r.N <= base+at {
				continue
			}
			if r.GPA <= base+at {
				skipTo = max(skipTo, r.GPA+r.N-base)
			} else {
				end = min(end, r.GPA-base)
			}
		}
		if skipTo != 0 {
			at = skipTo
			continue
		}
		if err := m.addLocked(base+at, mem[at:end]); err != nil {
			return err
		}
		at = end
	}
	return nil
}

// Size is how many bytes of memory the guest has, grown slots included.
func (m *Memory) Size() uint64 {
	var n uint64
	for _, s := range *m.slots.Load() {
		n += s.N
	}
	return n
}

// End is the address behind the last byte of memory, which leaves holes.
func (m *Memory) End() uint64 {
	s := *m.slots.Load()
	if len(s) == 0 {
		return 0
	}
	last := s[len(s)-1]
	return last.GPA + last.N
}

// at returns the n bytes at gpa when one slot holds them all, else nil.
func (m *Memory) at(gpa, n uint64) []byte {
	b := m.from(gpa)
	if uint64(len(b)) < n {
		return nil
	}
	return b[:n:n]
}

// from returns the memory from gpa to its slot's end, or nil.
func (m *Memory) from(gpa uint64) []byte {
	slots := *m.slots.Load()
	lo, hi := 0, len(slots)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if slots[mid].GPA <= gpa {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo == 0 || gpa-slots[lo-1].GPA >= slots[lo-1].N {
		return nil
	}
	return slots[lo-1].mem[gpa-slots[lo-1].GPA:]
}
