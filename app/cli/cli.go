// Package cli is the command line: xl's verbs and columns over the API's client.
// It knows nothing of how guests run; it asks the service, which the client
// starts when none runs.
//
//	cli.go      Main, exit codes, errors, the root command
//	guests.go   list, uptime, domid, domname, info
//	power.go    start, shutdown, destroy, reboot, reset, pause, unpause
//	new.go      new, rename, retype, remove; size.go and forward.go: what its flags hold
//	media.go    cd-insert, cd-eject, screenshot, vncviewer
//	console.go  console; terminal.go: the terminal it takes over
//	demo.go     demo; initramfs.go and demo/: what its guest boots
//	host.go     doctor, service, version, man
package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/app/client"
	"github.com/hxen-project/hxen/app/text"
	"github.com/hxen-project/hxen/platform/paths"
)

// Exit codes, as "hxen --help" tells them.
const (
	exitOK       = 0
	exitFailed   = 1
	exitUsage    = 2
	exitNoGuest  = 3
	exitCanceled = 130 // as a shell says for Ctrl-C
)

// Options are what the main gives to the command line.
type Options struct {
	Version string
	// Service serves the store until ctx ends; ready is called once, when it answers.
	// managed is empty, ManagedSystem or ManagedUser.
	Service func(ctx context.Context, store paths.Store, managed string, ready func()) error
	// Host registers the service with the system.
	Host Registration
	// SelfTest runs this computer's accelerator through its cases and reports each
	// as it ends. An error says why they cannot be run.
	SelfTest func(ctx context.Context, report func(SelfTestCase)) error
	In       io.Reader
	Out      io.Writer
	Err      io.Writer
}

// app is one run of the command line.
type app struct {
	Options
	store       paths.Store
	conn        *client.Client
	ran         bool   // a command's own code was reached: what fails from here on is not the usage
	stopSignals func() // leaves signals to somebody else; nil when that has been done
}

// Main runs the command line and returns the exit code.
func Main(o Options, args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	a := &app{Options: o, stopSignals: stop}
	defer a.close()
	root := a.root()
	root.SetArgs(args)
	root.SetIn(o.In)
	root.SetOut(o.Out)
	root.SetErr(o.Err)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	var silent exitCode
	if errors.As(err, &silent) {
		return int(silent)
	}
	if ctx.Err() != nil && a.stopSignals != nil {
		fmt.Fprintln(o.Err, text.T("hxen: cancelled"))
		return exitCanceled
	}
	fmt.Fprintln(o.Err, "hxen: "+strings.TrimSpace(err.Error()))
	switch {
	case !a.ran:
		fmt.Fprintln(o.Err, text.T("\"hxen --help\" lists the commands, \"hxen COMMAND --help\" explains one."))
		return exitUsage
	case errors.Is(err, errUsage):
		return exitUsage
	case errors.Is(err, client.ErrNoGuest):
		return exitNoGuest
	}
	return exitFailed
}

// exitCode ends the program without another word.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// errUsage marks what is wrong with the arguments but seen only by the command.
var errUsage = errors.New("usage")

// usage says what is wrong with the arguments.
func usage(format string, args ...any) error {
	return usageError{text.T(format, args...)}
}

type usageError struct{ text string }

