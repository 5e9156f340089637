package netd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"

	"github.com/containers/gvisor-tap-vsock/pkg/services/dhcp"
	"github.com/containers/gvisor-tap-vsock/pkg/services/dns"
	"github.com/containers/gvisor-tap-vsock/pkg/tap"
	"github.com/containers/gvisor-tap-vsock/pkg/types"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

const (
	gatewayMAC = "5a:94:ef:e4:0c:dd"
	mtu        = 1500
	linkID     = tcpip.NICID(1) // the stack's only interface
	zone       = "hxen.internal"
	maxTCPDNS  = 32 // open DNS connections over TCP

	// What one TCP connection may buffer. The guest is well under a millisecond
	// away, so this is more than a fast link needs, and it bounds what the
	// flows of one card can hold.
	tcpBufferDefault = 256 << 10
	tcpBufferMax     = 1 << 20
)

// fabric is one subnet: gvisor-tap-vsock's switch, its user-space gateway and
// the gateway's services. It is made of the library's parts rather than by its
// virtualnetwork.New, which fixes leases, names and forwards when it starts and
// bounds neither flows nor what a guest may reach.
type fabric struct {
	subnet  netip.Prefix
	gateway netip.Addr
	stack   *stack.Stack
	sw      *tap.Switch
	pool    *tap.IPPool
	names   *names
	nat     *nat
	log     *slog.Logger
	closers []io.Closer
	ctx     context.Context
	cancel  context.CancelFunc
	serving sync.WaitGroup
}

func newFabric(subnet netip.Prefix, log *slog.Logger) (*fabric, error) {
	f := &fabric{subnet: subnet, gateway: subnet.Masked().Addr().Next(), log: log}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	link, err := tap.NewLinkEndpoint(false, mtu, gatewayMAC, f.gateway.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("make the gateway: %w", err)
	}
	f.sw = tap.NewSwitch(false)
	link.Connect(f.sw)
	f.sw.Connect(link)
	if err := f.makeStack(link); err != nil {
		return nil, fmt.Errorf("make the gateway: %w", err)
	}
	f.pool = tap.NewIPPool(&net.IPNet{IP: subnet.Masked().Addr().AsSlice(), Mask: net.CIDRMask(subnet.Bits(), 32)})
	f.pool.Reserve(f.gateway.AsSlice(), gatewayMAC)
	f.names = &names{log: log, slots: make(chan struct{}, maxLookups)}
	f.nat = newNAT(f)
	if err := errors.Join(f.serveDHCP(), f.serveDNS()); err != nil {
		f.close()
		return nil, err
	}
	return f, nil
}

func (f *fabric) makeStack(link stack.LinkEndpoint) error {
	s := stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, arp.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4},
	})
	f.stack = s
	if err := s.CreateNIC(linkID, link); err != nil {
		return errors.New(err.String())
	}
	address := tcpip.ProtocolAddress{Protocol: ipv4.ProtocolNumber, AddressWithPrefix: tcpAddr(f.gateway).WithPrefix()}
	if err := s.AddProtocolAddress(linkID, address, stack.AddressProperties{}); err != nil {
		return errors.New(err.String())
	}
	// The gateway takes what is meant for any address and answers in its name.
	s.SetSpoofing(linkID, true)
	s.SetPromiscuousMode(linkID, true)
	bits := net.CIDRMask(f.subnet.Bits(), 32)
	route, err := tcpip.NewSubnet(tcpAddr(f.subnet.Masked().Addr()), tcpip.MaskFromBytes(bits))
	if err != nil {
		return err
	}
	s.SetRouteTable([]tcpip.Route{{Destination: route, NIC: linkID}})
	receive := tcpip.TCPReceiveBufferSizeRangeOption{Min: 4 << 10, Default: tcpBufferDefault, Max: tcpBufferMax}
	send := tcpip.TCPSendBufferSizeRangeOption{Min: 4 << 10, Default: tcpBufferDefault, Max: tcpBufferMax}
	for _, err := range []tcpip.Error{
		s.SetTransportProtocolOption(tcp.ProtocolNumber, &receive),
		s.SetTransportProtocolOption(tcp.ProtocolNumber, &send),
	} {
		if err != nil {
			return errors.New(err.String())
		}
	}
	return nil
}

func (f *fabric) serveDHCP() error {
	server, err := dhcp.New(&types.Configuration{
		Subnet: f.subnet.String(), GatewayIP: f.gateway.String(), GatewayMacAddress: gatewayMAC,
		MTU: mtu, DNSSearchDomains: []string{zone},
	}, f.stack, f.pool)
	if err != nil {
		return fmt.Errorf("start the DHCP server: %w", err)
	}
	f.closers = append(f.closers, server.Underlying)
	f.serving.Go(func() { server.Serve() })
	return nil
}

func (f *fabric) serveDNS() error {
	at := f.at(f.gateway, 53)
	packets, err := gonet.DialUDP(f.stack, &at, nil, ipv4.ProtocolNumber)
	if err != nil {
		return fmt.Errorf("start the DNS server: %w", err)
	}
	f.closers = append(f.closers, packets)
	ln, err := gonet.ListenTCP(f.stack, at, ipv4.ProtocolNumber)
	if err != nil {
		return fmt.Errorf("start the DNS server: %w", err)
	}
	f.closers = append(f.closers, ln)
	server, err := dns.NewWithUpstreamResolver(packets, limit(ln, maxTCPDNS), nil, f.names)
	if err != nil {
		return fmt.Errorf("start the DNS server: %w", err)
	}
	f.serving.Go(func() { server.Serve() })
	f.serving.Go(func() { server.ServeTCP() })
	return nil
}

// at names an address of this subnet to the stack.
func (f *fabric) at(ip netip.Addr, port uint16) tcpip.FullAddress {
	return tcpip.FullAddress{NIC: linkID, Addr: tcpAddr(ip), Port: port}
}

// close ends everything; cards' connections must be closed before.
func (f *fabric) close() {
	f.cancel()
	if f.nat != nil {
		f.nat.close()
	}
	for _, c := range f.closers {
		c.Close()
	}
	f.serving.Wait()
	f.stack.Close()
}

func tcpAddr(a netip.Addr) tcpip.Address { return tcpip.AddrFrom4(a.As4()) }

func netAddr(a tcpip.Address) netip.Addr { return netip.AddrFrom4(a.As4()) }

// limit bounds the open connections of ln; further ones are closed at once.
func limit(ln net.Listener, n int) net.Listener {
	return &limitedListener{Listener: ln, slots: make(chan struct{}, n)}
}

type limitedListener struct {
	net.Listener
	slots chan struct{}
}

func (l *limitedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case l.slots <- struct{}{}:
			return &limitedConn{Conn: c, free: sync.OnceFunc(func() { <-l.slots })}, nil
		default:
			c.Close()
		}
	}
}

type limitedConn struct {
	net.Conn
	free func()
}

func (c *limitedConn) Close() error {
	c.free()
	return c.Conn.Close()
}
