// Command hxen-setup installs, repairs, upgrades and removes HXEN. It carries
// what it installs, asks in a window where there is one, else in the terminal,
// and does as it is told by its arguments for scripts. It links no window: on
// Linux that is a program of its own, which it carries too.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/term"

	"github.com/hxen-project/hxen/app/text"
	"github.com/hxen-project/hxen/installer/plan"
	"github.com/hxen-project/hxen/installer/steps"
	"github.com/hxen-project/hxen/platform/accel"
)

// Set by the linker: the version, and the sum of the payload's list.
var (
	version = "dev"
	payload = ""
)

// Exit codes, as --help tells them.
const (
	exitOK       = 0
	exitFailed   = 1 // and everything is as it was before
	exitUsage    = 2
	exitRefused  = 3 // an older version, a place that is taken
	exitRights   = 4 // an administrator's password was not given
	exitHalf     = 5 // not everything could be taken back; start again to go on
	exitCanceled = 130
)

func main() {
	accel.ProbeChild() // in the child that probes the accelerator this does not return
	attachConsole()
	code := run(os.Args[1:])
	steps.Sweep()
	os.Exit(code)
}

// choices are the command line.
type choices struct {
	text, yes, version, elevated       bool
	printPlan, uninstall, resume       bool
	system, user, noService, kvm       bool
	removeGuests, removePackages, json bool
	components, prefix, from, socket   string
	set                                map[string]bool // what was given
}

func parse(args []string, out io.Writer) (choices, error) {
	var c choices
	f := flag.NewFlagSet("hxen-setup", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.BoolVar(&c.text, "text", false, text.T("ask in the terminal, not in a window"))
	f.BoolVar(&c.yes, "yes", false, text.T("ask nothing"))
	f.StringVar(&c.components, "components", "", text.T("a comma-separated `LIST` of command, window, qemu, example"))
	f.BoolVar(&c.noService, "no-service", false, text.T("do not start guests at boot"))
	f.BoolVar(&c.system, "system", false, text.T("install for everybody"))
	f.BoolVar(&c.user, "user", false, text.T("install for you alone, without an administrator's password where possible"))
	f.StringVar(&c.prefix, "prefix", "", text.T("the `FOLDER` to install into"))
	f.BoolVar(&c.kvm, "kvm", false, text.T("let you use KVM (joins a group); on Windows: switch its hypervisor on"))
	f.BoolVar(&c.uninstall, "uninstall", false, text.T("remove HXEN; your guests stay"))
	f.BoolVar(&c.removeGuests, "remove-guests", false, text.T("with --uninstall: remove your guests too"))
	f.BoolVar(&c.removePackages, "remove-packages", false, text.T("with --uninstall: remove the packages too that the setup installed"))
	f.BoolVar(&c.printPlan, "print-plan", false, text.T("print what would be done, as JSON, and do nothing"))
	f.StringVar(&c.from, "from-plan", "", text.T("do what the plan in `FILE` says; ask nothing"))
	f.BoolVar(&c.json, "json", false, text.T("print events and the result as JSON lines"))
	f.BoolVar(&c.version, "version", false, text.T("print the version"))
	f.BoolVar(&c.elevated, strings.TrimLeft(steps.ElevatedFlag, "-"), false, "")
	f.BoolVar(&c.resume, strings.TrimLeft(steps.ResumeFlag, "-"), false, "")
	f.StringVar(&c.socket, "socket", "", "")
	err := f.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		usage(out, f)
		return c, err
	}
	if err == nil && f.NArg() > 0 {
		err = errors.New(text.T("%q is not understood", f.Arg(0)))
	}
	if err == nil && c.system && c.user {
		err = errors.New(text.T("give either --system or --user"))
	}
	c.set = map[string]bool{}
	f.Visit(func(f *flag.Flag) { c.set[f.Name] = true })
	return c, err
}

func usage(out io.Writer, f *flag.FlagSet) {
	fmt.Fprintln(out, text.T("Usage: hxen-setup [options]"))
	fmt.Fprintln(out, text.T("Installs, repairs, upgrades and removes HXEN: in a window, or in the terminal where there is none."))
	fmt.Fprintln(out)
	f.VisitAll(func(f *flag.Flag) {
		if f.Usage != "" {
			arg, what := flag.UnquoteUsage(f)
			fmt.Fprintf(out, "  --%-24s %s\n", strings.TrimSpace(f.Name+" "+arg), what)
		}
	})
	fmt.Fprintln(out)
	fmt.Fprintln(out, text.T("Exit codes: 0 done, 1 failed and taken back, 2 wrong usage, 3 refused, 4 no administrator's password, 5 not wholly taken back (start again), 130 cancelled."))
}

func run(args []string) int {
	c, err := parse(args, os.Stdout)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		fmt.Fprintln(os.Stderr, "hxen-setup:", err)
		fmt.Fprintln(os.Stderr, text.T("hxen-setup --help shows what there is."))
		return exitUsage
	case c.version:
		fmt.Println("hxen-setup", version)
		return exitOK
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	setup, err := open()
	if err != nil {
		fmt.Fprintln(os.Stderr, "hxen-setup:", err)
		return exitFailed
	}
	switch {
	case c.elevated:
		return elevated(ctx, setup, c.socket)
	case c.printPlan, c.from != "", c.yes:
		return silent(ctx, setup, c)
	case c.text:
		return ask(ctx, setup, c)
	case c.resume && !goesOn(setup):
		return exitOK // it was removed, or put right otherwise, meanwhile
	}
	if code, shown := window(setup, args); shown {
		return code
	}
	if c.resume {
		return resumed(ctx, setup, c)
	}
	return ask(ctx, setup, c)
}

