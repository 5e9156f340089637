//go:build unix

package main

import (
	"path/filepath"

	"github.com/hxen-project/hxen/installer/plan"
	"github.com/hxen-project/hxen/platform/proc"
)

// launch starts the installed window.
func launch(p plan.Plan, demo bool) error {
	bin := filepath.Join(p.Prefix, "bin")
	c := proc.Command{Path: filepath.Join(bin, "hxen-desktop"), Detach: true}
	if demo {
		// The guest is made, which may take a while, and then shown.
		c = proc.Command{Path: "/bin/sh", Args: []string{"-c", `"$0"/hxen demo && exec "$0"/hxen-desktop --open demo || exec "$0"/hxen-desktop`, bin}, Detach: true}
	}
	_, err := proc.Start(c)
	return err
}
