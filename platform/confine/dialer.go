package confine

import (
	"context"
	"errors"
	"net"
	"os"
)

// Dialer connects, and opens files, for a process that cannot any more: a second
// process of the same program, not confined, that does nothing else and knows which
// sockets it may dial and which files it may open. It is safe for concurrent use.
//
//	StartDialer(start) (*Dialer, error)            start gets what must become descriptor 3
//	(*Dialer) Dial(ctx, path) (net.Conn, error)
//	(*Dialer) Open(ctx, path, write) (*os.File, error)
//	ServeDialer(f, Doors) error                    the other process's life; f is its descriptor 3
type Dialer struct{ over *pair }

// Doors decide what may be dialled and opened.
type Doors struct {
	Dial func(path string) (net.Conn, error)
	Open func(path string, write bool) (*os.File, error)
}

// What a question begins with, before a path.
const (
	askDial  = 'd'
	askRead  = 'r'
	askWrite = 'w'
)

// ErrNoDialer says that this system confines nobody, who can therefore dial for
// himself.
var ErrNoDialer = errors.New("no process is confined on this system")

// StartDialer starts the second process: start has f be its descriptor 3, and has
// it die with this one. Where nothing is confined the error is ErrNoDialer.
func StartDialer(start func(f *os.File) error) (*Dialer, error) {
	over, err := startPair(start)
	if err != nil {
		return nil, err
	}
	return &Dialer{over}, nil
}

// Dial connects to the local socket at path, if the other process agrees.
func (d *Dialer) Dial(ctx context.Context, path string) (net.Conn, error) {
	f, err := d.over.ask(ctx, askDial, path)
	if err != nil {
		return nil, err
	}
	return asConn(f)
}

// Open opens the file at path, to be written as well if write is set, if the other
// process agrees.
func (d *Dialer) Open(ctx context.Context, path string, write bool) (*os.File, error) {
	kind := byte(askRead)
	if write {
		kind = askWrite
	}
	return d.over.ask(ctx, kind, path)
}

// Close ends the other process.
func (d *Dialer) Close() error { return d.over.Close() }

// ServeDialer dials and opens for the process at the other end of f until that has
// gone.
func ServeDialer(f *os.File, doors Doors) error { return servePair(f, doors) }
