package localsock

import (
	"errors"
	"fmt"
	"net"
	"runtime"

	"golang.org/x/sys/windows"
)

// peer tells who is at the client's end of a server's connection. It borrows the
// client's token for a moment instead of looking up the client's process id:
// ids are used again, the token is the kernel's own record of who connected.
func peer(c net.Conn) (PeerInfo, error) {
	p := PeerInfo{UID: -1, PID: -1}
	pc, ok := c.(*conn)
	if !ok {
		return p, fmt.Errorf("%T is no local connection", c)
	}
	if !pc.server {
		return p, errors.New("only the server's end can ask")
	}
	raw, err := pc.SyscallConn()
	if err != nil {
		return p, err
	}
	var ferr error
	err = raw.Control(func(fd uintptr) {
		h := windows.Handle(fd)
		var pid uint32
		if windows.GetNamedPipeClientProcessId(h, &pid) == nil {
			p.PID = int(pid)
		}
		p.SID, p.Admin, ferr = clientToken(h)
	})
	if err == nil {
		err = ferr
	}
	return p, err
}

// clientToken reads the token of the pipe's client while this thread wears it.
func clientToken(h windows.Handle) (sid string, admin bool, err error) {
	runtime.LockOSThread()
	if err := impersonateClient(h); err != nil {
		runtime.UnlockOSThread()
		return "", false, fmt.Errorf("ImpersonateNamedPipeClient: %w", err)
	}
	defer func() {
		// A thread that could not take the client's token off again must do no more
		// work: it stays locked and ends with its goroutine.
		if rerr := windows.RevertToSelf(); rerr != nil {
			err = errors.Join(err, fmt.Errorf("RevertToSelf: %w", rerr))
			return
		}
		runtime.UnlockOSThread()
	}()
	var t windows.Token
	// As self: an identification token has no right to open anything.
	if err := windows.OpenThreadToken(windows.CurrentThread(), windows.TOKEN_QUERY, true, &t); err != nil {
		return "", false, fmt.Errorf("OpenThreadToken: %w", err)
	}
	defer t.Close()
	u, err := t.GetTokenUser()
	if err != nil {
		return "", false, fmt.Errorf("GetTokenUser: %w", err)
	}
	admins, err := windows.CreateWellKnownSid(windows.WinBuiltinAdministratorsSid)
	if err != nil {
		return "", false, err
	}
	// CheckTokenMembership says no for a group that UAC turned to deny-only.
	admin, err = t.IsMember(admins)
	return u.User.Sid.String(), admin, err
}
