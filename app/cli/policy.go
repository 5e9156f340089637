package cli

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/app/client"
	"github.com/hxen-project/hxen/app/text"
)

func (a *app) policyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "policy NAME", Args: cobra.ExactArgs(1),
		Short: text.T("Show or set what is done when a guest ends by itself"),
		Long: text.T(`Actions are xl's: destroy, restart; after a crash and for a watchdog also preserve (it
stays, paused, to be looked at), coredump-destroy, coredump-restart and
rename-restart (its memory goes into a crash-*.core file in its folder first; a guest
is one folder, so the two are the same here). A watchdog without an action resets the
guest in place.`),
		Example:           "  hxen policy web --on-crash coredump-restart --on-watchdog restart",
		ValidArgsFunction: a.guestNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, vm, _, err := a.guest(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			var set client.Policies
			changed := false
			for flag, to := range map[string]**string{"on-poweroff": &set.OnPoweroff, "on-reboot": &set.OnReboot, "on-crash": &set.OnCrash, "on-watchdog": &set.OnWatchdog} {
				if cmd.Flags().Changed(flag) {
					v := cmd.Flags().Lookup(flag).Value.String()
					*to, changed = &v, true
				}
			}
			if changed {
				return c.SetPolicies(cmd.Context(), vm, set)
			}
			r, err := c.VM(cmd.Context(), vm)
			if err != nil {
				return err
			}
			xl := strings.NewReplacer("coredump_and_", "coredump-", "rename_", "rename-")
			for _, row := range [][2]string{{"on_poweroff", r.ActionsAfterShutdown}, {"on_reboot", r.ActionsAfterReboot}, {"on_crash", r.ActionsAfterCrash},
				{"on_watchdog", cmp.Or(r.OtherConfig[api.KeyOnWatchdog], "(reset)")}} {
				fmt.Fprintf(a.Out, "%-12s %s\n", row[0], xl.Replace(row[1]))
			}
			return nil
		},
	}
	cmd.Flags().String("on-poweroff", "", text.T("the guest powers itself off: destroy or restart"))
	cmd.Flags().String("on-reboot", "", text.T("the guest restarts: restart or destroy"))
	cmd.Flags().String("on-crash", "", text.T("its system crashes"))
	cmd.Flags().String("on-watchdog", "", text.T("its watchdog sees it hang"))
	return cmd
}
