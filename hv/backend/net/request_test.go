package net

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/hxen-project/hxen/hv/xenabi"
)

func request(gref uint32, offset, flags, id, size uint16) slot {
	var s slot
	binary.LittleEndian.PutUint32(s[0:], gref)
	binary.LittleEndian.PutUint16(s[4:], offset)
	binary.LittleEndian.PutUint16(s[6:], flags)
	binary.LittleEndian.PutUint16(s[8:], id)
	binary.LittleEndian.PutUint16(s[10:], size)
	return s
}

func gso(kind, flags uint8, size uint16) slot {
	s := slot{xenabi.XEN_NETIF_EXTRA_TYPE_GSO, flags, 0, 0, kind}
	binary.LittleEndian.PutUint16(s[2:], size)
	return s
}

func from(slots ...slot) func(*slot) bool {
	return func(s *slot) bool {
		if len(slots) == 0 {
			return false
		}
		*s, slots = slots[0], slots[1:]
		return true
	}
}

func TestReadPacket(t *testing.T) {
	var p txPacket
	next := from(
		request(7, 100, xenabi.NETTXF_csum_blank|xenabi.NETTXF_extra_info|xenabi.NETTXF_more_data, 1, 6000),
		gso(xenabi.XEN_NETIF_GSO_TYPE_TCPV6, 0, 1440),
		request(8, 0, xenabi.NETTXF_more_data, 2, 4096),
		request(9, 8, 0, 3, 1804),
		request(10, 0, 0, 4, 60),
	)
	if err := p.read(next); err != nil || p.bad != nil {
		t.Fatal(err, p.bad)
	}
	want := []piece{{7, 100, 100, 1}, {8, 0, 4096, 2}, {9, 8, 1804, 3}}
	if len(p.pieces) != 3 || p.pieces[0] != want[0] || p.pieces[1] != want[1] || p.pieces[2] != want[2] {
		t.Errorf("pieces %v, want %v", p.pieces, want)
	}
	if p.size != 6000 || p.extras != 1 || p.offload != (offload{true, 1440, true}) {
		t.Errorf("%+v", p)
	}
	// Nothing of the first packet is left in the second.
	if err := p.read(next); err != nil || p.bad != nil {
		t.Fatal(err, p.bad)
	}
	if len(p.pieces) != 1 || p.pieces[0] != (piece{10, 0, 60, 4}) || p.size != 60 || p.extras != 0 || p.offload != (offload{}) {
		t.Errorf("%+v", p)
	}
	if err := p.read(next); !errors.Is(err, errRing) {
		t.Errorf("no request: %v", err)
	}
}

func TestReadBad(t *testing.T) {
	const more, extra = xenabi.NETTXF_more_data, xenabi.NETTXF_extra_info
	long := []slot{request(1, 0, more, 0, 2000)}
	for range maxSlots {
		long = append(long, request(1, 0, more, 0, 60))
	}
	endless := []slot{request(1, 0, extra, 0, 60)}
	for range 300 {
		endless = append(endless, gso(xenabi.XEN_NETIF_GSO_TYPE_TCPV4, xenabi.XEN_NETIF_EXTRA_FLAG_MORE, 1448))
	}
	for name, c := range map[string]struct {
		slots []slot
		fatal bool
		used  int
	}{
		"too many slots":     {long, true, maxSlots},
		"in its middle":      {[]slot{request(1, 0, more, 0, 2000)}, true, 1},
		"extras end":         {[]slot{request(1, 0, extra, 0, 60)}, true, 1},
		"endless extras":     {endless, true, 1 + maxExtras},
		"extra type 0":       {[]slot{request(1, 0, extra, 0, 60), {}}, true, 2},
		"extra type unknown": {[]slot{request(1, 0, extra, 0, 60), {xenabi.XEN_NETIF_EXTRA_TYPE_MAX}}, true, 2},
		"over its page":      {[]slot{request(1, 4090, 0, 0, 60)}, true, 1},
		"far over its page":  {[]slot{request(1, 0xffff, 0, 0, 0xffff)}, true, 1},
		"pieces over size":   {[]slot{request(1, 0, more, 0, 100), request(1, 0, 0, 1, 101)}, false, 2},
		"no frame":           {[]slot{request(1, 0, 0, 0, 13)}, false, 1},
		"GSO type":           {[]slot{request(1, 0, extra, 0, 60), gso(3, 0, 1448)}, false, 2},
		"GSO size":           {[]slot{request(1, 0, extra, 0, 60), gso(1, 0, 0)}, false, 2},
	} {
		var p txPacket
		used, next := 0, from(c.slots...)
		err := p.read(func(s *slot) bool {
			ok := next(s)
			if ok {
				used++
			}
			return ok
		})
		if c.fatal && !errors.Is(err, errRing) || !c.fatal && (err != nil || !errors.Is(p.bad, errPacket)) || used != c.used {
			t.Errorf("%s: %d slots, %v, %v", name, used, err, p.bad)
		}
	}
}

func FuzzReadPacket(f *testing.F) {
	one, two, e := request(7, 100, 0xd, 1, 6000), request(8, 0, 0, 2, 4096), gso(1, 0, 1448)
	f.Add(append(append(one[:], e[:]...), two[:]...))
	f.Add(make([]byte, 40*slotSize))
	f.Fuzz(func(t *testing.T, b []byte) {
		var slots []slot
		for ; len(b) >= slotSize; b = b[slotSize:] {
			slots = append(slots, slot(b))
		}
		next, used := from(slots...), 0
		count := func(s *slot) bool {
			ok := next(s)
			if ok {
				used++
			}
			return ok
		}
		for p := (txPacket{}); used < len(slots); {
			before := used
			if err := p.read(count); err != nil {
				if !errors.Is(err, errRing) {
					t.Fatal(err)
				}
				return
			}
			if used-before != len(p.pieces)+p.extras || len(p.pieces) > maxSlots {
				t.Fatalf("%d slots for %d pieces and %d extras", used-before, len(p.pieces), p.extras)
			}
			checkPieces(t, &p)
		}
	})
}

func checkPieces(t *testing.T, p *txPacket) {
	t.Helper()
	if p.bad != nil {
		return
	}
	sum := 0
	for _, x := range p.pieces {
		if x.size < 0 || x.offset < 0 || x.offset+x.size > pageSize {
			t.Fatalf("%+v", x)
		}
		sum += x.size
	}
	if sum != p.size || sum < etherHeader {
		t.Fatalf("%d bytes in pieces, %d told", sum, p.size)
	}
}
