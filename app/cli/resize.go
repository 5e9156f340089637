package cli

import (
	"strconv"

	"github.com/spf13/cobra"

	"github.com/hxen-project/hxen/app/text"
)

func (a *app) memSetCommand() *cobra.Command {
	return &cobra.Command{
		Use: "mem-set NAME SIZE", Args: cobra.ExactArgs(2),
		Short:             text.T("Ask a running guest to give memory back, or to take it again"),
		Example:           "  hxen mem-set web 512M",
		ValidArgsFunction: a.guestNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			size, err := parseSize(args[1])
			if err != nil {
				return usage("%v", err)
			}
			c, vm, _, err := a.guest(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return c.SetMemory(cmd.Context(), vm, size)
		},
	}
}

func (a *app) vcpuSetCommand() *cobra.Command {
	return &cobra.Command{
		Use: "vcpu-set NAME NUMBER", Args: cobra.ExactArgs(2),
		Short:             text.T("Ask a running guest to use so many of its processors"),
		Example:           "  hxen vcpu-set web 2",
		ValidArgsFunction: a.guestNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := strconv.Atoi(args[1])
			if err != nil || n < 1 {
				return usage("%q is no number of processors", args[1])
			}
			c, vm, _, err := a.guest(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return c.SetVCPUs(cmd.Context(), vm, n)
		},
	}
}
