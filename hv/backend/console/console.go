// Package console is the back end of a guest's Xen console (hvc0): the ring page
// of Xen's io/console.h as an io.ReadWriter.
//
// It does not know who reads or writes, nor what the text means. It knows nothing
// of event channels: it is kicked, and kicks by a function.
package console

import (
	"io"
	"sync"

	"github.com/hxen-project/hxen/hv/guestmem"
	"github.com/hxen-project/hxen/hv/xenabi"
)

const (
	inSize  = xenabi.XenconsOut - xenabi.XenconsIn
	outSize = xenabi.XenconsInCons - xenabi.XenconsOut

	// maxPrinted bounds what Print keeps: who prints cannot be made to wait.
	maxPrinted = 64 << 10
)

// Console is one guest's console. Its methods may be called from any goroutine.
// What nobody reads stays in the ring, and the guest waits.
type Console struct {
	notify func()

	mu      sync.Mutex
	changed *sync.Cond
	page    guestmem.Page // guarded by mu; of no memory once closed
	printed []byte        // guarded by mu; to be read before the ring
	closed  bool          // guarded by mu
}

// New makes the back end of the ring in page; notify raises the guest's port.
func New(page guestmem.Page, notify func()) *Console {
	c := &Console{page: page, notify: notify}
	c.changed = sync.NewCond(&c.mu)
	return c
}

// Kick says that the guest has done something. It does not wait.
func (c *Console) Kick() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changed.Broadcast()
}

// Print adds text that the guest wrote past the ring, by a hypercall. Of what
// nobody reads the first part is kept.
func (c *Console) Print(text []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	c.printed = append(c.printed, text[:min(len(text), maxPrinted-len(c.printed))]...)
	c.changed.Broadcast()
}

// Hold takes what the guest has written, for Read, and has the ring stand still
// until release is called.
func (c *Console) Hold() (release func()) {
	c.mu.Lock()
	rest := make([]byte, outSize)
	n := c.take(rest)
	c.printed = append(c.printed, rest[:n]...)
	if n > 0 {
		c.changed.Broadcast()
		c.notify()
	}
	return c.mu.Unlock
}

// Close keeps what the guest has written for Read, which then ends with io.EOF,
// and lets go of the page.
func (c *Console) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	rest := make([]byte, outSize)
	n := c.take(rest)
	c.printed = append(c.printed, rest[:n]...)
	c.page, c.closed = guestmem.Page{}, true
	c.changed.Broadcast()
}

// Read takes what the guest has written, and waits for something.
func (c *Console) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, fromRing, err := c.read(p)
	if fromRing {
		c.notify()
	}
	return n, err
}

func (c *Console) read(p []byte) (n int, fromRing bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		if len(c.printed) > 0 {
			n = copy(p, c.printed)
			c.printed = c.printed[n:]
			return n, false, nil
		}
		if c.closed {
			return 0, false, io.EOF
		}
		if n = c.take(p); n > 0 {
			return n, true, nil
		}
		c.changed.Wait()
	}
}

// take moves bytes from the ring to p.
func (c *Console) take(p []byte) int {
	cons, err1 := c.page.Load32(xenabi.XenconsOutCons)
	prod, err2 := c.page.Load32(xenabi.XenconsOutProd)
	if err1 != nil || err2 != nil || prod-cons > outSize { // a full ring and more is no ring
		return 0
	}
	n := 0
	for n < len(p) && cons != prod {
		at := cons % outSize
		part := p[n:min(len(p), n+int(min(prod-cons, outSize-at)))]
		if c.page.Read(xenabi.XenconsOut+int(at), part) != nil {
			return n
		}
		n += len(part)
		cons += uint32(len(part))
	}
	if n > 0 && c.page.Store32(xenabi.XenconsOutCons, cons) != nil {
		return 0
	}
	return n
}

// Write gives p to the guest as input, and waits until the guest has room for
// all of it.
func (c *Console) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		n, err := c.write(p[done:])
		if err != nil {
			return done, err
		}
		done += n
		c.notify()
	}
	return done, nil
}

// write waits for room and puts in what fits.
func (c *Console) write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.closed {
		if n := c.put(p); n > 0 {
			return n, nil
		}
		c.changed.Wait()
	}
	return 0, io.ErrClosedPipe
}

// put moves bytes from p to the ring.
func (c *Console) put(p []byte) int {
	cons, err1 := c.page.Load32(xenabi.XenconsInCons)
	prod, err2 := c.page.Load32(xenabi.XenconsInProd)
	if err1 != nil || err2 != nil || prod-cons > inSize {
		return 0
	}
	n := 0
	for n < len(p) && prod-cons < inSize {
		at := prod % inSize
		part := p[n:min(len(p), n+int(min(inSize-(prod-cons), inSize-at)))]
		if c.page.Write(xenabi.XenconsIn+int(at), part) != nil {
			return n
		}
		n += len(part)
		prod += uint32(len(part))
	}
	if n > 0 && c.page.Store32(xenabi.XenconsInProd, prod) != nil {
		return 0
	}
	return n
}
