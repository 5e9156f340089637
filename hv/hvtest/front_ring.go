package hvtest

import (
	"github.com/hxen-project/hxen/hv/guestmem"
	"github.com/hxen-project/hxen/hv/xenabi"
)

// FrontRing is a front end's end of a ring (io/ring.h).
type FrontRing struct {
	f     *Front
	GFNs  []uint64
	Refs  []uint32 // grants of the pages
	entry int
	Size  uint32

	Prod uint32 // requests put
	Cons uint32 // responses taken
	seen uint32 // requests that the back end may see
}

// NewRing makes a ring of entries of the given size in new pages.
func (f *Front) NewRing(pages, entry int) *FrontRing {
	f.Helper()
	r := &FrontRing{f: f, entry: entry, Size: 1}
	for range pages {
		gfn := f.Alloc()
		r.GFNs, r.Refs = append(r.GFNs, gfn), append(r.Refs, f.Grant(gfn, false))
	}
	for int(2*r.Size) <= (pages*guestmem.PageSize-xenabi.SringEntries)/entry {
		r.Size *= 2
	}
	r.Set(xenabi.SringReqEvent, 1)
	r.Set(xenabi.SringRspEvent, 1)
	return r
}

// Set writes one of the ring's indices; Get reads one.
func (r *FrontRing) Set(off int, v uint32) {
	r.f.Helper()
	r.f.check(r.f.page(r.GFNs[0]).Store32(off, v))
}

// Get is Set's other half.
func (r *FrontRing) Get(off int) uint32 {
	v, _ := r.f.page(r.GFNs[0]).Load32(off)
	return v
}

// each goes over the pieces of an entry.
func (r *FrontRing) each(i uint32, b []byte, move func(gpa uint64, b []byte)) {
	for k := range b {
		at := xenabi.SringEntries + int(i%r.Size)*r.entry + k
		move(r.GFNs[at/guestmem.PageSize]<<12+uint64(at%guestmem.PageSize), b[k:k+1])
	}
}

// Put writes the next request, and does not show it yet.
func (r *FrontRing) Put(b []byte) {
	r.f.Helper()
	r.each(r.Prod, b, r.f.Write)
	r.Prod++
}

// Push shows the requests and reports whether the back end wants an event.
func (r *FrontRing) Push() (notify bool) {
	r.f.Helper()
	old := r.seen
	r.Set(xenabi.SringReqProd, r.Prod)
	r.seen = r.Prod
	return r.Prod-r.Get(xenabi.SringReqEvent) < r.Prod-old
}

// Take copies the next response into b, if there is one; else the back end is
// to send an event for it.
func (r *FrontRing) Take(b []byte) bool {
	if r.Get(xenabi.SringRspProd) == r.Cons {
		r.Set(xenabi.SringRspEvent, r.Cons+1)
		if r.Get(xenabi.SringRspProd) == r.Cons {
			return false
		}
	}
	r.each(r.Cons, b, r.f.Read)
	r.Cons++
	return true
}
