package hostsvc

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/godbus/dbus/v5"
)

// The D-Bus interface of systemd-logind, org.freedesktop.login1(5).
const (
	logind        = "org.freedesktop.login1"
	logindPath    = "/org/freedesktop/login1"
	logindManager = "org.freedesktop.login1.Manager"
	// busTime bounds a question to the bus: while a host stops, who should answer
	// may be gone.
	busTime = 3 * time.Second
	// askTime bounds the question at the service's start: logind asks polkit, which
	// has to start first, on a computer that is busy starting.
	askTime = time.Minute
)

// WatchHost tells what happens to the computer until ctx ends. While it runs the
// system waits a moment with stopping, until the Inhibitor is released.
func WatchHost(ctx context.Context, why string, tell func(HostEvent)) (*Inhibitor, error) {
	bus, err := dbus.ConnectSystemBus(dbus.WithContext(ctx))
	if err != nil {
		return nil, fmt.Errorf("ask logind: %w", err)
	}
	for _, signal := range []string{"PrepareForShutdown", "PrepareForSleep"} {
		if err := bus.AddMatchSignal(dbus.WithMatchInterface(logindManager), dbus.WithMatchMember(signal), dbus.WithMatchObjectPath(logindPath)); err != nil {
			_ = bus.Close()
			return nil, fmt.Errorf("ask logind: %w", err)
		}
	}
	signals := make(chan *dbus.Signal, 16)
	bus.Signal(signals)
	go func() {
		for s := range signals {
			begins, ok := false, len(s.Body) == 1
			if ok {
				begins, ok = s.Body[0].(bool)
			}
			switch {
			case !ok:
			case s.Name == logindManager+".PrepareForShutdown" && begins:
				tell(HostStops)
			case s.Name == logindManager+".PrepareForSleep" && begins:
				tell(HostSleeps)
			case s.Name == logindManager+".PrepareForSleep":
				tell(HostWakes)
			}
		}
	}()
	context.AfterFunc(ctx, func() { _ = bus.Close() })
	wait, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	var fd dbus.UnixFD
	err = bus.Object(logind, logindPath).CallWithContext(wait, logindManager+".Inhibit", 0, "shutdown", "HXEN", why, "delay").Store(&fd)
	if err != nil {
		return nil, fmt.Errorf("ask logind to wait with stopping the host: %w", err)
	}
	lock := os.NewFile(uintptr(fd), "inhibitor")
	return &Inhibitor{lock.Close}, nil
}

// HostStopping asks the service manager whether the computer (or, per user, the
// session) is being stopped; known is false where nobody can tell.
func HostStopping(ctx context.Context, perUser bool) (stopping, known bool) {
	ctx, cancel := context.WithTimeout(ctx, busTime)
	defer cancel()
	connect := dbus.ConnectSystemBus
	if perUser {
		connect = dbus.ConnectSessionBus
	}
	bus, err := connect(dbus.WithContext(ctx))
	if err != nil {
		return false, false
	}
	defer bus.Close()
	var state dbus.Variant
	err = bus.Object("org.freedesktop.systemd1", "/org/freedesktop/systemd1").
		CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get", 0, "org.freedesktop.systemd1.Manager", "SystemState").Store(&state)
	if err != nil {
		return false, false
	}
	word, ok := state.Value().(string)
	return word == "stopping", ok
}
