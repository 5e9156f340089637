package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/app/client"
	"github.com/hxen-project/hxen/app/text"
)

// saveCommand is xl save without its file: a guest's state is kept in its folder.
func (a *app) saveCommand() *cobra.Command {
	cmd := a.power("save", text.T("Save guests' states and end them"), "  hxen save web    restore lets it go on\n",
		func(ctx context.Context, c *client.Client, vm api.Ref, _ api.ListRow) error {
			draw, done := a.progress()
			defer done()
			return c.Suspend(ctx, vm, draw)
		})
	cmd.Long = text.T(`Save guests' memory and devices into their folders and end them. Ctrl-C cancels:
the guest then goes on running, as it does when the disk is full. restore, or
start, lets a saved guest go on; destroy discards what was saved.`)
	return cmd
}

func (a *app) restoreCommand() *cobra.Command {
	var paused, force bool
	cmd := a.power("restore", text.T("Let saved guests go on"), "  hxen restore web",
		func(ctx context.Context, c *client.Client, vm api.Ref, row api.ListRow) error {
			if row.Power == "Halted" {
				return fmt.Errorf("%s", text.T("it has no saved state; boot it with: hxen start %s", quoted(row.Name)))
			}
			return a.resume(ctx, c, vm, paused, force)
		})
	cmd.Flags().BoolVarP(&paused, "paused", "p", false, text.T("leave it paused"))
	cmd.Flags().BoolVar(&force, "force", false, text.T("also where a disk's date was changed meanwhile, as by a copy or a backup that was put back"))
	return cmd
}

func (a *app) resume(ctx context.Context, c *client.Client, vm api.Ref, paused, force bool) error {
	draw, done := a.progress()
	defer done()
	return c.Resume(ctx, vm, paused, force, draw)
}
