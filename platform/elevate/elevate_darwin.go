package elevate

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Caller is the user who asked for this helper, as sudo says; the password dialog
// passes nothing on, so there it is whoever is given by the helper's socket.
func Caller() (uid int, ok bool) {
	n, err := strconv.Atoi(os.Getenv("SUDO_UID"))
	return n, err == nil && n >= 0
}

// script is what osascript runs. The helper's words are quoted by AppleScript
// itself (quoted form of), never by us.
const script = `on run argv
	set command to ""
	repeat with word in items 2 thru -1 of argv
		set command to command & quoted form of word & " "
	end repeat
	do shell script command with prompt (item 1 of argv) with administrator privileges
end run`

// arguments are osascript's.
func arguments(c Command, socket string) []string {
	return append([]string{"-e", script, c.Prompt, c.Path}, append(c.Args, "--socket", socket)...)
}

// Start runs the helper through the system's password dialog, which gives it no
// streams of ours: it dials a socket in a folder that only this user can enter.
func Start(ctx context.Context, c Command) (*Helper, error) {
	dir, err := os.MkdirTemp("", "hxen-setup-")
	if err != nil {
		return nil, fmt.Errorf("ask for the password: %w", err)
	}
	socket := filepath.Join(dir, "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		os.RemoveAll(dir)
		return nil, fmt.Errorf("ask for the password: %w", err)
	}
	cmd := exec.CommandContext(ctx, "/usr/bin/osascript", arguments(c, socket)...)
	cmd.WaitDelay = time.Minute
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		l.Close()
		os.RemoveAll(dir)
		return nil, fmt.Errorf("ask for the password: %w", err)
	}
	ended := make(chan error, 1)
	go func() {
		err := cmd.Wait()
		if strings.Contains(said.String(), "-128") { // userCanceledErr
			err = ErrCancelled
		}
		l.Close() // nobody will dial any more
		ended <- err
	}()
	conn, err := l.Accept()
	os.RemoveAll(dir)
	if err != nil {
		return nil, <-ended
	}
	return &Helper{In: halfClose{conn.(*net.UnixConn)}, Out: conn, wait: func() error { return <-ended }}, nil
}

// halfClose ends only what is written.
type halfClose struct{ *net.UnixConn }

func (h halfClose) Close() error { return h.CloseWrite() }
