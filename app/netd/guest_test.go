package netd

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/link/ethernet"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"github.com/hxen-project/hxen/app/control"
	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/hvtest"
	"github.com/hxen-project/hxen/platform/localsock"
	"github.com/hxen-project/hxen/platform/paths"
)

const (
	hang    = 5 * time.Minute // a guard against hanging, not a measurement
	netUUID = "0a0b0c0d-0000-4000-8000-000000000001"
)

// rig is a running network and its client.
type rig struct {
	t     *testing.T
	dir   string
	run   string
	files paths.Network
	conn  *control.Conn
	stop  func() // ends the process and waits
}

func newRig(t *testing.T) *rig {
	t.Helper()
	run := hvtest.RunDir(t)
	dir := filepath.Join(t.TempDir(), netUUID)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, dir: dir, run: run, files: paths.NetworkDir(dir, run)}
	r.start()
	return r
}

func (r *rig) start() {
	r.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- Run(ctx, r.dir, r.run, "test", func() { close(ready) }) }()
	select {
	case <-ready:
	case err := <-done:
		r.t.Fatal(err)
	case <-time.After(hang):
		r.t.Fatal("netd does not come up")
	}
	r.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				r.t.Errorf("netd: %v", err)
			}
		case <-time.After(hang):
			r.t.Error("netd does not end")
		}
	})
	r.t.Cleanup(r.stop)
	nc, err := localsock.Dial(r.t.Context(), r.files.Ctl())
	if err != nil {
		r.t.Fatal(err)
	}
	if r.conn, err = control.NewConn(nc, "test", "test"); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { r.conn.Close() })
}

func (r *rig) config(ports ...control.NetPort) control.NetConfig {
	return control.NetConfig{UUID: netUUID, Name: "test", Subnet: "192.168.127.0/24", Ports: ports}
}

func (r *rig) set(c control.NetConfig) {
	r.t.Helper()
	if err := r.conn.Call(r.t.Context(), control.VerbSet, c, nil); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) leases() map[string]control.Lease {
	r.t.Helper()
	var list []control.Lease
	if err := r.conn.Call(r.t.Context(), control.VerbLeases, nil, &list); err != nil {
		r.t.Fatal(err)
	}
	out := map[string]control.Lease{}
	for _, l := range list {
		out[l.NIC] = l
	}
	return out
}

// port is card n of a configuration.
func port(n int, forwards ...hv.Forward) control.NetPort {
	return control.NetPort{
		Guest: fmt.Sprintf("guest-%d", n), Name: fmt.Sprintf("Guest %d", n),
		NIC: fmt.Sprintf("nic-%d", n), MAC: testMAC(n).String(), Forwards: forwards,
	}
}

func testMAC(n int) net.HardwareAddr { return net.HardwareAddr{0x52, 0x54, 0, 0, 0, byte(n)} }

// guest is a guest's card with a user-space IP stack on it.
type guest struct {
	t     *testing.T
	mac   net.HardwareAddr
	conn  net.Conn
	link  *channel.Endpoint
	stack *stack.Stack
	ip    netip.Addr
	ended chan struct{} // closed when the network has hung up

	wmu sync.Mutex // guards writing to conn
	mu  sync.Mutex // guards taps
	// taps get every frame that arrives.
	taps map[chan []byte]bool
}

// plugIn connects card n; why is the network's refusal.
func (r *rig) plugIn(n int) (g *guest, why string) {
	r.t.Helper()
	conn, err := localsock.Dial(r.t.Context(), r.files.Frames())
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { conn.Close() })
	p := port(n)
	json.NewEncoder(conn).Encode(control.FramesHello{Protocol: control.Protocol, NIC: p.NIC, MAC: p.MAC})
	rd := bufio.NewReader(conn)
	conn.SetReadDeadline(time.Now().Add(hang))
	line, err := rd.ReadBytes('\n')
	if err != nil {
		r.t.Fatal(err)
	}
	conn.SetReadDeadline(time.Time{})
	var answer control.FramesAnswer
	if err := json.Unmarshal(line, &answer); err != nil {
		r.t.Fatal(err)
	}
	if answer.Refused != "" {
		return nil, answer.Refused
	}
	g = &guest{t: r.t, mac: testMAC(n), conn: conn, ended: make(chan struct{}), taps: map[chan []byte]bool{}}
	g.makeStack()
	go g.receive(rd)
	go g.transmit()
	return g, ""
}

// guest connects card n and takes its address by DHCP.
func (r *rig) guest(n int) *guest {
	r.t.Helper()
	g, why := r.plugIn(n)
	if why != "" {
		r.t.Fatal(why)
	}
	g.dhcp()
	return g
}

