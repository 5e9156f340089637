package net

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/hxen-project/hxen/hv/xenabi"
)

const (
	// slotSize is what one request takes in the ring: union of
	// netif_tx_request and netif_extra_info.
	slotSize = 12
	pageSize = 4096

	// maxSlots is how many requests a packet may have. Front ends keep to
	// XEN_NETIF_NR_SLOTS_MIN; older ones sent a few more, for the header that
	// they kept apart.
	maxSlots = xenabi.XEN_NETIF_NR_SLOTS_MIN + 2
	// maxExtras: one of each type.
	maxExtras = xenabi.XEN_NETIF_EXTRA_TYPE_MAX - 1
)

// errRing says that a front end does not keep to the protocol, so that nobody
// can say where its next packet begins; its device stops.
var errRing = errors.New("broken ring")

// slot is one entry of the transmit ring, copied out of the guest's memory.
type slot [slotSize]byte

func (s *slot) request() xenabi.NetifTxRequest {
	return xenabi.NetifTxRequest{
		Gref:   binary.LittleEndian.Uint32(s[0:]),
		Offset: binary.LittleEndian.Uint16(s[4:]),
		Flags:  binary.LittleEndian.Uint16(s[6:]),
		ID:     binary.LittleEndian.Uint16(s[8:]),
		Size:   binary.LittleEndian.Uint16(s[10:]),
	}
}

func (s *slot) extra() xenabi.NetifExtraInfo {
	return xenabi.NetifExtraInfo{
		Type: s[0], Flags: s[1],
		GSOSize: binary.LittleEndian.Uint16(s[2:]), GSOType: s[4],
		GSOFeatures: binary.LittleEndian.Uint16(s[6:]),
	}
}

// piece is a part of a packet, in one page of the guest.
type piece struct {
	gref         uint32
	offset, size int // within the page: offset+size <= pageSize
	id           uint16
}

// txPacket is what the slots of one packet say. Of the guest's memory nothing
// was read for it but the slots.
type txPacket struct {
	pieces []piece // at most maxSlots, kept from packet to packet
	extras int     // slots behind the first that are to be answered NETIF_RSP_NULL
	size   int     // the sum of the pieces, if bad is nil
	offload
	bad error // wraps errPacket: answer the slots, drop the packet
}

// read takes the slots of one packet from next, which says false at the end of
// what the front end has published. An error wraps errRing.
//
// The first request holds the size of the whole packet, the later ones those of
// their pieces, and the extra information stands behind the first (io/netif.h,
// "Guest transmit").
func (p *txPacket) read(next func(*slot) bool) error {
	*p = txPacket{pieces: p.pieces[:0]}
	var s slot
	if !next(&s) {
		return fmt.Errorf("%w: no request", errRing)
	}
	first := s.request()
	if first.Flags&xenabi.NETTXF_extra_info != 0 {
		if err := p.readExtras(next); err != nil {
			return err
		}
	}
	p.checksum = first.Flags&xenabi.NETTXF_csum_blank != 0
	p.size = int(first.Size)
	p.pieces = append(p.pieces, piece{first.Gref, int(first.Offset), int(first.Size), first.ID})
	for more := first.Flags; more&xenabi.NETTXF_more_data != 0; {
		if len(p.pieces) == maxSlots {
			return fmt.Errorf("%w: a packet of more than %d requests", errRing, maxSlots)
		}
		if !next(&s) {
			return fmt.Errorf("%w: a packet ends after %d requests, in its middle", errRing, len(p.pieces))
		}
		r := s.request()
		more = r.Flags
		p.pieces = append(p.pieces, piece{r.Gref, int(r.Offset), int(r.Size), r.ID})
		p.pieces[0].size -= int(r.Size)
	}
	return p.check()
}

func (p *txPacket) readExtras(next func(*slot) bool) error {
	for {
		var s slot
		if p.extras == maxExtras || !next(&s) {
			return fmt.Errorf("%w: extra information has no end after %d slots", errRing, p.extras)
		}
		p.extras++
		e := s.extra()
		if e.Type == xenabi.XEN_NETIF_EXTRA_TYPE_NONE || e.Type >= xenabi.XEN_NETIF_EXTRA_TYPE_MAX {
			return fmt.Errorf("%w: extra information of type %d", errRing, e.Type)
		}
		if e.Type == xenabi.XEN_NETIF_EXTRA_TYPE_GSO {
			p.setSegment(e)
		}
		if e.Flags&xenabi.XEN_NETIF_EXTRA_FLAG_MORE == 0 {
			return nil
		}
	}
}

func (p *txPacket) setSegment(e xenabi.NetifExtraInfo) {
	v4, v6 := e.GSOType == xenabi.XEN_NETIF_GSO_TYPE_TCPV4, e.GSOType == xenabi.XEN_NETIF_GSO_TYPE_TCPV6
	if !v4 && !v6 || e.GSOSize < minSegment {
		p.bad = fmt.Errorf("%w: segments of %d bytes of type %d", errPacket, e.GSOSize, e.GSOType)
	}
	p.segment, p.ipv6 = e.GSOSize, v6
}

// check judges the sizes once all of them are known.
func (p *txPacket) check() error {
	for i, x := range p.pieces {
		switch {
		case i == 0 && x.size < 0:
			p.bad = fmt.Errorf("%w: its pieces have more than its %d bytes", errPacket, p.size)
		case x.offset+x.size > pageSize:
			return fmt.Errorf("%w: %d bytes at %d leave their page", errRing, x.size, x.offset)
		}
	}
	if p.size < etherHeader && p.bad == nil {
		p.bad = fmt.Errorf("%w: %d bytes are no Ethernet frame", errPacket, p.size)
	}
	return nil
}
