package localsock

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/windows"

	"github.com/hxen-project/hxen/platform/access"
)

// prefix is where named pipes live.
const prefix = `\\.\pipe\`

func dial(ctx context.Context, path string) (net.Conn, error) { return connect(ctx, path, trustServer) }

func dialCaller(ctx context.Context, path string) (net.Conn, error) {
	return connect(ctx, path, func(windows.Handle) error { return nil })
}

// connect opens a pipe whose server trust does not refuse.
func connect(ctx context.Context, path string, trust func(windows.Handle) error) (net.Conn, error) {
	if !strings.HasPrefix(path, prefix) {
		return nil, fmt.Errorf("the name of a pipe begins with %s", prefix)
	}
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return nil, err
	}
	// Identification: the server may learn who we are, not act as us.
	const flags = windows.FILE_FLAG_OVERLAPPED | windows.SECURITY_SQOS_PRESENT | windows.SECURITY_IDENTIFICATION
	for {
		h, err := windows.CreateFile(name, connectAccess, 0, nil, windows.OPEN_EXISTING, flags, 0)
		if err == nil {
			if err := trust(h); err != nil {
				windows.CloseHandle(h)
				return nil, err
			}
			return newConn(h, path, false), nil
		}
		if !errors.Is(err, windows.ERROR_PIPE_BUSY) {
			return nil, &os.PathError{Op: "open", Path: path, Err: err}
		}
		// Every instance is taken for the moment. The system's wait cannot be
		// cancelled, so it is cut into short ones.
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		waitNamedPipe(name, 50*time.Millisecond)
	}
}

func absent(err error) bool { return errors.Is(err, windows.ERROR_FILE_NOT_FOUND) }

// gone: ERROR_NO_DATA is of a pipe that the other end has closed, ERROR_PIPE_NOT_CONNECTED
// of one from which the server has taken its client.
func gone(err error) bool {
	return errors.Is(err, windows.ERROR_NO_DATA) || errors.Is(err, windows.ERROR_BROKEN_PIPE) || errors.Is(err, windows.ERROR_PIPE_NOT_CONNECTED)
}

// trustServer refuses a pipe that another ordinary user made. Its owner must be
// this user, the system, Administrators, or a service's virtual account, which
// only the service manager can run as (S-1-5-80-...).
func trustServer(h windows.Handle) error {
	sd, err := windows.GetSecurityInfo(h, windows.SE_KERNEL_OBJECT, windows.OWNER_SECURITY_INFORMATION)
	if err != nil {
		return fmt.Errorf("ask for the pipe's owner: %w", err)
	}
	owner, _, err := sd.Owner()
	if err != nil || owner == nil {
		return fmt.Errorf("the pipe's owner cannot be told: %w", errors.Join(err, ErrForeign))
	}
	me, err := currentSID()
	if err != nil {
		return err
	}
	s := owner.String()
	if s == me || owner.IsWellKnown(windows.WinLocalSystemSid) ||
		owner.IsWellKnown(windows.WinBuiltinAdministratorsSid) || strings.HasPrefix(s, "S-1-5-80-") {
		return nil
	}
	return fmt.Errorf("%s serves it: %w", s, ErrForeign)
}

// currentSID is the user that this program runs as.
func currentSID() (string, error) {
	me := access.Me()
	if me == "" {
		return "", errors.New("Windows does not tell who I am")
	}
	return me, nil
}

func allowed(p PeerInfo) error {
	me, err := currentSID()
	if err != nil {
		return err
	}
	if p.SID == me || p.Admin || p.SID == "S-1-5-18" { // S-1-5-18 is the system itself
		return nil
	}
	who := p.SID
	if who == "" {
		who = "an unknown user"
	}
	return fmt.Errorf("%w: %s may not use what %s serves; run as that user or as administrator", ErrNotAllowed, who, me)
}

// ensureDir makes the folder. What guards it is what it inherits: the folders
// that HXEN uses lie in the user's profile or in ProgramData, where the
// installer set the access list. Named pipes have their own.
func ensureDir(dir string) error {
	if strings.HasPrefix(dir, prefix) {
		return nil // the stem of pipes' names: there is no folder
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	fi, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if !fi.IsDir() {
		return errors.New("it is not a folder: remove it or choose another")
	}
	return nil
}

// conn is one end of a pipe. os.File gives it the runtime's poller, and with it
// deadlines and Close that wakes a blocked Read (overlapped handles, Go 1.25).
type conn struct {
	*os.File
	addr   addr
	server bool
}

type addr string

func (addr) Network() string  { return "pipe" }
func (a addr) String() string { return string(a) }

func newConn(h windows.Handle, path string, server bool) *conn {
	return &conn{File: os.NewFile(uintptr(h), path), addr: addr(path), server: server}
}

func (c *conn) LocalAddr() net.Addr  { return c.addr }
func (c *conn) RemoteAddr() net.Addr { return c.addr }

// Read returns the net package's errors: net/http asks for net.Error to tell a
// deadline, by which it takes a connection back from its reader, from a caller
// that has hung up.
func (c *conn) Read(b []byte) (int, error) {
	n, err := c.File.Read(b)
	return n, c.netErr("read", err)
}

func (c *conn) Write(b []byte) (int, error) {
	n, err := c.File.Write(b)
	return n, c.netErr("write", err)
}

func (c *conn) netErr(op string, err error) error {
	switch {
	case err == nil || err == io.EOF:
		return err
	case errors.Is(err, os.ErrClosed):
		err = net.ErrClosed
	}
	return &net.OpError{Op: op, Net: "pipe", Addr: c.addr, Err: err}
}
