package netd

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"github.com/containers/gvisor-tap-vsock/pkg/types"

	"github.com/hxen-project/hxen/app/control"
)

// helloWithin bounds how long a relay may take to say which card it is.
const helloWithin = 5 * time.Second

// set makes config the desired state, keeps it, and brings the network there.
func (s *server) set(config control.NetConfig) error {
	if config.UUID != s.uuid {
		return fmt.Errorf("configuration of network %s was sent to network %s", config.UUID, s.uuid)
	}
	if _, err := subnetOf(config.Subnet); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := saveJSON(s.files.Config(), config); err != nil {
		return fmt.Errorf("keep the network's configuration: %w", err)
	}
	return s.apply(config)
}

// apply brings the network to config: cards that stay keep their connections
// and flows. The caller holds s.mu.
func (s *server) apply(config control.NetConfig) error {
	subnet, err := subnetOf(config.Subnet)
	if err != nil {
		return err
	}
	if s.fabric != nil && s.fabric.subnet != subnet {
		s.forwards.close()
		s.tearDown()
		s.cards = map[string]*card{}
	}
	if s.fabric == nil {
		if s.fabric, err = newFabric(subnet, s.log); err != nil {
			s.fabric = nil
			return fmt.Errorf("make network %s: %w", subnet, err)
		}
	}
	before := slices.Clone(s.leases.Leases)
	s.leases.assign(subnet, config.Ports)
	if !reflect.DeepEqual(before, s.leases.Leases) {
		s.saveLeases()
	}
	s.config = config
	s.applyCards()
	s.fabric.names.set(s.hostNames())
	s.applyForwards()
	return nil
}

// applyCards makes s.cards what s.config wants. The caller holds s.mu.
func (s *server) applyCards() {
	wanted := s.wantedCards()
	for nic, old := range s.cards {
		now := wanted[nic]
		if now != nil && now.filter == old.filter && now.why == old.why {
			old.port, old.failed = now.port, nil
			wanted[nic] = old
			continue
		}
		old.unplug()
		if old.why == "" {
			s.fabric.nat.expel(old.filter.ip)
			s.fabric.pool.Release(macText(old.filter.mac))
		}
	}
	s.cards = wanted
	for _, c := range wanted {
		if c.why == "" {
			s.fabric.pool.Reserve(c.filter.ip.AsSlice(), macText(c.filter.mac))
			s.fabric.nat.admit(c.filter.ip)
		}
	}
}

// wantedCards builds the cards of s.config. The caller holds s.mu.
func (s *server) wantedCards() map[string]*card {
	gateway, _ := parseMAC(gatewayMAC)
	owner := map[[6]byte]string{gateway: "the gateway"}
	cards := map[string]*card{}
	for _, p := range s.config.Ports {
		if cards[p.NIC] != nil {
			s.log.Warn("a card is in the configuration twice; the first counts", "nic", p.NIC)
			continue
		}
		c := &card{port: p}
		cards[p.NIC] = c
		mac, ok := parseMAC(p.MAC)
		l := s.leases.find(p.NIC)
		switch {
		case !ok:
			c.why = fmt.Sprintf("%q is not a network card's address: give the card another", p.MAC)
		case owner[mac] != "":
			c.why = fmt.Sprintf("the address %s belongs to %s already: give the card another", p.MAC, owner[mac])
		case l == nil || !l.IP.IsValid():
			c.why = fmt.Sprintf("the network %s has no address left: remove guests from it or give it a larger subnet", s.config.Subnet)
		default:
			owner[mac] = "the card of " + p.Name
			c.filter = filter{mac: mac, gatewayMAC: gateway, ip: l.IP, gateway: s.fabric.gateway, subnet: s.fabric.subnet}
		}
	}
	return cards
}

// hostNames are the DNS names of the network. The caller holds s.mu.
func (s *server) hostNames() map[string]netip.Addr {
	hosts := map[string]netip.Addr{"gateway": s.fabric.gateway}
	for _, p := range s.config.Ports {
		c := s.cards[p.NIC]
		label := hostLabel(p.Name)
		if c == nil || c.why != "" || label == "" || c.port.NIC != p.NIC {
			continue
		}
		name := label
		for i := 2; hosts[name].IsValid() && hosts[name] != c.filter.ip; i++ {
			name = fmt.Sprintf("%s-%d", label, i)
		}
		hosts[name] = c.filter.ip
	}
	return hosts
}

