package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/app/client"
	"github.com/hxen-project/hxen/app/text"
)

// powerCommands are the verbs that change whether guests run. Each takes any
// number of guests and goes on after one that fails.
func (a *app) powerCommands() []*cobra.Command {
	var paused, console bool
	start := a.power("start", text.T("Start guests"), "  hxen start web\n  hxen start -c web    and show its serial console",
		func(ctx context.Context, c *client.Client, vm api.Ref, row api.ListRow) error {
			if row.Power == "Suspended" {
				return a.resume(ctx, c, vm, paused, false)
			}
			return c.Start(ctx, vm, paused)
		})
	start.Flags().BoolVarP(&paused, "paused", "p", false, text.T("leave it paused before its first instruction"))
	start.Flags().BoolVarP(&console, "console", "c", false, text.T("show its serial console then (one guest only)"))
	run := start.RunE
	start.RunE = func(cmd *cobra.Command, args []string) error {
		if console && len(args) != 1 {
			return usage("--console takes one guest, not %d", len(args))
		}
		if err := run(cmd, args); err != nil || !console {
			return err
		}
		return a.showConsole(cmd.Context(), args[0], "")
	}
	shutdown := a.power("shutdown", text.T("Ask guests to shut down, and wait until they have"), "  hxen shutdown web", a.shutdown)
	shutdown.Flags().BoolP("wait", "w", true, text.T("as in xl; hxen always waits"))
	return []*cobra.Command{
		start,
		shutdown,
		a.saveCommand(),
		a.restoreCommand(),
		a.power("destroy", text.T("Take guests' power away at once"), "  hxen destroy web", simple((*client.Client).HardShutdown)),
		a.power("reboot", text.T("Ask guests to reboot"), "  hxen reboot web", simple((*client.Client).CleanReboot)),
		a.power("reset", text.T("Reset guests at once"), "  hxen reset web", simple((*client.Client).HardReboot)),
		a.power("pause", text.T("Stop guests' processors"), "  hxen pause web", simple((*client.Client).Pause)),
		a.power("unpause", text.T("Let paused guests go on"), "  hxen unpause web", simple((*client.Client).Unpause)),
	}
}

type powerFunc func(context.Context, *client.Client, api.Ref, api.ListRow) error

func simple(f func(*client.Client, context.Context, api.Ref) error) powerFunc {
	return func(ctx context.Context, c *client.Client, vm api.Ref, _ api.ListRow) error { return f(c, ctx, vm) }
}

func (a *app) power(verb, short, example string, do powerFunc) *cobra.Command {
	return &cobra.Command{
		Use: verb + " NAME...", Args: cobra.MinimumNArgs(1),
		Short: short, Example: example, ValidArgsFunction: a.guestNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			var failed []error
			for _, name := range args {
				c, vm, row, err := a.guest(cmd.Context(), name)
				if err == nil {
					err = do(cmd.Context(), c, vm, row)
				}
				if cmd.Context().Err() != nil {
					return cmd.Context().Err()
				}
				if err != nil && !errors.Is(err, client.ErrNoGuest) {
					err = fmt.Errorf("%s: %w%s", name, err, runAs(err, row))
				}
				if err != nil {
					failed = append(failed, err)
				}
			}
			return errors.Join(failed...)
		},
	}
}

// runAs says how a guest that cannot be started can be run all the same.
func runAs(err error, row api.ListRow) string {
	var e *api.Error
	if !errors.As(err, &e) || e.RunAs() == "" {
		return ""
	}
	return text.T("\nOr run it as %s: hxen retype %s %s", e.RunAs(), quoted(row.Name), e.RunAs())
}

// shutdown asks the guest, and offers the power switch to a person when the
// guest does not react.
func (a *app) shutdown(ctx context.Context, c *client.Client, vm api.Ref, row api.ListRow) error {
	err := c.CleanShutdown(ctx, vm)
	if !client.IsCode(err, api.ErrVMShutdownTimeout) && !client.IsCode(err, api.ErrVMFailedShutdownAck) {
		return err
	}
	if _, ok := terminal(a.In); ok {
		if a.ask(text.T("%s did not shut down. Take its power away? What it has not saved is lost.", row.Name)) {
			return c.HardShutdown(ctx, vm)
		}
		return exitCode(exitFailed)
	}
	return fmt.Errorf("%w: hxen destroy %s", err, row.Name)
}
