package hostsvc

import (
	"context"
	"errors"
)

// WatchHost would tell what happens to the computer. The system tells it to
// programs with a run loop of Apple's frameworks only, which this is not.
func WatchHost(context.Context, string, func(HostEvent)) (*Inhibitor, error) {
	return nil, errors.New("macOS does not tell a program without its frameworks when the computer sleeps or stops")
}

// HostStopping asks whether the computer is being stopped: launchd does not say
// why it ends a service.
func HostStopping(context.Context, bool) (stopping, known bool) { return false, false }

// RunManaged is Run for a service that the system has started.
func RunManaged(ctx context.Context, name string, run func(context.Context) error) error {
	return Run(ctx, name, run)
}
