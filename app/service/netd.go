package service

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/app/control"
	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/platform/localsock"
	"github.com/hxen-project/hxen/platform/paths"
	"github.com/hxen-project/hxen/platform/proc"
)

const (
	netGrace    = 30 * time.Second // how long a network without guests is kept up
	netBackoff  = 100 * time.Millisecond
	netMaxWait  = 10 * time.Second
	netHealthy  = 10 * time.Second // a netd that has served this long begins with a short backoff again
	defaultName = "NAT"
)

// network is one virtual network. Its netd runs while a guest on it does, or
// shortly did; keepNetwork, one goroutine, owns the connection to it.
type network struct {
	uuid  string
	files paths.Network

	// Guarded by Service.mu.
	name, subnet string
	keeping      bool         // keepNetwork runs
	waiting      []chan error // told when what is wanted now has been set
	wake         chan struct{}
}

// loadNetworks reads the networks' records and makes the default one if there
// is none. s.mu is held.
func (s *Service) loadNetworks() error {
	files, err := filepath.Glob(filepath.Join(s.store.Networks(), "*"))
	if err != nil {
		return err
	}
	for _, dir := range files {
		n := paths.NetworkDir(dir, s.run)
		b, err := os.ReadFile(n.Config())
		var c control.NetConfig
		if err == nil {
			err = json.Unmarshal(b, &c)
		}
		if err == nil && (c.UUID != filepath.Base(dir) || !validSubnet(c.Subnet)) {
			err = errors.New("it is not a record of this network")
		}
		if err != nil {
			if !errors.Is(err, fs.ErrNotExist) {
				s.log.Warn("read a network", "dir", dir, "err", err)
			}
			continue
		}
		s.addNetwork(c)
	}
	if len(s.networks) > 0 {
		return nil
	}
	c := control.NetConfig{UUID: derive(s.id.Host, "network", defaultName), Name: defaultName, Subnet: freeSubnet(hostSubnets())}
	files2 := s.store.Network(c.UUID, s.run)
	if err := os.MkdirAll(files2.Dir, 0o700); err != nil {
		return fmt.Errorf("make the default network: %w", err)
	}
	if err := writeJSON(files2.Config(), c); err != nil {
		return fmt.Errorf("make the default network: %w", err)
	}
	s.addNetwork(c)
	return nil
}

func (s *Service) addNetwork(c control.NetConfig) {
	s.networks[c.UUID] = &network{
		uuid: c.UUID, files: s.store.Network(c.UUID, s.run), name: c.Name, subnet: c.Subnet, wake: make(chan struct{}, 1),
	}
}

func validSubnet(s string) bool {
	p, err := netip.ParsePrefix(s)
	return err == nil && p.Addr().Is4() && p.Bits() <= 29
}

// hostSubnets are the subnets that this computer is on now.
func hostSubnets() []netip.Prefix {
	var out []netip.Prefix
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			out = append(out, p.Masked())
		}
	}
	return out
}

// freeSubnet picks a subnet that the host is not on, so that guests can reach
// the host's neighbours.
func freeSubnet(taken []netip.Prefix) string {
	for third := 127; third < 255; third++ {
		p := netip.MustParsePrefix(fmt.Sprintf("192.168.%d.0/24", third))
		if !slices.ContainsFunc(taken, p.Overlaps) {
			return p.String()
		}
	}
	return "10.127.0.0/24"
}

// defaultNetwork is where a new guest's card goes.
func (s *Service) defaultNetwork() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.networkOf("").uuid
}

// networkOf returns the network with this uuid; for one that this store does not
// have (a guest copied from elsewhere) the default one. s.mu is held.
func (s *Service) networkOf(uuid string) *network {
	if n := s.networks[uuid]; n != nil {
		return n
	}
	first := s.networks[derive(s.id.Host, "network", defaultName)]
	for _, n := range s.networks {
		if first == nil || first.name != defaultName && n.uuid < first.uuid {
			first = n
		}
	}
	return first
}

