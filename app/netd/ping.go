package netd

import (
	"encoding/binary"
	"net"
	"net/netip"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
)

// Echo requests to the outside go through the host's unprivileged ping sockets:
// Linux (where net.ipv4.ping_group_range lets the user) and macOS. Elsewhere
// they get no answer; nothing is invented.
const (
	pingWait = 10 * time.Second
	maxPings = 32 // requests of one card that wait for an answer
)

// pinger answers the echo requests of one card.
type pinger struct {
	slots chan struct{}
	card  *cardConn
}

func newPinger(c *cardConn) *pinger {
	return &pinger{slots: make(chan struct{}, maxPings), card: c}
}

// request takes an Ethernet frame that the filter judged an echo request.
func (p *pinger) request(frame []byte) {
	select {
	case p.slots <- struct{}{}:
	default:
		return // as a busy router does
	}
	ask := append([]byte(nil), frame...)
	go func() {
		defer func() { <-p.slots }()
		if answer := ping(ask); answer != nil {
			p.card.send(answer)
		}
	}()
}

// ping sends the request on and returns the answer as a frame, nil if there is none.
func ping(frame []byte) []byte {
	b := frame[etherHeader:]
	head, total := int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
	dst := netip.AddrFrom4([4]byte(b[16:20]))
	ask, err := icmp.ParseMessage(protoICMP, b[head:total])
	if err != nil {
		return nil
	}
	body, ok := ask.Body.(*icmp.Echo)
	if !ok {
		return nil
	}
	conn, err := icmp.ListenPacket("udp4", "")
	if err != nil {
		return nil
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(pingWait))
	out, err := ask.Marshal(nil)
	if err != nil {
		return nil
	}
	if _, err := conn.WriteTo(out, &net.UDPAddr{IP: dst.AsSlice()}); err != nil {
		return nil
	}
	in := make([]byte, 65535)
	for {
		n, from, err := conn.ReadFrom(in)
		if err != nil {
			return nil
		}
		reply, err := icmp.ParseMessage(protoICMP, in[:n])
		if err != nil || reply.Type != ipv4.ICMPTypeEchoReply {
			continue
		}
		// The socket has an identifier of its own; the guest's goes back in.
		got, ok := reply.Body.(*icmp.Echo)
		addr, isUDP := from.(*net.UDPAddr)
		if !ok || !isUDP || got.Seq != body.Seq || !addr.IP.Equal(dst.AsSlice()) {
			continue
		}
		return echoReply(frame, body.ID, got)
	}
}

// echoReply turns the request's frame around and puts the answer in.
func echoReply(request []byte, id int, got *icmp.Echo) []byte {
	msg := icmp.Message{Type: ipv4.ICMPTypeEchoReply, Body: &icmp.Echo{ID: id, Seq: got.Seq, Data: got.Data}}
	payload, err := msg.Marshal(nil)
	if err != nil || 20+len(payload) > mtu {
		return nil
	}
	var b []byte
	b = append(b, request[6:12]...)
	b = append(b, request[:6]...)
	b = append(b, request[12:14]...)
	ip := make([]byte, 20)
	ip[0], ip[8], ip[9] = 0x45, 64, protoICMP
	binary.BigEndian.PutUint16(ip[2:], uint16(20+len(payload)))
	copy(ip[12:16], request[etherHeader+16:])
	copy(ip[16:20], request[etherHeader+12:])
	binary.BigEndian.PutUint16(ip[10:], checksum(ip))
	return append(append(b, ip...), payload...)
}

// checksum is RFC 1071's, over an even number of bytes.
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
