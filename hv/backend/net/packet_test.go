package net

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
)

// guestPacket is a packet as a front end hands it over: no checksum but the
// pseudo header's, which is not to be trusted.
func guestPacket(ipv6, vlan bool, proto uint8, payload []byte) []byte {
	b := make([]byte, 12, 128+len(payload))
	if vlan {
		b = append(b, 0x81, 0, 0, 7)
	}
	rest := tcpHeader + 12 + len(payload)
	if proto == protoUDP {
		rest = udpHeader + len(payload)
	}
	if ipv6 {
		b = append(b, 0x86, 0xdd, 0x60, 0, 0, 0)
		b = binary.BigEndian.AppendUint16(b, uint16(rest+8))
		b = append(b, 60, 64)
		for i := range 32 {
			b = append(b, byte(i*7))
		}
		b = append(b, proto, 0, 1, 4, 0, 0, 0, 0) // destination options: padding
	} else {
		b = append(b, 8, 0, 0x46, 0)
		b = binary.BigEndian.AppendUint16(b, uint16(rest+24))
		b = append(b, 0x12, 0x34, 0x40, 0, 64, proto, 0xaa, 0xbb, 10, 0, 2, 15, 10, 0, 2, 2, 1, 1, 1, 0)
	}
	b = append(b, 0x9c, 0x40, 0, 80)
	if proto == protoUDP {
		b = binary.BigEndian.AppendUint16(b, uint16(rest))
		b = append(b, 0x5a, 0xa5)
	} else {
		b = append(b, 0xff, 0xff, 0xf0, 0, 0, 0, 0, 1, 0x80, tcpFIN|tcpPSH|tcpCWR|0x10, 1, 0, 0x5a, 0xa5, 0, 0)
		b = append(b, 1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2)
	}
	return append(b, payload...)
}

// slowSum is RFC 1071 word by word: what the quick one is compared with.
func slowSum(parts ...[]byte) uint16 {
	s := uint32(0)
	for _, b := range parts {
		for i, v := range b {
			s += uint32(v) << (8 * (1 - i&1))
			s = s>>16 + s&0xffff
		}
	}
	return uint16(s>>16 + s&0xffff)
}

// verify fails unless every checksum of the frame is right.
func verify(t *testing.T, f []byte) layers {
	t.Helper()
	l, err := parse(f)
	if err != nil {
		t.Fatal(err)
	}
	addresses := f[l.ip+12 : l.ip+20]
	if l.ipv6 {
		addresses = f[l.ip+8 : l.ip+40]
	}
	body := f[l.transport:l.end]
	pseudo := []byte{0, l.proto, byte(len(body) >> 8), byte(len(body))}
	if got := slowSum(addresses, pseudo, body); got != 0xffff {
		t.Fatalf("the checksum of protocol %d over %d bytes is off: %#x", l.proto, len(body), got)
	}
	return l
}

// split takes the frames out of what goes to the socket.
func split(t *testing.T, b []byte) [][]byte {
	t.Helper()
	var frames [][]byte
	for len(b) > 0 {
		n := int(binary.BigEndian.Uint32(b))
		frames, b = append(frames, b[frameHeader:frameHeader+n]), b[frameHeader+n:]
	}
	return frames
}

