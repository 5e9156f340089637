package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/hxen-project/hxen/installer/steps"
	"github.com/hxen-project/hxen/platform/elevate"
	"github.com/hxen-project/hxen/platform/localsock"
)

// elevated is the helper that an administrator's password was asked for. Where
// the system gives it no streams it dials its caller.
func elevated(ctx context.Context, s *steps.Setup, socket string) int {
	if !elevate.Admin() {
		fmt.Fprintln(os.Stderr, "hxen-setup: the helper was started without an administrator's rights")
		return exitRights
	}
	var in io.Reader = os.Stdin
	var out io.Writer = os.Stdout
	if socket != "" {
		c, err := localsock.DialCaller(ctx, socket)
		if err != nil {
			fmt.Fprintln(os.Stderr, "hxen-setup:", err)
			return exitFailed
		}
		defer c.Close()
		in, out = c, c
	}
	return code(ctx, s.Elevated(ctx, in, out))
}
