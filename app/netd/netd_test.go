package netd

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/hxen-project/hxen/app/control"
	"github.com/hxen-project/hxen/hv"
)

func TestGuestReachesTheOutside(t *testing.T) {
	host := hostAddr(t)
	r := newRig(t)
	r.set(r.config(port(1)))
	g := r.guest(1)
	if g.ip.String() != "192.168.127.2" || !r.leases()["nic-1"].Connected {
		t.Fatalf("guest has %s; leases %+v", g.ip, r.leases())
	}

	ln := hostListen(t, "tcp4", host+":0")
	serveEcho(t, ln)
	c, err := g.dial(ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	roundTrip(t, c, strings.Repeat("over the NAT ", 100_000))

	// A closed port of the host is refused, not left hanging.
	ln.Close()
	if c, err := g.dial(ln.Addr().String()); err == nil {
		c.Close()
		t.Fatal("a closed port was reached")
	} else if !strings.Contains(err.Error(), "refused") {
		t.Fatalf("a closed port answers %v", err)
	}
}

func TestGuestReachesTheOutsideByUDP(t *testing.T) {
	sock := hostListenUDP(t, hostAddr(t)+":0")
	r := newRig(t)
	r.set(r.config(port(1)))
	g := r.guest(1)
	u := g.dialUDP(sock.LocalAddr().String())
	u.Write([]byte("ask"))
	buf := make([]byte, 100)
	sock.SetDeadline(time.Now().Add(hang))
	n, from, err := sock.ReadFrom(buf)
	if err != nil || string(buf[:n]) != "ask" {
		t.Fatalf("host got %q: %v", buf[:n], err)
	}
	sock.WriteTo([]byte("answer"), from)
	u.SetReadDeadline(time.Now().Add(hang))
	if n, err := u.Read(buf); err != nil || string(buf[:n]) != "answer" {
		t.Fatalf("guest got %q: %v", buf[:n], err)
	}
}

// TestClosedDoors: the host's loopback under every name it has, and the gateway.
func TestClosedDoors(t *testing.T) {
	r := newRig(t)
	r.set(r.config(port(1)))
	g := r.guest(1)
	ln := hostListen(t, "tcp4", "127.0.0.1:0")
	reached := make(chan struct{}, 1)
	go func() {
		if c, err := ln.Accept(); err == nil {
			c.Close()
			reached <- struct{}{}
		}
	}()
	p := ln.Addr().(*net.TCPAddr).Port
	for _, to := range []string{"192.168.127.1", "192.168.127.254", "0.0.0.0", "0.0.0.1", "169.254.169.254", "192.168.127.255"} {
		if err := g.tryTCP(t, to, uint16(p)); err == nil {
			t.Errorf("%s:%d was reached", to, p)
		}
	}
	// 127.0.0.1 as the destination on the wire: no stack sends that, a hostile guest does.
	for _, to := range []string{"127.0.0.1", "127.1.2.3"} {
		g.send(g.ether(gatewayHW(), etherIPv4, ipPacket(g.ip, netip.MustParseAddr(to), protoTCP, syn(4000, uint16(p), g.ip, netip.MustParseAddr(to)))))
	}
	for _, web := range []uint16{80, 443, 8080, 1024, 22} {
		if err := g.tryTCP(t, "192.168.127.1", web); err == nil {
			t.Errorf("the gateway serves port %d to guests", web)
		}
	}
	g.ping(t, "192.168.127.1") // everything sent above has been dealt with
	select {
	case <-reached:
		t.Fatal("the host's loopback was reached")
	default:
	}
	for _, to := range []string{"127.0.0.1", "0.0.0.0", "0.1.2.3", "169.254.169.254", "224.0.0.1", "240.1.1.1", "255.255.255.255", "192.168.127.1"} {
		if outside(netip.MustParsePrefix("192.168.127.0/24"), netip.MustParseAddr(to)) == "" {
			t.Errorf("guests may reach %s", to)
		}
	}
}

// tryTCP connects or says why not; silence counts as an error after a while.
func (g *guest) tryTCP(t *testing.T, ip string, port uint16) error {
	t.Helper()
	tap := g.tap()
	dst := netip.MustParseAddr(ip)
	g.send(g.ether(gatewayHW(), etherIPv4, ipPacket(g.ip, dst, protoTCP, syn(5000+port, port, g.ip, dst))))
	seq := byte(time.Now().UnixNano())
	g.send(g.ether(gatewayHW(), etherIPv4, ipPacket(g.ip, netip.MustParseAddr("192.168.127.1"), protoICMP, echoRequest(seq))))
	// The answer to the ping sent after it bounds the wait for an answer that
	// comes from the gateway itself, which takes frames in order.
	err := errors.New("no answer")
	g.wait(tap, func(b []byte) bool {
		if len(b) >= 54 && b[23] == protoTCP && binary.BigEndian.Uint16(b[34:]) == port {
			if b[47]&0x12 == 0x12 {
				err = nil
			} else {
				err = errors.New("reset")
			}
		}
		return len(b) >= 42 && b[23] == protoICMP && b[34] == 0 && b[41] == seq
	})
	return err
}

func syn(from, to uint16, src, dst netip.Addr) []byte {
	b := make([]byte, 20)
	binary.BigEndian.PutUint16(b, from)
	binary.BigEndian.PutUint16(b[2:], to)
	b[12], b[13] = 5<<4, 2
	binary.BigEndian.PutUint16(b[14:], 65535)
	pseudo := append(append(src.AsSlice(), dst.AsSlice()...), 0, protoTCP, 0, 20)
	binary.BigEndian.PutUint16(b[16:], checksum(append(pseudo, b...)))
	return b
}

func echoRequest(seq byte) []byte {
	b := []byte{8, 0, 0, 0, 0x12, 0x34, 0, seq}
	binary.BigEndian.PutUint16(b[2:], checksum(b))
	return b
}

func gatewayHW() net.HardwareAddr {
	mac, _ := parseMAC(gatewayMAC)
	return mac[:]
}

func (g *guest) ping(t *testing.T, ip string) {
	t.Helper()
	tap := g.tap()
	g.send(g.ether(gatewayHW(), etherIPv4, ipPacket(g.ip, netip.MustParseAddr(ip), protoICMP, echoRequest(77))))
	g.wait(tap, func(b []byte) bool { return len(b) >= 42 && b[23] == protoICMP && b[34] == 0 && b[41] == 77 })
}

// hostResolver makes the host's resolver one that knows far.example.
func hostResolver(t *testing.T) {
	ln := hostListen(t, "tcp4", "127.0.0.1:0") // wine has no UDP for us
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetRcode(q, dns.RcodeNameError)
		if q.Question[0].Name == "far.example." {
			m.Rcode = dns.RcodeSuccess
			if q.Question[0].Qtype == dns.TypeA {
				m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: "far.example.", Rrtype: dns.TypeA, Class: dns.ClassINET}, A: net.IP{203, 0, 113, 9}}}
			}
		}
		w.WriteMsg(m)
	})
	server := &dns.Server{Listener: ln, Handler: handler}
	go server.ActivateAndServe()
	old := net.DefaultResolver
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp4", ln.Addr().String())
	}}
	t.Cleanup(func() { net.DefaultResolver = old })
}

