package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/app/client"
	"github.com/hxen-project/hxen/app/text"
)

func (a *app) templateCommand() *cobra.Command {
	var undo bool
	cmd := &cobra.Command{
		Use: "template NAME [NEW]", Args: cobra.RangeArgs(1, 2),
		Short: text.T("Make a template of a guest, for clones of it"),
		Long: text.T(`Make a template of a guest: it never runs itself, and "hxen clone" makes guests
like it. A running guest of type pvh is saved first, and its clones go on from
there at once, as guests of their own, with memory that they share until they
change it. With NEW the template is a copy, and the guest goes on.`),
		Example:           "  hxen template web\n  hxen template web web-template\n  hxen template --undo web",
		ValidArgsFunction: a.guestNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			c, vm, row, err := a.guest(ctx, args[0])
			if err != nil {
				return err
			}
			if undo {
				return c.SetTemplate(ctx, vm, false)
			}
			runs := row.Power == "Running" || row.Power == "Paused"
			draw, done := a.progress()
			defer done()
			if len(args) == 2 {
				if runs {
					_, err = c.Checkpoint(ctx, vm, args[1], draw)
					return err
				}
				if vm, err = c.CloneVM(ctx, vm, args[1], draw); err != nil {
					return err
				}
			} else if runs {
				if err := c.Suspend(ctx, vm, draw); err != nil {
					return err
				}
			}
			return c.SetTemplate(ctx, vm, true)
		},
	}
	cmd.Flags().BoolVar(&undo, "undo", false, text.T("make a guest of the template again"))
	return cmd
}

func (a *app) cloneCommand() *cobra.Command {
	var (
		count       int
		still, hold bool
	)
	cmd := &cobra.Command{
		Use: "clone NAME NEW", Args: cobra.ExactArgs(2),
		Short: text.T("Make guests like one that does not run, and start them"),
		Long: text.T(`Make a guest like another one, which is a template, halted or saved, and start
it: where that one was saved, from there. It has an identity of its own: uuid,
network addresses, and a hint for its host name in XenStore (vm-data/hostname).
Ports of the host are not forwarded to it.`),
		Example:           "  hxen clone web web-2\n  hxen clone --count 20 web worker    worker-1 to worker-20",
		ValidArgsFunction: a.guestNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			if count < 1 || count > 1000 {
				return usage("--count %d: it is 1 to 1000", count)
			}
			ctx := cmd.Context()
			c, vm, _, err := a.guest(ctx, args[0])
			if err != nil {
				return err
			}
			for i := range count {
				name := args[1]
				if count > 1 {
					name = fmt.Sprintf("%s-%d", args[1], i+1)
				}
				if err := a.cloneOne(cmd, c, vm, name, still, hold); err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
			}
			return nil
		},
	}
	cmd.Flags().IntVarP(&count, "count", "n", 1, text.T("make so many, called NEW-1, NEW-2 and so on"))
	cmd.Flags().BoolVar(&still, "no-start", false, text.T("do not start them"))
	cmd.Flags().BoolVarP(&hold, "paused", "p", false, text.T("leave them paused"))
	return cmd
}

func (a *app) cloneOne(cmd *cobra.Command, c *client.Client, vm api.Ref, name string, still, hold bool) error {
	ctx := cmd.Context()
	draw, done := a.progress()
	defer done()
	made, err := c.CloneVM(ctx, vm, name, draw)
	if err != nil || still {
		return err
	}
	rec, err := c.VM(ctx, made)
	if err != nil {
		return err
	}
	if rec.PowerState == "Suspended" {
		return c.Resume(ctx, made, hold, false, draw)
	}
	return c.Start(ctx, made, hold)
}
