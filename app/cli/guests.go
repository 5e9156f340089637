package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/app/text"
)

func (a *app) listCommand() *cobra.Command {
	var long bool
	cmd := &cobra.Command{
		Use:   "list [NAME...]",
		Short: text.T("List guests and their states"),
		Long: text.T(`List guests in xl's columns: domid (- when halted), memory in MiB, virtual
processors, state, and the seconds of processor time used. The letters of the
state: r running, b idle, p paused, s shut down, c crashed, d dying.`),
		Example:           "  hxen list\n  hxen list -l web    everything about web, as JSON",
		ValidArgsFunction: a.guestNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.open(cmd.Context(), false)
			if err != nil {
				return err
			}
			var rows []api.ListRow
			if len(args) == 0 {
				if rows, err = c.List(cmd.Context()); err != nil {
					return err
				}
			}
			for _, name := range args {
				_, row, err := c.Find(cmd.Context(), name)
				if err != nil {
					return err
				}
				rows = append(rows, row)
			}
			sortRows(rows)
			if !long {
				return writeList(a.Out, rows)
			}
			all, err := c.VMs(cmd.Context())
			if err != nil {
				return err
			}
			records := []api.VM{}
			for _, r := range rows {
				if vm, ok := all[api.RefOf(r.UUID)]; ok {
					records = append(records, vm)
				}
			}
			return a.json(records)
		},
	}
	cmd.Flags().BoolVarP(&long, "long", "l", false, text.T("print whole records as JSON"))
	return cmd
}

// sortRows puts running guests first, by domid, then the others by name.
func sortRows(rows []api.ListRow) {
	slices.SortStableFunc(rows, func(x, y api.ListRow) int {
		switch {
		case (x.DomID >= 0) != (y.DomID >= 0):
			return y.DomID - x.DomID
		case x.DomID != y.DomID:
			return x.DomID - y.DomID
		}
		return strings.Compare(x.Name, y.Name)
	})
}

// writeList prints rows in the form of xl list (tools/xl/xl_list.c).
func writeList(w io.Writer, rows []api.ListRow) error {
	var b strings.Builder
	b.WriteString("Name                                        ID   Mem VCPUs\tState\tTime(s)\n")
	for _, r := range rows {
		id := "-"
		if r.DomID >= 0 {
			id = fmt.Sprint(r.DomID)
		}
		fmt.Fprintf(&b, "%-40s %5s %5d %5d     %6s  %8.1f\n", printable(r.Name), id, r.Memory, r.VCPUs, r.State, r.Time)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (a *app) uptimeCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "uptime [NAME...]",
		Short:             text.T("Tell how long guests have been running"),
		Example:           "  hxen uptime\n  hxen uptime web",
		ValidArgsFunction: a.guestNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			c, err := a.open(ctx, false)
			if err != nil {
				return err
			}
			rows, err := c.List(ctx)
			if err != nil {
				return err
			}
			if len(args) > 0 {
				rows = rows[:0]
				for _, name := range args {
					_, row, err := c.Find(ctx, name)
					if err != nil {
						return err
					}
					if row.DomID < 0 {
						return fmt.Errorf("%s", text.T("%s is not running", name))
					}
					rows = append(rows, row)
				}
			}
			sortRows(rows)
			fmt.Fprintln(a.Out, "Name                                ID Uptime")
			for _, r := range rows {
				if r.DomID < 0 {
					continue
				}
				vm, err := c.VM(ctx, api.RefOf(r.UUID))
				if err != nil {
					return err
				}
				var m api.VMMetrics
				if err := c.Call(ctx, "VM_metrics.get_record", &m, vm.Metrics); err != nil {
					return err
				}
				fmt.Fprintf(a.Out, "%-32s %5d %s\n", printable(r.Name), r.DomID, uptimeWords(time.Since(m.StartTime.Time)))
			}
			return nil
		},
	}
}

// uptimeWords says a duration as xl uptime does: "1 day, 2:03:04".
func uptimeWords(d time.Duration) string {
	s := int64(max(d, 0) / time.Second)
	days := ""
	switch n := s / 86400; {
	case n == 1:
		days = "1 day, "
	case n > 1:
		days = fmt.Sprintf("%d days, ", n)
	}
	return fmt.Sprintf("%s%d:%02d:%02d", days, s%86400/3600, s%3600/60, s%60)
}

func (a *app) domidCommand() *cobra.Command {
	return &cobra.Command{
		Use: "domid NAME", Args: cobra.ExactArgs(1),
		Short:             text.T("Print the domid of a running guest"),
		Example:           "  hxen domid web",
		ValidArgsFunction: a.guestNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			_, _, row, err := a.guest(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if row.DomID < 0 {
				return fmt.Errorf("%s", text.T("%s is not running, so it has no domid; start it with: hxen start %s", row.Name, row.Name))
			}
			fmt.Fprintln(a.Out, row.DomID)
			return nil
		},
	}
}

func (a *app) domnameCommand() *cobra.Command {
	return &cobra.Command{
		Use: "domname DOMID", Args: cobra.ExactArgs(1),
		Short:   text.T("Print the name of the guest with this domid or uuid"),
		Example: "  hxen domname 3",
		RunE: func(cmd *cobra.Command, args []string) error {
			_, _, row, err := a.guest(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			fmt.Fprintln(a.Out, row.Name)
			return nil
		},
	}
}

func (a *app) infoCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "info", Args: cobra.NoArgs,
		Short:   text.T("Tell what this computer has for guests"),
		Example: "  hxen info",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.open(cmd.Context(), false)
			if err != nil {
				return err
			}
			h, err := c.HostInfo(cmd.Context())
			if err != nil {
				return err
			}
			v, err := c.Version(cmd.Context())
			if err != nil {
				return err
			}
			if asJSON {
				return a.json(struct {
					api.HostInfo
					Service api.Version `json:"service"`
				}{h, v})
			}
			firmware := "bios"
			if h.UEFI {
				firmware = "bios uefi"
			}
			for _, line := range [][2]string{
				{"nr_cpus", fmt.Sprint(h.CPUs)},
				{"total_memory", fmt.Sprint(h.Memory >> 20)},
				{"free_memory", fmt.Sprint(h.MemoryFree >> 20)},
				{"free_disk", fmt.Sprint(h.DiskFree >> 20)},
				{"accelerator", h.Accel},
				{"accelerator_reason", h.AccelWhy},
				{"accelerator_cure", h.AccelCure},
				{"pvh_accelerator", h.Native},
				{"pvh_reason", h.NativeWhy},
				{"pvh_cure", h.NativeCure},
				{"qemu", h.QEMU},
				{"firmware", firmware},
				{"missing", h.Missing},
				{"store", h.Store},
				{"hxen_version", v.Version},
				{"service_pid", fmt.Sprint(v.PID)},
			} {
				if line[1] != "" {
					fmt.Fprintf(a.Out, "%-22s : %s\n", line[0], line[1])
				}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, text.T("print JSON"))
	return cmd
}
