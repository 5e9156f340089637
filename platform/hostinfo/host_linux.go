package hostinfo

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

func hideWindow(*exec.Cmd) {}

// Processor describes the processor.
func Processor() CPU {
	c := CPU{Count: runtime.NumCPU()}
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return c
	}
	defer f.Close()
	c.Model, c.Virtual = parseCPUInfo(f)
	return c
}

// parseCPUInfo reads the first processor of /proc/cpuinfo.
func parseCPUInfo(r io.Reader) (model, virtual string) {
	for sc := bufio.NewScanner(r); sc.Scan(); {
		k, v, _ := strings.Cut(sc.Text(), ":")
		switch strings.TrimSpace(k) {
		case "model name":
			model = strings.TrimSpace(v)
		case "flags":
			for _, f := range strings.Fields(v) {
				if f == "vmx" || f == "svm" {
					virtual = f
				}
			}
		case "":
			return model, virtual
		}
	}
	return model, virtual
}

// Memory tells how many bytes of RAM there are, and how many of them could be
// used without swapping.
func Memory() (total, free uint64, err error) {
	m, err := readMemInfo()
	return m.total, m.free, err
}

// MemoryShort reports whether Linux will soon have nothing left to give and then
// kill a program, as a rule the largest: a guest. That is with little memory left
// and, where there is swap, nine tenths of it used (as earlyoom has it).
func MemoryShort() (short bool, free uint64, err error) {
	m, err := readMemInfo()
	return err == nil && m.short(), m.free, err
}

func (m memInfo) short() bool { return m.free < shortOf(m.total) && m.swapFree <= m.swap/10 }

// memInfo is what /proc/meminfo says, in bytes.
type memInfo struct{ total, free, swap, swapFree uint64 }

func readMemInfo() (memInfo, error) {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return memInfo{}, fmt.Errorf("ask for the memory: %w", err)
	}
	defer f.Close()
	return parseMemInfo(f)
}

func parseMemInfo(r io.Reader) (m memInfo, err error) {
	for sc := bufio.NewScanner(r); sc.Scan(); {
		f := strings.Fields(sc.Text())
		if len(f) != 3 || f[2] != "kB" {
			continue
		}
		n, err := strconv.ParseUint(f[1], 10, 54)
		if err != nil {
			continue
		}
		switch f[0] {
		case "MemTotal:":
			m.total = n << 10
		case "MemAvailable:":
			m.free = n << 10
		case "SwapTotal:":
			m.swap = n << 10
		case "SwapFree:":
			m.swapFree = n << 10
		}
	}
	if m.total == 0 {
		return m, errors.New("ask for the memory: /proc/meminfo does not say")
	}
	return m, nil
}

func diskFree(path string) (free, total uint64, err error) {
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return 0, 0, err
	}
	// Counts are in fragments: statfs(2), f_frsize.
	return s.Bavail * uint64(s.Frsize), s.Blocks * uint64(s.Frsize), nil
}

// System describes the operating system: os-release(5).
func System() OS {
	var o OS
	for _, file := range []string{"/etc/os-release", "/usr/lib/os-release"} {
		if f, err := os.Open(file); err == nil {
			o = parseOSRelease(f)
			f.Close()
			break
		}
	}
	if o.Name == "" {
		o.ID, o.Name = "linux", "Linux"
	}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		o.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	return o
}

// conflicting are modules of other hypervisors that hold the processor's
// virtualisation while their guests run.
var conflicting = map[string]string{"vboxdrv": "VirtualBox", "vmmon": "VMware"}

// conflicts names other hypervisors that are loaded.
func conflicts() (names []string) {
	f, err := os.Open("/proc/modules")
	if err != nil {
		return nil
	}
	defer f.Close()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		module, _, _ := strings.Cut(sc.Text(), " ")
		if n := conflicting[module]; n != "" && !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	return names
}

// conflict says what others that are loaded mean for our guests, and what to do.
func conflict(who string) (detail, cure string) {
	return who + " is loaded; while its guests run, KVM guests cannot start, and the other way round",
		"Do not run guests of " + who + " and of HXEN at the same time."
}

// pendingReboot says why the computer should be restarted; empty if nothing says so.
func pendingReboot() string { return rebootWanted("/", System().Kernel) }

// rebootWanted looks below a root folder: Debian's and Ubuntu's update-notifier
// leaves a file, others remove the modules of the kernel that still runs.
func rebootWanted(root, kernel string) string {
	for _, f := range []string{"run/reboot-required", "var/run/reboot-required"} {
		if _, err := os.Stat(filepath.Join(root, f)); err == nil {
			return "an update waits for a restart of the computer"
		}
	}
	for _, dir := range []string{"lib/modules", "usr/lib/modules"} {
		kernels, err := os.ReadDir(filepath.Join(root, dir))
		if err != nil || len(kernels) == 0 {
			continue
		}
		if _, err := os.Stat(filepath.Join(root, dir, kernel)); errors.Is(err, fs.ErrNotExist) {
			return "the modules of the running kernel " + kernel + " are gone, as after an update, so KVM may not load"
		}
		break
	}
	return ""
}

// ServiceManager names what starts services, and says whether it runs:
// sd_booted(3) looks at the same folder.
func ServiceManager() (name string, ok bool) {
	_, err := os.Stat("/run/systemd/system")
	return "systemd", err == nil
}

// libraries are what the window's program loads before its first line runs.
var libraries = []string{"libGL.so.1", "libwayland-client.so.0"}

// libraryFolders are where distributions keep libraries of this kind of processor.
var libraryFolders = []string{
	"/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib", "/lib64", "/lib",
	"/usr/local/lib64", "/usr/local/lib", "/run/opengl-driver/lib",
}

// checkLibraries says whether the window can be shown at all.
func checkLibraries() Check {
	c := Check{ID: "opengl", Title: "OpenGL", State: OK, Detail: "the window's libraries are installed"}
	var missing []string
	for _, lib := range libraries {
		if !slices.ContainsFunc(libraryFolders, func(dir string) bool {
			_, err := os.Stat(filepath.Join(dir, lib))
			return err == nil
		}) {
			missing = append(missing, lib)
		}
	}
	if len(missing) > 0 {
		c.State = Warn
		c.Detail = fmt.Sprintf("%s is missing, so the window cannot be shown; the command line works", strings.Join(missing, " and "))
		c.Cure = InstallCommand(PartOpenGL)
	}
	c.Data = map[string]any{"missing": missing}
	return c
}

// display names the display that a window would be on, or says that there is none.
func display() (name string, ok bool) {
	for _, v := range []string{"WAYLAND_DISPLAY", "DISPLAY"} {
		if d := os.Getenv(v); d != "" {
			return v + "=" + d, true
		}
	}
	return "neither DISPLAY nor WAYLAND_DISPLAY is set", false
}