func random(n int) []byte {
	r := rand.New(rand.NewPCG(uint64(n), 1))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func TestChecksum(t *testing.T) {
	for _, ipv6 := range []bool{false, true} {
		for _, proto := range []uint8{protoTCP, protoUDP} {
			for size := range 100 {
				p := guestPacket(ipv6, size%2 == 0, proto, random(size))
				padded := append(bytes.Clone(p), 1, 2, 3)
				out, n, err := appendFrames(nil, padded, offload{checksum: true})
				if err != nil || n != 1 {
					t.Fatal(n, err)
				}
				f := split(t, out)[0]
				verify(t, f)
				if !bytes.Equal(f[len(p):], []byte{1, 2, 3}) {
					t.Fatal("the padding changed")
				}
			}
		}
	}
}

// A sum of 0 goes out as 0xffff over UDP, where 0 means that there is none.
func TestChecksumZero(t *testing.T) {
	p := guestPacket(false, false, protoUDP, []byte{0, 0})
	out, _, err := appendFrames(nil, p, offload{checksum: true})
	if err != nil {
		t.Fatal(err)
	}
	f := split(t, out)[0]
	copy(p[len(p)-2:], f[len(f)-4:len(f)-2]) // payload = the checksum: now the sum is all ones
	out, _, err = appendFrames(nil, p, offload{checksum: true})
	if err != nil {
		t.Fatal(err)
	}
	if f := split(t, out)[0]; f[len(f)-4] != 0xff || f[len(f)-3] != 0xff {
		t.Fatalf("the checksum is % x", f[len(f)-4:len(f)-2])
	}
}

func TestUntouched(t *testing.T) {
	arp := append(random(12), 8, 6, 1, 2, 3)
	out, n, err := appendFrames([]byte("before"), arp, offload{})
	if err != nil || n != 1 || !bytes.Equal(out, append([]byte("before\x00\x00\x00\x11"), arp...)) {
		t.Fatal(n, err, out)
	}
}

func TestSegments(t *testing.T) {
	for _, ipv6 := range []bool{false, true} {
		for _, size := range []int{1, 1448, 1449, 2896, 60001} {
			payload := random(size)
			p := guestPacket(ipv6, false, protoTCP, payload)
			out, n, err := appendFrames(nil, p, offload{checksum: true, segment: 1448, ipv6: ipv6})
			if want := (size + 1447) / 1448; err != nil || n != want {
				t.Fatalf("%d frames, want %d: %v", n, want, err)
			}
			var got []byte
			for i, f := range split(t, out) {
				l := verify(t, f)
				checkSegment(t, f, l, i, n, len(got))
				got = append(got, f[l.payload:l.end]...)
			}
			if !bytes.Equal(got, payload) {
				t.Fatal("the payload changed")
			}
		}
	}
}

func checkSegment(t *testing.T, f []byte, l layers, i, n, at int) {
	t.Helper()
	if seq := binary.BigEndian.Uint32(f[l.transport+4:]); seq != uint32(0xfffff000+uint64(at)) {
		t.Errorf("frame %d has sequence %#x", i, seq)
	}
	flags := uint8(0x10)
	if i == 0 {
		flags |= tcpCWR
	}
	if i == n-1 {
		flags |= tcpFIN | tcpPSH
	}
	if f[l.transport+13] != flags || l.end != len(f) {
		t.Errorf("frame %d has flags %#x and %d of %d bytes", i, f[l.transport+13], l.end, len(f))
	}
	if l.ipv6 {
		return
	}
	if n > 1 && slowSum(f[l.ip:l.transport]) != 0xffff {
		t.Errorf("frame %d has no IPv4 checksum", i)
	}
	if id := binary.BigEndian.Uint16(f[l.ip+4:]); id != 0x1234+uint16(i) {
		t.Errorf("frame %d has identification %#x", i, id)
	}
}

func TestRefusedPackets(t *testing.T) {
	tcp := guestPacket(false, false, protoTCP, random(3000))
	blank := offload{checksum: true}
	change := func(at int, v ...byte) []byte {
		b := bytes.Clone(tcp)
		copy(b[at:], v)
		return b
	}
	for name, c := range map[string]struct {
		b []byte
		o offload
	}{
		"short":              {tcp[:13], offload{}},
		"no IP":              {tcp[:14], blank},
		"ARP":                {change(12, 8, 6), blank},
		"total over frame":   {change(16, 0xff, 0xff), blank},
		"total under header": {change(16, 0, 23), blank},
		"IPv4 header":        {change(14, 0x44), blank},
		"fragment":           {change(20, 0x20, 0), blank},
		"ICMP":               {change(23, 1), blank},
		"TCP header":         {change(14+24+12, 0x40), blank},
		"tiny segments":      {tcp, offload{segment: 7}},
		"UDP segments":       {guestPacket(false, false, protoUDP, random(3000)), offload{segment: 1448}},
		"IPv6 told":          {tcp, offload{segment: 1448, ipv6: true}},
	} {
		if out, n, err := appendFrames([]byte("x"), c.b, c.o); !errors.Is(err, errPacket) || n != 0 || string(out) != "x" {
			t.Errorf("%s: %d frames, %v", name, n, err)
		}
	}
}

func FuzzFrames(f *testing.F) {
	for _, v6 := range []bool{false, true} {
		f.Add(guestPacket(v6, false, protoTCP, random(300)), true, uint16(100), v6)
		f.Add(guestPacket(v6, true, protoUDP, random(30)), true, uint16(0), v6)
	}
	f.Fuzz(func(t *testing.T, b []byte, checksum bool, segment uint16, v6 bool) {
		if len(b) > 65535 {
			return // a packet's size is 16 bits wide
		}
		before := bytes.Clone(b)
		out, n, err := appendFrames(nil, b, offload{checksum, segment, v6})
		if !bytes.Equal(b, before) {
			t.Fatal("the packet itself changed")
		}
		if err != nil {
			if !errors.Is(err, errPacket) || n != 0 || len(out) != 0 {
				t.Fatal(n, len(out), err)
			}
			return
		}
		frames := split(t, out)
		if len(frames) != n {
			t.Fatalf("%d frames, told %d", len(frames), n)
		}
		for _, f := range frames {
			if segment != 0 {
				if l, err := parse(f); err != nil || l.end-l.payload > int(segment) {
					t.Fatal(err, l)
				}
			}
		}
	})
}

func BenchmarkFrames(b *testing.B) {
	for _, v6 := range []bool{false, true} {
		b.Run(fmt.Sprintf("ipv6=%t", v6), func(b *testing.B) {
			p := guestPacket(v6, false, protoTCP, random(60000))
			var dst []byte
			b.SetBytes(int64(len(p)))
			for b.Loop() {
				dst, _, _ = appendFrames(dst[:0], p, offload{checksum: true, segment: 1448, ipv6: v6})
			}
		})
	}
}
