package cli

import (
	"bytes"
	"context"
	"debug/elf"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/app/client"
	"github.com/hxen-project/hxen/app/text"
	"github.com/hxen-project/hxen/platform/paths"
)

// demoName is the guest that "hxen demo" makes.
const demoName = "demo"

// demoPrompt is what the demo guest's shell prints when it is ready.
const demoPrompt = "demo# "

// demoCmdline: the screen is the main console, the serial line shows the boot too.
// Without no_timer_check the kernel panics where a busy computer gives it no
// processor for some ticks.
const demoCmdline = "console=ttyS0 console=tty0 quiet panic=-1 no_timer_check"

// demoFiles become the demo guest's file system, beside BusyBox and the modules.
//
//go:embed demo
var demoFiles embed.FS

// demoTree says where each of demoFiles goes, and its mode.
var demoTree = []struct {
	from, to string
	mode     int
}{
	{"demo/init", "init", 0o755},
	{"demo/inittab", "etc/inittab", 0o644},
	{"demo/rc", "etc/rc", 0o755},
	{"demo/power", "etc/acpi/PWRF/00000080", 0o755}, // BusyBox acpid's name for the power button
	{"demo/udhcpc", "etc/udhcpc", 0o755},
	{"demo/profile", "etc/profile", 0o644},
	{"demo/motd", "etc/motd", 0o644},
}

// demoModules is what the guest needs of its kernel's modules; what they depend
// on comes along, and what is built into the kernel is left out.
var demoModules = []string{"virtio_pci", "virtio_net", "virtio_rng", "virtio_balloon", "evdev", "button", "psmouse"}

// demoKernels are the packages that depend on the distribution's newest small
// kernel: Debian's, then Ubuntu's.
var demoKernels = []string{"linux-image-cloud-amd64", "linux-image-virtual"}

// demoMark is the key of other_config that tells our guest from one of the
// user's that has the same name.
const demoMark = "demo-guest"

const demoMemory = 256 << 20

func (a *app) demoCommand() *cobra.Command {
	return &cobra.Command{
		Use: "demo", Args: cobra.NoArgs,
		Short: text.T("Make and start a small guest to try things with"),
		Long: text.T(`Make a guest called demo, if there is none, and start it: the distribution's
kernel and BusyBox, wholly in memory, with a shell on its screen and on its
serial console. Debian and Ubuntu only; the kernel's package is fetched once.`),
		Example:           "  hxen demo\n  hxen console demo",
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			image, err := prepareDemo(cmd.Context(), func(s string) { fmt.Fprintln(a.Err, s+" ...") })
			if err != nil {
				return err
			}
			c, err := a.open(cmd.Context(), false)
			if err != nil {
				return err
			}
			if err := startDemo(cmd.Context(), c, image); err != nil {
				return fmt.Errorf("%s: %w", demoName, err)
			}
			fmt.Fprintln(a.Out, text.T("The guest demo is running: hxen vncviewer demo shows its screen, hxen console demo its serial console, hxen shutdown demo ends it."))
			return nil
		},
	}
}

// startDemo makes sure that the demo guest is there, boots image and runs.
func startDemo(ctx context.Context, c *client.Client, image demoImage) error {
	vm, row, err := c.Find(ctx, demoName)
	if errors.Is(err, client.ErrNoGuest) {
		made, err := c.Create(ctx, api.NewGuest{
			Name: demoName, Description: text.T("A small guest to try things with"),
			Kernel: image.kernel, Initrd: image.initrd, Cmdline: demoCmdline,
			Memory: demoMemory, VCPUs: 1, OtherConfig: map[string]string{demoMark: "true"},
		}, nil)
		if err != nil {
			return err
		}
		return c.Start(ctx, made.VM, false)
	}
	if err != nil {
		return err
	}
	record, err := c.VM(ctx, vm)
	if err != nil {
		return err
	}
	if record.OtherConfig[demoMark] == "" {
		return errors.New(text.T("a guest of yours has this name; rename it first: hxen rename demo NEWNAME"))
	}
	if row.DomID >= 0 || record.PowerState != "Halted" {
		return nil
	}
	config, err := c.Config(ctx, vm)
	if err != nil {
		return err
	}
	if config.Kernel != image.kernel || config.Initrd != image.initrd || config.Cmdline != demoCmdline {
		config.Kernel, config.Initrd, config.Cmdline = image.kernel, image.initrd, demoCmdline
		if err := c.SetConfig(ctx, config); err != nil {
			return err
		}
	}
	return c.Start(ctx, vm, false)
}

