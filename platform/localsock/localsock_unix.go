//go:build linux || darwin

package localsock

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// maxPath is the longest path that fits macOS's sockaddr_un.sun_path (104 bytes
// with the ending zero; Linux has 108), so that a path is good on both.
const maxPath = 103

func listen(path string, _ []string) (net.Listener, error) {
	if len(path) > maxPath {
		return nil, fmt.Errorf("the path has %d bytes, a socket's may have %d: choose a shorter runtime folder (XDG_RUNTIME_DIR)", len(path), maxPath)
	}
	dir := filepath.Dir(path)
	if err := EnsureDir(dir); err != nil {
		return nil, err
	}
	// Two programs may find the same dead socket at once; the slower one must not
	// remove what the faster one has just made. The folder's lock makes check and
	// bind one step.
	unlock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := removeStale(path); err != nil {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	// The folder keeps others out from the first moment; this is the second wall.
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// lockDir holds the folder's flock until the returned function is called.
func lockDir(dir string) (unlock func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock folder: %w", err)
	}
	return func() { f.Close() }, nil
}

// removeStale removes a socket at path that nobody serves any more. Only
// "connection refused" proves that: a full backlog, a timeout or anything else
// counts as somebody.
func removeStale(path string) error {
	fi, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if fi.Mode().Type() != fs.ModeSocket {
		return errors.New("something that is not a socket is in the way: remove it or choose another folder")
	}
	c, err := net.DialTimeout("unix", path, 2*time.Second)
	switch {
	case err == nil:
		c.Close()
		return ErrInUse
	case errors.Is(err, unix.ECONNREFUSED):
		return os.Remove(path)
	case errors.Is(err, fs.ErrNotExist):
		return nil // its server has just gone
	default:
		return fmt.Errorf("%w: %w", ErrInUse, err)
	}
}

// dialCaller: root may reach any user's server as it is.
func dialCaller(ctx context.Context, path string) (net.Conn, error) { return dial(ctx, path) }

func dial(ctx context.Context, path string) (net.Conn, error) {
	if len(path) > maxPath {
		return nil, fmt.Errorf("the path has %d bytes, a socket's may have %d", len(path), maxPath)
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	if os.Geteuid() == 0 {
		return c, nil
	}
	// On a socket's client side the kernel tells who called listen.
	p, err := peer(c)
	if err == nil && p.UID != os.Geteuid() && p.UID != 0 {
		err = fmt.Errorf("user %d serves it: %w", p.UID, ErrForeign)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func absent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED)
}

func gone(err error) bool {
	return errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE)
}

// control runs f on the socket below c.
func control(c net.Conn, f func(fd int) error) error {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return fmt.Errorf("%T is no local connection", c)
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return err
	}
	var ferr error
	if err := raw.Control(func(fd uintptr) { ferr = f(int(fd)) }); err != nil {
		return err
	}
	return ferr
}

func allowed(p PeerInfo) error {
	if p.UID == 0 || p.UID == os.Geteuid() {
		return nil
	}
	return fmt.Errorf("%w: user %d may not use what user %d serves; run as that user or as root", ErrNotAllowed, p.UID, os.Geteuid())
}

func ensureDir(dir string) error {
	parent := filepath.Dir(dir)
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return err
	}
	// In a parent where everybody may rename, nothing below stays what it was.
	pi, err := os.Stat(parent)
	if err != nil {
		return err
	}
	if pi.Mode().Perm()&0o002 != 0 && pi.Mode()&fs.ModeSticky == 0 {
		return fmt.Errorf("everybody may change %s: run `chmod +t %s`, or choose another folder", parent, parent)
	}
	switch err := os.Mkdir(dir, 0o700); {
	case err == nil:
		// A strange umask must not lock the owner out of a folder just made.
		if err := os.Chmod(dir, 0o700); err != nil {
			return err
		}
	case !errors.Is(err, fs.ErrExist):
		return err
	}
	fi, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if !fi.IsDir() {
		return errors.New("it is not a folder: remove it or choose another")
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return errors.New("its owner cannot be told")
	}
	if int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("%w (user %d, this is user %d): it is not used", ErrForeign, st.Uid, os.Geteuid())
	}
	if perm := fi.Mode().Perm(); perm != 0o700 {
		return fmt.Errorf("others may enter it or its owner may not (mode %04o): look what is in it, then run `chmod 0700 %s`", perm, dir)
	}
	return nil
}