func (g *guest) makeStack() {
	g.link = channel.New(4096, mtu, tcpip.LinkAddress(g.mac))
	g.stack = stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, arp.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4},
	})
	if err := g.stack.CreateNIC(linkID, ethernet.New(g.link)); err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(g.stack.Close)
}

func (g *guest) receive(r *bufio.Reader) {
	defer close(g.ended)
	for {
		var head [frameHeader]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return
		}
		b := make([]byte, binary.BigEndian.Uint32(head[:]))
		if _, err := io.ReadFull(r, b); err != nil {
			return
		}
		g.mu.Lock()
		for tap := range g.taps {
			select {
			case tap <- b:
			default:
			}
		}
		g.mu.Unlock()
		pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(b)})
		g.link.InjectInbound(0, pkt)
		pkt.DecRef()
	}
}

func (g *guest) transmit() {
	for {
		pkt := g.link.ReadContext(g.t.Context())
		if pkt == nil {
			return
		}
		g.send(pkt.ToView().AsSlice())
		pkt.DecRef()
	}
}

// send puts one frame on the wire.
func (g *guest) send(frame []byte) error {
	g.wmu.Lock()
	defer g.wmu.Unlock()
	_, err := g.conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(frame))), frame...))
	return err
}

// tap returns the frames that arrive from now on.
func (g *guest) tap() chan []byte {
	ch := make(chan []byte, 4096)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.taps[ch] = true
	return ch
}

// wait returns the first frame that match wants.
func (g *guest) wait(tap chan []byte, match func([]byte) bool) []byte {
	g.t.Helper()
	for guard := time.After(hang); ; {
		select {
		case b := <-tap:
			if match(b) {
				return b
			}
		case <-g.ended:
			g.t.Fatal("the network hung up")
		case <-guard:
			g.t.Fatal("the frame does not come")
		}
	}
}

// ether builds a frame from this guest.
func (g *guest) ether(to net.HardwareAddr, kind uint16, payload []byte) []byte {
	b := append(append([]byte(nil), to...), g.mac...)
	return append(binary.BigEndian.AppendUint16(b, kind), payload...)
}

// udpPacket builds an IPv4 packet; its UDP checksum is left out (RFC 768: zero).
func udpPacket(src, dst netip.AddrPort, payload []byte) []byte {
	u := binary.BigEndian.AppendUint16(nil, src.Port())
	u = binary.BigEndian.AppendUint16(u, dst.Port())
	u = binary.BigEndian.AppendUint16(u, uint16(8+len(payload)))
	u = append(append(u, 0, 0), payload...)
	return ipPacket(src.Addr(), dst.Addr(), protoUDP, u)
}

func ipPacket(src, dst netip.Addr, proto byte, payload []byte) []byte {
	ip := make([]byte, 20, 20+len(payload))
	ip[0], ip[8], ip[9] = 0x45, 64, proto
	binary.BigEndian.PutUint16(ip[2:], uint16(20+len(payload)))
	copy(ip[12:], src.AsSlice())
	copy(ip[16:], dst.AsSlice())
	binary.BigEndian.PutUint16(ip[10:], checksum(ip))
	return append(ip, payload...)
}

// dhcp takes an address as a client of RFC 2131 does and gives it to the stack.
func (g *guest) dhcp() {
	g.t.Helper()
	tap := g.tap()
	ask := func(kind dhcpv4.MessageType, more ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
		m, err := dhcpv4.New(append(more, dhcpv4.WithHwAddr(g.mac), dhcpv4.WithMessageType(kind))...)
		if err != nil {
			g.t.Fatal(err)
		}
		any, all := netip.AddrPortFrom(netip.IPv4Unspecified(), 68), netip.MustParseAddrPort("255.255.255.255:67")
		g.send(g.ether(broadcastMAC[:], etherIPv4, udpPacket(any, all, m.ToBytes())))
		var answer *dhcpv4.DHCPv4
		g.wait(tap, func(b []byte) bool {
			if len(b) < 42 || b[23] != protoUDP || binary.BigEndian.Uint16(b[36:]) != portDHCPc {
				return false
			}
			a, err := dhcpv4.FromBytes(b[42:])
			if err == nil && a.TransactionID == m.TransactionID {
				answer = a
			}
			return answer != nil
		})
		return answer
	}
	offer := ask(dhcpv4.MessageTypeDiscover)
	ack := ask(dhcpv4.MessageTypeRequest, dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(offer.YourIPAddr)))
	if ack.MessageType() != dhcpv4.MessageTypeAck || len(ack.Router()) != 1 {
		g.t.Fatalf("DHCP answers %s", ack.Summary())
	}
	ip, _ := netip.AddrFromSlice(ack.YourIPAddr.To4())
	ones, _ := ack.SubnetMask().Size()
	router, _ := netip.AddrFromSlice(ack.Router()[0].To4())
	if dns := ack.DNS(); len(dns) != 1 || !dns[0].Equal(router.AsSlice()) {
		g.t.Fatalf("DHCP names the resolvers %v", dns)
	}
	g.static(netip.PrefixFrom(ip, ones), router)
}