func TestNames(t *testing.T) {
	hostResolver(t)
	r := newRig(t)
	twin := port(3)
	twin.Name = "guest_1"
	r.set(r.config(port(1), port(2), twin))
	g := r.guest(1)
	for name, want := range map[string]string{
		"guest-2.hxen.internal.":   "192.168.127.3",
		"GUEST-1.hxen.internal.":   "192.168.127.2",
		"guest-1-2.hxen.internal.": "192.168.127.4",
		"gateway.hxen.internal.":   "192.168.127.1",
		"far.example.":             "203.0.113.9", // from the host's resolver
	} {
		got, err := g.resolver().LookupNetIP(t.Context(), "ip4", name)
		if err != nil || len(got) != 1 || got[0].Unmap().String() != want {
			t.Errorf("%s is %v (%v), want %s", name, got, err, want)
		}
	}
	_, err := g.resolver().LookupNetIP(t.Context(), "ip4", "nobody.hxen.internal.")
	if dns, ok := errors.AsType[*net.DNSError](err); !ok || !dns.IsNotFound {
		t.Errorf("an unknown guest: %v", err)
	}
	// A rename is followed.
	renamed := port(2)
	renamed.Name = "other"
	r.set(r.config(port(1), renamed, twin))
	if got, err := g.resolver().LookupNetIP(t.Context(), "ip4", "other.hxen.internal."); err != nil || got[0].Unmap().String() != "192.168.127.3" {
		t.Errorf("after a rename: %v %v", got, err)
	}
	if _, err := g.resolver().LookupNetIP(t.Context(), "ip4", "guest-2.hxen.internal."); err == nil {
		t.Error("the old name is still answered")
	}
}

