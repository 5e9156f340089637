package net

import (
	"encoding/binary"

	"github.com/hxen-project/hxen/hv/xenabi"
)

// rxEntry is a slot of the receive ring: netif_rx_request and netif_rx_response.
const rxEntry = 8

// rxSlot is a request of the receive ring: a page for a part of a frame.
type rxSlot struct {
	id   uint16
	gref uint32
}

// deliver puts whole frames with their lengths into the guest's pages. It waits
// while the guest has given none, so that a slow guest slows its network down
// instead of losing frames; it returns when the connection ends, whatever is
// left then.
func (f *front) deliver(b []byte) {
	f.receiving.Lock()
	defer f.receiving.Unlock()
	f.rxMem.Lock()
	defer f.rxMem.Unlock()
	select {
	case <-f.closing:
		return
	default:
	}
	for len(b) > 0 {
		n := int(binary.BigEndian.Uint32(b))
		if err := f.put(b[frameHeader : frameHeader+n]); err != nil {
			f.fail(err)
			return
		}
		b = b[frameHeader+n:]
	}
	if err := push(f.rx, f.rxChannel); err != nil {
		f.fail(err)
	}
}

// put gives the guest one frame, in the order of its requests. A frame that it
// cannot take in one piece is dropped if it takes no pieces.
func (f *front) put(frame []byte) error {
	pages := (len(frame) + pageSize - 1) / pageSize
	if pages == 0 || pages > 1 && !f.scatter || pages > f.rx.Size() {
		return nil
	}
	if err := f.reserve(pages); err != nil {
		return err
	}
	f.card.rxFrames.Add(1)
	f.card.rxBytes.Add(uint64(len(frame)))
	for i, s := range f.slots {
		part := frame[:min(len(frame), pageSize)]
		frame = frame[len(part):]
		status, flags := int16(len(part)), uint16(0)
		if i < len(f.slots)-1 {
			flags = xenabi.NETRXF_more_data
		}
		page, err := f.link.Grant(s.gref, true)
		if err == nil {
			err = page.Write(0, part)
		}
		if err != nil {
			status = xenabi.NETIF_RSP_ERROR // the page is the guest's loss
		}
		if err := f.respondRx(s.id, flags, status); err != nil {
			return err
		}
	}
	f.slots = f.slots[:0]
	return nil
}

// reserve takes n requests, and waits for them.
func (f *front) reserve(n int) error {
	for len(f.slots) < n {
		b := f.entry[:]
		some, err := f.rx.Next(b)
		switch {
		case err != nil:
			return err
		case some:
			f.slots = append(f.slots, rxSlot{binary.LittleEndian.Uint16(b[0:]), binary.LittleEndian.Uint32(b[4:])})
			continue
		}
		// The guest gives new pages for those that it has seen filled.
		if err := push(f.rx, f.rxChannel); err != nil {
			return err
		}
		more, err := f.rx.More()
		if err != nil {
			return err
		}
		if more {
			continue
		}
		f.rxMem.Unlock()
		kicked := f.wait(f.rxKick)
		f.rxMem.Lock()
		if !kicked {
			return errClosing
		}
	}
	return nil
}

// respondRx gives one netif_rx_response, of a part that begins its page.
func (f *front) respondRx(id, flags uint16, status int16) error {
	b := f.entry[:]
	binary.LittleEndian.PutUint16(b[0:], id)
	binary.LittleEndian.PutUint16(b[2:], 0)
	binary.LittleEndian.PutUint16(b[4:], flags)
	binary.LittleEndian.PutUint16(b[6:], uint16(status))
	return f.rx.Respond(b)
}
