package hvtest

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// Lab is a computer with a KVM that works: QEMU emulates an AMD processor with
// SVM, and a Debian kernel in it offers /dev/kvm.
type Lab struct {
	Kernel string // Debian's package that depends on the newest kernel of a line
	// Files are seen there, read-only: path below /lab -> file or folder here.
	Files map[string]string
	// Disks are images that are whole disks there, /dev/nvme1n1 and so on. What is
	// written to them is forgotten.
	Disks   []string
	Script  string // shell commands; BusyBox is all there is beside Files
	Timeout time.Duration
	// Icount has the processor do an instruction in a nanosecond and pass over
	// waits, so that times repeat whatever this machine does beside. Else its clock
	// is the wall's.
	Icount bool
	// CPU is more of QEMU's -cpu, as ",-smap".
	CPU string
	// Port, unless 0, is a TCP port of 127.0.0.1 here that leads to 5900 there.
	Port int
}

// labModules make /dev/kvm, in the order in which they are loaded. nested=0:
// what runs there shall not find SVM in turn.
var labModules = []string{"irqbypass", "kvm", "kvm-amd nested=0"}

// netModules are for Port's network card.
var netModules = []string{"virtio_ring", "virtio", "virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_pci", "failover", "net_failover", "virtio_net"}

func (l Lab) modules() []string {
	if l.Port == 0 {
		return labModules
	}
	return slices.Concat(labModules, netModules)
}

// labEnd is what the console says last if all went well.
const labEnd = "@@ lab end"

// RequireLab is Require for what a Lab needs.
func RequireLab(t testing.TB) {
	t.Helper()
	reason := ""
	for _, p := range []string{"qemu-system-x86_64", "apt-get", "apt-cache", "dpkg-deb", "busybox"} {
		if _, err := exec.LookPath(p); err != nil {
			reason = p + " is not installed"
		}
	}
	if reason == "" {
		reason = staticBusybox()
	}
	if reason == "" && mke2fs() == "" {
		reason = "mke2fs is not installed (e2fsprogs)"
	}
	RequireThat(t, "lab", reason)
}

func staticBusybox() string {
	path, err := exec.LookPath("busybox")
	if err != nil {
		return err.Error()
	}
	f, err := elf.Open(path)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if f.Section(".interp") != nil {
		return path + " is not static (busybox-static is)"
	}
	return ""
}

