package netd

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// Bounds of one card. At the bound a new TCP connection is reset; a new UDP
// flow takes the place of the one that has been silent longest.
const (
	maxTCP     = 1024 // open TCP connections, to the outside and from forwards
	maxDialing = 64   // of those, the ones that wait for their answer
	maxUDP     = 512  // UDP flows to the outside
	maxInGuest = 1024 // TCP requests that wait, over all cards of the network

	dialWithin    = 30 * time.Second
	keepaliveIdle = 60 * time.Second // a guest that has gone is noticed this way
)

// nat carries guests' flows over ordinary sockets of the host, so that routes,
// proxies and VPNs of the host apply, and carries forwards to the guests.
type nat struct {
	f *fabric

	mu    sync.Mutex // guards the fields below
	flows map[netip.Addr]*cardFlows
	// told is when the last line about a card at its bounds was logged.
	told time.Time
}

// cardFlows are the flows of one card. nat.mu guards it.
type cardFlows struct {
	tcp, dialing int
	open         map[io.Closer]struct{}
	udp          *udpTable
}

func newNAT(f *fabric) *nat {
	n := &nat{f: f, flows: map[netip.Addr]*cardFlows{}}
	t := tcp.NewForwarder(f.stack, 0, maxInGuest, n.handleTCP)
	f.stack.SetTransportProtocolHandler(tcp.ProtocolNumber, t.HandlePacket)
	u := udp.NewForwarder(f.stack, n.handleUDP)
	f.stack.SetTransportProtocolHandler(udp.ProtocolNumber, u.HandlePacket)
	return n
}

// admit makes room for the flows of the card at ip.
func (n *nat) admit(ip netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.flows[ip] == nil {
		n.flows[ip] = &cardFlows{open: map[io.Closer]struct{}{}, udp: newUDPTable(maxUDP)}
	}
}

// expel ends all flows of the card at ip.
func (n *nat) expel(ip netip.Addr) {
	n.mu.Lock()
	flows := n.flows[ip]
	delete(n.flows, ip)
	var open []io.Closer
	if flows != nil {
		open = slices.Collect(maps.Keys(flows.open))
	}
	n.mu.Unlock()
	for _, c := range open {
		c.Close()
	}
	if flows != nil {
		flows.udp.close()
	}
}

func (n *nat) close() {
	n.mu.Lock()
	all := slices.Collect(maps.Keys(n.flows))
	n.mu.Unlock()
	for _, ip := range all {
		n.expel(ip)
	}
}

// begin takes a slot for one more TCP connection of the card at ip. opened is
// called with what to close at expel; it returns false when the card is gone.
func (n *nat) begin(ip netip.Addr) (opened func(io.Closer) bool, end func(), ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	flows := n.flows[ip]
	if flows == nil {
		return nil, nil, false
	}
	if flows.tcp >= maxTCP || flows.dialing >= maxDialing {
		if time.Since(n.told) > dropLog {
			n.told = time.Now()
			n.f.log.Warn("a guest's connections are refused: it has too many", "ip", ip, "open", flows.tcp, "dialing", flows.dialing)
		}
		return nil, nil, false
	}
	flows.tcp++
	flows.dialing++
	var mine io.Closer
	dialed := false
	opened = func(c io.Closer) bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		flows.dialing--
		dialed = true
		if n.flows[ip] != flows {
			return false
		}
		mine = c
		flows.open[c] = struct{}{}
		return true
	}
	end = func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		flows.tcp--
		if !dialed {
			flows.dialing--
		}
		delete(flows.open, mine)
	}
	return opened, end, true
}

