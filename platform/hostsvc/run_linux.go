package hostsvc

import "context"

// RunManaged is Run for a service that the system has started.
func RunManaged(ctx context.Context, name string, run func(context.Context) error) error {
	return Run(ctx, name, run)
}
