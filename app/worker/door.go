package worker

import (
	"context"
	"errors"
	"net"
	"sync"
)

// Door is a Relay's listener with a second way in: engines that are processes of
// their own come over the socket, one that runs in this process by Dial, which
// needs no system call that a confined process has given up.
type Door struct {
	socket net.Listener
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

var errDoor = errors.New("the network card's socket is closed")

// NewDoor owns the socket; nil is none, for a process that cannot make any.
func NewDoor(socket net.Listener) *Door {
	d := &Door{socket: socket, conns: make(chan net.Conn), closed: make(chan struct{})}
	if socket != nil {
		go d.watch()
	}
	return d
}

func (d *Door) watch() {
	defer d.Close()
	for {
		c, err := d.socket.Accept()
		if err != nil || !d.enter(context.Background(), c) {
			return
		}
	}
}

// enter waits until somebody accepts c; it closes c when nobody will.
func (d *Door) enter(ctx context.Context, c net.Conn) bool {
	select {
	case d.conns <- c:
		return true
	case <-d.closed:
	case <-ctx.Done():
	}
	c.Close()
	return false
}

// Accept is net.Listener's.
func (d *Door) Accept() (net.Conn, error) {
	select {
	case c := <-d.conns:
		return c, nil
	case <-d.closed:
		return nil, errDoor
	}
}

// Dial connects from within this process.
func (d *Door) Dial(ctx context.Context) (net.Conn, error) {
	here, there := net.Pipe()
	if !d.enter(ctx, there) {
		here.Close()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, errDoor
	}
	return here, nil
}

// Close is net.Listener's.
func (d *Door) Close() error {
	d.once.Do(func() { close(d.closed) })
	if d.socket == nil {
		return nil
	}
	return d.socket.Close()
}

// Addr is net.Listener's.
func (d *Door) Addr() net.Addr {
	if d.socket == nil {
		return &net.UnixAddr{Net: "unix"}
	}
	return d.socket.Addr()
}
