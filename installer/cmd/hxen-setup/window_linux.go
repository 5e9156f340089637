package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"

	"github.com/hxen-project/hxen/installer/steps"
	"github.com/hxen-project/hxen/platform/hostinfo"
)

// noWindow is the wizard's exit code when it could not show its window.
const noWindow = 64

// window runs the wizard, which this program carries, where there is a display
// and OpenGL. shown is false if there is no window to be had. The wizard is run
// from memory: nothing of it is left on the disk.
func window(s *steps.Setup, args []string) (code int, shown bool) {
	if err := hostinfo.Window(); err != nil {
		return 0, false
	}
	program, err := inMemory(s)
	if err != nil {
		fmt.Fprintln(os.Stderr, "hxen-setup:", err)
		return 0, false
	}
	defer program.Close()
	cmd := exec.Command(fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), program.Fd()), append([]string{"--setup", s.Program}, args...)...)
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

// inMemory copies the wizard's program into a file that only memory holds.
func inMemory(s *steps.Setup) (*os.File, error) {
	in, err := s.Payload.Wizard()
	if err != nil {
		return nil, fmt.Errorf("this setup program carries no window: %w", err)
	}
	defer in.Close()
	fd, err := unix.MemfdCreate("hxen-setup-window", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("unpack the window: %w", err)
	}
	f := os.NewFile(uintptr(fd), "hxen-setup-window")
	if _, err := io.Copy(f, in); err != nil {
		f.Close()
		return nil, fmt.Errorf("unpack the window: %w", err)
	}
	return f, nil
}
