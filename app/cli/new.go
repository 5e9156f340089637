package cli

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/app/client"
	"github.com/hxen-project/hxen/app/text"
)

func (a *app) newCommand() *cobra.Command {
	var g api.NewGuest
	var memory, disk sizeFlag
	var forwards []string
	cmd := &cobra.Command{
		Use: "new NAME", Args: cobra.ExactArgs(1),
		Short: text.T("Make a guest"),
		Long: text.T(`Make a guest. It boots from a CD image (--iso), from an existing disk image
(--disk; used in place, or copied with --copy), or from a kernel on this
computer (--kernel, --initrd, --cmdline; with --disk, if it needs one);
--disk-size adds a new, empty disk. Sizes are written like 512M or 20G.

A guest of type hvm, the default, is a whole machine, run by QEMU. A guest of
type pvh is a Linux kernel made for Xen (CONFIG_PVH, as distributions' kernels
are), run by HXEN itself: it starts at once and needs little, has a serial
console (hvc0) and no screen, calls its disks xvda, xvdb ..., and needs hardware
virtualisation. Without --kernel it boots what the boot loader's configuration on
its disk (GRUB, BLS, extlinux) says. "hxen retype" changes the type later.`),
		Example: `  hxen new web --iso debian.iso --disk-size 20G --memory 2G --vcpus 2
  hxen new old --disk old.qcow2 --copy --firmware uefi
  hxen new tiny --kernel vmlinuz --initrd initrd.gz --cmdline console=ttyS0
  hxen new quick --type pvh --kernel vmlinuz --initrd initrd.gz
  hxen new root --type pvh --kernel vmlinuz --disk root.img --cmdline root=/dev/xvda
  hxen new cloud --type pvh --disk debian-cloud.qcow2 --copy
  hxen new www --disk www.qcow2 --forward 8080:80 --forward 2222:22`,
		RunE: func(cmd *cobra.Command, args []string) error {
			g.Name, g.Memory, g.DiskSize = args[0], int64(memory), int64(disk)
			if err := checkNew(g); err != nil {
				return err
			}
			for _, s := range forwards {
				f, err := parseForward(s)
				if err != nil {
					return usage("%s", err.Error())
				}
				g.Forwards = append(g.Forwards, f)
			}
			c, err := a.open(cmd.Context(), false)
			if err != nil {
				return err
			}
			draw, done := a.progress()
			made, err := c.Create(cmd.Context(), g, draw)
			done()
			if err != nil {
				return err
			}
			fmt.Fprintln(a.Out, text.T("Created %s (%s). Start it with: hxen start %s", g.Name, made.UUID, quoted(g.Name)))
			if g.Type == "pvh" {
				a.warnNative(cmd.Context(), c, g.Name)
			}
			return nil
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	f := cmd.Flags()
	f.StringVar(&g.Type, "type", "", text.T("hvm (the default): a whole machine; pvh: a Linux kernel made for Xen"))
	f.StringVar(&g.ISO, "iso", "", text.T("boot from this CD image"))
	f.StringVar(&g.Disk, "disk", "", text.T("use this disk image (qcow2 or raw)"))
	f.BoolVar(&g.CopyDisk, "copy", false, text.T("copy the disk image into the guest's folder"))
	f.BoolVar(&g.ReadOnly, "read-only", false, text.T("never write to the disk image"))
	f.StringVar(&g.Kernel, "kernel", "", text.T("boot this Linux kernel"))
	f.StringVar(&g.Initrd, "initrd", "", text.T("with this initial RAM disk"))
	f.StringVar(&g.Cmdline, "cmdline", "", text.T("and this kernel command line"))
	f.StringVar(&g.BootEntry, "boot-entry", "", text.T("pvh: boot this entry of the disk's menu (hxen boot-entries lists them)"))
	f.VarP(&memory, "memory", "m", text.T("memory (default: what suits the source)"))
	f.Int64Var(&g.VCPUs, "vcpus", 0, text.T("virtual processors (default: what suits the host)"))
	f.Var(&disk, "disk-size", text.T("add a new, empty disk of this size"))
	f.StringVar(&g.Firmware, "firmware", "", text.T("bios (the default) or uefi"))
	f.StringArrayVar(&forwards, "forward", nil, text.T("forward a port of this computer to the guest: [udp/][ADDRESS:]PORT:GUESTPORT"))
	f.BoolVar(&g.NoNetwork, "no-network", false, text.T("without a network card"))
	f.StringVar(&g.Display, "display", "", text.T("virtio (the default), std or none"))
	f.BoolVar(&g.Audio, "audio", false, text.T("with a sound card"))
	f.StringVar(&g.Description, "description", "", text.T("a note about it"))
	_ = cmd.RegisterFlagCompletionFunc("type", cobra.FixedCompletions(guestTypes, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("firmware", cobra.FixedCompletions([]string{"bios", "uefi"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("display", cobra.FixedCompletions([]string{"virtio", "std", "none"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// guestTypes are Xen's words for the two.
var guestTypes = []string{"hvm", "pvh"}

// warnNative says that this computer cannot start a pvh guest that was made.
func (a *app) warnNative(ctx context.Context, c *client.Client, name string) {
	h, err := c.HostInfo(ctx)
	if err != nil || h.Native != "" {
		return
	}
	fmt.Fprintln(a.Err, text.T("It cannot be started on this computer as it is now: %s", h.NativeWhy))
	if h.NativeCure != "" {
		fmt.Fprintln(a.Err, text.T("cure: %s", h.NativeCure))
	}
	fmt.Fprintln(a.Err, text.T("Or run it as hvm: hxen retype %s hvm", quoted(name)))
}

// checkNew finds what is wrong with the flags by themselves; the service looks
// at files and at the host.
func checkNew(g api.NewGuest) error {
	var sources []string
	for _, s := range []struct{ flag, value string }{{"--iso", g.ISO}, {"--disk", g.Disk}, {"--kernel", g.Kernel}} {
		if s.value != "" {
			sources = append(sources, s.flag)
		}
	}
	switch {
	case g.Type != "" && !slices.Contains(guestTypes, g.Type):
		return usage("--type is hvm or pvh, not %q", g.Type)
	case g.Type == "pvh" && g.Kernel == "" && g.Disk == "":
		return usage("a guest of type pvh needs --kernel, or --disk with a system on it")
	case len(sources) > 1 && g.ISO != "":
		return usage("%s and %s cannot be used together: a guest boots from one of them", sources[0], sources[1])
	case len(sources) == 0 && g.DiskSize == 0:
		return usage("nothing to boot from: give --iso, --disk, --kernel or --disk-size")
	case g.Kernel == "" && (g.Initrd != "" || g.Cmdline != ""):
		return usage("--initrd and --cmdline need --kernel")
	case g.BootEntry != "" && (g.Type != "pvh" || g.Kernel != "" || g.Disk == ""):
		return usage("--boot-entry needs --type pvh and --disk, and no --kernel")
	case g.Disk == "" && (g.CopyDisk || g.ReadOnly):
		return usage("--copy and --read-only need --disk")
	}
	return nil
}

func (a *app) renameCommand() *cobra.Command {
	return &cobra.Command{
		Use: "rename NAME NEWNAME", Args: cobra.ExactArgs(2),
		Short:             text.T("Give a guest another name"),
		Example:           "  hxen rename web www",
		ValidArgsFunction: a.guestNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, vm, _, err := a.guest(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return c.Rename(cmd.Context(), vm, args[1])
		},
	}
}

func (a *app) retypeCommand() *cobra.Command {
	return &cobra.Command{
		Use: "retype NAME hvm|pvh", Args: cobra.ExactArgs(2),
		Short: text.T("Make a halted guest one of the other type"),
		Long: text.T(`Make a halted guest one of type hvm (a whole machine, run by QEMU, emulated if
need be) or pvh (a Linux kernel made for Xen, run by HXEN itself). Kernel, initial
RAM disk, disks and network card stay. The command line's console= and root= are
changed to what the other type calls the console and the disks; what was changed,
and what the guest's own files may name, is printed.`),
		Example: "  hxen retype quick hvm\n  hxen retype quick pvh",
		ValidArgsFunction: func(cmd *cobra.Command, args []string, part string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 1 {
				return guestTypes, cobra.ShellCompDirectiveNoFileComp
			}
			return a.guestNames(cmd, args, part)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if !slices.Contains(guestTypes, args[1]) {
				return usage("the type is hvm or pvh, not %q", args[1])
			}
			c, vm, row, err := a.guest(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			notes, err := c.Retype(cmd.Context(), vm, args[1])
			if err != nil {
				return err
			}
			fmt.Fprintln(a.Out, text.T("%s is of type %s.", row.Name, args[1]))
			for _, n := range notes {
				fmt.Fprintln(a.Out, printable(n))
			}
			return nil
		},
	}
}

func (a *app) removeCommand() *cobra.Command {
	var keep, yes bool
	cmd := &cobra.Command{
		Use: "remove NAME", Args: cobra.ExactArgs(1),
		Short: text.T("Delete a guest: move it to the trash"),
		Long: text.T(`Delete a halted guest. Its folder with its disks is moved to HXEN's trash; with
--keep-disks its disks stay. Images that lie elsewhere are never touched. The
paths are shown and asked about first, unless --yes is given.`),
		Example:           "  hxen remove web\n  hxen remove web --keep-disks --yes",
		ValidArgsFunction: a.guestNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, vm, row, err := a.guest(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if !yes {
				if _, ok := terminal(a.In); !ok {
					return usage("remove asks first, and there is nobody to ask; give --yes")
				}
				d, err := c.DeletePaths(cmd.Context(), vm)
				if err != nil {
					return err
				}
				fmt.Fprintln(a.Err, text.T("Moved to the trash:"))
				printPaths(a.Err, d.Trash)
				if len(d.Kept) > 0 {
					fmt.Fprintln(a.Err, text.T("Left where they are:"))
					printPaths(a.Err, d.Kept)
				}
				if keep {
					fmt.Fprintln(a.Err, text.T("The guest's disks are kept (--keep-disks)."))
				}
				if !a.ask(text.T("Delete %s?", row.Name)) {
					return exitCode(exitFailed)
				}
			}
			d, err := c.Delete(cmd.Context(), vm, keep)
			if err != nil {
				return err
			}
			fmt.Fprintln(a.Out, text.T("Deleted %s. It is in the trash: %s", row.Name, d.Into))
			if len(d.Kept) > 0 {
				fmt.Fprintln(a.Out, text.T("Kept:"))
				printPaths(a.Out, d.Kept)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&keep, "keep-disks", false, text.T("leave the guest's disks where they are"))
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, text.T("do not ask"))
	return cmd
}
