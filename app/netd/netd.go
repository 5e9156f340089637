// Package netd is one virtual network in a process of its own: a switch for the
// guests' cards, a gateway with DHCP and DNS, NAT over ordinary sockets of the
// host and forwards from the host's ports. It needs no rights: the whole
// network is user-space code of gvisor-tap-vsock and gVisor's stack.
//
// Files in reading order: netd.go (the process: desired state, cards, control),
// network.go (the subnet and its services), card.go and filter.go (one guest's
// frames), nat.go, udp.go, ping.go (guest to outside), forward.go (host to
// guest), names.go (DNS), lease.go (who has which address).
//
// It knows the control protocol and the network's folder. It knows nothing of
// guests but the cards that the desired state names, and nothing of the service.
//
// What a guest may do: reach other guests of its network, and the outside as
// any program of this user can. The host's loopback and link-local services are
// closed to it, it can send only from its own addresses, and its flows are
// bounded (nat.go). The network carries IPv4 and ARP; multicast is not carried.
package netd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/hxen-project/hxen/app/control"
	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/platform/localsock"
	"github.com/hxen-project/hxen/platform/paths"
	"github.com/hxen-project/hxen/platform/proc"
)

const (
	program = "hxen-netd"
	// maxClients bounds the connections that are open at one time on the control
	// socket; the owner's own programs are few.
	maxClients = 64
	// quitWait is how long the client that said quit may take to go.
	quitWait = time.Second
	// seenEvery bounds how often a guest can make us write leases.json.
	seenEvery = time.Minute
)

// server is the process.
type server struct {
	files  paths.Network
	uuid   string
	log    *slog.Logger
	events *control.EventLog
	seen   chan string // cards whose guest has just taken its address
	end    func()      // ends Run

	mu       sync.Mutex // guards the fields below
	config   control.NetConfig
	fabric   *fabric // nil until there is a valid configuration
	forwards *forwards
	cards    map[string]*card // by NIC uuid
	leases   leaseFile
	noted    map[string]time.Time // when a lease's Seen was last written, by NIC uuid
}

// card is one port of the desired state.
type card struct {
	port   control.NetPort
	filter filter
	why    string   // why it cannot connect; empty if it can
	failed []string // forwards that could not be opened

	conn  *cardConn     // nil while it is not connected
	gone  chan struct{} // closed when the switch has let go of conn
	taken bool          // the guest took its address since it connected
}

// Run serves the network in folder dir until ctx ends or a client says quit.
// ready is called once clients can connect.
func Run(ctx context.Context, dir, run, version string, ready func()) error {
	if !filepath.IsAbs(dir) || run == "" {
		return errors.New("hxen-netd: --dir and --run are needed; the service starts this program")
	}
	files := paths.NetworkDir(dir, run)
	lock, err := proc.TryLock(files.Lock())
	if errors.Is(err, proc.ErrLocked) {
		return fmt.Errorf("%s: the network is running already", dir)
	}
	if err != nil {
		return fmt.Errorf("lock the network's folder: %w", err)
	}
	defer lock.Close()
	logFile, err := openLog(files.Log())
	if err != nil {
		return err
	}
	defer logFile.Close()
	// The library logs what guests make it log, at their pace, through logrus.
	logrus.SetOutput(io.Discard)
	ctx, end := context.WithCancel(ctx)
	defer end()
	s := &server{
		files: files, uuid: filepath.Base(dir), end: end, events: control.NewEventLog(), seen: make(chan string, 64),
		log:   slog.New(slog.NewTextHandler(logFile, nil)),
		cards: map[string]*card{}, noted: map[string]time.Time{},
	}
	s.forwards = newForwards(s.log)
	s.load()
	defer s.stop()
	ctl, err := localsock.Listen(files.Ctl())
	if err != nil {
		return fmt.Errorf("listen for the service: %w", err)
	}
	defer ctl.Close()
	frames, err := localsock.Listen(files.Frames())
	if err != nil {
		return fmt.Errorf("listen for network cards: %w", err)
	}
	defer frames.Close()
	s.log.Info("network is up", "version", version, "pid", os.Getpid())
	ready()
	s.serve(ctx, ctl, frames, version)
	return nil
}

// serve runs until ctx ends and everything that it started has.
func (s *server) serve(ctx context.Context, ctl, frames net.Listener, version string) {
	defer context.AfterFunc(ctx, func() { ctl.Close(); frames.Close() })()
	var work, clients sync.WaitGroup
	talk, hangUp := context.WithCancel(context.WithoutCancel(ctx))
	defer hangUp()
	half := &control.Server{
		Hello:   control.Hello{Protocol: control.Protocol, Min: control.MinProtocol, Program: program, Version: version, UUID: s.uuid, PID: os.Getpid()},
		Handler: s, Log: s.events,
	}
	work.Go(func() {
		s.accept(ctx, limit(ctl, maxClients), func(nc net.Conn) {
			clients.Go(func() {
				if err := half.ServeConn(talk, nc); err != nil {
					s.log.Debug("a client's connection failed", "err", err)
				}
			})
		})
	})
	work.Go(func() {
		s.accept(ctx, frames, func(nc net.Conn) { work.Go(func() { s.attach(ctx, nc) }) })
	})
	work.Go(func() { s.followSeen(ctx) })
	<-ctx.Done()
	// Whoever said quit reads the answer and goes; others are hung up on.
	defer time.AfterFunc(quitWait, hangUp).Stop()
	clients.Wait()
	s.stop()
	work.Wait()
}

