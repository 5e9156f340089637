package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/hxen-project/hxen/app/text"
)

func (a *app) bootEntriesCommand() *cobra.Command {
	var auto, asJSON bool
	cmd := &cobra.Command{
		Use: "boot-entries NAME [ENTRY]", Args: cobra.RangeArgs(1, 2),
		Short: text.T("List or choose what a guest's own disk boots"),
		Long: text.T(`List what the disks of a halted guest can boot, as its boot loader's configuration
(GRUB, BLS, extlinux) says: a guest of type pvh without a kernel on this computer
boots one of these. The one that boots next is marked with *. With ENTRY, an id or
a title of the list, the guest boots that one from now on; with --auto, what its
boot loader would.`),
		Example:           "  hxen boot-entries cloud\n  hxen boot-entries cloud 'Debian GNU/Linux'\n  hxen boot-entries cloud --auto",
		ValidArgsFunction: a.guestNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			if auto && len(args) == 2 {
				return usage("--auto and an entry cannot be used together")
			}
			c, vm, row, err := a.guest(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if auto {
				return c.SetBootEntry(cmd.Context(), vm, "")
			}
			if len(args) == 2 {
				before, err := c.VM(cmd.Context(), vm)
				if err != nil {
					return err
				}
				if err := c.SetBootEntry(cmd.Context(), vm, args[1]); err != nil {
					return err
				}
				menu, err := c.BootMenu(cmd.Context(), vm)
				if err == nil && menu.Boots < 0 {
					err = fmt.Errorf("%s", text.T("%s; hxen boot-entries %s lists them", printable(menu.Problem), quoted(row.Name)))
				}
				if err != nil {
					return errors.Join(err, c.SetBootEntry(cmd.Context(), vm, before.PVBootloaderArgs))
				}
				return nil
			}
			menu, err := c.BootMenu(cmd.Context(), vm)
			if err != nil {
				return err
			}
			if asJSON {
				return a.json(menu)
			}
			for i, e := range menu.Entries {
				mark := " "
				if i == menu.Boots {
					mark = "*"
				}
				fmt.Fprintf(a.Out, "%s %s\n    %s\n    %s %s\n", mark, printable(e.ID), printable(e.Title), printable(e.Kernel), printable(e.Cmdline))
			}
			if menu.Problem != "" {
				fmt.Fprintln(a.Err, printable(menu.Problem))
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&auto, "auto", false, text.T("leave it to the guest's boot loader"))
	cmd.Flags().BoolVar(&asJSON, "json", false, text.T("print the list as JSON"))
	return cmd
}