func TestGuestsReachEachOtherAndCannotSpoof(t *testing.T) {
	r := newRig(t)
	r.set(r.config(port(1), port(2)))
	a, b := r.guest(1), r.guest(2)
	serveEcho(t, b.listen(7))
	c, err := a.dial(b.ip.String() + ":7")
	if err != nil {
		t.Fatal(err)
	}
	roundTrip(t, c, strings.Repeat("guest to guest ", 20_000))

	tap := b.tap()
	other, stranger := netip.MustParseAddrPort("192.168.127.9:1"), netip.AddrPortFrom(b.ip, 9)
	arp := func(mac net.HardwareAddr, ip netip.Addr) []byte {
		p := []byte{0, 1, 8, 0, 6, 4, 0, 2}
		p = append(append(p, mac...), ip.AsSlice()...)
		return append(append(p, b.mac...), b.ip.AsSlice()...)
	}
	spoof := a.ether(b.mac, etherIPv4, udpPacket(netip.AddrPortFrom(a.ip, 1), stranger, []byte("mac")))
	copy(spoof[6:12], testMAC(9))
	for name, frame := range map[string][]byte{
		"MAC":          spoof,
		"IP":           a.ether(b.mac, etherIPv4, udpPacket(other, stranger, []byte("ip"))),
		"unspecified":  a.ether(b.mac, etherIPv4, udpPacket(netip.MustParseAddrPort("0.0.0.0:5"), stranger, []byte("ip"))),
		"ARP IP":       a.ether(b.mac, etherARP, arp(a.mac, netip.MustParseAddr("192.168.127.1"))),
		"ARP MAC":      a.ether(b.mac, etherARP, arp(testMAC(9), a.ip)),
		"DHCP server":  a.ether(b.mac, etherIPv4, udpPacket(netip.AddrPortFrom(a.ip, 67), netip.AddrPortFrom(b.ip, 68), make([]byte, 300))),
		"RA":           a.ether(b.mac, 0x86dd, append([]byte{0x60, 0, 0, 0, 0, 16, 58, 255}, make([]byte, 48)...)),
		"VLAN":         a.ether(b.mac, 0x8100, make([]byte, 60)),
		"short":        a.ether(b.mac, etherIPv4, []byte{0x45})[:13],
		"empty":        {},
		"length":       a.ether(b.mac, etherIPv4, append([]byte{0x45, 0, 0xff, 0xff}, make([]byte, 40)...)),
		"foreign DHCP": a.ether(broadcastMAC[:], etherIPv4, udpPacket(netip.MustParseAddrPort("0.0.0.0:68"), netip.MustParseAddrPort("255.255.255.255:67"), make([]byte, 300))),
	} {
		if err := a.send(frame); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	good := a.ether(b.mac, etherIPv4, udpPacket(netip.AddrPortFrom(a.ip, 1), stranger, []byte("good")))
	a.send(good)
	b.wait(tap, func(got []byte) bool {
		if bytes.Equal(got, good) {
			return true
		}
		late := got[23] == protoTCP // of the connection above
		if bytes.Equal(got[:6], b.mac) && !bytes.Equal(got[6:12], gatewayHW()) && !late {
			t.Errorf("a spoofed frame arrived: % x", got)
		}
		return false
	})
	if len(r.leases()) != 2 {
		t.Errorf("leases %+v", r.leases())
	}
	log, _ := os.ReadFile(r.files.Log())
	if !strings.Contains(string(log), "frames from a guest are dropped") || strings.Count(string(log), "\n") > 20 {
		t.Errorf("the log does not tell, or tells too much:\n%s", log)
	}
}

func TestForwards(t *testing.T) {
	r := newRig(t)
	freeTCP := hostListen(t, "tcp4", "127.0.0.1:0")
	tcpPort := uint16(freeTCP.Addr().(*net.TCPAddr).Port)
	busy := hostListen(t, "tcp4", "127.0.0.1:0")
	busyPort := uint16(busy.Addr().(*net.TCPAddr).Port)
	freeTCP.Close()
	want := r.config(
		port(1, hv.Forward{From: tcpPort, To: 7}, hv.Forward{From: busyPort, To: 7}),
		port(2, hv.Forward{From: tcpPort, To: 7}, hv.Forward{Host: "203.0.113.77", From: 4000, To: 7}))
	r.set(want)
	g := r.guest(1)
	serveEcho(t, g.listen(7))
	reach := func(p uint16) {
		t.Helper()
		c, err := net.Dial("tcp4", "127.0.0.1:"+strconv.Itoa(int(p)))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		roundTrip(t, c.(*net.TCPConn), strings.Repeat("through the forward ", 20_000))
	}
	reach(tcpPort)

	one, two := r.leases()["nic-1"].Failed, r.leases()["nic-2"].Failed
	if len(one) != 1 || !strings.Contains(one[0], "in use by another program") || !strings.Contains(one[0], strconv.Itoa(int(busyPort))) {
		t.Errorf("failed forwards of the first: %q", one)
	}
	if len(two) != 2 || !strings.Contains(two[0], "forwarded already") || !strings.Contains(two[1], "203.0.113.77") || !strings.Contains(two[1], "use 127.0.0.1") {
		t.Errorf("failed forwards of the second: %q", two)
	}
	// The same state again tries again what failed, and only that.
	busy.Close()
	kept, err := net.Dial("tcp4", "127.0.0.1:"+strconv.Itoa(int(tcpPort)))
	if err != nil {
		t.Fatal(err)
	}
	defer kept.Close()
	r.set(want)
	if one := r.leases()["nic-1"].Failed; len(one) != 0 {
		t.Errorf("after the port became free: %q", one)
	}
	reach(busyPort)
	roundTrip(t, kept.(*net.TCPConn), "the connection from before lives")
	// And what is no longer wanted is closed.
	r.set(r.config(port(1), port(2)))
	if c, err := net.Dial("tcp4", "127.0.0.1:"+strconv.Itoa(int(tcpPort))); err == nil {
		c.Close()
		t.Error("a forward outlives its wish")
	}
}

func TestForwardsUDP(t *testing.T) {
	free := hostListenUDP(t, "127.0.0.1:0")
	udpPort := uint16(free.LocalAddr().(*net.UDPAddr).Port)
	free.Close()
	r := newRig(t)
	r.set(r.config(port(1, hv.Forward{From: udpPort, To: 7}, hv.Forward{Proto: "udp", From: udpPort, To: 9})))
	g := r.guest(1)
	u := g.listenUDP(9)
	c, err := net.Dial("udp4", "127.0.0.1:"+strconv.Itoa(int(udpPort)))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(hang))
	c.Write([]byte("in"))
	buf := make([]byte, 100)
	n, from, err := u.ReadFrom(buf)
	if err != nil || string(buf[:n]) != "in" {
		t.Fatalf("guest got %q %v", buf[:n], err)
	}
	u.WriteTo([]byte("out"), from)
	if n, err := c.Read(buf); err != nil || string(buf[:n]) != "out" {
		t.Fatalf("host got %q %v", buf[:n], err)
	}
	if failed := r.leases()["nic-1"].Failed; len(failed) != 0 {
		t.Errorf("TCP and UDP on one port: %q", failed)
	}
}