// accept gives f every connection of this user or the administrator.
func (s *server) accept(ctx context.Context, ln net.Listener, f func(net.Conn)) {
	for {
		nc, err := ln.Accept()
		if err != nil {
			if ctx.Err() == nil {
				s.log.Error("a socket failed; the network ends and the service starts it again", "err", err)
				s.end()
			}
			return
		}
		if err := allowed(nc); err != nil {
			s.log.Warn("a connection is refused", "err", err)
			nc.Close()
			continue
		}
		f(nc)
	}
}

func allowed(nc net.Conn) error {
	if l, ok := nc.(*limitedConn); ok {
		nc = l.Conn
	}
	p, err := localsock.Peer(nc)
	if err != nil {
		return err
	}
	return localsock.Allowed(p)
}

// load takes up what the last process left.
func (s *server) load() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := loadJSON(s.files.Leases(), &s.leases); err != nil {
		s.log.Error("addresses are given anew", "err", err)
		s.leases = leaseFile{}
	}
	var config control.NetConfig
	found, err := loadJSON(s.files.Config(), &config)
	if err == nil && found {
		err = s.apply(config)
	}
	if err != nil {
		s.log.Error("the network waits for the service to configure it", "err", err)
	}
}

// stop ends the cards' connections, the forwards and the network.
func (s *server) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forwards.close()
	s.tearDown()
}

// tearDown ends the fabric. The caller holds s.mu.
func (s *server) tearDown() {
	for _, c := range s.cards {
		c.unplug()
	}
	if s.fabric != nil {
		s.fabric.close()
		s.fabric = nil
	}
}

// unplug ends the card's connection and waits until the switch has let go.
func (c *card) unplug() {
	if c.conn != nil {
		c.conn.Close()
		<-c.gone
	}
}

// Handle answers the service.
func (s *server) Handle(_ context.Context, verb string, params json.RawMessage) (any, error) {
	switch verb {
	case control.VerbSet:
		var config control.NetConfig
		if err := json.Unmarshal(params, &config); err != nil {
			return nil, fmt.Errorf("read the configuration: %w", err)
		}
		return nil, s.set(config)
	case control.VerbLeases:
		return s.leaseList(), nil
	case control.VerbStop:
		s.end()
		return nil, nil
	}
	return nil, fmt.Errorf("a network cannot %q: %w", verb, hv.ErrUnsupported)
}

// OpenStream: a network has no streams.
func (s *server) OpenStream(_ context.Context, kind string) (io.ReadWriteCloser, error) {
	return nil, fmt.Errorf("a network has no %q stream: %w", kind, hv.ErrUnsupported)
}

func (s *server) leaseList() []control.Lease {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := []control.Lease{}
	for _, p := range s.config.Ports {
		c := s.cards[p.NIC]
		if c == nil || slices.ContainsFunc(list, func(l control.Lease) bool { return l.NIC == p.NIC }) {
			continue
		}
		l := control.Lease{NIC: p.NIC, MAC: p.MAC, Connected: c.conn != nil, Failed: slices.Clone(c.failed)}
		if c.why != "" {
			l.Failed = append(l.Failed, c.why)
		} else {
			l.IP = c.filter.ip.String()
		}
		if known := s.leases.find(p.NIC); known != nil {
			l.Seen = known.Seen
		}
		list = append(list, l)
	}
	return list
}

// notice tells the clients that something about a card's lease has changed.
func (s *server) notice(nic, text string) {
	s.events.Add(control.Event{Event: &hv.Event{Kind: hv.EventNotice, Object: nic, Text: text}})
}

// followSeen notes when guests take their addresses.
func (s *server) followSeen(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case nic := <-s.seen:
			s.noteSeen(nic)
		}
	}
}

func (s *server) noteSeen(nic string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, l := s.cards[nic], s.leases.find(nic)
	if c == nil || l == nil {
		return
	}
	l.Seen = time.Now().UTC().Truncate(time.Second)
	if time.Since(s.noted[nic]) >= seenEvery {
		s.noted[nic] = time.Now()
		s.saveLeases()
	}
	if !c.taken {
		c.taken = true
		s.notice(nic, fmt.Sprintf("%s has the address %s", c.port.Name, c.filter.ip))
	}
}

// saveLeases writes leases.json. The caller holds s.mu.
func (s *server) saveLeases() {
	s.leases.Version = leaseVersion
	if err := saveJSON(s.files.Leases(), s.leases); err != nil {
		s.log.Error("addresses may change when the network restarts", "err", err)
	}
}

// subnetOf checks what a network is given.
func subnetOf(text string) (netip.Prefix, error) {
	subnet, err := netip.ParsePrefix(text)
	if err != nil || !subnet.Addr().Is4() {
		return subnet, fmt.Errorf("subnet %q: write it like 192.168.127.0/24", text)
	}
	if subnet.Bits() < 8 || subnet.Bits() > 29 {
		return subnet, fmt.Errorf("subnet %q: it must be between /8 and /29", text)
	}
	if a := subnet.Addr(); a.IsLoopback() || a.IsMulticast() || a.IsLinkLocalUnicast() || a.As4()[0] == 0 || a.As4()[0] >= 224 {
		return subnet, fmt.Errorf("subnet %q: these addresses have another meaning; use a private range like 192.168.127.0/24", text)
	}
	return subnet.Masked(), nil
}
