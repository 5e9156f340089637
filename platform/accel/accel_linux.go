package accel

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// IoctlType is the type of the ioctls that a machine of Open needs while it runs; 0: none.
const IoctlType = 0xae // KVMIO, linux/kvm.h

const device = "/dev/kvm"

func probeHost(ctx context.Context, o Options) Result {
	if why := cannotEver(); why != "" {
		return Result{Name: "kvm", Reason: why}
	}
	// What the device file itself answers costs nothing and changes without a
	// boot (a group is joined, a module loaded): it is asked each time.
	fd, err := unix.Open(device, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return refused(err, readHost())
	}
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	unix.Close(fd)
	if err != nil {
		return refused(err, readHost())
	}
	key := cacheKey(st.Ino)
	if r, ok := recall(o.Cache, key); ok && !o.Fresh {
		return r
	}
	r, firm := judge(runChild(ctx, deadline))
	if firm {
		remember(o.Cache, key, r)
	}
	return r
}

// judge turns what the child did into a verdict. A firm one holds until the next
// boot; the others end when the other program does, or are no verdict on KVM.
func judge(how string, err error) (r Result, firm bool) {
	switch {
	case err == nil:
		return Result{Name: "kvm", Usable: true, Native: Native{How: how}}, true
	case errors.Is(err, errBusy):
		return busy(readHost()), false
	case errors.Is(err, errNoVerdict):
		return Result{Name: "kvm", Reason: "whether KVM runs guests is not known: " + err.Error()}, false
	default:
		return noGuests("kvm", "KVM", err.Error()), true
	}
}

// cacheKey is what the verdict depends on: another kernel, another boot (with
// other firmware settings) or another device node is asked again. It begins with
// the number of the verdict's form.
func cacheKey(ino uint64) string {
	var u unix.Utsname
	_ = unix.Uname(&u) // fails only on a bad pointer
	boot, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return fmt.Sprintf("2 %s %s %d", unix.ByteSliceToString(u.Release[:]), strings.TrimSpace(string(boot)), ino)
}

// host is what explains a refusal.
type host struct {
	vendor   string   // "intel", "amd" or ""
	virtual  bool     // the processor says that it can run guests
	modules  []string // kernel modules
	group    string   // the device's group
	inGroup  bool     // the user is listed in it
	inEffect bool     // this process has it
}

func readHost() host {
	var h host
	h.vendor, h.virtual = processor("/proc/cpuinfo")
	h.modules = modules("/proc/modules")
	h.group = "kvm"
	fi, err := os.Stat(device)
	if err != nil {
		return h
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok || st.Gid == 0 { // root's group is not for joining
		return h
	}
	gid := strconv.FormatUint(uint64(st.Gid), 10)
	if g, err := user.LookupGroupId(gid); err == nil {
		h.group = g.Name
	}
	if u, err := user.Current(); err == nil {
		ids, _ := u.GroupIds()
		h.inGroup = slices.Contains(ids, gid)
	}
	groups, _ := unix.Getgroups()
	h.inEffect = slices.Contains(groups, int(st.Gid)) || unix.Getegid() == int(st.Gid)
	return h
}

// processor reads vendor and virtualisation flag of the first processor.
func processor(file string) (vendor string, virtual bool) {
	f, err := os.Open(file)
	if err != nil {
		return "", false
	}
	defer f.Close()
	sc := bufio.NewScanner(f)
	for sc.Scan() {
		k, v, _ := strings.Cut(sc.Text(), ":")
		switch strings.TrimSpace(k) {
		case "vendor_id":
			switch strings.TrimSpace(v) {
			case "GenuineIntel":
				vendor = "intel"
			case "AuthenticAMD", "HygonGenuine":
				vendor = "amd"
			}
		case "flags":
			fl := strings.Fields(v)
			return vendor, slices.Contains(fl, "vmx") || slices.Contains(fl, "svm")
		}
	}
	return vendor, false
}

func modules(file string) (names []string) {
	b, _ := os.ReadFile(file)
	for line := range strings.Lines(string(b)) {
		name, _, _ := strings.Cut(line, " ")
		names = append(names, name)
	}
	return names
}

// refused explains why the device could not be opened.
func refused(err error, h host) Result {
	r := Result{Name: "kvm"}
	switch {
	case errors.Is(err, fs.ErrPermission) && h.inGroup && !h.inEffect:
		r.Reason = fmt.Sprintf("permission denied on %s: you are in group %s, but this session began before", device, h.group)
		r.Cure = "Log out and in again, or restart the computer."
	case errors.Is(err, fs.ErrPermission):
		r.Reason = "permission denied on " + device
		r.Cure = fmt.Sprintf("Add yourself to group %s with `sudo usermod -aG %s $USER`, then log in again.", h.group, h.group)
	case errors.Is(err, unix.EBUSY):
		return busy(h)
	case !h.virtual:
		r.Reason = "the processor does not offer hardware virtualisation, or the firmware has switched it off"
		r.Cure = "Switch on Intel VT-x or AMD-V (SVM) in the computer's firmware settings; in a virtual machine, switch on nested virtualisation for it."
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		module := "kvm_intel"
		if h.vendor == "amd" {
			module = "kvm_amd"
		}
		r.Reason = "the kernel module for KVM is not loaded"
		r.Cure = fmt.Sprintf("Load it with `sudo modprobe %s`; if that fails, switch on Intel VT-x or AMD-V (SVM) in the computer's firmware settings.", module)
	default:
		r.Reason = fmt.Sprintf("%s cannot be opened: %v", device, err)
	}
	return r
}

// busy explains that another hypervisor holds the processor's virtualisation.
func busy(h host) Result {
	who := "another hypervisor"
	switch {
	case slices.Contains(h.modules, "vboxdrv"):
		who = "VirtualBox"
	case slices.Contains(h.modules, "vmmon"):
		who = "VMware"
	}
	return Result{
		Name:   "kvm",
		Reason: fmt.Sprintf("%s is using the processor's virtualisation, which only one program can", who),
		Cure:   fmt.Sprintf("Shut down the virtual machines of %s, then try again.", who),
	}
}

// clocks lists the clocks that the kernel would use. It strikes out a time-stamp
// counter that it has found unstable (clocksource_mark_unstable).
const clocks = "/sys/devices/system/clocksource/clocksource0/available_clocksource"

// unstableTSC says why guests cannot take the time from the processor's counter.
func unstableTSC() string { return judgeClocks(os.ReadFile(clocks)) }

func judgeClocks(list []byte, err error) string {
	if err != nil || slices.Contains(strings.Fields(string(list)), "tsc") {
		return "" // where nothing is told nothing is known against it
	}
	return "the kernel has found this processor's time-stamp counter unstable, and guests of type pvh take the time from it"
}
