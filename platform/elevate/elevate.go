// Package elevate runs one helper command as administrator, after the system
// has asked the user: pkexec or sudo on Linux, the system's password dialog on
// macOS, the consent dialog on Windows. The helper talks to its caller over a
// pair of streams.
//
//	Admin() bool                        is this process one already?
//	Start(ctx, Command) (*Helper, error)
//	Caller() (uid, ok)                  in the helper: who asked
//
// It knows nothing of what the helper does.
package elevate

import (
	"errors"
	"io"
)

// ErrCancelled says that the user did not let the helper run.
var ErrCancelled = errors.New("the password was not given")

// ErrUnavailable says that this system has no way to ask; it is wrapped with what
// to do.
var ErrUnavailable = errors.New("no administrator's password can be asked for")

// Command is the helper to run.
type Command struct {
	Path string // absolute
	Args []string
	// Terminal is set if the user sits at this program's terminal, where a password
	// can be asked for too.
	Terminal bool
	// Prompt is shown where the system lets us say what the password is for.
	Prompt string
}

// Helper is a running helper. In is its standard input, whose end tells it to
// give up; Out is what it answers.
type Helper struct {
	In   io.WriteCloser
	Out  io.Reader
	wait func() error
}

// Wait waits until the helper has ended. Read Out to its end first.
func (h *Helper) Wait() error { return h.wait() }
