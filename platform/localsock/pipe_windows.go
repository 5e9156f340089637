package localsock

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"

	"golang.org/x/sys/windows"
)

// bufSize is the quota of each direction of a pipe; the kernel takes it from
// the non-paged pool, so it is small.
const bufSize = 64 << 10

// connectAccess is what a client needs: FILE_GENERIC_READ and FILE_GENERIC_WRITE
// without FILE_CREATE_PIPE_INSTANCE, with which it could serve the name itself.
// https://learn.microsoft.com/windows/win32/ipc/named-pipe-security-and-access-rights
const connectAccess = (windows.FILE_GENERIC_READ | windows.FILE_GENERIC_WRITE) &^ 0x4

// listener serves a named pipe. At any time one instance waits for the next
// client, so that a client never finds the name missing between two.
type listener struct {
	path    string
	name    *uint16
	sd      *windows.SECURITY_DESCRIPTOR
	closing windows.Handle // event, set once by Close

	accept sync.Mutex // one Accept at a time; guards next and ov
	next   windows.Handle
	ov     windows.Overlapped // in the heap: the kernel writes here while ConnectNamedPipe waits

	once sync.Once
}

func listen(path string, also []string) (net.Listener, error) {
	if !strings.HasPrefix(path, prefix) {
		return nil, fmt.Errorf("the name of a pipe begins with %s", prefix)
	}
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return nil, err
	}
	me, err := currentSID()
	if err != nil {
		return nil, err
	}
	// Owner: this user. Full access for the system, Administrators and this user;
	// nobody from the network. [MS-DTYP] 2.5.1.1.
	list := "O:" + me + "D:P(D;;GA;;;NU)(A;;GA;;;SY)(A;;GA;;;BA)(A;;GA;;;" + me + ")"
	for _, sid := range also {
		if sid != "" {
			list += fmt.Sprintf("(A;;0x%x;;;%s)", connectAccess, sid)
		}
	}
	sd, err := windows.SecurityDescriptorFromString(list)
	if err != nil {
		return nil, fmt.Errorf("describe who may connect: %w", err)
	}
	l := &listener{path: path, name: name, sd: sd}
	// FIRST_PIPE_INSTANCE below is what keeps two servers apart. Asking first gives
	// the plain case its plain answer: "access denied" has other causes too.
	if pipeExists(name) {
		return nil, ErrInUse
	}
	if l.ov.HEvent, err = windows.CreateEvent(nil, 1, 0, nil); err != nil {
		return nil, err
	}
	if l.closing, err = windows.CreateEvent(nil, 1, 0, nil); err != nil {
		windows.CloseHandle(l.ov.HEvent)
		return nil, err
	}
	if l.next, err = l.instance(windows.FILE_FLAG_FIRST_PIPE_INSTANCE); err != nil {
		windows.CloseHandle(l.ov.HEvent)
		windows.CloseHandle(l.closing)
		// With FIRST_PIPE_INSTANCE "access denied" is the answer for a name in use
		// (CreateNamedPipe's documentation); an open pipe dies with its server.
		if errors.Is(err, windows.ERROR_ACCESS_DENIED) || errors.Is(err, windows.ERROR_PIPE_BUSY) {
			return nil, fmt.Errorf("%w: %w", ErrInUse, err)
		}
		return nil, err
	}
	return l, nil
}

func (l *listener) instance(first uint32) (windows.Handle, error) {
	h, err := windows.CreateNamedPipe(l.name,
		windows.PIPE_ACCESS_DUPLEX|windows.FILE_FLAG_OVERLAPPED|first,
		windows.PIPE_TYPE_BYTE|windows.PIPE_READMODE_BYTE|windows.PIPE_REJECT_REMOTE_CLIENTS,
		windows.PIPE_UNLIMITED_INSTANCES, bufSize, bufSize, 0, securityAttributes(l.sd))
	if err != nil {
		return windows.InvalidHandle, fmt.Errorf("CreateNamedPipe: %w", err)
	}
	return h, nil
}

func (l *listener) Accept() (net.Conn, error) {
	l.accept.Lock()
	defer l.accept.Unlock()
	for {
		if l.closed() {
			return nil, l.err("accept", net.ErrClosed)
		}
		if l.next == windows.InvalidHandle {
			h, err := l.instance(0)
			if err != nil {
				return nil, l.err("accept", err)
			}
			l.next = h
		}
		err := l.connect()
		switch {
		case err == nil:
			h := l.next
			// The next client must find an instance before this one is served. If
			// there is none to be had now, the next Accept says so.
			if l.next, err = l.instance(0); err != nil {
				l.next = windows.InvalidHandle
			}
			return newConn(h, l.path, true), nil
		case errors.Is(err, net.ErrClosed):
			return nil, l.err("accept", err)
		case errors.Is(err, windows.ERROR_NO_DATA):
			// A client came and went before we looked. The instance is spent.
			windows.CloseHandle(l.next)
			l.next = windows.InvalidHandle
		default:
			return nil, l.err("accept", err)
		}
	}
}

// connect waits until a client is on l.next or the listener closes.
func (l *listener) connect() error {
	if err := windows.ResetEvent(l.ov.HEvent); err != nil {
		return err
	}
	err := windows.ConnectNamedPipe(l.next, &l.ov)
	if err == nil || errors.Is(err, windows.ERROR_PIPE_CONNECTED) {
		return nil
	}
	if !errors.Is(err, windows.ERROR_IO_PENDING) {
		return err
	}
	which, werr := windows.WaitForMultipleObjects([]windows.Handle{l.ov.HEvent, l.closing}, false, windows.INFINITE)
	var n uint32
	if werr != nil || which != windows.WAIT_OBJECT_0 {
		// Nobody may touch ov until the kernel has let go of it.
		windows.CancelIoEx(l.next, &l.ov)
		if err := windows.GetOverlappedResult(l.next, &l.ov, &n, true); err == nil && werr == nil {
			windows.DisconnectNamedPipe(l.next) // a client came in the last moment
		}
		if werr != nil {
			return werr
		}
		return net.ErrClosed
	}
	return windows.GetOverlappedResult(l.next, &l.ov, &n, true)
}

func (l *listener) closed() bool {
	r, err := windows.WaitForSingleObject(l.closing, 0)
	return err != nil || r == windows.WAIT_OBJECT_0
}

// Close ends Accept and takes the name away. Connections that were accepted live on.
func (l *listener) Close() error {
	l.once.Do(func() {
		windows.SetEvent(l.closing)
		l.accept.Lock() // Accept has let go
		defer l.accept.Unlock()
		if l.next != windows.InvalidHandle {
			windows.CloseHandle(l.next)
			l.next = windows.InvalidHandle
		}
		// The two events stay: a late Accept or Close still asks them. They are the
		// price of a few bytes per listener, of which a program has one or two.
	})
	return nil
}

func (l *listener) Addr() net.Addr { return addr(l.path) }

func (l *listener) err(op string, err error) error {
	return &net.OpError{Op: op, Net: "pipe", Addr: addr(l.path), Err: err}
}
