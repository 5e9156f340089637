package elevate

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"golang.org/x/sys/windows"

	"github.com/hxen-project/hxen/platform/localsock"
)

// Admin reports whether this process may change the system.
func Admin() bool { return windows.GetCurrentProcessToken().IsElevated() }

// Caller: Windows asks the same user, or another administrator who chose to help.
func Caller() (uid int, ok bool) { return 0, false }

// commandLine joins arguments as CommandLineToArgvW takes them apart.
func commandLine(c Command, pipe string) string {
	return windows.ComposeCommandLine(append(c.Args[:len(c.Args):len(c.Args)], "--socket", pipe))
}

// comeTime is how long the helper may take to call back after the user agreed.
const comeTime = 2 * time.Minute

// Start runs the helper through the consent dialog, which gives it no streams of
// ours: it dials a named pipe with a random name.
func Start(ctx context.Context, c Command) (*Helper, error) {
	pipe := `\\.\pipe\hxen-setup-` + strings.ToLower(rand.Text())
	l, err := localsock.Listen(pipe)
	if err != nil {
		return nil, fmt.Errorf("ask for consent: %w", err)
	}
	defer l.Close()
	verb, file, args := "runas", c.Path, commandLine(c, pipe)
	var ptrs [3]*uint16
	for i, s := range []string{verb, file, args} {
		if ptrs[i], err = windows.UTF16PtrFromString(s); err != nil {
			return nil, fmt.Errorf("ask for consent: %w", err)
		}
	}
	err = windows.ShellExecute(0, ptrs[0], ptrs[1], ptrs[2], nil, windows.SW_HIDE)
	if errors.Is(err, windows.ERROR_CANCELLED) {
		return nil, ErrCancelled
	}
	if err != nil {
		return nil, fmt.Errorf("ask for consent: %w", err)
	}
	type accepted struct {
		conn net.Conn
		err  error
	}
	came := make(chan accepted, 1)
	go func() {
		conn, err := l.Accept()
		came <- accepted{conn, err}
	}()
	select {
	case a := <-came:
		if a.err != nil {
			return nil, fmt.Errorf("wait for the helper: %w", a.err)
		}
		return &Helper{In: a.conn, Out: a.conn, wait: func() error { return nil }}, nil
	case <-time.After(comeTime):
		return nil, errors.New("wait for the helper: it did not start")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
