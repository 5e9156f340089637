package main

// The guest suite: the native engine on this computer's accelerator boots
// Debian's kernels. hv/hvtest's TestLab runs it where there is one that works
// (make test-guest), and tells by HXEN_LAB where the kernels are; TestLabWHP runs
// what is in this file as a Windows program (make test-whp).

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/hvtest"
	"github.com/hxen-project/hxen/hv/native"
	"github.com/hxen-project/hxen/platform/accel"
)

// patience is the guard of one step here, on a machine that may be very busy.
const patience = 10 * time.Minute

// hold keeps KVM from going to sleep between two guests: see hvtest.HoldMachine.
var hold = sync.OnceValue(func() error { return hvtest.HoldMachine(accel.Open) })

// kernels are the folders of the lab's kernels; the first is for what is tested
// with one kernel only.
func kernels(t *testing.T) []string {
	t.Helper()
	if os.Getenv("HXEN_LAB") == "" {
		hvtest.RequireThat(t, "accel", "the kernels to boot are in the lab (make test-guest)")
	}
	if err := hold(); err != nil {
		t.Fatal(err)
	}
	dirs, err := filepath.Glob(filepath.Join(os.Getenv("HXEN_LAB"), "kernels", "*"))
	if err != nil || len(dirs) == 0 {
		t.Fatalf("there are no kernels: %v", err)
	}
	return dirs
}

// guest is a Spec of one processor and 256 MiB for a kernel of the lab.
func guest(kernel string) hv.Spec {
	return hv.Spec{
		Version: hv.SpecVersion, UUID: "01020304-0000-4000-8000-000000000001", Name: "guest", Type: hv.PVH,
		VCPUs: 1, Memory: 256 * hv.MiB,
		Boot: hv.Boot{
			Kernel: filepath.Join(kernel, "vmlinuz"), Initrd: filepath.Join(kernel, "initrd"),
			Cmdline: "console=hvc0 quiet",
		},
	}
}

// testHost is what the engine gets; a folder of unpacked kernels beside the kernel.
func testHost(t *testing.T, s hv.Spec) hv.Host {
	return hv.Host{Dir: t.TempDir(), Cache: filepath.Join(filepath.Dir(s.Boot.Kernel), "cache")}
}

// boot launches a guest and waits until it takes commands.
func boot(t *testing.T, s hv.Spec, h hv.Host) *hvtest.Live {
	t.Helper()
	l := launched(t, s, h)
	l.Expect(hvtest.GuestReady)
	return l
}

// launched is boot that does not wait, as of a guest that goes on from h.Restore.
func launched(t *testing.T, s hv.Spec, h hv.Host) *hvtest.Live {
	t.Helper()
	m, err := native.New(accel.Open).Launch(t.Context(), s, h)
	if err != nil {
		t.Fatal(err)
	}
	l := hvtest.Follow(t, m)
	l.Guard = patience
	return l
}

// TestGuestKernels: each kernel believes that it runs on Xen, and powers itself
// off. The first is unpacked here.
func TestGuestKernels(t *testing.T) {
	for i, k := range kernels(t) {
		t.Run(filepath.Base(k), func(t *testing.T) {
			s := guest(k)
			h := testHost(t, s)
			left := int64(0)
			if i == 0 {
				left = -1
				h.Cache = t.TempDir()
				h.Progress = func(_ string, done, total int64) { left = total - done }
			}
			l := boot(t, s, h)
			if left != 0 {
				t.Errorf("of the kernel %d bytes are said to be packed still", left)
			}
			for file, want := range map[string]string{
				"/sys/hypervisor/type": "xen", "/sys/hypervisor/guest_type": "PVH",
				"/sys/hypervisor/uuid": s.UUID, "/sys/devices/system/cpu/online": "0",
				"/sys/class/tty/console/active": "hvc0",
			} {
				if got := l.Run("cat " + file); got != want {
					t.Errorf("%s is %q, want %q", file, got, want)
				}
			}
			t.Log(l.Run("uname -rv; cat /sys/devices/system/clocksource/clocksource0/current_clocksource"))
			if i == 0 {
				l.Stop(hv.Ask)
			} else {
				l.Say("poweroff -f\n")
			}
			l.Ended(hv.ExitPoweroff)
		})
	}
}

// TestGuestSizes: processors and memory are all there and all work.
func TestGuestSizes(t *testing.T) {
	for _, c := range []struct {
		vcpus  int
		memory uint64
		long   bool
	}{{2, 128 * hv.MiB, false}, {4, 2 * hv.GiB, true}, {8, 6 * hv.GiB, true}} {
		if c.long && testing.Short() {
			continue
		}
		t.Run(fmt.Sprintf("%d processors, %d MiB", c.vcpus, c.memory/hv.MiB), func(t *testing.T) {
			s := guest(kernels(t)[0])
			s.VCPUs, s.Memory = c.vcpus, c.memory
			l := boot(t, s, testHost(t, s))
			if got, want := l.Run("cat /sys/devices/system/cpu/online"), fmt.Sprintf("0-%d", c.vcpus-1); got != want {
				t.Errorf("processors online: %s, want %s", got, want)
			}
			l.Run(fmt.Sprintf("(for i in $(seq 0 %d); do taskset -c $i true || exit; done)", c.vcpus-1))
			// All at once, with pipes between them: what one does wakes another.
			l.Run(fmt.Sprintf("for i in $(seq %d); do (seq 2000 | sort -n | sha256sum >/tmp/$i) & done; wait; cat /tmp/[0-9]* | uniq | wc -l | grep -qx 1", 2*c.vcpus))
			kib, err := strconv.ParseUint(l.Run("awk '/^MemTotal/ { print $2 }' /proc/meminfo"), 10, 64)
			if reserved := c.memory - kib<<10; err != nil || reserved > 64*hv.MiB+c.memory/32 {
				t.Errorf("the guest has %d KiB of %d MiB, %v", kib, c.memory/hv.MiB, err)
			}
			l.Say("poweroff -f\n")
			l.Ended(hv.ExitPoweroff)
		})
	}
}