// handleTCP runs in a goroutine of its own for each connection that a guest opens.
func (n *nat) handleTCP(r *tcp.ForwarderRequest) {
	id := r.ID()
	guest, dst := netAddr(id.RemoteAddress), netAddr(id.LocalAddress)
	opened, end, ok := n.begin(guest)
	if !ok || outside(n.f.subnet, dst) != "" {
		if ok {
			end()
		}
		r.Complete(true)
		return
	}
	defer end()
	d := net.Dialer{Timeout: dialWithin}
	out, err := d.DialContext(n.f.ctx, "tcp4", netip.AddrPortFrom(dst, id.LocalPort).String())
	if err != nil {
		r.Complete(true)
		return
	}
	var wq waiter.Queue
	ep, terr := r.CreateEndpoint(&wq)
	r.Complete(false)
	if terr != nil {
		out.Close()
		return
	}
	keepAlive(ep)
	in := gonet.NewTCPConn(&wq, ep)
	both := pair{in, out}
	if !opened(both) {
		both.Close()
		return
	}
	splice(in, out.(*net.TCPConn))
}

// dialGuest connects to a port of the guest at ip for a forward.
func (n *nat) dialGuest(ctx context.Context, ip netip.Addr, port uint16, host *net.TCPConn) error {
	opened, end, ok := n.begin(ip)
	if !ok {
		return fmt.Errorf("the guest at %s has too many connections or is gone", ip)
	}
	defer end()
	ctx, cancel := context.WithTimeout(ctx, dialWithin)
	defer cancel()
	in, err := gonet.DialContextTCP(ctx, n.f.stack, n.f.at(ip, port), ipv4.ProtocolNumber)
	if err != nil {
		return fmt.Errorf("connect to port %d of the guest: %w", port, err)
	}
	both := pair{in, host}
	if !opened(both) {
		both.Close()
		return nil
	}
	splice(in, host)
	return nil
}

func keepAlive(ep tcpip.Endpoint) {
	ep.SocketOptions().SetKeepAlive(true)
	idle := tcpip.KeepaliveIdleOption(keepaliveIdle)
	ep.SetSockOpt(&idle)
	interval := tcpip.KeepaliveIntervalOption(keepaliveIdle / 4)
	ep.SetSockOpt(&interval)
}

// pair closes both ends of a flow.
type pair struct{ a, b io.Closer }

func (p pair) Close() error {
	p.a.Close()
	return p.b.Close()
}

// halfCloser is a connection whose two directions end apart.
type halfCloser interface {
	net.Conn
	CloseWrite() error
}

// splice copies both ways until both directions have ended or one has failed,
// then closes both connections.
func splice(a, b halfCloser) {
	var wg sync.WaitGroup
	one := func(to, from halfCloser) {
		if _, err := io.Copy(to, from); err != nil {
			a.Close()
			b.Close()
			return
		}
		to.CloseWrite()
	}
	wg.Go(func() { one(a, b) })
	wg.Go(func() { one(b, a) })
	wg.Wait()
	a.Close()
	b.Close()
}

// handleUDP is called by the stack for the first datagram of a flow; it must not wait.
func (n *nat) handleUDP(r *udp.ForwarderRequest) {
	id := r.ID()
	guest, dst := netAddr(id.RemoteAddress), netAddr(id.LocalAddress)
	flows := n.udpOf(guest)
	if flows == nil || outside(n.f.subnet, dst) != "" {
		return
	}
	var wq waiter.Queue
	ep, terr := r.CreateEndpoint(&wq)
	if terr != nil {
		return
	}
	in := gonet.NewUDPConn(&wq, ep)
	out, err := net.Dial("udp4", netip.AddrPortFrom(dst, id.LocalPort).String())
	if err != nil {
		in.Close()
		return
	}
	flows.run(id, udpWay{out, in}, udpWay{in, out})
}

// udpOf returns the UDP flows of the card at ip, nil if there is no such card.
func (n *nat) udpOf(ip netip.Addr) *udpTable {
	n.mu.Lock()
	defer n.mu.Unlock()
	if flows := n.flows[ip]; flows != nil {
		return flows.udp
	}
	return nil
}
