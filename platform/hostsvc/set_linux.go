package hostsvc

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/kardianos/service"
)

// librarySystemd is kardianos/service's systemd, with a unit of ours for its
// template: one value, which it does not quote, is the whole text.
func librarySystemd(name string, perUser bool) func(text string) (service.Service, error) {
	return func(text string) (service.Service, error) {
		for _, system := range service.AvailableSystems() {
			if system.String() == "linux-systemd" {
				return system.New(newProgram(context.Background(), nil), &service.Config{
					Name: name, Description: text,
					Option: service.KeyValue{"SystemdScript": "{{Description}}", "UserService": perUser},
				})
			}
		}
		return nil, errors.New("kardianos/service knows no systemd")
	}
}

func unitOf(r Runner, name string, perUser bool) (systemd, error) {
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		return systemd{}, fmt.Errorf("%w: systemd does not run on this computer; start \"hxen service\" the way your system starts programs", ErrNoManager)
	}
	home := ""
	if perUser {
		var err error
		if home, err = os.UserHomeDir(); err != nil {
			return systemd{}, err
		}
	}
	dir, scope := systemdFolder(perUser, home)
	return newSystemd(r, dir, name, scope, librarySystemd(name, perUser)), nil
}

// Set registers the service as d says, whatever was registered before. It starts
// nothing.
func Set(ctx context.Context, r Runner, d Desired) error {
	s, err := unitOf(r, d.Name, d.PerUser)
	if err != nil {
		return err
	}
	return s.set(ctx, d)
}

// Remove stops the service and takes its registration away. Its guests go on.
func Remove(_ context.Context, r Runner, name string, perUser bool) error {
	s, err := unitOf(r, name, perUser)
	if err != nil {
		return err
	}
	return s.remove()
}

// Query tells what is registered.
func Query(ctx context.Context, r Runner, name string, perUser bool) (State, error) {
	s, err := unitOf(r, name, perUser)
	if err != nil {
		return State{PerUser: perUser}, err
	}
	return s.query(ctx)
}

// Control starts, stops or restarts what is registered: "start", "stop", "restart".
func Control(_ context.Context, r Runner, name string, perUser bool, verb string) error {
	s, err := unitOf(r, name, perUser)
	if err != nil {
		return err
	}
	return s.control(verb)
}
