package confine

import (
	"context"
	"errors"
	"net"
	"os"
)

// Dialer connects for a process that cannot any more: a second process of the
// same program, not confined, that does nothing else and knows which sockets it
// may dial. Dial is safe for concurrent use.
//
//	StartDialer(start) (*Dialer, error)            start gets what must become descriptor 3
//	(*Dialer) Dial(ctx, path) (net.Conn, error)
//	ServeDialer(f, dial) error                     the other process's life; f is its descriptor 3
type Dialer struct{ over *pair }

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
	return d.over.ask(ctx, path)
}

// Close ends the other process.
func (d *Dialer) Close() error { return d.over.Close() }

// ServeDialer dials for the process at the other end of f until that has gone.
// dial decides what may be dialled.
func ServeDialer(f *os.File, dial func(path string) (net.Conn, error)) error {
	return servePair(f, dial)
}
