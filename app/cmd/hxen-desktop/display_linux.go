package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/hxen-project/hxen/app/text"
)

// tuneGraphics has Mesa's software renderer draw on the calling thread. Handing
// a mostly still window to other threads costs more than they save: a quarter
// less CPU and shorter paints without them. It changes nothing on a GPU.
func tuneGraphics() error {
	const threads = "LP_NUM_THREADS"
	if _, set := os.LookupEnv(threads); set {
		return nil
	}
	return os.Setenv(threads, "0")
}

// checkDisplay says in one sentence why no window can be shown, where Fyne
// would only end.
func checkDisplay(env func(string) string) error {
	if env("WAYLAND_DISPLAY") != "" {
		return nil
	}
	display := env("DISPLAY")
	if display == "" {
		return errors.New(text.T("there is no screen to show a window on: neither DISPLAY nor WAYLAND_DISPLAY is set. Log in to a desktop, or use the command line: hxen --help"))
	}
	if err := dialX(display); err != nil {
		return errors.New(text.T("the X server %s cannot be reached (%v). Check DISPLAY, or use the command line: hxen --help", display, err))
	}
	return nil
}

// dialX tries a local display's sockets as Xlib does (X(7), "DISPLAY NAMES");
// displays of other hosts are left to Fyne.
func dialX(display string) error {
	host, number, found := strings.Cut(display, ":")
	number, _, _ = strings.Cut(number, ".")
	if !found {
		return fmt.Errorf("it is not of the form HOST:NUMBER")
	}
	if _, err := strconv.ParseUint(number, 10, 16); err != nil {
		return fmt.Errorf("%q is not a number", number)
	}
	if host != "" && host != "unix" {
		return nil
	}
	var last error
	for _, path := range []string{"@/tmp/.X11-unix/X" + number, "/tmp/.X11-unix/X" + number} {
		c, err := net.DialTimeout("unix", path, 2*time.Second)
		if err == nil {
			return c.Close()
		}
		last = err
	}
	return last
}
