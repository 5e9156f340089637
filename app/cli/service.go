package cli

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/hxen-project/hxen/app/client"
	"github.com/hxen-project/hxen/app/text"
	"github.com/hxen-project/hxen/platform/paths"
)

// Who has started a service, as its --managed flag says.
const (
	ManagedSystem = "system"
	ManagedUser   = "user"
)

// Registration is the service's place in the system: systemd, launchd, Windows'
// service manager.
type Registration interface {
	// Install registers the service as it is to be, whatever was there before, and
	// returns the store that it serves.
	Install(ctx context.Context, perUser bool) (paths.Store, error)
	Uninstall(ctx context.Context, perUser bool) error
	// Control is told start, stop or restart.
	Control(ctx context.Context, perUser bool, verb string) error
	Status(ctx context.Context) ([]Registered, error)
}

// Registered is what the system knows of the service.
type Registered struct {
	Installed bool   `json:"installed"`
	Running   bool   `json:"running"`
	PerUser   bool   `json:"per_user"`
	Manager   string `json:"manager"`
	Where     string `json:"where,omitempty"`
	Detail    string `json:"detail,omitempty"`
}

func (a *app) serviceCommand() *cobra.Command {
	var managed string
	cmd := &cobra.Command{
		Use: "service", Args: cobra.NoArgs,
		Short: text.T("Serve the guests in the foreground, or with the computer"),
		Long: text.T(`Serve the guests until it is asked to stop (Ctrl-C). The other commands and the
window start it by themselves when none runs. Guests run in processes of their
own and go on without it. It prints "ready" when it answers, and logs to the
terminal or, without one, to service.log in the store.

"hxen service install" has the computer start it instead, so that guests start
with nobody logged in and stop cleanly with the computer.`),
		Example: "  hxen service\n  HXEN_HOME=/srv/guests hxen service\n  sudo hxen service install",
		RunE:    func(*cobra.Command, []string) error { return a.serve(managed) },
	}
	cmd.Flags().StringVar(&managed, "managed", "", text.T("who has started it"))
	_ = cmd.Flags().MarkHidden("managed")
	var perUser bool
	cmd.PersistentFlags().BoolVar(&perUser, "user", false, text.T("of this user, from login to logout, instead of the computer's"))
	cmd.AddCommand(
		a.serviceVerb("install", text.T("Start the service, and guests set to autostart, with the computer"), func(ctx context.Context) error { return a.installService(ctx, perUser) }),
		a.serviceVerb("uninstall", text.T("Do not start it with the computer any more; guests go on"), func(ctx context.Context) error {
			a.leave(ctx)
			return a.Host.Uninstall(ctx, perUser)
		}),
		a.serviceVerb("start", text.T("Start the installed service"), func(ctx context.Context) error { return a.Host.Control(ctx, perUser, "start") }),
		a.serviceVerb("stop", text.T("Stop the installed service; guests go on"), func(ctx context.Context) error {
			a.leave(ctx)
			return a.Host.Control(ctx, perUser, "stop")
		}),
		a.serviceVerb("restart", text.T("Restart the installed service under its guests"), func(ctx context.Context) error {
			a.leave(ctx)
			return a.Host.Control(ctx, perUser, "restart")
		}),
		a.serviceStatusCommand(),
	)
	return cmd
}

func (a *app) serve(managed string) error {
	if managed != "" && managed != ManagedSystem && managed != ManagedUser {
		return usage("--managed is %s or %s", ManagedSystem, ManagedUser)
	}
	store, err := paths.Default()
	if err != nil {
		return err
	}
	a.stopSignals() // the service takes them its own way
	a.stopSignals = nil
	err = a.Service(context.Background(), store, managed, func() {
		fmt.Fprintln(a.Out, "ready")
		if f, ok := a.Out.(*os.File); ok {
			if _, is := terminal(f); !is {
				f.Close() // whoever started us waits for the line, and may go
			}
		}
	})
	if err != nil && !isTerminal(a.Err) {
		// The client that started us reads standard output only.
		fmt.Fprintln(a.Out, err)
	}
	return err
}

func (a *app) serviceVerb(verb, short string, do func(context.Context) error) *cobra.Command {
	return &cobra.Command{
		Use: verb, Args: cobra.NoArgs, Short: short,
		Example: "  sudo hxen service " + verb + "\n  hxen service " + verb + " --user",
		RunE:    func(cmd *cobra.Command, _ []string) error { return do(cmd.Context()) },
	}
}

// installService registers the service and has it take over from one that was
// started on demand.
func (a *app) installService(ctx context.Context, perUser bool) error {
	if !perUser {
		a.leave(ctx) // its guests may become the computer's service's (Windows)
	}
	store, err := a.Host.Install(ctx, perUser)
	if err != nil {
		return err
	}
	if err := endService(ctx, store, a.Version); err != nil {
		return err
	}
	if err := a.Host.Control(ctx, perUser, "restart"); err != nil {
		return err
	}
	fmt.Fprintln(a.Out, text.T("installed; it serves the guests in %s", store.Root))
	return nil
}

// leave has a running service end, so that guests go on whatever the system makes
// of its end. That none runs is no failure.
func (a *app) leave(ctx context.Context) {
	if store, err := paths.Default(); err == nil {
		_ = endService(ctx, store, a.Version)
	}
}

// endService has the service of a store end, if one runs, and waits for its end.
func endService(ctx context.Context, store paths.Store, version string) error {
	c, err := client.Open(ctx, client.Options{Store: store, NoStart: true, Program: "hxen", Version: version})
	if errors.Is(err, client.ErrNotRunning) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", text.T("end the service that runs now"), err)
	}
	defer c.Close()
	return c.EndService(ctx)
}

func (a *app) serviceStatusCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "status", Args: cobra.NoArgs,
		Short:   text.T("Tell whether the service is installed and runs; exit code 1 if it is not installed"),
		Example: "  hxen service status",
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := a.Host.Status(cmd.Context())
			if err != nil {
				return err
			}
			if asJSON {
				return a.json(all)
			}
			installed := false
			for _, r := range all {
				installed = installed || r.Installed
				who, state := text.T("of the computer"), text.T("not installed")
				if r.PerUser {
					who = text.T("of this user")
				}
				if r.Installed {
					state = text.T("installed, does not run")
				}
				if r.Running {
					state = text.T("installed, runs")
				}
				fmt.Fprintf(a.Out, "%-16s %-24s %s\n", who, state, printable(r.Where+"  "+r.Detail))
			}
			if !installed {
				return exitCode(exitFailed)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, text.T("print JSON"))
	return cmd
}