// static gives the stack an address and a default route.
func (g *guest) static(ip netip.Prefix, router netip.Addr) {
	g.ip = ip.Addr()
	g.stack.AddProtocolAddress(linkID, tcpip.ProtocolAddress{
		Protocol:          ipv4.ProtocolNumber,
		AddressWithPrefix: tcpip.AddressWithPrefix{Address: tcpAddr(g.ip), PrefixLen: ip.Bits()},
	}, stack.AddressProperties{})
	local, _ := tcpip.NewSubnet(tcpAddr(ip.Masked().Addr()), tcpip.MaskFromBytes(net.CIDRMask(ip.Bits(), 32)))
	all, _ := tcpip.NewSubnet(tcpip.AddrFrom4([4]byte{}), tcpip.MaskFromBytes(make([]byte, 4)))
	g.stack.SetRouteTable([]tcpip.Route{{Destination: local, NIC: linkID}, {Destination: all, Gateway: tcpAddr(router), NIC: linkID}})
}

// dial opens a TCP connection from the guest.
func (g *guest) dial(to string) (*gonet.TCPConn, error) {
	at := netip.MustParseAddrPort(to)
	ctx, cancel := context.WithTimeout(g.t.Context(), hang)
	defer cancel()
	return gonet.DialContextTCP(ctx, g.stack, tcpip.FullAddress{NIC: linkID, Addr: tcpAddr(at.Addr()), Port: at.Port()}, ipv4.ProtocolNumber)
}

func (g *guest) dialUDP(to string) *gonet.UDPConn {
	g.t.Helper()
	at := netip.MustParseAddrPort(to)
	c, err := gonet.DialUDP(g.stack, nil, &tcpip.FullAddress{NIC: linkID, Addr: tcpAddr(at.Addr()), Port: at.Port()}, ipv4.ProtocolNumber)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { c.Close() })
	return c
}

func (g *guest) listen(p uint16) net.Listener {
	g.t.Helper()
	ln, err := gonet.ListenTCP(g.stack, tcpip.FullAddress{NIC: linkID, Addr: tcpAddr(g.ip), Port: p}, ipv4.ProtocolNumber)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { ln.Close() })
	return ln
}

// resolver asks the gateway.
func (g *guest) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(_ context.Context, network, _ string) (net.Conn, error) {
		if strings.HasPrefix(network, "tcp") {
			return g.dial("192.168.127.1:53")
		}
		return g.dialUDP("192.168.127.1:53"), nil
	}}
}

// hostAddr is an address of this machine that is not its loopback.
func hostAddr(t *testing.T) string {
	t.Helper()
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && !n.IP.IsLoopback() && !n.IP.IsLinkLocalUnicast() {
			return n.IP.String()
		}
	}
	t.Skip("this machine has no address but its loopback, which guests may not reach")
	return ""
}

// serveEcho accepts and answers what comes with the same.
func serveEcho(t *testing.T, ln net.Listener) {
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				io.Copy(c, c)
				c.Close()
			}()
		}
	}()
}

// roundTrip sends text, ends its direction and wants text back, then the end.
func roundTrip(t *testing.T, c halfCloser, text string) {
	t.Helper()
	c.SetDeadline(time.Now().Add(hang))
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(c)
	if err != nil || string(got) != text {
		t.Fatalf("%d bytes came back of %d: %v", len(got), len(text), err)
	}
}

func hostListen(t *testing.T, network, addr string) net.Listener {
	t.Helper()
	ln, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

func hostListenUDP(t *testing.T, addr string) net.PacketConn {
	t.Helper()
	sock, err := net.ListenPacket("udp4", addr)
	if wsaEOPNOTSUPP := syscall.Errno(10045); runtime.GOOS == "windows" && errors.Is(err, wsaEOPNOTSUPP) {
		t.Skip("wine 8 lacks SIO_UDP_NETRESET, and so any UDP socket of Go's")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sock.Close() })
	return sock
}
