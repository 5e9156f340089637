package main

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/hxen-project/hxen/app/cli"
	"github.com/hxen-project/hxen/app/service"
	"github.com/hxen-project/hxen/platform/access"
	"github.com/hxen-project/hxen/platform/hostsvc"
	"github.com/hxen-project/hxen/platform/paths"
)

// serviceName is what the system knows the service by.
const serviceName = access.ServiceName

// stopSlack is what the service itself needs beside its guests when the host stops.
const stopSlack = 30 * time.Second

// registration is the service's place in the system, for the command line.
type registration struct{ r hostsvc.Runner }

// Install registers the service and returns the store that it will serve.
func (g registration) Install(ctx context.Context, perUser bool) (paths.Store, error) {
	d, store, err := g.desired(perUser)
	if err != nil {
		return store, err
	}
	return store, hostsvc.Set(ctx, g.r, d)
}

// desired is the whole registration that we want.
func (g registration) desired(perUser bool) (hostsvc.Desired, paths.Store, error) {
	program, err := paths.Program("hxen")
	if err != nil {
		return hostsvc.Desired{}, paths.Store{}, err
	}
	d := hostsvc.Desired{
		Name: serviceName, Program: program, PerUser: perUser, StopTime: service.StopDeadline + stopSlack,
		Args: []string{"service", "--managed=" + cli.ManagedSystem},
	}
	var store paths.Store
	switch home := os.Getenv(paths.HomeVar); {
	case perUser:
		d.Args = []string{"service", "--managed=" + cli.ManagedUser}
		store, err = paths.Default()
	default:
		if d.User, err = hostsvc.Installer(); err != nil {
			return d, store, err
		}
		if store, err = paths.OfUser(d.User.Home); home != "" {
			store, err = paths.At(home)
		}
	}
	d.Store, d.Env = store.Root, []string{paths.HomeVar + "=" + store.Root}
	return d, store, err
}

func (g registration) Uninstall(ctx context.Context, perUser bool) error {
	if !perUser {
		if _, err := hostsvc.Installer(); err != nil {
			return err
		}
	}
	return hostsvc.Remove(ctx, g.r, serviceName, perUser)
}

func (g registration) Control(ctx context.Context, perUser bool, verb string) error {
	st, err := hostsvc.Query(ctx, g.r, serviceName, perUser)
	if err != nil {
		return err
	}
	if !st.Installed {
		return errors.New("the service is not installed: hxen service install")
	}
	return hostsvc.Control(ctx, g.r, serviceName, perUser, verb)
}

// Status is what is registered, for the computer and for this user.
func (g registration) Status(ctx context.Context) ([]cli.Registered, error) {
	var out []cli.Registered
	for _, perUser := range []bool{false, true} {
		st, err := hostsvc.Query(ctx, g.r, serviceName, perUser)
		if errors.Is(err, hostsvc.ErrNoManager) {
			return nil, err
		}
		r := cli.Registered{Installed: st.Installed, Running: st.Running, PerUser: st.PerUser, Manager: st.Manager, Where: st.Where, Detail: st.Detail}
		if err != nil {
			r.Detail = err.Error() // a user without a session has no manager to ask
		}
		out = append(out, r)
	}
	return out, nil
}

// hostStops decides, when a service that the system manages is told to end,
// whether the computer stops. Where nobody can tell, it does: a service that is
// only replaced says so first.
func hostStops(perUser bool) bool {
	stops, known := hostsvc.HostStopping(context.Background(), perUser)
	return stops || !known
}
