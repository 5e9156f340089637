package cli

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/app/client"
	"github.com/hxen-project/hxen/app/text"
)

func (a *app) trashCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "trash", Args: cobra.NoArgs,
		Short:   text.T("List, restore or erase deleted guests"),
		Example: "  hxen trash\n  hxen trash restore web",
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.listTrash(cmd) },
	}
	yes := false
	empty := &cobra.Command{
		Use: "empty [NAME]", Args: cobra.MaximumNArgs(1),
		Short:   text.T("Erase deleted guests and their disks for good"),
		Example: "  hxen trash empty\n  hxen trash empty web --yes",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, items, err := a.trashed(cmd, args)
			if err != nil || len(items) == 0 {
				return err
			}
			for _, t := range items {
				fmt.Fprintf(a.Err, "  %s  %s\n", text.Size(t.Size), printable(t.Path))
			}
			if !yes && !a.ask(text.T("Erase them? They cannot be brought back.")) {
				return exitCode(exitFailed)
			}
			draw, done := a.progress()
			defer done()
			var freed int64
			for _, t := range items {
				n, err := c.EmptyTrash(cmd.Context(), t.ID, draw)
				if err != nil {
					return err
				}
				freed += n
			}
			fmt.Fprintln(a.Out, text.T("%s freed", text.Size(freed)))
			return nil
		},
	}
	empty.Flags().BoolVarP(&yes, "yes", "y", false, text.T("do not ask"))
	cmd.AddCommand(
		&cobra.Command{Use: "list", Args: cobra.NoArgs, Short: text.T("List deleted guests, the last first"),
			Example: "  hxen trash list", RunE: func(cmd *cobra.Command, _ []string) error { return a.listTrash(cmd) }},
		&cobra.Command{Use: "restore NAME", Args: cobra.ExactArgs(1), Short: text.T("Make a deleted guest one again"),
			Example: "  hxen trash restore web",
			RunE: func(cmd *cobra.Command, args []string) error {
				c, items, err := a.trashed(cmd, args)
				if err != nil {
					return err
				}
				made, err := c.Untrash(cmd.Context(), items[0].ID)
				if err != nil {
					return err
				}
				vm, err := c.VM(cmd.Context(), made.VM)
				if err != nil {
					return err
				}
				fmt.Fprintln(a.Out, text.T("Restored %s.", vm.NameLabel))
				return nil
			}},
		empty,
	)
	return cmd
}

func (a *app) listTrash(cmd *cobra.Command) error {
	_, items, err := a.trashed(cmd, nil)
	if err != nil {
		return err
	}
	fmt.Fprintf(a.Out, "%-28s %-19s %10s  %s\n", text.T("Name"), text.T("Deleted"), text.T("Size"), text.T("Id"))
	for _, t := range items {
		fmt.Fprintf(a.Out, "%-28s %-19s %10s  %s  %s\n", printable(t.Name), t.Deleted.Local().Format(time.DateTime), text.Size(t.Size), printable(t.ID), printable(t.Problem))
	}
	return nil
}

// trashed finds what the arguments name in the trash, by name, uuid or id; all
// without an argument. Of several with one name the id has to be given.
func (a *app) trashed(cmd *cobra.Command, args []string) (*client.Client, []api.Trashed, error) {
	c, err := a.open(cmd.Context(), false)
	if err != nil {
		return nil, nil, err
	}
	all, err := c.Trash(cmd.Context())
	if err != nil || len(args) == 0 {
		return c, all, err
	}
	var found []api.Trashed
	var ids []string
	for _, t := range all {
		if t.ID == args[0] {
			return c, []api.Trashed{t}, nil
		}
		if t.Name == args[0] || strings.EqualFold(t.UUID, args[0]) {
			found = append(found, t)
			ids = append(ids, t.ID)
		}
	}
	switch len(found) {
	case 0:
		return c, nil, fmt.Errorf("%w: %s", client.ErrNoGuest, text.T("%q is not in the trash; \"hxen trash list\" shows what is", args[0]))
	case 1:
		return c, found, nil
	}
	return c, nil, usage("%d deleted guests are called %q; give the id of one: %s", len(found), args[0], strings.Join(ids, ", "))
}

func (a *app) relinkCommand() *cobra.Command {
	return &cobra.Command{
		Use: "relink NAME DISK FILE", Args: cobra.ExactArgs(3),
		Short: text.T("Tell where a guest's disk or CD image has moved"),
		Long: text.T(`Have a guest use its disk image at another place: DISK is the image's old path, its
file name, or its device (vda). The image must be of the same format and size.`),
		Example: "  hxen relink web web.qcow2 /mnt/new/web.qcow2",
		ValidArgsFunction: func(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
			return a.guestThenFile(cmd, args, toComplete)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			c, vm, _, err := a.guest(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			path, err := filepath.Abs(args[2])
			if err != nil {
				return err
			}
			return c.Relink(cmd.Context(), vm, args[1], path)
		},
	}
}

func (a *app) repairCommand() *cobra.Command {
	return &cobra.Command{
		Use: "repair NAME", Args: cobra.ExactArgs(1),
		Short: text.T("Make a guest whose folder cannot be used one that can"),
		Long: text.T(`A copied folder gets an identity of its own; settings that cannot be read are put
aside, and those that HXEN wrote last are taken back. Nothing is deleted.`),
		Example:           "  hxen repair web",
		ValidArgsFunction: a.guestNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, vm, _, err := a.guest(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			made, err := c.Repair(cmd.Context(), vm)
			if err != nil {
				return err
			}
			now, err := c.VM(cmd.Context(), made.VM)
			if err != nil {
				return err
			}
			fmt.Fprintln(a.Out, text.T("Repaired %s.", now.NameLabel))
			return nil
		},
	}
}