// applyForwards opens and closes forwards; failures are told, not fatal. The
// caller holds s.mu.
func (s *server) applyForwards() {
	var want []forward
	for _, p := range s.config.Ports {
		c := s.cards[p.NIC]
		if c.why != "" {
			continue
		}
		for _, f := range p.Forwards {
			if err := f.Check(); err != nil {
				c.failed = append(c.failed, err.Error())
				continue
			}
			want = append(want, newForward(p.NIC, c.filter.ip, f))
		}
	}
	for nic, failed := range s.forwards.set(s.fabric.nat, want) {
		s.cards[nic].failed = append(s.cards[nic].failed, failed...)
		for _, text := range failed {
			s.notice(nic, text)
		}
	}
}

// attach serves one relay's connection until it ends.
func (s *server) attach(ctx context.Context, nc net.Conn) {
	defer nc.Close()
	defer context.AfterFunc(ctx, func() { nc.Close() })()
	nc.SetDeadline(time.Now().Add(helloWithin))
	r := bufio.NewReaderSize(nc, control.MaxFramesLine)
	line, err := r.ReadSlice('\n')
	if err != nil {
		s.log.Warn("a network card's relay said nothing", "err", err)
		return
	}
	var hello control.FramesHello
	if err := json.Unmarshal(line, &hello); err != nil || hello.Protocol < control.MinProtocol {
		s.answer(nc, "the first line must be a hello of a known protocol: update the older of the two programs")
		return
	}
	c, f, why := s.plug(hello, nc, r)
	if why != "" {
		s.log.Warn("a network card is refused", "nic", hello.NIC, "mac", hello.MAC, "why", why)
		s.answer(nc, why)
		return
	}
	s.log.Info("network card connected", "nic", hello.NIC, "mac", hello.MAC)
	err = f.sw.Accept(ctx, c.conn, types.QemuProtocol)
	close(c.gone)
	s.unplugged(hello.NIC, c, err)
}

// plugged is one connection of a card.
type plugged struct {
	conn *cardConn
	gone chan struct{}
}

// plug makes nc the connection of the card that hello names; an earlier one ends.
func (s *server) plug(hello control.FramesHello, nc net.Conn, r *bufio.Reader) (plugged, *fabric, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.cards[hello.NIC]
	if c == nil || s.fabric == nil {
		return plugged{}, nil, "this network has no such card"
	}
	if c.why != "" {
		return plugged{}, nil, c.why
	}
	if mac, ok := parseMAC(hello.MAC); !ok || mac != c.filter.mac {
		return plugged{}, nil, fmt.Sprintf("the card has the address %s on this network, not %s", c.port.MAC, hello.MAC)
	}
	c.unplug()
	if err := s.answer(nc, ""); err != nil {
		return plugged{}, nil, err.Error()
	}
	nc.SetDeadline(time.Time{})
	conn := newCardConn(nc, r, hello.NIC, c.filter, s.log)
	conn.dhcp = func() {
		select {
		case s.seen <- hello.NIC:
		default: // a busy guest; it takes its address again before the lease ends
		}
	}
	pings, subnet := newPinger(conn), s.fabric.subnet
	conn.echo = func(frame []byte) {
		if outside(subnet, netip.AddrFrom4([4]byte(frame[etherHeader+16:]))) == "" {
			pings.request(frame)
		}
	}
	c.conn, c.gone, c.taken = conn, make(chan struct{}), false
	s.notice(hello.NIC, "the network card is connected")
	return plugged{conn, c.gone}, s.fabric, ""
}

// unplugged is called when the switch has let go of a connection.
func (s *server) unplugged(nic string, p plugged, err error) {
	p.conn.Close()
	<-p.conn.ended
	s.log.Info("network card disconnected", "nic", nic, "err", err, "counts", p.conn.counts())
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.cards[nic]; c != nil && c.conn == p.conn {
		c.conn = nil
		s.notice(nic, "the network card is disconnected")
	}
}

// answer sends the line that follows the hello.
func (s *server) answer(nc net.Conn, refused string) error {
	b, err := json.Marshal(control.FramesAnswer{Protocol: control.Protocol, Refused: refused})
	if err != nil {
		return err
	}
	_, err = nc.Write(append(b, '\n'))
	return err
}

func macText(mac [6]byte) string { return net.HardwareAddr(mac[:]).String() }