// attachNetworks brings up the networks that a guest's cards are on, with ports
// for them, and returns the frames socket of each.
func (s *Service) attachNetworks(ctx context.Context, g *guest, spec *hv.Spec) (map[string]string, error) {
	out := map[string]string{}
	ctx, cancel := context.WithTimeoutCause(ctx, readyWait, fmt.Errorf("the network was not ready within %v", readyWait))
	defer cancel()
	for _, card := range spec.NICs {
		done := make(chan error, 1)
		s.mu.Lock()
		n := s.networkOf(card.Network)
		n.waiting = append(n.waiting, done)
		s.keep(n)
		s.mu.Unlock()
		out[card.Network] = n.files.Frames()
		select {
		case err := <-done:
			if err != nil {
				return nil, err
			}
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return out, nil
}

// networksChanged has every network look at what is wanted of it. s.mu is held.
func (s *Service) networksChanged() {
	for _, n := range s.networks {
		if n.keeping || len(s.wanted(n).Ports) > 0 {
			s.keep(n)
		}
		s.publishNetwork(n)
	}
}

// keep wakes the network's keeper, or starts one. s.mu is held.
func (s *Service) keep(n *network) {
	if s.ctx.Err() != nil {
		return
	}
	if !n.keeping {
		n.keeping = true
		s.tasks.Go(func() { s.keepNetwork(n) })
	}
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// wanted is the network as it should be: with a port for every card of a guest
// that runs or is being started. s.mu is held.
func (s *Service) wanted(n *network) control.NetConfig {
	c := control.NetConfig{UUID: n.uuid, Name: n.name, Subnet: n.subnet, Ports: []control.NetPort{}}
	var active []*guest
	for _, g := range s.guests {
		if g.active && g.spec != nil {
			active = append(active, g)
		}
	}
	// In the order of their starts: who runs keeps the host's port that a
	// newcomer also wants. A guest that is being started has no domid yet.
	slices.SortFunc(active, func(a, b *guest) int {
		return cmp.Or(cmp.Compare(uint(a.domid), uint(b.domid)), strings.Compare(a.uuid, b.uuid))
	})
	for _, g := range active {
		for _, card := range g.spec.NICs {
			if s.networkOf(card.Network) == n {
				c.Ports = append(c.Ports, control.NetPort{
					Guest: g.uuid, Name: dnsName(g.name), NIC: card.UUID, MAC: card.MAC, Forwards: card.Forwards,
				})
			}
		}
	}
	return c
}

// dnsName makes a guest's name fit for a host name (RFC 1123).
func dnsName(name string) string {
	out := strings.Trim(strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return '-'
	}, name), "-")
	if len(out) > 63 {
		out = strings.TrimRight(out[:63], "-")
	}
	if out == "" {
		return "guest"
	}
	return out
}

// netConn is the keeper's hold on its netd.
type netConn struct {
	conn   *control.Conn
	events <-chan control.Event
	set    *control.NetConfig // as last set; nil before
	since  time.Time
}

// keepNetwork holds the network in the state that is wanted until it has been
// out of use for a while.
func (s *Service) keepNetwork(n *network) {
	var c netConn
	var notBefore time.Time // backoff: no attempt before this
	wait := netBackoff
	failed := func() {
		if !c.since.IsZero() && time.Since(c.since) > netHealthy {
			wait = netBackoff
		}
		notBefore = time.Now().Add(wait)
		wait = min(2*wait, netMaxWait)
		c = netConn{}
	}
	var retry, idle <-chan time.Time
	for {
		retry = nil
		used := s.used(n)
		if used {
			idle = nil
		} else if idle == nil {
			idle = time.After(s.netGrace)
		}
		switch delay := time.Until(notBefore); {
		case !used && c.conn == nil:
		case delay > 0:
			retry = time.After(delay)
		default:
			if err := s.serve(n, &c); err != nil && s.ctx.Err() == nil {
				s.log.Error("hold a network", "network", n.name, "err", err)
				failed()
				continue
			}
		}
		var gone <-chan struct{}
		if c.conn != nil {
			gone = c.conn.Done()
		}
		select {
		case <-n.wake:
		case <-retry:
		case <-gone:
			c.conn.Close()
			failed()
		case _, ok := <-c.events:
			if !ok {
				c.events = nil
				continue
			}
			s.askLeases(n, c.conn)
		case <-idle:
			if s.stopNetwork(n, c.conn) {
				return
			}
			c, idle = netConn{}, nil
		case <-s.ctx.Done():
			if c.conn != nil {
				c.conn.Close() // netd lives on
			}
			return
		}
	}
}

// used reports whether somebody needs the network.
func (s *Service) used(n *network) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(n.waiting) > 0 || len(s.wanted(n).Ports) > 0
}

// serve applies what is wanted now and tells those who wait for it.
func (s *Service) serve(n *network, c *netConn) error {
	s.mu.Lock()
	want, waiting := s.wanted(n), n.waiting
	n.waiting = nil
	s.mu.Unlock()
	err := s.apply(n, c, want)
	for _, w := range waiting {
		w <- err
	}
	return err
}