func (u usageError) Error() string        { return u.text }
func (u usageError) Is(target error) bool { return target == errUsage }

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "hxen",
		Short: text.T("Run virtual machines"),
		Long: text.T(`hxen makes, runs and shows virtual machines ("guests").

A guest is named by its name, its uuid or, while it runs, its domid. Guests live
in a folder of yours; HXEN_HOME moves it. The commands talk to HXEN's service,
which is started when none runs and goes on when the command has ended.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no such guest, 130 cancelled.`),
		Example: `  hxen demo                                  make and start a small guest to try things with
  hxen new web --iso debian.iso --disk-size 20G --memory 2G --vcpus 2
  hxen start web
  hxen vncviewer web                         its screen
  hxen console web                           its serial console
  hxen list`,
		SilenceUsage:  true,
		SilenceErrors: true,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			a.ran = true
			return nil
		},
	}
	root.AddGroup(&cobra.Group{ID: "guest", Title: text.T("Guests:")},
		&cobra.Group{ID: "run", Title: text.T("Running them:")},
		&cobra.Group{ID: "host", Title: text.T("This computer:")})
	add := func(group string, cmds ...*cobra.Command) {
		for _, c := range cmds {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add("guest", a.newCommand(), a.demoCommand(), a.listCommand(), a.renameCommand(), a.retypeCommand(), a.bootEntriesCommand(), a.removeCommand(), a.trashCommand(), a.relinkCommand(), a.repairCommand(), a.policyCommand(),
		a.uptimeCommand(), a.domidCommand(), a.domnameCommand())
	add("run", a.powerCommands()...)
	add("guest", a.templateCommand(), a.cloneCommand())
	add("run", a.memSetCommand(), a.vcpuSetCommand())
	add("run", a.plugCommands()...)
	add("run", a.consoleCommand(), a.vncviewerCommand(), a.screenshotCommand(), a.cdInsertCommand(), a.cdEjectCommand())
	add("host", a.infoCommand(), a.doctorCommand(), a.serviceCommand(), a.autostartCommand(), a.versionCommand())
	root.SetCompletionCommandGroupID("host")
	root.SetHelpCommandGroupID("host")
	root.AddCommand(a.manCommand(root))
	return root
}

// open connects to the service, and starts it if none runs. Commands that have
// nothing to start a service for pass noStart.
func (a *app) open(ctx context.Context, noStart bool) (*client.Client, error) {
	if a.conn != nil {
		return a.conn, nil
	}
	store, err := paths.Default()
	if err != nil {
		return nil, err
	}
	a.store = store
	a.conn, err = client.Open(ctx, client.Options{Store: store, NoStart: noStart, Program: "hxen", Version: a.Version})
	return a.conn, err
}

func (a *app) close() {
	if a.conn != nil {
		a.conn.Close()
	}
}

// guest finds the guest that an argument names.
func (a *app) guest(ctx context.Context, name string) (*client.Client, api.Ref, api.ListRow, error) {
	c, err := a.open(ctx, false)
	if err != nil {
		return nil, "", api.ListRow{}, err
	}
	ref, row, err := c.Find(ctx, name)
	return c, ref, row, err
}

// guestNames completes an argument that names a guest; a service is not started
// for it.
func (a *app) guestNames(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	c, err := a.open(cmd.Context(), true)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	rows, err := c.List(cmd.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, r := range rows {
		names = append(names, r.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func (a *app) json(v any) error {
	e := json.NewEncoder(a.Out)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// terminal returns the file behind a stream when it is a terminal.
func terminal(stream any) (*os.File, bool) {
	f, ok := stream.(*os.File)
	return f, ok && term.IsTerminal(int(f.Fd()))
}

// ask puts a question that is answered by yes or its first letter.
func (a *app) ask(question string) bool {
	fmt.Fprint(a.Err, question+" "+text.T("[y/N]")+" ")
	var answer string
	fmt.Fscanln(a.In, &answer)
	answer = strings.ToLower(answer)
	return answer == "y" || answer == "yes" || answer == text.T("y") || answer == text.T("yes")
}

// progress draws a bar on a terminal while long work goes on; done clears it.
func (a *app) progress() (draw client.Progress, done func()) {
	f, ok := terminal(a.Err)
	if !ok {
		return nil, func() {}
	}
	const width = 30
	drawn := false
	return func(part float64, stage string) {
			drawn = true
			n := int(min(max(part, 0), 1) * width)
			fmt.Fprintf(f, "\r\x1b[K[%s%s] %3.0f %%  %s", strings.Repeat("#", n), strings.Repeat(".", width-n), part*100, printable(stage))
		}, func() {
			if drawn {
				fmt.Fprint(f, "\r\x1b[K")
			}
		}
}

// printable keeps a foreign text on one line and away from the terminal's
// control sequences.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return -1
		}
		return r
	}, s)
}
