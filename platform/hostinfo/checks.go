package hostinfo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/hxen-project/hxen/platform/accel"
	"github.com/hxen-project/hxen/platform/localsock"
	"github.com/hxen-project/hxen/platform/paths"
)

func checkSystem(context.Context, paths.Store) []Check {
	o := System()
	c := Check{ID: "os", Title: "Operating system", State: Info,
		Detail: fmt.Sprintf("%s, kernel %s, %s", o.Name, o.Kernel, runtime.GOARCH),
		Data:   map[string]any{"id": o.ID, "version": o.Version, "kernel": o.Kernel, "arch": runtime.GOARCH}}
	if need := tooOld(o); need != "" {
		c.State = Fail
		c.Detail += ", which is too old: HXEN needs " + need
		c.Cure = "Update the operating system."
	}
	return []Check{c, checkReboot(), checkManager()}
}

// oldestKernel is the oldest kernel of each system that HXEN's programs run on:
// Go's own demands, and on Windows 10 1809 what the Windows Hypervisor Platform's
// calls that we use appeared in.
var oldestKernel = map[string]struct {
	version []int
	name    string
}{
	"windows": {[]int{10, 0, 17763}, "Windows 10 1809 or Windows Server 2019"},
	"macos":   {[]int{21}, "macOS 12"}, // Darwin's number
	"":        {[]int{4, 18}, "Linux 4.18"},
}

// tooOld names what is needed where a system is too old; else it is empty.
func tooOld(o OS) string {
	need, ok := oldestKernel[o.ID]
	if !ok {
		need = oldestKernel[""] // every other ID is a Linux distribution's
	}
	release, _, _ := strings.Cut(o.Kernel, "-")
	if have := numbers(release); release != "" && slices.Compare(have, need.version) < 0 {
		return need.name
	}
	return ""
}

// checkReboot says whether the system waits for a restart: until then drivers,
// features and kernels are not those that are installed.
func checkReboot() Check {
	c := Check{ID: "reboot", Title: "Restart", State: OK, Detail: "none is pending"}
	if why := pendingReboot(); why != "" {
		c.State, c.Detail = Warn, why
		c.Cure = "Restart the computer first, then start this again."
	}
	return c
}

// checkManager says whether something would start guests with the computer.
func checkManager() Check {
	c := Check{ID: "service", Title: "Start with the computer", State: OK}
	name, ok := ServiceManager()
	c.Detail = name + " can start guests at boot"
	c.Data = map[string]any{"manager": name, "usable": ok}
	if !ok {
		c.State = Info
		c.Detail = "no service manager that HXEN knows runs here (" + name + "), so guests start when HXEN is started"
	}
	return c
}

func checkProcessor(context.Context, paths.Store) []Check {
	p := Processor()
	c := Check{ID: "cpu", Title: "Processor", State: OK,
		Detail: fmt.Sprintf("%s, %d logical processors, hardware virtualisation %s", p.Model, p.Count, p.Virtual),
		Data:   map[string]any{"model": p.Model, "count": p.Count, "virtualisation": p.Virtual}}
	if p.Virtual == "" {
		c.State = Warn
		c.Detail = fmt.Sprintf("%s, %d logical processors, shows no hardware virtualisation, so guests run slowly", p.Model, p.Count)
		c.Cure = "Switch on Intel VT-x or AMD-V (SVM) in the computer's firmware settings; in a virtual machine, switch on nested virtualisation for it."
	}
	return []Check{c}
}

const gib = 1 << 30

// Below these, guests of an ordinary size do not fit.
const (
	littleMemory = 2 * gib
	littleDisk   = 10 * gib
)

func checkMemory(context.Context, paths.Store) []Check {
	c := Check{ID: "memory", Title: "Memory", State: OK}
	total, free, err := Memory()
	if err != nil {
		c.State, c.Detail = Warn, err.Error()
		return []Check{c}
	}
	c.Detail = fmt.Sprintf("%.1f GiB of %.1f GiB are free", float64(free)/gib, float64(total)/gib)
	c.Data = map[string]any{"total": total, "free": free}
	if free < littleMemory {
		c.State, c.Cure = Warn, "End some programs before you start guests, or give guests less memory."
	}
	return []Check{c}
}

func checkDisk(_ context.Context, store paths.Store) []Check {
	c := Check{ID: "disk", Title: "Disk space", State: OK}
	free, total, err := DiskFree(store.Root)
	if err != nil {
		c.State, c.Detail = Warn, err.Error()
		return []Check{c}
	}
	c.Detail = fmt.Sprintf("%.1f GiB are free for guests in %s", float64(free)/gib, store.Root)
	c.Data = map[string]any{"path": store.Root, "total": total, "free": free}
	if free < littleDisk {
		c.State = Warn
		c.Cure = "Free some space, or move HXEN's data to another disk with " + paths.HomeVar + "."
	}
	return []Check{c}
}