// goesOn reports whether there is something to go on with after a restart.
func goesOn(s *steps.Setup) bool {
	i, err := s.Installed()
	return err == nil && (i.There || i.Interrupted)
}

// resumed tells in the terminal what a restart has made of the installation.
func resumed(ctx context.Context, s *steps.Setup, c choices) int {
	found, err := s.Preflight(ctx)
	if err != nil {
		return refuse(c, err)
	}
	for _, n := range steps.Resumed(found) {
		fmt.Println(n)
	}
	return exitOK
}

// open finds this program and what it carries.
func open() (*steps.Setup, error) {
	self, err := os.Executable()
	if err == nil {
		self, err = filepath.EvalSymlinks(self)
	}
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	p, err := steps.OpenPayload(self, payload)
	if err != nil {
		return nil, err
	}
	s, err := steps.New(self, p)
	if err != nil {
		return nil, err
	}
	s.Terminal = term.IsTerminal(int(os.Stdin.Fd()))
	return s, nil
}

// options are the defaults with what the command line changes.
func options(s *steps.Setup, c choices) (plan.Options, error) {
	o := s.Defaults()
	if c.system && o.Scope != plan.System || c.user && o.Scope != plan.User {
		o.Scope = plan.System
		if c.user {
			o.Scope = plan.User
		}
		o.Prefix = s.Prefix(o.Scope)
	}
	if c.prefix != "" {
		abs, err := filepath.Abs(c.prefix)
		if err != nil {
			return o, err
		}
		o.Prefix = abs
	}
	if c.set["components"] {
		o.Components = nil
		for name := range strings.SplitSeq(c.components, ",") {
			if name = strings.TrimSpace(name); name != "" && !o.Has(plan.Component(name)) {
				o.Components = append(o.Components, plan.Component(name))
			}
		}
	}
	if c.set["no-service"] {
		o.Service = !c.noService
	}
	if c.set["kvm"] {
		o.KVM = c.kvm
	}
	o.RemoveGuests, o.RemovePackages = c.removeGuests, c.removePackages
	return o, nil
}

// makePlan is the plan of the command line.
func makePlan(ctx context.Context, s *steps.Setup, c choices) (plan.Plan, error) {
	if c.from != "" {
		f, err := os.Open(c.from)
		if err != nil {
			return plan.Plan{}, fmt.Errorf("read the plan: %w", err)
		}
		defer f.Close()
		p, err := plan.Read(f)
		if err != nil {
			return plan.Plan{}, err
		}
		return p, s.Accept(p)
	}
	o, err := options(s, c)
	if err != nil {
		return plan.Plan{}, err
	}
	action := plan.Install
	if c.uninstall {
		action = plan.Uninstall
	}
	return s.Plan(ctx, action, o)
}

// silent does what the command line says and asks nothing.
func silent(ctx context.Context, s *steps.Setup, c choices) int {
	p, err := makePlan(ctx, s, c)
	if err != nil {
		return refuse(c, err)
	}
	if c.printPlan {
		e := json.NewEncoder(os.Stdout)
		e.SetIndent("", "  ")
		if err := e.Encode(p); err != nil {
			fmt.Fprintln(os.Stderr, "hxen-setup:", err)
			return exitFailed
		}
		return exitOK
	}
	if c.json {
		e := json.NewEncoder(os.Stdout)
		return code(ctx, s.Run(ctx, p, func(ev plan.Event) { e.Encode(ev) }))
	}
	return code(ctx, s.Run(ctx, p, teller(os.Stdout, os.Stderr)))
}

// refuse says why there is no plan.
func refuse(c choices, err error) int {
	if c.json {
		json.NewEncoder(os.Stdout).Encode(plan.Event{End: &plan.Result{Error: err.Error(), Undone: true}})
	}
	fmt.Fprintln(os.Stderr, "hxen-setup:", err)
	var refused steps.Refused
	if errors.As(err, &refused) {
		return exitRefused
	}
	return exitUsage
}

// code is the exit code for a result.
func code(ctx context.Context, r plan.Result) int {
	switch {
	case r.OK:
		return exitOK
	case ctx.Err() != nil && r.Undone:
		return exitCanceled
	case r.Rights:
		return exitRights
	case !r.Undone:
		return exitHalf
	}
	return exitFailed
}

// teller prints events for people.
func teller(out, errs io.Writer) func(plan.Event) {
	last, noted := "", map[string]bool{}
	return func(e plan.Event) {
		switch {
		case e.End != nil && e.End.OK && e.End.Action == plan.Uninstall:
			fmt.Fprintln(out, text.T("HXEN %s was removed.", e.End.Version))
		case e.End != nil && e.End.OK:
			fmt.Fprintln(out, text.T("HXEN %s is installed.", e.End.Version))
		case e.End != nil:
			fmt.Fprintln(errs, "hxen-setup:", e.End.Error)
			if e.End.Undone && !e.End.Rights {
				fmt.Fprintln(errs, text.T("What was done so far was taken back."))
			}
		case e.Note != "" && !noted[e.Note]: // the helper's come a second time with its result
			noted[e.Note] = true
			fmt.Fprintln(out, "  "+e.Note)
		case e.Title != "" && e.Title != last && e.State == plan.Working:
			last = e.Title
			fmt.Fprintln(out, "- "+e.Title)
		}
	}
}
