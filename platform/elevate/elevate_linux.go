package elevate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Caller is the user who asked for this helper: pkexec(1) and sudo(8) say so.
func Caller() (uid int, ok bool) {
	for _, v := range []string{"PKEXEC_UID", "SUDO_UID"} {
		if n, err := strconv.Atoi(os.Getenv(v)); err == nil && n >= 0 {
			return n, true
		}
	}
	return 0, false
}

// way is one program that asks for the password.
type way struct {
	name string
	args []string // before the helper's path
}

// ways lists what to try, best first. sudo asks on the terminal, pkexec in a
// dialog of the desktop; where neither can be, sudo may still need no password.
func ways(c Command, has func(string) bool) []way {
	var out []way
	add := func(name string, args ...string) {
		if has(name) {
			out = append(out, way{name, args})
		}
	}
	if c.Terminal {
		add("sudo", "-p", c.Prompt, "--")
		add("pkexec")
		add("doas", "--")
		return out
	}
	add("pkexec")
	add("sudo", "-n", "--")
	return out
}

func has(name string) bool {
	_, err := exec.LookPath(name)
	return err == nil
}

// Start runs the helper through the first way that this system has.
func Start(ctx context.Context, c Command) (*Helper, error) {
	all := ways(c, has)
	if len(all) == 0 {
		return nil, fmt.Errorf("%w: neither pkexec nor sudo is installed; run the setup as root", ErrUnavailable)
	}
	w := all[0]
	cmd := exec.CommandContext(ctx, w.name, append(append(w.args, c.Path), c.Args...)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = time.Minute // the helper takes back what it did
	var said bytes.Buffer
	cmd.Stderr = &said
	if c.Terminal {
		cmd.Stderr = os.Stderr
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", w.name, err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", w.name, err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", w.name, err)
	}
	return &Helper{In: in, Out: out, wait: func() error { return verdict(w.name, cmd.Wait(), said.String()) }}, nil
}

// verdict turns the end of pkexec or sudo into words. pkexec(1): 126 is a dialog
// that was closed, 127 a user who may not or a missing agent. sudo(8) ends with 1
// and says why.
func verdict(name string, err error, said string) error {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return err
	}
	said = strings.TrimSpace(said)
	if i := strings.LastIndexByte(said, '\n'); i >= 0 {
		said = said[i+1:]
	}
	switch {
	case name == "pkexec" && exit.ExitCode() == 126:
		return ErrCancelled
	case name == "pkexec" && exit.ExitCode() == 127:
		return fmt.Errorf("%w: this desktop shows no password dialog (%s); start the setup in a terminal with --text, or as root", ErrUnavailable, said)
	case name == "sudo" && strings.Contains(said, "password is required"):
		return fmt.Errorf("%w: pkexec is not installed; start the setup in a terminal with --text, or as root", ErrUnavailable)
	case name == "sudo" && exit.ExitCode() == 1 && said == "":
		return ErrCancelled // its words went to the terminal
	}
	return fmt.Errorf("%s: %w: %s", name, err, said)
}