func checkQEMU(ctx context.Context, _ paths.Store) []Check {
	c := Check{ID: "qemu", Title: "QEMU", State: OK}
	img := Check{ID: "qemu-img", Title: "qemu-img", State: OK}
	q, err := FindQEMU(ctx)
	var missing *MissingError
	switch {
	case errors.As(err, &missing):
		c.State, c.Detail, c.Cure = Fail, missing.What, missing.Cure
		q.Img = locateImg("")
	case err != nil:
		c.State, c.Detail = Fail, err.Error()
		q.Img = locateImg("")
	default:
		c.Detail = fmt.Sprintf("version %s in %s, machine %s, built with %s", q.Version, q.Path, q.Machine, strings.Join(q.Accelerators, ", "))
		c.Data = map[string]any{"path": q.Path, "version": q.Version, "accelerators": q.Accelerators, "machine": q.Machine}
		if slices.Compare(numbers(q.Version), oldest) < 0 {
			c.State = Warn
			c.Detail += ", which is older than HXEN is made for (7.2)"
			c.Cure = "Install a newer QEMU and name it with " + QEMUVar + "."
		}
	}
	img.Detail = q.Img
	if q.Img == "" {
		img.State, img.Detail, img.Cure = Fail, "qemu-img is not installed, so disks cannot be made", InstallCommand(PartImg)
	}
	return []Check{c, img}
}

func checkFirmware(ctx context.Context, _ paths.Store) []Check {
	c := Check{ID: "firmware", Title: "UEFI firmware", State: OK}
	q, _ := FindQEMU(ctx) // without QEMU the known places remain
	f, ok := FindFirmware(q.Path)
	if !ok {
		c.State, c.Detail = Warn, "no UEFI firmware for guests is installed; BIOS guests work"
		c.Cure = InstallCommand(PartFirmware)
		return []Check{c}
	}
	c.Detail = fmt.Sprintf("%s (%s)", f.Code, f.Source)
	c.Data = map[string]any{"code": f.Code, "vars": f.Vars, "source": f.Source}
	return []Check{c}
}

func checkAccelerators(ctx context.Context, store paths.Store) []Check {
	var cs []Check
	fast := false
	// Asked afresh: whoever runs the doctor has perhaps just changed something.
	for _, r := range Accelerators(ctx, store, true) {
		c := Check{ID: "accelerator." + r.Name, Title: "Accelerator " + strings.ToUpper(r.Name), State: OK,
			Detail: "runs guests", Cure: r.Cure, Data: map[string]any{"usable": r.Usable}}
		switch {
		case r.Name == "tcg" && r.Usable && !fast:
			c.Detail = "QEMU's software emulation is used, which is slow but always works"
		case r.Name == "tcg" && r.Usable:
			c.State, c.Detail = Info, "QEMU's software emulation, not needed here"
		case !r.Usable:
			c.State, c.Detail = Warn, r.Reason
		}
		fast = fast || r.Usable
		cs = append(cs, c)
		if r.Name != "tcg" {
			cs = append(cs, checkNative(r))
		}
	}
	return cs
}

// checkNative says whether pvh guests run on an accelerator.
func checkNative(r accel.Result) Check {
	c := Check{ID: "native." + r.Name, Title: "Guests of type pvh", State: OK,
		Detail: "run on " + strings.ToUpper(r.Name), Data: map[string]any{"usable": r.Native.Usable}}
	if r.Native.How != "" {
		c.Detail += "; " + r.Native.How
	}
	if !r.Native.Usable {
		c.State = Warn
		c.Detail = "cannot run: " + r.Native.Reason
		c.Cure = r.Native.Cure
		if c.Cure == "" {
			c.Cure = "Use guests of type hvm."
		}
	}
	return c
}

func checkConflicts(context.Context, paths.Store) []Check {
	names := conflicts()
	c := Check{ID: "conflicts", Title: "Other hypervisors", State: OK, Detail: "none is in the way", Data: map[string]any{"names": names}}
	if len(names) > 0 {
		c.State = Warn
		c.Detail, c.Cure = conflict(strings.Join(names, " and "))
	}
	return []Check{c}
}

func checkDisplay(context.Context, paths.Store) []Check {
	c := Check{ID: "display", Title: "Display", State: OK}
	name, ok := display()
	c.Detail = name
	if !ok {
		c.State = Info
		c.Detail = "no display: " + name + ", so there is no window; the command line works"
	}
	return []Check{c, checkLibraries()}
}

func checkSockets(_ context.Context, store paths.Store) []Check {
	c := Check{ID: "sockets", Title: "Runtime folder", State: OK}
	dir, err := store.RunDir()
	if errors.Is(err, fs.ErrNotExist) {
		c.State, c.Detail = Info, "no service has run on "+store.Root+" yet"
		return []Check{c}
	}
	if err == nil {
		if _, serr := os.Lstat(dir); errors.Is(serr, fs.ErrNotExist) {
			c.State, c.Detail = Info, dir+" is made when the service starts"
			return []Check{c}
		}
		err = localsock.EnsureDir(dir)
	}
	c.Detail = dir + " is private"
	if err != nil {
		c.State, c.Detail = Fail, err.Error()
	}
	c.Data = map[string]any{"path": dir}
	return []Check{c}
}

// Window says why no window can be shown here; nil if one can, as far as can be
// seen without trying.
func Window() error {
	if name, ok := display(); !ok {
		return errors.New("there is no display: " + name)
	}
	if c := checkLibraries(); c.State != OK {
		return fmt.Errorf("%s; %s", c.Detail, c.Cure)
	}
	return nil
}