// demoImage is what the demo guest boots.
type demoImage struct{ kernel, initrd string }

// prepareDemo puts the demo guest's kernel and initramfs into the cache; what is
// there already is used again. say tells what long work is being done.
func prepareDemo(ctx context.Context, say func(string)) (demoImage, error) {
	cache, err := paths.Cache()
	if err != nil {
		return demoImage{}, err
	}
	dir := filepath.Join(cache, "demo")
	linux := filepath.Join(dir, "linux")
	kernel, err := findKernel(linux)
	if err != nil {
		say(text.T("Fetching a kernel for the demo guest"))
		if err := fetchKernel(ctx, dir, linux); err != nil {
			return demoImage{}, fmt.Errorf("%s: %w", text.T("fetch the demo guest's kernel"), err)
		}
		if kernel, err = findKernel(linux); err != nil {
			return demoImage{}, err
		}
	}
	initrd := filepath.Join(dir, "initrd.gz")
	if err := packDemo(ctx, linux, initrd); err != nil {
		return demoImage{}, fmt.Errorf("%s: %w", text.T("pack the demo guest's initramfs"), err)
	}
	return demoImage{kernel: kernel, initrd: initrd}, nil
}

func findKernel(linux string) (string, error) {
	found, err := filepath.Glob(filepath.Join(linux, "boot", "vmlinuz-*"))
	if err != nil || len(found) == 0 {
		return "", fmt.Errorf("%s: %w", text.T("no kernel in %s", linux), fs.ErrNotExist)
	}
	return slices.Max(found), nil
}

