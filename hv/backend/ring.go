package backend

import (
	"fmt"
	"math/bits"

	"github.com/hxen-project/hxen/hv/guestmem"
	"github.com/hxen-project/hxen/hv/xen"
	"github.com/hxen-project/hxen/hv/xenabi"
)

// Ring is a back end's end of a ring of requests and responses (io/ring.h),
// which may span pages. One caller at a time uses it.
//
// Responses take the places of requests in the order in which they are given;
// there can be no more than there were requests.
type Ring struct {
	m     *xen.Mapping
	entry int    // bytes of a request or a response, whichever is more
	size  uint32 // entries, a power of two

	taken    uint32 // requests, free running
	answered uint32 // responses, free running
	pushed   uint32 // responses that the front end may see
}

// newRing takes a ring up where its last back end left it.
func newRing(m *xen.Mapping, pages, entry int) (*Ring, error) {
	n := (pages*guestmem.PageSize - xenabi.SringEntries) / entry
	if n < 1 {
		return nil, fmt.Errorf("%w: a ring without entries", ErrFrontEnd)
	}
	r := &Ring{m: m, entry: entry, size: 1 << (bits.Len(uint(n)) - 1)}
	at, err := m.Page(0).Load32(xenabi.SringRspProd)
	if err != nil {
		return nil, err
	}
	r.taken, r.answered, r.pushed = at, at, at
	_, err = r.waiting()
	return r, err
}

// Size is how many entries the ring has.
func (r *Ring) Size() int { return int(r.size) }

// Taken is how many requests wait for their response.
func (r *Ring) Taken() int { return int(r.taken - r.answered) }

// waiting is how many requests could be taken now.
func (r *Ring) waiting() (uint32, error) {
	prod, err := r.m.Page(0).Load32(xenabi.SringReqProd)
	if err != nil {
		return 0, err
	}
	n := prod - r.taken
	if n > r.size {
		return 0, fmt.Errorf("%w: %d requests in a ring of %d", ErrFrontEnd, n, r.size)
	}
	// A front end that goes on before it was answered would have us hold more
	// requests than the ring has places for.
	return min(n, r.size-(r.taken-r.answered)), nil
}

// Next copies the next request into b, or reports that there is none. The copy
// is all that may be looked at: the front end writes to the ring at any time.
func (r *Ring) Next(b []byte) (bool, error) {
	n, err := r.waiting()
	if n == 0 || err != nil {
		return false, err
	}
	if err := r.copy(r.taken, b, guestmem.Page.Read); err != nil {
		return false, err
	}
	r.taken++
	return true, nil
}

// More asks the front end for an event for its next request, and reports whether
// one has come meanwhile, or is left. Only after a no may the back end wait.
func (r *Ring) More() (bool, error) { return r.MoreAt(1) }

// MoreAt is More for the n-th request from now, for who looks at the ring by himself
// after a while.
func (r *Ring) MoreAt(n int) (bool, error) {
	if have, err := r.waiting(); have >= uint32(n) || err != nil {
		return true, err
	}
	if err := r.m.Page(0).Store32(xenabi.SringReqEvent, r.taken+uint32(n)); err != nil {
		return false, err
	}
	have, err := r.waiting()
	return have >= uint32(n), err
}

// Respond puts a response into the ring, for Push.
func (r *Ring) Respond(b []byte) error {
	if r.answered == r.taken {
		return fmt.Errorf("a response without a request in a ring of %d", r.size)
	}
	if err := r.copy(r.answered, b, guestmem.Page.Write); err != nil {
		return err
	}
	r.answered++
	return nil
}

// Push lets the front end see the responses so far, and reports whether it wants
// an event for them.
func (r *Ring) Push() (notify bool, err error) {
	old := r.pushed
	if old == r.answered {
		return false, nil
	}
	page := r.m.Page(0)
	if err := page.Store32(xenabi.SringRspProd, r.answered); err != nil {
		return false, err
	}
	r.pushed = r.answered
	event, err := page.Load32(xenabi.SringRspEvent)
	return r.pushed-event < r.pushed-old, err
}

// copy moves b between entry i and whoever asks; entries may lie across pages.
func (r *Ring) copy(i uint32, b []byte, move func(guestmem.Page, int, []byte) error) error {
	b = b[:min(len(b), r.entry)]
	for at := xenabi.SringEntries + int(i&(r.size-1))*r.entry; len(b) > 0; {
		off := at % guestmem.PageSize
		n := min(len(b), guestmem.PageSize-off)
		if err := move(r.m.Page(at/guestmem.PageSize), off, b[:n]); err != nil {
			return err
		}
		at, b = at+n, b[n:]
	}
	return nil
}
