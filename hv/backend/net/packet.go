package net

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
)

const (
	frameHeader = 4 // every frame on the socket follows its length, 32-bit big-endian
	etherHeader = 14
	tcpHeader   = 20
	udpHeader   = 8

	etherIPv4 = 0x0800
	etherIPv6 = 0x86dd
	etherVLAN = 0x8100

	protoTCP = 6
	protoUDP = 17

	tcpFIN, tcpPSH, tcpCWR = 0x01, 0x08, 0x80

	// minSegment bounds into how many frames one packet of the guest can be made.
	// Linux sends no smaller ones (48 bytes with 40 of options, TCP_MIN_SND_MSS).
	minSegment = 8

	// maxExtensions bounds the IPv6 extension headers that are walked.
	maxExtensions = 8
)

// errPacket says that a packet of the guest is not what its front end told; the
// packet is dropped, and nothing else happens.
var errPacket = errors.New("bad packet")

// offload is what a front end left to us to do with a packet.
type offload struct {
	checksum bool   // the TCP or UDP checksum is not there yet
	segment  uint16 // if not 0, the TCP payload goes out in pieces of so many bytes
	ipv6     bool   // which the front end takes for IPv6's
}

// layers are the places of a frame's headers.
type layers struct {
	ip, transport, payload, end int // offsets; end is where the IP packet ends
	ipv6                        bool
	proto                       uint8
}

// appendFrames appends to dst the frames that packet makes, each after its
// length, with nothing left to do, and says how many. On an error dst is as it
// was.
func appendFrames(dst, packet []byte, o offload) ([]byte, int, error) {
	if len(packet) < etherHeader {
		return dst, 0, fmt.Errorf("%w: %d bytes are no Ethernet frame", errPacket, len(packet))
	}
	if !o.checksum && o.segment == 0 {
		return append(appendLength(dst, len(packet)), packet...), 1, nil
	}
	l, err := parse(packet)
	if err != nil {
		return dst, 0, err
	}
	if o.segment != 0 {
		if o.segment < minSegment || l.proto != protoTCP || l.ipv6 != o.ipv6 {
			return dst, 0, fmt.Errorf("%w: segments of %d bytes of protocol %d", errPacket, o.segment, l.proto)
		}
		if l.end-l.payload > int(o.segment) {
			dst, n := appendSegments(dst, packet, l, int(o.segment))
			return dst, n, nil
		}
	}
	dst = append(appendLength(dst, len(packet)), packet...)
	complete(dst[len(dst)-len(packet):], l)
	return dst, 1, nil
}

func appendLength(dst []byte, n int) []byte {
	return binary.BigEndian.AppendUint32(dst, uint32(n))
}

// parse finds the headers of an unfragmented TCP or UDP packet and checks every
// length in it. Bytes behind the IP packet are padding.
func parse(b []byte) (layers, error) {
	l := layers{ip: etherHeader}
	kind := binary.BigEndian.Uint16(b[12:])
	if kind == etherVLAN && len(b) >= etherHeader+4 {
		kind, l.ip = binary.BigEndian.Uint16(b[16:]), etherHeader+4
	}
	var err error
	switch kind {
	case etherIPv4:
		err = l.parseIPv4(b)
	case etherIPv6:
		err = l.parseIPv6(b)
	default:
		err = fmt.Errorf("%w: no checksum to complete in EtherType %#x", errPacket, kind)
	}
	if err != nil {
		return layers{}, err
	}
	rest := l.end - l.transport
	switch {
	case l.proto == protoTCP && rest >= tcpHeader:
		size := int(b[l.transport+12]>>4) * 4
		if size >= tcpHeader && size <= rest {
			l.payload = l.transport + size
			return l, nil
		}
	case l.proto == protoUDP && rest >= udpHeader:
		if size := int(binary.BigEndian.Uint16(b[l.transport+4:])); size == rest {
			l.payload = l.transport + udpHeader
			return l, nil
		}
	}
	return layers{}, fmt.Errorf("%w: protocol %d in %d bytes", errPacket, l.proto, rest)
}

func (l *layers) parseIPv4(b []byte) error {
	if len(b)-l.ip < 20 || b[l.ip]>>4 != 4 {
		return fmt.Errorf("%w: no IPv4 header", errPacket)
	}
	h := b[l.ip:]
	size, total := int(h[0]&15)*4, int(binary.BigEndian.Uint16(h[2:]))
	if size < 20 || total < size || total > len(h) {
		return fmt.Errorf("%w: IPv4 header of %d and packet of %d bytes in %d", errPacket, size, total, len(h))
	}
	if binary.BigEndian.Uint16(h[6:])&0x3fff != 0 { // more fragments, or an offset
		return fmt.Errorf("%w: a checksum over a fragment", errPacket)
	}
	l.proto, l.transport, l.end = h[9], l.ip+size, l.ip+total
	return nil
}

