package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/app/client"
	"github.com/hxen-project/hxen/app/text"
)

func (a *app) autostartCommand() *cobra.Command {
	var order int64
	var delay time.Duration
	var waitFor, onStop string
	cmd := &cobra.Command{
		Use: "autostart [NAME [on|off]]", Args: cobra.MaximumNArgs(2),
		Short: text.T("Show or change which guests start with the computer, and how they stop with it"),
		Long: text.T(`Without a name, show who starts with the computer, in order. Guests start with it
once the service is installed (hxen service install): first those that were saved
when it stopped, then the others in their order, each some seconds after the one
before. When the computer stops they are stopped in the reverse order.`),
		Example: "  hxen autostart\n  hxen autostart web on --order 2 --delay 10s\n  hxen autostart db on --order 1 --wait-for /mnt/data --on-host-stop save\n  hxen autostart web off",
		ValidArgsFunction: func(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 1 {
				return []string{"on", "off"}, cobra.ShellCompDirectiveNoFileComp
			}
			return a.guestNames(cmd, args, toComplete)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return a.startOrder(cmd)
			}
			c, vm, _, err := a.guest(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			var set client.Autostart
			if len(args) == 2 {
				on := args[1] == "on"
				if !on && args[1] != "off" {
					return usage("%q is neither on nor off", args[1])
				}
				set.On = &on
			}
			if cmd.Flags().Changed("order") {
				set.Order = &order
			}
			if cmd.Flags().Changed("delay") {
				seconds := int64(delay.Round(time.Second) / time.Second)
				set.Delay = &seconds
			}
			if cmd.Flags().Changed("wait-for") {
				set.WaitFor = &waitFor
			}
			if cmd.Flags().Changed("on-host-stop") {
				set.OnHostStop = &onStop
			}
			return c.SetAutostart(cmd.Context(), vm, set)
		},
	}
	cmd.Flags().Int64Var(&order, "order", 0, text.T("place in the order; guests of one place start by name and stop together"))
	cmd.Flags().DurationVar(&delay, "delay", 5*time.Second, text.T("time until the next guest starts"))
	cmd.Flags().StringVar(&waitFor, "wait-for", "", text.T("what must be there first: network, or a path"))
	cmd.Flags().StringVar(&onStop, "on-host-stop", "", text.T("when the computer stops: shutdown, save or poweroff"))
	return cmd
}

// startOrder prints who starts with the computer.
func (a *app) startOrder(cmd *cobra.Command) error {
	c, err := a.open(cmd.Context(), false)
	if err != nil {
		return err
	}
	all, err := c.VMs(cmd.Context())
	if err != nil {
		return err
	}
	var list []api.VM
	for _, vm := range all {
		if on, _ := strconv.ParseBool(vm.OtherConfig["auto_poweron"]); on {
			list = append(list, vm)
		}
	}
	slices.SortFunc(list, func(x, y api.VM) int {
		return cmp.Or(cmp.Compare(x.Order, y.Order), cmp.Compare(x.NameLabel, y.NameLabel))
	})
	fmt.Fprintf(a.Out, "%-32s %6s %6s %-20s %-14s %s\n", text.T("Name"), text.T("Order"), text.T("Delay"), text.T("Waits for"), text.T("On host stop"), text.T("State"))
	for _, vm := range list {
		state := vm.PowerState
		if why := vm.OtherConfig[api.KeyWaiting]; why != "" {
			state = text.T("waiting: %s", why)
		}
		fmt.Fprintf(a.Out, "%-32s %6d %5ds %-20s %-14s %s\n", printable(vm.NameLabel), vm.Order, vm.StartDelay,
			printable(cmp.Or(vm.OtherConfig[api.KeyWaitFor], "-")), vm.OtherConfig[api.KeyOnHostStop], printable(state))
	}
	return nil
}