// mke2fs is a program of administrators, whose folders users may not have in
// their PATH; empty if there is none.
func mke2fs() string {
	for _, name := range []string{"mke2fs", "/usr/sbin/mke2fs", "/sbin/mke2fs"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// Run starts the lab and returns what its console said, without carriage
// returns. The error tells that it did not come to its end by itself; Icount
// sometimes hangs.
func (l Lab) Run(t testing.TB) (console string, err error) {
	t.Helper()
	return l.boot(t, l.pack(t), l.image(t))
}

// pack makes the initramfs: BusyBox, modules and the first process.
func (l Lab) pack(t testing.TB) string {
	stage := t.TempDir()
	tree := KernelPackage(t, l.Kernel)
	Mkdirs(t, stage, "dev", "proc", "sys", "tmp", "lab", "modules")
	PutBusybox(t, stage)
	for _, m := range l.modules() {
		name, _, _ := strings.Cut(m, " ")
		PutModule(t, tree, name, filepath.Join(stage, "modules"))
	}
	if err := os.WriteFile(filepath.Join(stage, "init"), []byte(l.init()), 0o755); err != nil {
		t.Fatal(err)
	}
	return PackInitrd(t, stage)
}

// init is the lab's first process.
func (l Lab) init() string {
	var b strings.Builder
	b.WriteString(`#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin HOME=/tmp
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t debugfs debug /sys/kernel/debug
mount -t tmpfs tmp /tmp
stty -echo
mkdir -p /run /dev/shm
mount -t tmpfs shm /dev/shm
ifconfig lo up
ip addr add 198.51.100.1/32 dev lo
n=0
while [ ! -b /dev/nvme0n1 ] && [ $n -lt 100 ]; do n=$((n+1)); sleep 0.1; done
mount -t ext4 -o ro /dev/nvme0n1 /lab || echo "@@ no files"
`)
	// A KVM that is loaded earlier may keep a frequency of the TSC that Linux has
	// only guessed (kvm_timer_init in arch/x86/kvm/x86.c, without constant_tsc).
	b.WriteString("n=0; while ! dmesg | grep -q 'Switched to clocksource tsc$' && [ $n -lt 150 ]; do n=$((n+1)); sleep 0.1; done\n")
	for _, m := range l.modules() {
		name, options, _ := strings.Cut(m, " ")
		fmt.Fprintf(&b, "insmod /modules/%s.ko %s || echo '@@ module %s failed'\n", name, options, name)
	}
	if l.Port != 0 {
		b.WriteString("n=0; until ifconfig eth0 10.0.2.15 || [ $n -ge 100 ]; do n=$((n+1)); sleep 0.1; done\n")
	}
	b.WriteString("uname -r\n" + l.Script + "\necho '" + labEnd + "'\npoweroff -f\n")
	return b.String()
}

// image makes the disk with the lab's files.
func (l Lab) image(t testing.TB) string {
	dir := t.TempDir()
	stage := filepath.Join(dir, "lab")
	Mkdirs(t, dir, "lab")
	for to, from := range l.Files {
		to = filepath.Join(stage, to)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		output(t, "", "cp", "-rL", "--reflink=auto", from, to)
	}
	size := int64(16 << 20)
	for line := range strings.Lines(output(t, "", "du", "-s", "-B1", stage)) {
		var used int64
		if _, err := fmt.Sscan(line, &used); err != nil {
			t.Fatalf("du said %q: %v", line, err)
		}
		size += used + used/20
	}
	image := filepath.Join(dir, "lab.ext4")
	output(t, "", mke2fs(), "-q", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-d", stage, image, fmt.Sprintf("%dk", size>>10))
	if err := os.RemoveAll(stage); err != nil {
		t.Fatal(err)
	}
	return image
}

// boot runs the lab to its end.
func (l Lab) boot(t testing.TB, initrd, image string) (string, error) {
	t.Helper()
	limited, cancel := context.WithTimeout(t.Context(), l.Timeout)
	defer cancel()
	ctx, end := context.WithCancelCause(limited)
	defer end(nil)
	// QEMU's SVM has faults (7.2 and later). The number of an interrupt that KVM injects
	// stays in exception_index (helper_vmrun), and when something else asks the processor
	// to leave its loop before the guest's next exit, it is delivered again, whatever the
	// interrupt flag says. The guest's kernel then runs with its user's GS, and falls. One
	// such thing is the flush of all translated code when its buffer is full: it is made
	// large. With a second processor there are more: one guest in fifty then fell, or
	// stood still with a processor that had the lab's own registers instead of its.
	args := []string{"-accel", "tcg,thread=single,tb-size=1024"}
	if l.Icount {
		args = []string{"-accel", "tcg,thread=single,tb-size=512", "-icount", "shift=0,sleep=off,align=off"}
	}
	args = slices.Concat(args, []string{"-smp", "1", "-M", "q35", "-cpu", "max,+svm,+npt" + l.CPU, "-m", "4096", "-nodefaults", "-no-reboot",
		"-display", "none", "-serial", "stdio",
		"-drive", "file=" + image + ",if=none,id=lab,format=raw,snapshot=on", "-device", "nvme,drive=lab,serial=lab",
		// tsc=reliable: TCG's counters are one, which Linux cannot know. oops=panic: a
		// kernel that has fallen would else stand still until the time is up.
		"-kernel", KernelFile(t, l.Kernel), "-initrd", initrd, "-append", "console=ttyS0 quiet panic=-1 oops=panic no_timer_check mitigations=off tsc=reliable clocksource=tsc"})
	for i, d := range l.Disks {
		id := fmt.Sprintf("disk%d", i)
		args = append(args, "-drive", "file="+d+",if=none,id="+id+",format=raw,snapshot=on", "-device", "nvme,drive="+id+",serial="+id)
	}
	if l.Port != 0 {
		args = append(args, "-netdev", fmt.Sprintf("user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:%d-10.0.2.15:5900", l.Port), "-device", "virtio-net-pci,netdev=net,romfile=")
	}
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", args...)
	cmd.WaitDelay = 10 * time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if path := os.Getenv("HXEN_LAB_CONSOLE"); path != "" { // to watch it
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		both := io.MultiWriter(&out, f)
		cmd.Stdout, cmd.Stderr = both, both
	}
	line, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if err = cmd.Start(); err == nil {
		if !l.Icount {
			go nudge(line)
		}
		go endStill(ctx, cmd.Process.Pid, end)
		err = cmd.Wait()
	}
	if p := cmd.ProcessState; p != nil {
		t.Logf("the lab ran for %v and used a processor for %v", time.Since(start).Round(time.Second), (p.UserTime() + p.SystemTime()).Round(time.Second))
	}
	console := strings.ReplaceAll(out.String(), "\r", "")
	switch {
	case errors.Is(context.Cause(ctx), errStill):
		err = errStill
	case ctx.Err() != nil:
		err = fmt.Errorf("the lab hung and was ended after %v", l.Timeout)
	case err != nil:
		err = fmt.Errorf("the lab ended with %w", err)
	case !strings.Contains(console, labEnd):
		err = errors.New("the lab ended early")
	}
	return console, err
}

// nudge interrupts the lab's processor by its serial line now and then, until that ends.
// VMRUN and #VMEXIT in QEMU change interrupt_request without the lock under which other
// threads do, so that an interrupt gets lost, which stays marked in the LAPIC: with the
// next one it is seen.
func nudge(line io.Writer) {
	for {
		time.Sleep(time.Second)
		if _, err := line.Write([]byte("\n")); err != nil {
			return
		}
	}
}

// errStill is of a lab that does nothing at all any more, where even an idle kernel
// would look at its clocks: QEMU's emulated processor has lost its timer under its
// SVM. This is no test's result.
var errStill = errors.New("the lab's own computer stood still")

// stillTime is how long a lab may do nothing.
const stillTime = time.Minute

// endStill ends a lab that stands still: none of QEMU's threads runs.
func endStill(ctx context.Context, pid int, end func(error)) {
	last, since := "", time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(5 * time.Second):
		}
		now := switches(pid)
		if now != last {
			last, since = now, time.Now()
		} else if time.Since(since) > stillTime {
			end(errStill)
			return
		}
	}
}

// switches tells how often each thread of a process came to run (proc(5), status).
func switches(pid int) string {
	var b strings.Builder
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	for _, f := range files {
		status, _ := os.ReadFile(f)
		if i := bytes.Index(status, []byte("voluntary_ctxt_switches")); i >= 0 {
			b.Write(status[i:])
		}
	}
	return b.String()
}
