//go:build linux || windows

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"

	"github.com/hxen-project/hxen/installer/steps"
	"github.com/hxen-project/hxen/platform/hostinfo"
)

// noWindow is the wizard's exit code when it could not show its window.
const noWindow = 64

// window runs the wizard, which this program carries, where there is a display
// and OpenGL. shown is false if there is no window to be had.
func window(s *steps.Setup, args []string) (code int, shown bool) {
	if err := hostinfo.Window(); err != nil {
		return 0, false
	}
	program, done, err := unpack(s)
	if err != nil {
		fmt.Fprintln(os.Stderr, "hxen-setup:", err)
		return 0, false
	}
	defer done()
	cmd := exec.Command(program, append([]string{"--setup", s.Program}, args...)...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.ExitCode() == noWindow:
		return 0, false
	case errors.As(err, &exit):
		return exit.ExitCode(), true
	case err != nil:
		fmt.Fprintln(os.Stderr, "hxen-setup:", err)
		return 0, false
	}
	return exitOK, true
}

// copyWizard writes the wizard's program to a file.
func copyWizard(s *steps.Setup, out *os.File) error {
	in, err := s.Payload.Wizard()
	if err != nil {
		return fmt.Errorf("this setup program carries no window: %w", err)
	}
	defer in.Close()
	if _, err := io.Copy(out, in); err != nil {
		return fmt.Errorf("unpack the window: %w", err)
	}
	return nil
}
