package hostsvc

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/kardianos/service"
)

// libraryLaunchd is kardianos/service's launchd, with a job of ours for its
// template: one value, which it does not quote, is the whole text.
func libraryLaunchd(name string, perUser bool) func(text string) (service.Service, error) {
	return func(text string) (service.Service, error) {
		return service.New(newProgram(context.Background(), nil), &service.Config{
			Name: LaunchdLabel(name), WorkingDirectory: text,
			Option: service.KeyValue{"LaunchdConfig": "{{WorkingDirectory}}", "UserService": perUser},
		})
	}
}

func jobOf(r Runner, name string, perUser bool) (launchd, error) {
	if !perUser {
		l := newLaunchd(r, "/Library/LaunchDaemons", name, "system", false)
		l.lib = libraryLaunchd(name, false)
		return l, nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return launchd{}, err
	}
	l := newLaunchd(r, filepath.Join(home, "Library", "LaunchAgents"), name, fmt.Sprintf("gui/%d", os.Getuid()), true)
	l.lib = libraryLaunchd(name, true)
	return l, nil
}

// Set registers the service as d says, whatever was registered before. launchd
// starts what is registered.
func Set(ctx context.Context, r Runner, d Desired) error {
	l, err := jobOf(r, d.Name, d.PerUser)
	if err != nil {
		return err
	}
	return l.set(ctx, d)
}

// Remove stops the service and takes its registration away. Its guests go on.
func Remove(ctx context.Context, r Runner, name string, perUser bool) error {
	l, err := jobOf(r, name, perUser)
	if err != nil {
		return err
	}
	return l.remove(ctx)
}

// Query tells what is registered.
func Query(ctx context.Context, r Runner, name string, perUser bool) (State, error) {
	l, err := jobOf(r, name, perUser)
	if err != nil {
		return State{PerUser: perUser}, err
	}
	return l.query(ctx)
}

// Control starts, stops or restarts what is registered: "start", "stop", "restart".
func Control(ctx context.Context, r Runner, name string, perUser bool, verb string) error {
	l, err := jobOf(r, name, perUser)
	if err != nil {
		return err
	}
	switch verb {
	case "start":
		return l.start(ctx)
	case "stop":
		_, err = r.Run(ctx, "launchctl", "bootout", l.target())
	case "restart":
		_, err = r.Run(ctx, "launchctl", "kickstart", "-k", l.target())
	default:
		err = fmt.Errorf("a service cannot be told to %q", verb)
	}
	return err
}

// start loads the job if it was stopped, and starts it.
func (l launchd) start(ctx context.Context) error {
	if _, err := l.r.Run(ctx, "launchctl", "print", l.target()); err != nil {
		if _, err := l.r.Run(ctx, "launchctl", "bootstrap", l.domain, l.file); err != nil {
			return err
		}
	}
	_, err := l.r.Run(ctx, "launchctl", "kickstart", l.target())
	return err
}
