package net

import (
	"encoding/binary"
	"fmt"

	"github.com/hxen-project/hxen/hv/backend"
	"github.com/hxen-project/hxen/hv/xenabi"
)

// sendAt is how many bytes of frames are sent at once; a packet more may come
// on top.
const sendAt = 64 << 10

// transmit carries what the guest sends until the connection ends.
func (f *front) transmit() {
	for f.wait(f.txKick) {
		if err := f.drain(); err != nil {
			f.fail(err)
			return
		}
	}
}

// drain empties the ring. Answers are given when the bytes are copied; the
// guest waits for them as long as the network is slow.
func (f *front) drain() error {
	for more := true; more; {
		var err error
		if more, err = f.gather(); err != nil {
			return err
		}
		if len(f.out) > 0 {
			f.card.send(f.out)
			f.out = f.out[:0]
		}
		select {
		case <-f.closing:
			return errClosing
		default:
		}
	}
	return nil
}

// gather makes frames of what waits in the ring, as many as are sent at once,
// and reports whether there is more.
func (f *front) gather() (more bool, err error) {
	f.txMem.Lock()
	defer f.txMem.Unlock()
	for some := true; some && len(f.out) < sendAt; {
		if some, err = f.take(); err != nil {
			return false, err
		}
	}
	if err := push(f.tx, f.txChannel); err != nil {
		return false, err
	}
	return f.tx.More()
}

// push shows the front end its answers.
func push(r *backend.Ring, ch interface{ Notify() }) error {
	notify, err := r.Push()
	if notify {
		ch.Notify()
	}
	return err
}

// take makes frames of the next packet, or reports that there is none.
func (f *front) take() (bool, error) {
	some, err := f.tx.Next(f.first[:])
	if err != nil || !some {
		return false, err
	}
	begun := false
	var broken error
	err = f.packet.read(func(s *slot) bool {
		if !begun {
			*s, begun = f.first, true
			return true
		}
		var ok bool
		if ok, broken = f.tx.Next(s[:]); broken != nil {
			return false
		}
		return ok
	})
	switch {
	case broken != nil:
		return false, broken
	case err != nil:
		return false, fmt.Errorf("%w: %w", backend.ErrFrontEnd, err)
	}
	status := int16(xenabi.NETIF_RSP_OKAY)
	if err := f.build(); err != nil {
		status = xenabi.NETIF_RSP_ERROR
	}
	return true, f.answer(status)
}

// build appends the packet's frames to out.
func (f *front) build() error {
	p := &f.packet
	if p.bad != nil {
		return p.bad
	}
	f.gathered = grown(f.gathered, p.size)
	at := 0
	for _, x := range p.pieces {
		if x.size == 0 {
			continue
		}
		page, err := f.link.Grant(x.gref, false)
		if err != nil {
			return err
		}
		if err := page.Read(x.offset, f.gathered[at:at+x.size]); err != nil {
			return err
		}
		at += x.size
	}
	before := len(f.out)
	out, frames, err := appendFrames(f.out, f.gathered[:at], p.offload)
	if err != nil {
		return err
	}
	f.out = out
	f.card.txFrames.Add(uint64(frames))
	f.card.txBytes.Add(uint64(len(out) - before - frames*frameHeader))
	return nil
}

// grown is a buffer of n bytes, the old one if it is long enough.
func grown(b []byte, n int) []byte {
	if cap(b) < n {
		return make([]byte, max(n, 2*cap(b)))[:n]
	}
	return b[:n]
}

// answer answers all of the packet's requests, the extra ones as such.
func (f *front) answer(status int16) error {
	for i, x := range f.packet.pieces {
		if err := f.respond(x.id, status); err != nil {
			return err
		}
		if i > 0 {
			continue
		}
		for range f.packet.extras {
			if err := f.respond(0, xenabi.NETIF_RSP_NULL); err != nil {
				return err
			}
		}
	}
	return nil
}

// respond gives one netif_tx_response.
func (f *front) respond(id uint16, status int16) error {
	binary.LittleEndian.PutUint16(f.reply[0:], id)
	binary.LittleEndian.PutUint16(f.reply[2:], uint16(status))
	return f.tx.Respond(f.reply[:])
}
