package qemu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hxen-project/hxen/hv"
)

// QEMU and the engine speak over Unix sockets. Where these do not work (Windows before
// 1803, and some after it) they speak over TCP on the loopback interface, where every
// user of the computer may connect. So QEMU dials the engine there as well, and the
// engine takes a connection only if the system says that it is this QEMU's
// (hv.Host.PeerPID); the screen, for which QEMU listens, has a password (vnc.go).
// Nothing listens for a state to come in: such guests cannot be saved.
//
// An address is a socket's path, or "tcp:127.0.0.1:PORT", which is QEMU's own
// notation in URIs.
const (
	loopback = "tcp:127.0.0.1:"
	anyPort  = loopback + "0"
)

// port is the port of a TCP address.
func port(address string) (string, bool) { return strings.CutPrefix(address, loopback) }

// chardevAddress is the address in the words of -chardev socket.
func chardevAddress(address string) string {
	if p, ok := port(address); ok {
		return "host=127.0.0.1,ipv6=off,nodelay=on,port=" + p
	}
	return "path=" + esc(address)
}

// socketAddress is the address as QAPI's SocketAddress.
func socketAddress(address string) map[string]any {
	if p, ok := port(address); ok {
		return map[string]any{"type": "inet", "host": "127.0.0.1", "port": p}
	}
	return map[string]any{"type": "unix", "path": address}
}

// plug is where QEMU dials.
type plug interface {
	net.Listener
	SetDeadline(time.Time) error
}

// listen listens on a socket whose name only the holder of the guest's lock
// uses: what lies there is left over from a worker that was killed. Of anyPort it
// returns the address that it became.
func listen(address string) (plug, string, error) {
	if address == anyPort {
		l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			return nil, "", fmt.Errorf("listen for QEMU: %w", err)
		}
		return l, loopback + strconv.Itoa(l.Addr().(*net.TCPAddr).Port), nil
	}
	_ = os.Remove(address)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: address, Net: "unix"})
	if err != nil {
		return nil, "", fmt.Errorf("listen for QEMU: %w", err)
	}
	return l, address, nil
}

// probeTurn is how long a Unix socket gets to show that it works.
const probeTurn = 5 * time.Second

// tryUnix says why Unix sockets do not work in a folder: it uses one.
func tryUnix(dir string) error {
	l, address, err := listen(filepath.Join(dir, "try"))
	if err != nil {
		return err
	}
	defer l.Close()
	_ = l.SetDeadline(time.Now().Add(probeTurn))
	here, err := net.DialTimeout("unix", address, probeTurn)
	if err != nil {
		return err
	}
	defer here.Close()
	there, err := l.Accept()
	if err != nil {
		return err
	}
	defer there.Close()
	_ = here.SetDeadline(time.Now().Add(probeTurn))
	_ = there.SetDeadline(time.Now().Add(probeTurn))
	if _, err := here.Write([]byte("x")); err != nil {
		return err
	}
	_, err = io.ReadFull(there, make([]byte, 1))
	return err
}

// errStranger says that a connection is not of the QEMU that was started.
var errStranger = errors.New("another program is at the other end")

// verify refuses a TCP connection that is not with process pid.
func verify(conn net.Conn, pid int, h hv.Host) error {
	if _, tcp := conn.(*net.TCPConn); !tcp {
		return nil // the folder of the sockets is ours alone
	}
	got, err := h.PeerPID(conn)
	if err != nil {
		return err
	}
	if got != pid {
		return fmt.Errorf("process %d: %w", got, errStranger)
	}
	return nil
}

// door carries a network card's frames from QEMU to the worker's socket, where QEMU
// cannot dial that itself: it is a named pipe on Windows.
type door struct {
	l      plug
	socket string // the worker's
}

// door opens one; id names its socket.
func (n names) door(socket, id string) (door, string, error) {
	address := anyPort
	if n.Password == "" {
		address = filepath.Join(n.temp, id)
	}
	l, address, err := listen(address)
	return door{l, socket}, address, err
}

// serve waits for QEMU in the background, and carries until one side ends.
func (d door) serve(ch *child, h hv.Host) {
	go func() {
		defer d.l.Close()
		card, err := ch.accept(context.Background(), d.l)
		if err != nil {
			return // QEMU has ended, and is said to have
		}
		defer card.Close()
		relay, err := h.Dial(context.Background(), d.socket)
		if err != nil {
			h.Log.Error("connect a network card", "err", err)
			return
		}
		var both sync.WaitGroup
		for _, way := range [][2]net.Conn{{card, relay}, {relay, card}} {
			both.Go(func() {
				_, _ = io.Copy(way[0], way[1])
				_ = card.Close()
				_ = relay.Close()
			})
		}
		both.Wait()
	}()
}
