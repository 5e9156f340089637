package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hxen-project/hxen/app/text"
)

// plugCommands are xl's for disks and network cards.
func (a *app) plugCommands() []*cobra.Command {
	return []*cobra.Command{a.blockAttachCommand(), a.blockDetachCommand(), a.blockListCommand(),
		a.networkAttachCommand(), a.networkDetachCommand(), a.networkListCommand()}
}

func (a *app) blockAttachCommand() *cobra.Command {
	var readOnly bool
	cmd := &cobra.Command{
		Use: "block-attach NAME IMAGE", Args: cobra.ExactArgs(2),
		Short:             text.T("Give a guest a disk, at once if it runs"),
		Example:           "  hxen block-attach web data.img\n  hxen block-attach web data.img --read-only",
		ValidArgsFunction: a.guestThenFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, vm, _, err := a.guest(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			path := strings.TrimPrefix(args[1], "target=") // as xl's disk specification may begin
			d, err := c.AttachDisk(cmd.Context(), vm, path, readOnly)
			if err == nil {
				fmt.Fprintln(a.Out, d.Device)
			}
			return err
		},
	}
	cmd.Flags().BoolVarP(&readOnly, "read-only", "r", false, text.T("the guest may not write to it"))
	return cmd
}

func (a *app) blockDetachCommand() *cobra.Command {
	return &cobra.Command{
		Use: "block-detach NAME DISK", Args: cobra.ExactArgs(2),
		Short:             text.T("Take a disk from a guest; its image stays"),
		Example:           "  hxen block-detach web xvdb",
		ValidArgsFunction: a.guestNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, vm, _, err := a.guest(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return c.DetachDisk(cmd.Context(), vm, args[1])
		},
	}
}

func (a *app) blockListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "block-list NAME", Args: cobra.ExactArgs(1),
		Short:             text.T("List a guest's disks"),
		Example:           "  hxen block-list web",
		ValidArgsFunction: a.guestNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, vm, _, err := a.guest(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			_, all, err := c.Disks(cmd.Context(), vm)
			if err != nil {
				return err
			}
			fmt.Fprintln(a.Out, "Vdev  Type Mode State UUID")
			for _, d := range all {
				fmt.Fprintf(a.Out, "%-5s %-4s %-4s %5d %s\n", d.Device, d.Type, d.Mode, xenbusState(d.CurrentlyAttached), d.UUID)
			}
			return nil
		},
	}
}

// xenbusState is what xl shows of a device: connected or closed (io/xenbus.h).
func xenbusState(attached bool) int {
	if attached {
		return 4
	}
	return 6
}

func (a *app) networkAttachCommand() *cobra.Command {
	var mac string
	cmd := &cobra.Command{
		Use: "network-attach NAME", Args: cobra.RangeArgs(1, 2),
		Short:             text.T("Give a guest a network card, at once if it runs"),
		Example:           "  hxen network-attach web\n  hxen network-attach web mac=52:54:00:12:34:56",
		ValidArgsFunction: a.guestNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 2 { // xl's form
				v, ok := strings.CutPrefix(args[1], "mac=")
				if !ok {
					return usage("%q: a card is described by mac=ADDRESS", args[1])
				}
				mac = v
			}
			c, vm, _, err := a.guest(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			n, err := c.AttachCard(cmd.Context(), vm, mac)
			if err == nil {
				fmt.Fprintln(a.Out, n.MAC)
			}
			return err
		},
	}
	cmd.Flags().StringVar(&mac, "mac", "", text.T("its address; chosen if missing"))
	return cmd
}

func (a *app) networkDetachCommand() *cobra.Command {
	return &cobra.Command{
		Use: "network-detach NAME CARD", Args: cobra.ExactArgs(2),
		Short:             text.T("Take a network card, named by its number or address, from a guest"),
		Example:           "  hxen network-detach web 1",
		ValidArgsFunction: a.guestNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, vm, _, err := a.guest(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return c.DetachCard(cmd.Context(), vm, args[1])
		},
	}
}

func (a *app) networkListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "network-list NAME", Args: cobra.ExactArgs(1),
		Short:             text.T("List a guest's network cards"),
		Example:           "  hxen network-list web",
		ValidArgsFunction: a.guestNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, vm, _, err := a.guest(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			_, all, err := c.Cards(cmd.Context(), vm)
			if err != nil {
				return err
			}
			fmt.Fprintln(a.Out, "Idx Mac Addr.         State Address")
			for i, n := range all {
				fmt.Fprintf(a.Out, "%-3d %s %5d %s\n", i, n.MAC, xenbusState(n.CurrentlyAttached), strings.Join(n.IPv4Addresses, " "))
			}
			return nil
		},
	}
}