func TestPrivilegedForwardSaysHow(t *testing.T) {
	how := "1024 or above"
	if runtime.GOOS == "windows" { // which asks no rights for low ports
		how = "forward another port"
	}
	for _, err := range []error{os.ErrPermission, errAccess} {
		got := sentence(newForward("n", netip.Addr{}, hv.Forward{From: 80, To: 80}), fmt.Errorf("listen: %w", err))
		if !strings.Contains(got, "127.0.0.1:80") || !strings.Contains(got, how) {
			t.Error(got)
		}
	}
}

// TestRestart: addresses, forwards and names come back without the service.
func TestRestart(t *testing.T) {
	r := newRig(t)
	ln := hostListen(t, "tcp4", "127.0.0.1:0")
	p := uint16(ln.Addr().(*net.TCPAddr).Port)
	ln.Close()
	r.set(r.config(port(1), port(2, hv.Forward{From: p, To: 7})))
	r.set(r.config(port(2, hv.Forward{From: p, To: 7}))) // the first card is away for a while
	g := r.guest(2)
	seen := r.leases()["nic-2"]
	if g.ip.String() != "192.168.127.3" || seen.IP != "192.168.127.3" {
		t.Fatalf("the second card has %s", g.ip)
	}
	r.stop()
	<-g.ended
	r.start()
	again := r.leases()["nic-2"]
	if again.IP != seen.IP || again.Connected || again.Seen.IsZero() || len(again.Failed) != 0 {
		t.Fatalf("after a restart: %+v", again)
	}
	// The guest knows nothing of the restart: it keeps its address and is silent.
	g, why := r.plugIn(2)
	if why != "" {
		t.Fatal(why)
	}
	g.static(netip.MustParsePrefix("192.168.127.3/24"), netip.MustParseAddr("192.168.127.1"))
	serveEcho(t, g.listen(7))
	c, err := net.Dial("tcp4", "127.0.0.1:"+strconv.Itoa(int(p)))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	roundTrip(t, c.(*net.TCPConn), "after a restart")
	r.set(r.config(port(1), port(2), port(3)))
	l := r.leases()
	if l["nic-1"].IP != "192.168.127.2" || l["nic-3"].IP != "192.168.127.4" {
		t.Fatalf("a card that comes back has lost its address: %+v", l)
	}
}

