// Command hxen-setup-window is the setup wizard's window. hxen-setup carries it
// and runs it where there is a display; on its own it is of no use.
package main

import (
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/hxen-project/hxen/app/text"
	"github.com/hxen-project/hxen/installer/steps"
	"github.com/hxen-project/hxen/installer/ui"
	"github.com/hxen-project/hxen/platform/accel"
	"github.com/hxen-project/hxen/platform/hostinfo"
)

//go:embed hxen.png
var icon []byte

// noWindow tells hxen-setup to go on in the terminal.
const noWindow = 64

func main() {
	accel.ProbeChild() // in the child that probes the accelerator this does not return
	code, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "hxen-setup-window:", err)
	}
	os.Exit(code)
}

func run(args []string) (int, error) {
	f := flag.NewFlagSet("hxen-setup-window", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	program := f.String("setup", "", "")
	uninstall := f.Bool("uninstall", false, "")
	resume := f.Bool(strings.TrimLeft(steps.ResumeFlag, "-"), false, "")
	if err := f.Parse(args); err != nil {
		return 2, fmt.Errorf("%w; this choice needs --yes or --text", err)
	}
	if *program == "" {
		return 2, errors.New(text.T("start hxen-setup: it shows this window"))
	}
	if err := hostinfo.Window(); err != nil {
		return noWindow, err
	}
	if err := ui.Displayable(); err != nil {
		return noWindow, err
	}
	if os.Getenv("LP_NUM_THREADS") == "" {
		os.Setenv("LP_NUM_THREADS", "0") // Mesa's software renderer: threads cost more than they save
	}
	p, err := steps.OpenPayload(*program, "")
	if err != nil {
		return 1, err
	}
	defer p.Close()
	s, err := steps.New(*program, p)
	if err != nil {
		return 1, err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return ui.Run(ctx, ui.Options{Backend: s, Version: p.Version, Icon: icon, Uninstall: *uninstall, Resume: *resume, Launch: launch}), nil
}
