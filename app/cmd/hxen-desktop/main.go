// Command hxen-desktop is HXEN's window: the library of virtual machines and
// their screens.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"

	"github.com/hxen-project/hxen/app/client"
	"github.com/hxen-project/hxen/app/desktop"
	"github.com/hxen-project/hxen/app/desktop/model"
	"github.com/hxen-project/hxen/app/text"
	"github.com/hxen-project/hxen/platform/paths"
)

// version is set by the linker.
var version = "development"

// Exit codes.
const (
	exitFailed = 1
	exitUsage  = 2 // wrong arguments, or no screen to show a window on
)

func main() {
	code, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "hxen-desktop:", err)
	}
	os.Exit(code)
}

func run(args []string) (int, error) {
	o, show, err := parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0, nil
	case err != nil:
		return exitUsage, err
	case show:
		fmt.Println("hxen-desktop", version)
		return 0, nil
	}
	if err := checkDisplay(os.Getenv); err != nil {
		return exitUsage, err
	}
	if err := desktop.Check(); err != nil {
		return exitUsage, errors.New(text.T("%v. Use the command line: hxen --help", err))
	}
	if err := tuneGraphics(); err != nil {
		return exitFailed, err
	}
	store, err := paths.Default()
	if err != nil {
		return exitFailed, err
	}
	prefs, err := paths.Preferences()
	if err != nil {
		return exitFailed, err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	service := model.NewRemote(client.Options{Store: store, Program: "hxen-desktop", Version: version})
	defer service.Close()
	o.Service, o.Prefs, o.Version = service, model.LoadPrefs(prefs), version
	desktop.Run(ctx, o)
	return 0, nil
}

// parse reads the command line.
func parse(args []string) (o desktop.Options, show bool, err error) {
	f := flag.NewFlagSet("hxen-desktop", flag.ContinueOnError)
	f.StringVar(&o.Console, "console", "", text.T("open only the screen of the machine with this `NAME`"))
	f.StringVar(&o.Open, "open", "", text.T("open the library and the screen of the machine with this `NAME`"))
	f.BoolVar(&show, "version", false, text.T("print the version and exit"))
	f.SetOutput(io.Discard)
	switch err := f.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		f.SetOutput(os.Stdout)
		fmt.Println(text.T("Usage: hxen-desktop [options] [FILE.iso]"))
		fmt.Println(text.T("Shows your virtual machines. With an ISO file it begins to make a new one from it."))
		f.PrintDefaults()
		return o, false, err
	case err != nil:
		return o, false, fmt.Errorf("%w; hxen-desktop --help shows what there is", err)
	}
	switch {
	case f.NArg() > 1:
		return o, false, errors.New(text.T("only one file can be given"))
	case f.NArg() == 1 && (o.Console != "" || o.Open != ""):
		return o, false, errors.New(text.T("give either a file or --console or --open"))
	case o.Console != "" && o.Open != "":
		return o, false, errors.New(text.T("give either --console or --open"))
	case f.NArg() == 1:
		if o.ISO, err = filepath.Abs(strings.TrimPrefix(f.Arg(0), "file://")); err != nil {
			return o, false, fmt.Errorf("find %s: %w", f.Arg(0), err)
		}
	}
	return o, show, nil
}