func TestHello(t *testing.T) {
	r := newRig(t)
	if _, why := r.plugIn(1); why == "" {
		t.Error("a network without a configuration took a card")
	}
	r.set(r.config(port(1)))
	if _, why := r.plugIn(2); !strings.Contains(why, "no such card") {
		t.Errorf("an unknown card: %q", why)
	}
	other := port(1)
	other.MAC = "52:54:00:00:00:77"
	r.set(r.config(other))
	if _, why := r.plugIn(1); !strings.Contains(why, other.MAC) {
		t.Errorf("another MAC: %q", why)
	}
	twin := port(2)
	twin.MAC = other.MAC
	gate := port(3)
	gate.MAC = gatewayMAC
	r.set(r.config(other, twin, gate))
	if l := r.leases(); len(l["nic-2"].Failed) != 1 || !strings.Contains(l["nic-2"].Failed[0], "Guest 1") || l["nic-2"].IP != "" ||
		len(l["nic-3"].Failed) != 1 || !strings.Contains(l["nic-3"].Failed[0], "gateway") {
		t.Errorf("leases %+v", l)
	}
	// A second connection takes the first one's place.
	r.set(r.config(port(1)))
	first := r.guest(1)
	second := r.guest(1)
	<-first.ended
	second.ping(t, "192.168.127.1")
	if !r.leases()["nic-1"].Connected {
		t.Error("the end of the first connection counts for the second")
	}
	// A card that is no longer wanted is unplugged.
	r.set(r.config())
	<-second.ended
}

