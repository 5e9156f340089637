package netd

import (
	"encoding/binary"
	"net"
	"net/netip"
)

// verdict is what becomes of a frame that a guest sent.
type verdict int

const (
	pass        verdict = iota
	passDHCP            // pass; the guest takes or renews its address
	echo                // an echo request to the outside: for the pinger, not for the switch
	foreign             // neither IPv4 nor ARP: every guest sends some (IPv6 discovery); not worth a log line
	malformed           // too short, or its lengths contradict each other
	spoofedMAC          // the source is not the card's MAC address
	spoofedIP           // the IPv4 or ARP source is not the card's address
	rogueServer         // the guest plays DHCP server
	misdirected         // to the gateway's MAC address, for an address that is another guest's
	verdicts
)

var verdictNames = [verdicts]string{"passed", "dhcp", "echo", "foreign", "malformed", "spoofed_mac", "spoofed_ip", "rogue_server", "misdirected"}

// Ethertypes (IEEE 802 numbers) and IP protocol numbers (IANA).
const (
	etherIPv4 = 0x0800
	etherARP  = 0x0806
	// etherLocal is IEEE 802's local experimental ethertype 1; see card.Read.
	etherLocal = 0x88b5

	protoICMP = 1
	protoTCP  = 6
	protoUDP  = 17

	etherHeader = 14
	portDHCPd   = 67 // server
	portDHCPc   = 68 // client
)

var broadcastMAC = [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// filter decides on frames from one card. The network carries IPv4 and ARP
// only: what it does not understand it cannot check, and IPv6 from a guest
// (router advertisements, RFC 4861, and DHCPv6 servers, RFC 8415, among it)
// would reach other guests unchecked.
type filter struct {
	mac, gatewayMAC [6]byte
	ip, gateway     netip.Addr
	subnet          netip.Prefix
}

// check judges one frame; it is hostile.
func (f *filter) check(b []byte) verdict {
	if len(b) < etherHeader {
		return malformed
	}
	if [6]byte(b[6:12]) != f.mac {
		return spoofedMAC
	}
	switch binary.BigEndian.Uint16(b[12:]) {
	case etherIPv4:
		return f.checkIPv4([6]byte(b[:6]), b[etherHeader:])
	case etherARP:
		return f.checkARP(b[etherHeader:])
	}
	return foreign
}

// checkARP wants the card's own addresses as the sender's. The unspecified
// address is a probe (RFC 5227 section 2.1.1).
func (f *filter) checkARP(b []byte) verdict {
	if len(b) < 28 || binary.BigEndian.Uint32(b) != 0x00010800 || b[4] != 6 || b[5] != 4 {
		return malformed
	}
	if [6]byte(b[8:14]) != f.mac {
		return spoofedMAC
	}
	if sender := netip.AddrFrom4([4]byte(b[14:18])); sender != f.ip && !sender.IsUnspecified() {
		return spoofedIP
	}
	return pass
}

func (f *filter) checkIPv4(to [6]byte, b []byte) verdict {
	if len(b) < 20 || b[0]>>4 != 4 {
		return malformed
	}
	head, total := int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
	if head < 20 || total < head || total > len(b) {
		return malformed
	}
	src, dst := netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
	proto, payload := b[9], b[head:total]
	fragment := binary.BigEndian.Uint16(b[6:])
	first, whole := fragment&0x1fff == 0, fragment&0x3fff == 0
	udp := proto == protoUDP && first
	if udp && len(payload) < 8 {
		return malformed // a first fragment without the ports could hide them (RFC 1858)
	}
	if udp && binary.BigEndian.Uint16(payload) == portDHCPd {
		return rogueServer
	}
	dhcp := udp && binary.BigEndian.Uint16(payload[2:]) == portDHCPd
	if dhcp {
		// The server gives addresses by the client's hardware address in the message.
		if !whole || len(payload) < 8+44 || payload[8+2] != 6 || [6]byte(payload[8+28:8+34]) != f.mac {
			return spoofedMAC
		}
	}
	if src != f.ip && !(dhcp && src.IsUnspecified()) {
		return spoofedIP
	}
	if v := f.route(to, dst); v != pass {
		return v
	}
	switch {
	case dhcp:
		return passDHCP
	case proto == protoICMP && !f.subnet.Contains(dst) && !isBroadcast(dst):
		if whole && len(payload) >= 8 && payload[0] == 8 && payload[1] == 0 {
			return echo
		}
	}
	return pass
}

// route drops what the gateway, which listens to every address, would take as
// its own although another guest is meant.
func (f *filter) route(to [6]byte, dst netip.Addr) verdict {
	switch {
	case to == f.gatewayMAC && f.subnet.Contains(dst) && dst != f.gateway && dst != lastAddr(f.subnet),
		to == broadcastMAC && !isBroadcast(dst) && dst != lastAddr(f.subnet):
		return misdirected
	}
	return pass
}

func isBroadcast(a netip.Addr) bool { return a == netip.AddrFrom4([4]byte{255, 255, 255, 255}) }

// lastAddr is an IPv4 subnet's broadcast address.
func lastAddr(p netip.Prefix) netip.Addr {
	a := p.Masked().Addr().As4()
	n := binary.BigEndian.Uint32(a[:]) | uint32(1<<(32-p.Bits())-1)
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, n)))
}

// outside says why a guest may not reach dst through the gateway; empty means
// that it may. The host's loopback, link-local services (cloud metadata) and
// the host's view of the network's own addresses are closed; everything else is
// reached as any program of the host reaches it, its VPNs included.
func outside(subnet netip.Prefix, dst netip.Addr) string {
	switch {
	case subnet.Contains(dst):
		return "the address is on the guest's own network"
	case dst.IsLoopback():
		return "the host's loopback is closed to guests"
	case dst.As4()[0] == 0:
		return "the address means this host" // Linux connects 0.0.0.0 to the loopback
	case dst.IsLinkLocalUnicast():
		return "link-local addresses stay on their link"
	case dst.As4()[0] >= 224:
		return "multicast, broadcast and reserved addresses are not forwarded"
	}
	return ""
}

// parseMAC reads a unicast Ethernet address.
func parseMAC(s string) (mac [6]byte, ok bool) {
	hw, err := net.ParseMAC(s)
	if err != nil || len(hw) != 6 || hw[0]&1 != 0 {
		return mac, false
	}
	return [6]byte(hw), true
}