// fetchKernel unpacks the distribution's kernel packages into linux, all or nothing.
func fetchKernel(ctx context.Context, dir, linux string) error {
	for _, program := range []string{"apt-get", "apt-cache", "dpkg-deb"} {
		if _, err := exec.LookPath(program); err != nil {
			return errors.New(text.T("the demo guest is made from a Debian or Ubuntu kernel package, and this system has no %s; make a guest of your own: hxen new NAME --iso FILE", program))
		}
	}
	names, err := kernelPackages(ctx)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(dir, "fetch-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	// As root, apt would fetch as a user of its own that may not write here.
	if _, err := output(ctx, tmp, "apt-get", append([]string{"-q", "-o", "APT::Sandbox::User=root", "download"}, names...)...); err != nil {
		return fmt.Errorf("%w; %s", err, text.T("is there a network? \"apt-get update\" may help"))
	}
	packages, err := filepath.Glob(filepath.Join(tmp, "*.deb"))
	if err != nil {
		return err
	}
	tree := filepath.Join(tmp, "tree")
	for _, p := range packages {
		if _, err := output(ctx, tmp, "dpkg-deb", "-x", p, tree); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(linux); err != nil {
		return err
	}
	return os.Rename(tree, linux)
}

// kernelPackages finds the packages that hold the kernel and its modules.
func kernelPackages(ctx context.Context) ([]string, error) {
	for _, meta := range demoKernels {
		images, err := dependencies(ctx, meta, "linux-image-")
		if err != nil || len(images) == 0 {
			continue
		}
		// Ubuntu keeps the modules in a package of their own.
		modules, err := dependencies(ctx, images[0], "linux-modules-")
		if err != nil {
			return nil, err
		}
		return append(images[:1], modules...), nil
	}
	return nil, errors.New(text.T("apt knows none of the packages %s; run \"apt-get update\" as root and try again", strings.Join(demoKernels, ", ")))
}

func dependencies(ctx context.Context, name, prefix string) ([]string, error) {
	out, err := output(ctx, "", "apt-cache", "depends", "--important", name)
	if err != nil {
		return nil, err
	}
	var names []string
	for line := range strings.Lines(string(out)) {
		_, dep, ok := strings.Cut(line, "Depends: ")
		if dep = strings.TrimSpace(dep); ok && strings.HasPrefix(dep, prefix) {
			names = append(names, dep)
		}
	}
	return names, nil
}

// packDemo writes the initramfs, unless the same is there.
func packDemo(ctx context.Context, linux, initrd string) error {
	busybox, err := readBusybox()
	if err != nil {
		return err
	}
	modules, err := collectModules(ctx, linux, demoModules)
	if err != nil {
		return err
	}
	var body bytes.Buffer
	if err := writeDemo(&body, busybox, modules); err != nil {
		return err
	}
	if old, err := os.ReadFile(initrd); err == nil && bytes.Equal(old, body.Bytes()) {
		return nil
	}
	tmp, err := os.CreateTemp(filepath.Dir(initrd), "initrd-")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	if _, err := tmp.Write(body.Bytes()); err != nil {
		tmp.Close()
		return err
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), initrd)
}

func readBusybox() ([]byte, error) {
	path, err := exec.LookPath("busybox")
	if err != nil {
		return nil, errors.New(text.T("busybox is not installed; as root, run: apt-get install busybox-static"))
	}
	f, err := elf.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if f.Machine != elf.EM_X86_64 || f.Section(".interp") != nil {
		return nil, errors.New(text.T("%s is not a static x86-64 program; as root, run: apt-get install busybox-static", path))
	}
	return os.ReadFile(path)
}

// module is one kernel module, uncompressed.
type module struct {
	name string // without .ko
	body []byte
}

func writeDemo(w *bytes.Buffer, busybox []byte, modules []module) error {
	a := newArchive(w)
	for _, d := range []string{"bin", "dev", "etc", "etc/acpi", "etc/acpi/PWRF", "lib", "lib/modules", "proc", "root", "run", "sys", "tmp"} {
		a.dir(d)
	}
	a.char("dev/console", 0o600, 5, 1) // the kernel opens it before /init can mount anything
	a.char("dev/null", 0o666, 1, 3)
	a.file("bin/busybox", 0o755, busybox)
	a.link("bin/sh", "busybox")
	for _, f := range demoTree {
		b, err := demoFiles.ReadFile(f.from)
		if err != nil {
			return err
		}
		a.file(f.to, f.mode, b)
	}
	var order strings.Builder
	for _, m := range modules {
		a.file("lib/modules/"+m.name+".ko", 0o644, m.body)
		order.WriteString(m.name + ".ko\n")
	}
	a.file("lib/modules/order", 0o644, []byte(order.String()))
	return a.close()
}

// collectModules reads the named modules and all that they depend on, each after
// what it needs. A name without a file is built into the kernel.
func collectModules(ctx context.Context, linux string, names []string) ([]module, error) {
	files := map[string]string{}
	err := filepath.WalkDir(linux, func(path string, d fs.DirEntry, err error) error {
		if name, _, ok := strings.Cut(filepath.Base(path), ".ko"); err == nil && ok && d.Type().IsRegular() {
			files[strings.ReplaceAll(name, "-", "_")] = path
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	var out []module
	done := map[string]bool{}
	var add func(name string) error
	add = func(name string) error {
		path, ok := files[name]
		if !ok || done[name] {
			return nil
		}
		done[name] = true
		body, err := readModule(ctx, path)
		if err != nil {
			return fmt.Errorf("%s: %w", text.T("read module %s", path), err)
		}
		needs, err := moduleDepends(body)
		if err != nil {
			return fmt.Errorf("%s: %w", text.T("read module %s", path), err)
		}
		for _, n := range needs {
			if err := add(n); err != nil {
				return err
			}
		}
		out = append(out, module{name: name, body: body})
		return nil
	}
	for _, n := range names {
		if err := add(n); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// readModule reads a module; distributions compress them in several ways.
func readModule(ctx context.Context, path string) ([]byte, error) {
	switch filepath.Ext(path) {
	case ".xz":
		return output(ctx, "", "xz", "-dc", path)
	case ".zst":
		return output(ctx, "", "zstd", "-dcq", path)
	}
	return os.ReadFile(path)
}

// moduleDepends reads the "depends" line of a module's .modinfo section, as
// depmod does.
func moduleDepends(body []byte) ([]string, error) {
	f, err := elf.NewFile(bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	s := f.Section(".modinfo")
	if s == nil {
		return nil, errors.New(text.T("it has no .modinfo section"))
	}
	info, err := s.Data()
	if err != nil {
		return nil, err
	}
	var out []string
	for _, line := range bytes.Split(info, []byte{0}) {
		if list, ok := bytes.CutPrefix(line, []byte("depends=")); ok && len(list) > 0 {
			out = append(out, strings.Split(strings.ReplaceAll(string(list), "-", "_"), ",")...)
		}
	}
	return out, nil
}

// output runs a program in dir and returns what it printed; the error holds the
// last line of its complaints.
func output(ctx context.Context, dir, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		lines := strings.Split(strings.TrimSpace(stderr.String()), "\n")
		return nil, fmt.Errorf("%s: %w: %s", name, err, lines[len(lines)-1])
	}
	return out, nil
}