func TestSetRefusesNonsense(t *testing.T) {
	r := newRig(t)
	for _, subnet := range []string{"", "here", "192.168.127.0", "10.0.0.0/7", "10.0.0.0/30", "127.0.0.0/8", "224.0.0.0/24", "fd00::/64"} {
		c := r.config()
		c.Subnet = subnet
		if err := r.conn.Call(t.Context(), control.VerbSet, c, nil); err == nil {
			t.Errorf("subnet %q was taken", subnet)
		}
	}
	c := r.config()
	c.UUID = "another"
	if err := r.conn.Call(t.Context(), control.VerbSet, c, nil); err == nil {
		t.Error("another network's configuration was taken")
	}
	if err := r.conn.Call(t.Context(), "pause", nil, nil); !errors.Is(err, hv.ErrUnsupported) {
		t.Errorf("pause: %v", err)
	}
}

func TestSubnetCanChange(t *testing.T) {
	r := newRig(t)
	r.set(r.config(port(1)))
	g := r.guest(1)
	c := r.config(port(1))
	c.Subnet = "10.11.0.0/16"
	r.set(c)
	<-g.ended // the link goes down and up: guests ask for an address again
	if g := r.guest(1); g.ip.String() != "10.11.0.2" {
		t.Errorf("the card has %s", g.ip)
	}
}

// TestPausedGuestBlocksNobody: a guest that reads nothing loses its own frames only.
func TestPausedGuestBlocksNobody(t *testing.T) {
	r := newRig(t)
	r.set(r.config(port(1), port(2), port(3)))
	a, b := r.guest(1), r.guest(2)
	paused := r.guest(3)
	serveEcho(t, b.listen(7))
	// Stop reading: the tap that is asked under the lock never returns.
	paused.mu.Lock()
	defer paused.mu.Unlock()
	frame := a.ether(paused.mac, etherIPv4, udpPacket(netip.AddrPortFrom(a.ip, 1), netip.AddrPortFrom(paused.ip, 9), make([]byte, 1400)))
	for range 3 * queueBytes / 1400 {
		if err := a.send(frame); err != nil {
			t.Fatal(err)
		}
	}
	c, err := a.dial(b.ip.String() + ":7")
	if err != nil {
		t.Fatal(err)
	}
	roundTrip(t, c, "past the paused one")
}

// TestGarbage sends a hundred thousand frames of nonsense, most of them shaped
// to get past the filter's first checks, then talks as before.
func TestGarbage(t *testing.T) {
	r := newRig(t)
	r.set(r.config(port(1), port(2)))
	a, b := r.guest(1), r.guest(2)
	serveEcho(t, b.listen(7))
	rnd := newRand(t)
	for i := range 100_000 {
		frame := make([]byte, rnd.IntN(200))
		for j := range frame {
			frame[j] = byte(rnd.Uint32())
		}
		if len(frame) > 14 && i%8 != 0 {
			copy(frame, [][]byte{b.mac, gatewayHW(), broadcastMAC[:]}[i%3])
			copy(frame[6:], a.mac)
			copy(frame[12:], [][]byte{{8, 0}, {8, 0}, {8, 6}, {0x86, 0xdd}}[i%4])
		}
		if len(frame) > 40 && i%8 > 2 {
			copy(frame[14:], []byte{0x45, 0, 0, byte(len(frame) - 14)})
			frame[20], frame[21] = 0, 0
			copy(frame[23:], []byte{[]byte{1, 6, 17, 2}[rnd.IntN(4)]})
			copy(frame[26:], a.ip.AsSlice())
			binary.BigEndian.PutUint16(frame[24:], 0)
			binary.BigEndian.PutUint16(frame[24:], checksum(frame[14:34]))
			if i%16 > 8 { // stay on the network: nothing goes out to the world
				copy(frame[30:], []byte{192, 168, 127, byte(rnd.IntN(256))})
			} else {
				copy(frame[30:], []byte{127, 0, 0, 1})
			}
		}
		if err := a.send(frame); err != nil {
			t.Fatalf("the network hung up after %d frames: %v", i, err)
		}
	}
	c, err := a.dial(b.ip.String() + ":7")
	if err != nil {
		t.Fatal(err)
	}
	roundTrip(t, c, "still there")
	if st, err := os.Stat(r.files.Log()); err != nil || st.Size() > 64<<10 {
		t.Errorf("the log has %d bytes (%v): a guest can fill the disk", st.Size(), err)
	}
	// A length that cannot be ends the connection and nothing else.
	a.conn.Write([]byte{0xff, 0xff, 0xff, 0xff})
	<-a.ended
	r.guest(1).ping(t, "192.168.127.1")
}

