// Package localsock is the local door between HXEN's programs: a Unix socket,
// or a named pipe on Windows, that only its owner and the administrator can
// pass.
//
//	Listen(path) (net.Listener, error)    serve; ErrInUse if somebody does already
//	Dial(ctx, path) (net.Conn, error)     connect, and check who answers
//	DialCaller(ctx, path)                 the same for an administrator's helper
//	Gone(err) bool                        whether the other end has hung up
//	Peer(conn) (PeerInfo, error)          who is at the other end, told by the kernel
//	Allowed(peer) error                   the same user or the administrator, or why not
//	EnsureDir(dir) error                  make or verify the private folder of sockets
//
// It knows nothing of what is said over the door, nor where paths come from
// (platform/paths).
package localsock

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
)

// PeerInfo is who is at the other end of a connection. What a system does not
// tell is -1 or empty, never 0, which would be root.
type PeerInfo struct {
	UID   int    // user id; -1 on Windows
	PID   int    // process id when it connected; -1 if unknown
	SID   string // Windows: the user's security identifier
	Admin bool   // Windows: an elevated member of Administrators
}

var (
	// ErrInUse says that somebody answers on the path already.
	ErrInUse = errors.New("somebody is serving there already")
	// ErrForeign says that a folder or a peer belongs to somebody else.
	ErrForeign = errors.New("it belongs to another user")
	// ErrNotAllowed says that the peer is neither the same user nor an administrator.
	ErrNotAllowed = errors.New("permission denied")
)

// Listen serves path for this user. The folder of path is made or verified as
// EnsureDir does. What a dead server left behind is removed, but only when
// nobody answers there; ErrInUse is returned otherwise. On Windows others may be
// let in as well, by their security identifiers; see Allowed.
func Listen(path string, also ...string) (net.Listener, error) {
	l, err := listen(path, also)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	return l, nil
}

// Dial connects to path. It refuses a server that belongs to another user:
// whoever can plant a socket must not be told this user's secrets. The
// administrator may reach any user's server. A missing server answers
// fs.ErrNotExist or ECONNREFUSED in the chain; see Absent.
func Dial(ctx context.Context, path string) (net.Conn, error) {
	c, err := dial(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", path, err)
	}
	return c, nil
}

// DialCaller is Dial for a helper that runs as administrator and calls back who
// had it started: on Windows that may be another user, who is judged by what is
// asked for.
func DialCaller(ctx context.Context, path string) (net.Conn, error) {
	c, err := dialCaller(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", path, err)
	}
	return c, nil
}

// Absent reports whether an error of Dial means that nobody serves the path.
func Absent(err error) bool { return absent(err) }

// Gone reports whether an error of a connection, beside io.EOF, means that the other end
// has closed it or died.
func Gone(err error) bool { return gone(err) }

// Peer tells who is at the other end of c, a connection of this package, as the
// kernel knows it: nothing the peer says is believed.
func Peer(c net.Conn) (PeerInfo, error) {
	p, err := peer(c)
	if err != nil {
		return PeerInfo{UID: -1, PID: -1}, fmt.Errorf("ask who is connected: %w", err)
	}
	return p, nil
}

// Allowed returns nil for the user that this program runs as, for the system's
// administrator, and on Windows for users with these security identifiers; else an
// ErrNotAllowed that names the peer.
func Allowed(p PeerInfo, also ...string) error {
	if p.SID != "" && slices.Contains(also, p.SID) {
		return nil
	}
	return allowed(p)
}

// EnsureDir makes the private folder dir (and its parents) or verifies that it
// is one: a real folder of this user that nobody else can enter. A foreign or
// open folder is refused, never adopted or repaired, for its contents may
// already be somebody else's.
func EnsureDir(dir string) error {
	if err := ensureDir(dir); err != nil {
		return fmt.Errorf("private folder %s: %w", dir, err)
	}
	return nil
}
