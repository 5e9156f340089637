package netd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"

	"github.com/hxen-project/hxen/hv"
)

// forward is a port of the host that leads to a port of a guest.
type forward struct {
	nic   string // the card's uuid
	guest netip.Addr
	proto string // tcp or udp
	bind  string // host:port
	to    uint16
}

// newForward fills in the defaults of a wanted forward.
func newForward(nic string, guest netip.Addr, want hv.Forward) forward {
	proto, host := want.Proto, want.Host
	if proto == "" {
		proto = "tcp"
	}
	if host == "" {
		host = "127.0.0.1"
	}
	return forward{nic: nic, guest: guest, proto: proto, bind: net.JoinHostPort(host, strconv.Itoa(int(want.From))), to: want.To}
}

// socket is what two forwards cannot share.
func (f forward) socket() string { return f.proto + " " + f.bind }

// forwards holds the host's listening sockets. Its owner calls it from one
// goroutine at a time.
type forwards struct {
	log  *slog.Logger
	open map[forward]io.Closer
}

func newForwards(log *slog.Logger) *forwards {
	return &forwards{log: log, open: map[forward]io.Closer{}}
}

// set makes want the open forwards, trying again those that failed before. It
// returns a sentence for each that could not be opened, by card.
func (s *forwards) set(n *nat, want []forward) (failed map[string][]string) {
	failed = map[string][]string{}
	keep, taken := map[forward]bool{}, map[string]bool{}
	var missing []forward
	for _, f := range want {
		if taken[f.socket()] {
			failed[f.nic] = append(failed[f.nic], fmt.Sprintf("port %s (%s) is forwarded already: choose another port of this computer", f.bind, f.proto))
			continue
		}
		taken[f.socket()], keep[f] = true, true
		if s.open[f] == nil {
			missing = append(missing, f)
		}
	}
	for f, c := range s.open {
		if !keep[f] {
			c.Close()
			delete(s.open, f)
		}
	}
	for _, f := range missing {
		c, err := listen(n, f, s.log)
		if err != nil {
			failed[f.nic] = append(failed[f.nic], sentence(f, err))
			s.log.Warn("a forward cannot be opened", "forward", f.socket(), "err", err)
			continue
		}
		s.open[f] = c
	}
	return failed
}

// close ends all forwards.
func (s *forwards) close() { s.set(nil, nil) }

// sentence tells the user why a forward cannot be and what to do.
func sentence(f forward, err error) string {
	where := fmt.Sprintf("port %s (%s) of this computer", f.bind, f.proto)
	switch {
	case errors.Is(err, errInUse):
		return where + " is in use by another program: end that program or forward another port"
	case errors.Is(err, fs.ErrPermission) || errors.Is(err, errAccess):
		return where + noAccess
	case errors.Is(err, errNoAddress):
		return where + " is on no address that this computer has: use 127.0.0.1, or 0.0.0.0 for all of its addresses"
	}
	return fmt.Sprintf("%s cannot be opened: %v; forward another port", where, err)
}

func listen(n *nat, f forward, log *slog.Logger) (io.Closer, error) {
	ctx, cancel := context.WithCancel(n.f.ctx)
	if f.proto == "udp" {
		sock, err := net.ListenPacket("udp", f.bind)
		if err != nil {
			cancel()
			return nil, err
		}
		go forwardUDP(n, f, sock, log)
		return closer(func() { cancel(); sock.Close() }), nil
	}
	ln, err := net.Listen("tcp", f.bind)
	if err != nil {
		cancel()
		return nil, err
	}
	go forwardTCP(ctx, n, f, ln, log)
	return closer(func() { cancel(); ln.Close() }), nil
}

type closer func()

func (c closer) Close() error { c(); return nil }

func forwardTCP(ctx context.Context, n *nat, f forward, ln net.Listener, log *slog.Logger) {
	for {
		host, err := ln.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			log.Warn("a forward cannot accept", "forward", f.socket(), "err", err)
			select {
			case <-ctx.Done():
				return
			case <-time.After(time.Second): // out of file descriptors: give connections time to end
			}
			continue
		}
		go func() {
			conn := host.(*net.TCPConn)
			defer conn.Close()
			if err := n.dialGuest(ctx, f.guest, f.to, conn); err != nil {
				conn.SetLinger(0) // reset: the caller must not take this for an answer
				log.Debug("a forwarded connection failed", "forward", f.socket(), "err", err)
			}
		}()
	}
}

// maxForwardUDP is how many peers one UDP forward serves at one time.
const maxForwardUDP = 256

// forwardUDP gives each peer on the host's side a flow of its own.
func forwardUDP(n *nat, f forward, sock net.PacketConn, log *slog.Logger) {
	table := newUDPTable(maxForwardUDP)
	defer table.close()
	buf := make([]byte, udpBuffer)
	for {
		size, peer, err := sock.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // Windows tells here that an earlier datagram was refused
		}
		key := peer.String()
		flow := table.find(key)
		if flow == nil {
			at := n.f.at(f.guest, f.to)
			guest, err := gonet.DialUDP(n.f.stack, nil, &at, ipv4.ProtocolNumber)
			if err != nil {
				log.Debug("a forwarded datagram is lost", "forward", f.socket(), "err", err)
				continue
			}
			flow = table.run(key, udpWay{to: peerWriter{sock, peer}, from: guest})
		}
		flow.touch()
		flow.ways[0].from.Write(buf[:size])
	}
}

// peerWriter sends datagrams to one peer of an unconnected socket.
type peerWriter struct {
	sock net.PacketConn
	peer net.Addr
}

func (w peerWriter) Write(p []byte) (int, error) { return w.sock.WriteTo(p, w.peer) }
