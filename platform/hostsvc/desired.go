package hostsvc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// Desired is the whole wanted registration of the service with the system.
type Desired struct {
	Name    string   // "hxen"
	Program string   // absolute path
	Args    []string // of the program
	// PerUser registers with the session of this user: it runs while they are
	// logged in. Else it is the system's and runs from boot on, as User.
	PerUser bool
	User    Account
	Env     []string // NAME=value
	// Store is the folder that the service cannot do without.
	Store string
	// StopTime is what the service may take when the computer stops.
	StopTime time.Duration
}

// Account is who a system's service runs as.
type Account struct {
	Name string
	Home string
	// Groups are groups of this system that the account need not be in, but the
	// service must be, such as kvm.
	Groups []string
	// Owner is the security identifier of the user whose guests the service has, where
	// it does not run as them: Windows.
	Owner string
}

// State is what is registered.
type State struct {
	Installed bool   `json:"installed"`
	Running   bool   `json:"running"`
	PerUser   bool   `json:"per_user"`
	Manager   string `json:"manager"`          // systemd, launchd, windows
	Where     string `json:"where,omitempty"`  // the file or key that registers it
	Detail    string `json:"detail,omitempty"` // what the manager says of it
}

// ErrNoManager says that this system runs no service manager that HXEN knows.
var ErrNoManager = errors.New("no service manager is known here")

// Runner runs one command of the host and returns what it printed. Tests play it.
type Runner interface {
	Run(ctx context.Context, name string, args ...string) (output string, err error)
}

// Commands is the Runner of this computer.
type Commands struct{}

// Run runs a command. Its error holds what the command said.
func (Commands) Run(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	out, err := cmd.CombinedOutput()
	text := strings.TrimSpace(string(out))
	if err != nil {
		said := text
		if said == "" {
			said = err.Error()
		}
		return text, fmt.Errorf("%s %s: %s", name, strings.Join(args, " "), said)
	}
	return text, nil
}

// check refuses what cannot be registered safely.
func (d Desired) check() error {
	switch {
	case d.Name == "" || strings.ContainsAny(d.Name, "/\\ \n"):
		return fmt.Errorf("a service cannot be named %q", d.Name)
	case d.Program == "":
		return errors.New("no program to register")
	case !d.PerUser && d.User.Name == "":
		return errors.New("no account for the service to run as")
	}
	all := append([]string{d.Program, d.Store, d.User.Name, d.User.Home}, append(d.Args, d.Env...)...)
	for _, s := range append(all, d.User.Groups...) {
		if strings.ContainsAny(s, "\x00\n\r") {
			return fmt.Errorf("%q holds a line break and cannot be registered", s)
		}
	}
	return nil
}

// replaceFile writes a file that must be whole after a power cut; same tells that
// it held this text already.
func replaceFile(path, text string) (same bool, err error) {
	if old, err := os.ReadFile(path); err == nil && string(old) == text {
		return true, nil
	}
	f, err := os.CreateTemp(dirOf(path), ".hxen-*")
	if err != nil {
		return false, err
	}
	defer os.Remove(f.Name()) // what failed; after the rename there is nothing to remove
	_, err = io.WriteString(f, text)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	return false, err
}

// syncFile has a file last that somebody else has written.
func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