// TestFlowsAreBounded opens connections until the bound, then one after ending one.
func TestFlowsAreBounded(t *testing.T) {
	host := hostAddr(t)
	r := newRig(t)
	r.set(r.config(port(1), port(2)))
	g, neighbour := r.guest(1), r.guest(2)
	ln := hostListen(t, "tcp4", host+":0")
	serveEcho(t, ln)
	var open []io.Closer
	for len(open) < maxTCP {
		c, err := g.dial(ln.Addr().String())
		if err != nil {
			t.Fatalf("connection %d: %v", len(open), err)
		}
		open = append(open, c)
	}
	if c, err := g.dial(ln.Addr().String()); err == nil {
		c.Close()
		t.Fatalf("connection %d was let through", maxTCP+1)
	}
	c, err := neighbour.dial(ln.Addr().String())
	if err != nil {
		t.Fatalf("the neighbour is shut out too: %v", err)
	}
	roundTrip(t, c, "neighbour")
	for _, c := range open {
		c.Close()
	}
	// The ends are noticed when the host's side has seen them.
	for guard := time.After(hang); ; {
		if c, err := g.dial(ln.Addr().String()); err == nil {
			roundTrip(t, c, "again")
			break
		}
		select {
		case <-guard:
			t.Fatal("ended connections still count")
		default:
		}
	}
}

func TestUDPFlowsMakeRoom(t *testing.T) {
	table := newUDPTable(3)
	defer table.close()
	ends, began := map[int]net.Conn{}, time.Now().UnixNano()
	for i := range 5 {
		in, far := net.Pipe()
		ends[i] = far
		// Windows' clock may show the same time for all of them.
		table.run(i, udpWay{to: io.Discard, from: in}).last.Store(began + int64(i))
	}
	for i, gone := range []bool{true, true, false, false, false} {
		if (table.find(i) == nil) != gone {
			t.Errorf("flow %d gone: %v", i, !gone)
		}
		ends[i].SetReadDeadline(time.Now().Add(hang))
		if gone {
			if _, err := ends[i].Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("flow %d was not closed: %v", i, err)
			}
		}
	}
}

func TestEvents(t *testing.T) {
	r := newRig(t)
	events, err := r.conn.Subscribe(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	r.set(r.config(port(1)))
	g := r.guest(1)
	g.conn.Close()
	for _, want := range []string{"is connected", "has the address 192.168.127.2", "is disconnected"} {
		select {
		case e := <-events:
			if e.Event == nil || e.Event.Kind != hv.EventNotice || e.Event.Object != "nic-1" || !strings.Contains(e.Event.Text, want) {
				t.Fatalf("event %+v, want %q", e.Event, want)
			}
		case <-time.After(hang):
			t.Fatalf("no event %q", want)
		}
	}
}

func TestQuit(t *testing.T) {
	r := newRig(t)
	if err := r.conn.Call(t.Context(), control.VerbStop, nil, nil); err != nil {
		t.Fatal(err)
	}
	r.conn.Close()
	r.stop()
	r.start() // lock and sockets are free again
}

func TestOneProcessPerNetwork(t *testing.T) {
	r := newRig(t)
	err := Run(t.Context(), r.dir, r.run, "test", func() { t.Error("a second process is ready") })
	if err == nil || !strings.Contains(err.Error(), "running already") {
		t.Error(err)
	}
}