// parseIPv6 walks the extension headers that may stand before TCP and UDP
// (RFC 8200, section 4).
func (l *layers) parseIPv6(b []byte) error {
	if len(b)-l.ip < 40 || b[l.ip]>>4 != 6 {
		return fmt.Errorf("%w: no IPv6 header", errPacket)
	}
	h := b[l.ip:]
	l.ipv6, l.proto, l.transport = true, h[6], l.ip+40
	l.end = l.transport + int(binary.BigEndian.Uint16(h[4:]))
	if l.end > len(b) {
		return fmt.Errorf("%w: IPv6 packet of %d bytes in %d", errPacket, l.end-l.ip, len(h))
	}
	for range maxExtensions {
		switch l.proto {
		case 0, 43, 60: // hop-by-hop, routing, destination options
		default:
			return nil
		}
		if l.end-l.transport < 8 {
			return fmt.Errorf("%w: an IPv6 extension header is cut off", errPacket)
		}
		if l.proto == 43 && b[l.transport+3] != 0 {
			// Segments left: the checksum is over a destination that is not in
			// the header yet (RFC 8200, section 8.1).
			return fmt.Errorf("%w: a checksum over a routing header", errPacket)
		}
		size := (int(b[l.transport+1]) + 1) * 8
		if size > l.end-l.transport {
			return fmt.Errorf("%w: an IPv6 extension header is cut off", errPacket)
		}
		l.proto = b[l.transport]
		l.transport += size
	}
	return fmt.Errorf("%w: more than %d IPv6 extension headers", errPacket, maxExtensions)
}

// complete writes the transport checksum of the frame b. It does not build on
// the sum that the front end left in the field, which may be anything.
func complete(b []byte, l layers) {
	at := l.transport + 16 // TCP
	if l.proto == protoUDP {
		at = l.transport + 6
	}
	b[at], b[at+1] = 0, 0
	addresses := b[l.ip+12 : l.ip+20]
	if l.ipv6 {
		addresses = b[l.ip+8 : l.ip+40]
	}
	body := b[l.transport:l.end]
	pseudo := uint64(fold(sum(addresses, 0))) + uint64(l.proto) + uint64(len(body))
	c := ^uint16(fold(sum(body, pseudo)))
	if c == 0 && l.proto == protoUDP {
		c = 0xffff // 0 says that there is none (RFC 768)
	}
	binary.BigEndian.PutUint16(b[at:], c)
}

// appendSegments cuts the TCP packet b, which has more payload than mss, and
// gives each frame its own headers, as a network card does.
func appendSegments(dst, b []byte, l layers, mss int) ([]byte, int) {
	count := 0
	sequence := binary.BigEndian.Uint32(b[l.transport+4:])
	ident := binary.BigEndian.Uint16(b[l.ip+4:]) // IPv4 only
	for at := l.payload; at < l.end; at += mss {
		n := min(mss, l.end-at)
		size := l.payload + n
		dst = appendLength(dst, size)
		dst = append(dst, b[:l.payload]...)
		dst = append(dst, b[at:at+n]...)
		f, seg := dst[len(dst)-size:], l
		seg.end = size
		if l.ipv6 {
			binary.BigEndian.PutUint16(f[l.ip+4:], uint16(size-l.ip-40))
		} else {
			binary.BigEndian.PutUint16(f[l.ip+2:], uint16(size-l.ip))
			binary.BigEndian.PutUint16(f[l.ip+4:], ident+uint16(count))
			h := f[l.ip:l.transport]
			h[10], h[11] = 0, 0
			binary.BigEndian.PutUint16(h[10:], ^uint16(fold(sum(h, 0))))
		}
		binary.BigEndian.PutUint32(f[l.transport+4:], sequence+uint32(at-l.payload))
		if at+n < l.end {
			f[l.transport+13] &^= tcpFIN | tcpPSH
		}
		if count > 0 {
			f[l.transport+13] &^= tcpCWR // once per packet (RFC 3168, section 6.1.2)
		}
		complete(f, seg)
		count++
	}
	return dst, count
}

// sum adds b as big-endian 64-bit words in ones' complement: folded, it is the
// sum of its 16-bit words (RFC 1071).
func sum(b []byte, start uint64) uint64 {
	s, carry := start, uint64(0)
	for len(b) >= 32 {
		s, carry = bits.Add64(s, binary.BigEndian.Uint64(b), carry)
		s, carry = bits.Add64(s, binary.BigEndian.Uint64(b[8:]), carry)
		s, carry = bits.Add64(s, binary.BigEndian.Uint64(b[16:]), carry)
		s, carry = bits.Add64(s, binary.BigEndian.Uint64(b[24:]), carry)
		b = b[32:]
	}
	for len(b) >= 8 {
		s, carry = bits.Add64(s, binary.BigEndian.Uint64(b), carry)
		b = b[8:]
	}
	if len(b) > 0 {
		var last [8]byte
		copy(last[:], b)
		s, carry = bits.Add64(s, binary.BigEndian.Uint64(last[:]), carry)
	}
	s, carry = bits.Add64(s, 0, carry)
	return s + carry
}

// fold adds the four 16-bit words of s in ones' complement.
func fold(s uint64) uint32 {
	s = s>>32 + s&0xffffffff
	s = s>>32 + s&0xffffffff
	s = s>>16 + s&0xffff
	s = s>>16 + s&0xffff
	return uint32(s)
}
