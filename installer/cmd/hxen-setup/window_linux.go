package main

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/hxen-project/hxen/installer/steps"
)

// attachConsole has nothing to do: a terminal is there or is not.
func attachConsole() {}

// ownConsole has nothing to do either.
func ownConsole() {}

// unpack puts the wizard's program into a file that only memory holds: nothing of
// it is left on the disk. done gives it up.
func unpack(s *steps.Setup) (program string, done func(), err error) {
	fd, err := unix.MemfdCreate("hxen-setup-window", unix.MFD_CLOEXEC)
	if err != nil {
		return "", nil, fmt.Errorf("unpack the window: %w", err)
	}
	f := os.NewFile(uintptr(fd), "hxen-setup-window")
	if err := copyWizard(s, f); err != nil {
		f.Close()
		return "", nil, err
	}
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), f.Fd()), func() { f.Close() }, nil
}