// apply connects to the network's netd, starting it if nobody serves, and sets
// what is wanted if that has changed.
func (s *Service) apply(n *network, c *netConn, want control.NetConfig) error {
	if c.conn == nil {
		conn, err := s.dialNetwork(n)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(s.ctx, callWait)
		defer cancel()
		events, err := conn.Subscribe(ctx, 0)
		if err != nil {
			conn.Close()
			return err
		}
		*c = netConn{conn: conn, events: events, since: time.Now()}
	}
	if c.set != nil && reflect.DeepEqual(*c.set, want) {
		return nil
	}
	ctx, cancel := context.WithTimeout(s.ctx, callWait)
	defer cancel()
	if err := c.conn.Call(ctx, control.VerbSet, want, nil); err != nil {
		c.conn.Close()
		return err
	}
	c.set = &want
	s.askLeases(n, c.conn)
	return nil
}

func (s *Service) dialNetwork(n *network) (*control.Conn, error) {
	conn, err := s.dial(s.ctx, n.files.Ctl(), n.uuid)
	if err == nil || !localsock.Absent(err) {
		return conn, err
	}
	if _, err := s.startProgram(s.ctx, s.opt.Netd, n.files.Dir, n.files.Log()); err != nil {
		return nil, &control.Error{Stage: "network", Text: "the network cannot be started: " + err.Error(), Cure: "or start the guest without a network"}
	}
	return s.dial(s.ctx, n.files.Ctl(), n.uuid)
}

// stopNetwork ends a netd that nobody needs. It reports whether the keeper may
// end; it may not if somebody has come to need the network meanwhile.
func (s *Service) stopNetwork(n *network, conn *control.Conn) bool {
	if s.used(n) {
		return false
	}
	if conn != nil {
		ctx, cancel := context.WithTimeout(s.ctx, dialWait)
		defer cancel()
		if err := conn.Call(ctx, control.VerbStop, nil, nil); err != nil {
			s.log.Warn("stop a network", "network", n.name, "err", err)
		}
		conn.Close()
		if err := proc.WaitFree(ctx, n.files.Lock()); err != nil && s.ctx.Err() == nil {
			s.log.Warn("stop a network", "network", n.name, "err", err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n.keeping = len(n.waiting) > 0 || len(s.wanted(n).Ports) > 0
	return !n.keeping
}

// askLeases learns the guests' addresses and shows them.
func (s *Service) askLeases(n *network, conn *control.Conn) {
	if conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(s.ctx, callWait)
	defer cancel()
	var leases []control.Lease
	if err := conn.Call(ctx, control.VerbLeases, nil, &leases); err != nil {
		return // a dead connection is seen by the keeper
	}
	byNIC := map[string]control.Lease{}
	for _, l := range leases {
		byNIC[l.NIC] = l
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.guests {
		if g.active && g.sound() {
			s.takeLeases(g, n, byNIC)
		}
	}
	s.publishNetwork(n)
}

// takeLeases applies what a network says of one guest's cards. s.mu is held.
func (s *Service) takeLeases(g *guest, n *network, byNIC map[string]control.Lease) {
	now := map[string]control.Lease{}
	for id, l := range g.leases {
		now[id] = l
	}
	for _, card := range g.spec.NICs {
		if s.networkOf(card.Network) != n {
			continue
		}
		delete(now, card.UUID)
		l, ok := byNIC[card.UUID]
		if !ok {
			continue
		}
		now[card.UUID] = l
		if len(l.Failed) > 0 {
			g.notice = strings.Join(l.Failed, "; ")
		}
	}
	if !reflect.DeepEqual(now, g.leases) {
		g.leases = now
		s.publish(g)
	}
}

// address is what a card has taken in this run; networks also keep addresses
// for cards that have not asked yet. Service.mu is held.
func (g *guest) address(nic string) string {
	l := g.leases[nic]
	if l.Seen.IsZero() || l.Seen.Before(g.status.Started.Truncate(time.Second)) { // networks keep whole seconds
		return ""
	}
	return l.IP
}

// publishNetwork shows a network. s.mu is held.
func (s *Service) publishNetwork(n *network) {
	r := api.Network{
		UUID: n.uuid, NameLabel: n.name, NameDescription: "guests reach the world and each other; subnet " + n.subnet,
		MTU: 1500, Managed: true, DefaultLockingMode: "unlocked", Bridge: "hxen-" + n.files.ID,
		AssignedIPs: map[api.Ref]string{}, OtherConfig: map[string]string{"hxen:subnet": n.subnet},
	}
	for _, g := range s.sorted() {
		if !g.sound() {
			continue
		}
		for _, card := range g.spec.NICs {
			if s.networkOf(card.Network) != n {
				continue
			}
			r.VIFs = append(r.VIFs, api.RefOf(card.UUID))
			if ip := g.address(card.UUID); ip != "" {
				r.AssignedIPs[api.RefOf(card.UUID)] = ip
			}
		}
	}
	s.db.Put(api.RefOf(n.uuid), r)
}
