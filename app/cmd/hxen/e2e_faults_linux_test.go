package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hxen-project/hxen/hv/hvtest"
)

// victims are what kill -9 hits: every process that stands between a person and
// a guest.
var victims = []string{"service", "hxen-worker", "qemu-system-x86_64", "hxen-netd"}

// TestKillEachProcess kills each process in turn while a guest runs from a disk.
// After each: the state that is told is true, at most one process has the disk
// open for writing, and the guest can be brought (back) to its shell.
func TestKillEachProcess(t *testing.T) {
	h, disk := newDiskGuest(t)
	for _, victim := range victims {
		t.Run(victim, func(t *testing.T) {
			h := *h
			h.t = t
			h.running(t)
			h.kill(t, disk, victim)
			h.running(t)
		})
	}
}

// TestKillTogether kills all of them at the same moment, and then each pair.
func TestKillTogether(t *testing.T) {
	sets := [][]string{victims}
	if os.Getenv("HXEN_LONG") != "" {
		for i, a := range victims {
			for _, b := range victims[i+1:] {
				sets = append(sets, []string{a, b})
			}
		}
	}
	h, disk := newDiskGuest(t)
	for _, set := range sets {
		t.Run(strings.Join(set, "+"), func(t *testing.T) {
			h := *h
			h.t = t
			h.running(t)
			h.kill(t, disk, set...)
			h.running(t)
		})
	}
}

// newDiskGuest makes a house with a demo guest that also has a disk, and
// returns the disk's path.
func newDiskGuest(t *testing.T) (*house, string) {
	hvtest.Require(t, "images")
	h := newHouse(t)
	h.must("demo")
	h.must("destroy", "demo")
	vm := h.vm("demo")
	h.must("new", "disky", "--kernel", vm.PVKernel, "--initrd", vm.PVRamdisk, "--cmdline", vm.PVArgs,
		"--memory", "256M", "--vcpus", "1", "--disk-size", "64M")
	disks, err := filepath.Glob(filepath.Join(h.home, "guests", h.vm("disky").UUID, "disk-*.qcow2"))
	if err != nil || len(disks) != 1 {
		t.Fatalf("disks of the new guest: %v, %v", disks, err)
	}
	return h, disks[0]
}

// running makes sure that the guest runs and its shell answers through all layers.
func (h *house) running(t *testing.T) {
	t.Helper()
	if h.vm("disky").PowerState == "Halted" {
		h.must("start", "disky")
	}
	s := h.console("disky")
	s.expect("demo# ")
	s.say("")
	if got := s.run("uname"); !strings.Contains(got, "Linux") {
		t.Fatalf("the shell answered %q", got)
	}
	if n := len(h.processes("qemu-system-x86_64")); n != 1 {
		t.Fatalf("%d QEMUs for one running guest", n)
	}
	_ = s.cmd.Process.Kill()
	h.must("info") // netd is up again too: a guest with a card needs it
	h.eventually("one netd", func() bool { return len(h.processes("hxen-netd")) == 1 })
}

// kill ends processes with SIGKILL and checks what is told afterwards.
func (h *house) kill(t *testing.T, disk string, names ...string) {
	t.Helper()
	guestDies := slices.Contains(names, "hxen-worker") || slices.Contains(names, "qemu-system-x86_64")
	var pids []int
	for _, n := range names {
		pids = append(pids, h.one(n))
	}
	before := h.vm("disky")
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	killed := time.Now()
	// Any command finds the service, or starts it again.
	want := "Running"
	if guestDies {
		want = "Halted"
	}
	h.eventually("the state "+want, func() bool {
		vm := h.vm("disky")
		alive := slices.ContainsFunc(h.processes("qemu-system-x86_64"), func(pid int) bool { return !slices.Contains(pids, pid) })
		if vm.PowerState == "Halted" && alive && !guestDies {
			t.Fatal("told halted while its QEMU runs")
		}
		return vm.PowerState == want
	})
	t.Logf("%s killed: the state was told %v later", strings.Join(names, ", "), time.Since(killed).Round(time.Millisecond))
	if guestDies {
		if n := h.processes("qemu-system-x86_64"); len(n) != 0 {
			t.Errorf("told halted, but QEMU still runs: %v", n)
		}
	} else if after := h.vm("disky"); after.DomID != before.DomID {
		t.Errorf("the guest should have lived on, but its domid was %d and is %d", before.DomID, after.DomID)
	}
	if n := writers(t, disk); n > 1 {
		t.Errorf("%d processes have the disk open for writing", n)
	}
	if out, err := exec.Command("qemu-img", "check", "-U", disk).CombinedOutput(); err != nil {
		t.Errorf("the disk is damaged: %v\n%s", err, out)
	}
}

// writers counts the processes that have a file open for writing.
func writers(t *testing.T, path string) int {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	n := map[string]bool{}
	for _, l := range links {
		if target, err := os.Readlink(l); err != nil || target != path {
			continue
		}
		dir, fd := filepath.Split(l)
		info, err := os.ReadFile(filepath.Join(filepath.Dir(filepath.Clean(dir)), "fdinfo", fd))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(info)) {
			// O_WRONLY is 1 and O_RDWR 2 of the octal flags, see proc_pid_fdinfo(5).
			flags, ok := strings.CutPrefix(strings.TrimSpace(line), "flags:")
			if ok && (strings.HasSuffix(flags, "1") || strings.HasSuffix(flags, "2")) {
				n[filepath.Dir(filepath.Clean(dir))] = true
			}
		}
	}
	return len(n)
}

// TestTwoServices: the second one on a store says that there is a first.
func TestTwoServices(t *testing.T) {
	h := newHouse(t)
	h.must("list")
	first := h.one("service")
	out, errs, code := h.hxen("", "service")
	if code != 1 || !strings.Contains(out+errs, "already") {
		t.Errorf("a second service: exit code %d, %q %q", code, out, errs)
	}
	if h.one("service") != first {
		t.Error("the first service is not the one that runs")
	}
}

// TestManyClientsStartOneService: commands that all find none agree on one.
func TestManyClientsStartOneService(t *testing.T) {
	h := newHouse(t)
	ended := make(chan int, 8)
	for range cap(ended) {
		go func() {
			cmd := exec.Command(filepath.Join(h.bin, "hxen"), "list")
			cmd.Env = h.env
			_ = cmd.Run()
			ended <- cmd.ProcessState.ExitCode()
		}()
	}
	for range cap(ended) {
		if code := <-ended; code != 0 {
			t.Errorf("one of the commands ended with %d", code)
		}
	}
	h.one("service")
}
