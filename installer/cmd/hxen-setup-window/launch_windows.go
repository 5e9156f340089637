package main

import (
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/windows"

	"github.com/hxen-project/hxen/installer/plan"
	"github.com/hxen-project/hxen/platform/proc"
)

// launch starts the installed window.
func launch(p plan.Plan, demo bool) error {
	c := proc.Command{Path: filepath.Join(p.Prefix, "hxen-desktop.exe"), Detach: true}
	if demo {
		guest := exec.Command(filepath.Join(p.Prefix, "hxen.exe"), "demo")
		guest.SysProcAttr = &syscall.SysProcAttr{CreationFlags: windows.CREATE_NO_WINDOW}
		if out, err := guest.CombinedOutput(); err != nil {
			return errors.New(strings.TrimSpace(string(out)))
		}
		c.Args = []string{"--open", "demo"}
	}
	_, err := proc.Start(c)
	return err
}
