package steps

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Runner runs programs of the system. It has one method so that tests can see
// what would be run on systems that they do not run on.
type Runner interface {
	// Run returns what the program printed. The error says in one line why it failed.
	Run(ctx context.Context, env []string, program string, args ...string) (string, error)
}

// Ended is the error of a program that has run and says that it did not succeed.
type Ended struct {
	Code int
	Why  string // in one line
}

// Error implements error.
func (e *Ended) Error() string { return e.Why }

// system runs programs for real.
type system struct{}

// patience bounds a program; package managers download.
const patience = 30 * time.Minute

func (system) Run(ctx context.Context, env []string, program string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.WaitDelay = 5 * time.Second
	quiet(cmd)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return string(out), fmt.Errorf("%s: %w", program, ctx.Err())
	case errors.Is(err, exec.ErrNotFound):
		return "", fmt.Errorf("%s: %w", program, err)
	case errors.As(err, &exit):
		return string(out), &Ended{exit.ExitCode(), fmt.Sprintf("%s: %s", program, reason(string(out), err))}
	case err != nil:
		return string(out), fmt.Errorf("%s: %w", program, err)
	}
	return string(out), nil
}

// reason is the line of a program's output that says why it failed: the first
// that calls itself an error, else the last.
func reason(out string, err error) string {
	last := ""
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		lower := strings.ToLower(line)
		if strings.HasPrefix(lower, "e:") || strings.HasPrefix(lower, "error") || strings.HasPrefix(lower, "err:") || strings.HasPrefix(lower, "hxen:") {
			return line
		}
		if line != "" {
			last = line
		}
	}
	if last == "" {
		return err.Error()
	}
	return last
}

// has reports whether the system has a program.
func (h *Host) has(program string) bool {
	if h.Has != nil {
		return h.Has(program)
	}
	_, err := exec.LookPath(program)
	return err == nil
}

// Host is what steps need from the computer; tests have their own.
type Host struct {
	Run Runner
	Has func(program string) bool // nil: look into PATH
	// Manager and Names are the distribution's package manager and what it calls
	// the parts that may be installed; empty where it is not known.
	Manager string
	Names   []string
	// KVMGroup names the group of /dev/kvm; nil: look at it.
	KVMGroup func() (string, error)
	Root     string // "" or, in tests, a folder that stands for the computer's root
	Registry string // "" or, in tests on Windows, a key that stands for the registry's root; ends with a backslash
}

// at is a path of the computer.
func (h *Host) at(path string) string {
	if h.Root == "" {
		return path
	}
	return h.Root + path[len(filepath.VolumeName(path)):]
}
