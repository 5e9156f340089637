package main

// The disk of a pvh guest beside one of QEMU's, in the nested lab.

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hxen-project/hxen/hv/hvtest"
	"github.com/hxen-project/hxen/hv/native"
)

const benchKernel = "linux-image-cloud-amd64"

// TestFiguresGuestDisk has one lab run the same guest on both in turns, and tells
// the medians.
func TestFiguresGuestDisk(t *testing.T) {
	besideQEMU(t, "TestBenchDisk", diskInitrd, emptyDisk)
}

// TestFiguresGuestNet does so for a file that the guest fetches and sends over HTTP,
// in MB/s.
func TestFiguresGuestNet(t *testing.T) { besideQEMU(t, "TestBenchNet", netInitrd) }

func besideQEMU(t *testing.T, test string, initrd func(*testing.T) string, makeDisks ...func(*testing.T) string) {
	files := benchFiles(t)
	files["bench/initrd"], files["bin/hxen-netd"] = initrd(t), build(t, t.TempDir(), "../hxen-netd")
	benchQEMU(t, files)
	benchGuest(t, files, benchKernel)
	var disks []string
	for _, make := range makeDisks {
		disks = append(disks, make(t))
	}
	sideBySide(t, test, "qemu", files, disks...)
}

// sideBySide runs a test of hxen-worker's in the lab, which does the same here and at
// a peer's in turns, and tells the medians of what it prints. Its folder for what is
// temporary is in memory, or on the first of disks.
func sideBySide(t *testing.T, test, peer string, files map[string]string, disks ...string) {
	folder := "cd /tmp\n"
	if len(disks) > 0 { // the clock passes over waits: nothing may wait for the disk
		folder = "mkdir /disk\nmount -t ext4 /dev/nvme1n1 /disk\necho 0 >/proc/sys/vm/dirty_writeback_centisecs\nexport TMPDIR=/disk\ncd /disk\n"
	}
	lab := hvtest.Lab{Kernel: benchKernel, Files: files, Disks: disks, Timeout: 25 * time.Minute, Icount: true,
		Script: "export HXEN_LAB=/lab\n" + folder + "/lab/bench/slack /lab/bench/test -test.v -test.run '^" + test + "$' -test.timeout 20m\n"}
	console, err := lab.Run(t)
	figures := map[string]map[string][]float64{} // by what is done, then by who
	for line := range strings.Lines(console) {
		_, line, ok := strings.Cut(line, "@@D ")
		if !ok {
			continue
		}
		f := strings.Fields(line) // who, round, pass, what, its figure ...
		if len(f) > 3 && f[2] == "error" {
			t.Errorf("%s's guest: %s", f[0], line)
		}
		if len(f) < 5 {
			continue
		}
		if v, err := strconv.ParseFloat(f[4], 64); err == nil {
			if figures[f[3]] == nil {
				figures[f[3]] = map[string][]float64{}
			}
			figures[f[3]][f[0]] = append(figures[f[3]][f[0]], v)
		}
	}
	if err != nil || len(figures) == 0 {
		t.Fatalf("%v; the lab said:\n%s", err, console)
	}
	if strings.Contains(console, "--- FAIL") {
		t.Errorf("%s failed in the lab", test)
	}
	for what, by := range figures {
		if len(by["hxen"]) == 0 || len(by["hxen"]) != len(by[peer]) {
			t.Errorf("%s was measured %d times here and %d times at %s", what, len(by["hxen"]), len(by[peer]), peer)
		}
		ours, theirs := middle(by["hxen"]), middle(by[peer])
		t.Logf("%-14s hxen %8.1f, %s %8.1f: %.2f (%v; %v)", what, ours, peer, theirs, ours/theirs, by["hxen"], by[peer])
	}
	t.Logf("the lab's console:\n%s", console)
}

// emptyDisk is a disk with an ext4, as images lie on one.
func emptyDisk(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "disk")
	out, err := exec.Command("sh", "-ec", `truncate -s 512M "$0"; PATH=$PATH:/sbin:/usr/sbin mke2fs -q -t ext4 -O ^has_journal "$0"`, path).CombinedOutput()
	if err != nil {
		t.Fatalf("make a file system: %v\n%s", err, out)
	}
	return path
}

func middle(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

// pci are QEMU's drivers that its disk's and its card's stand on.
var pci = []string{"virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci"}

// diskInitrd is for a guest that measures its disk.
func diskInitrd(t *testing.T) string {
	stage := t.TempDir()
	hvtest.Mkdirs(t, stage, "dev", "proc", "modules")
	hvtest.PutBusybox(t, stage)
	hvtest.PutModules(t, benchKernel, stage, append(slices.Clip(pci), "xen-blkfront", "virtio_blk")...)
	if err := os.Rename(build(t, t.TempDir(), "../hxen-worker/testdata/diskbench"), filepath.Join(stage, "init")); err != nil {
		t.Fatal(err)
	}
	return hvtest.PackInitrd(t, stage)
}

// netInit fetches a file, and sends one, twice; BusyBox's wget sends up to the
// first zero byte.
const netInit = `#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t tmpfs tmp /tmp
while read -r m; do insmod /modules/$m.ko; done </modules/order
ip link set lo up
udhcpc -i eth0 -s /sbin/udhcpc -n -q -t 20 >/dev/null
url=$(sed 's/.*url=\([^ ]*\).*/\1/' /proc/cmdline)
yes what a guest sends | head -c 4194304 >/tmp/file
now() { cut -d' ' -f1 /proc/uptime; }
for pass in 0 1; do
	a=$(now); wget -q -O /dev/null $url; b=$(now)
	echo "@@F $pass fetch-4m $(awk "BEGIN { print 4.194 / ($b - $a) }") MB/s"
	a=$(now); wget -q -O /dev/null --post-file=/tmp/file $url; b=$(now)
	echo "@@F $pass send-4m $(awk "BEGIN { print 4.194 / ($b - $a) }") MB/s"
done
poweroff -f
`

// netInitrd is for a guest that measures its network.
func netInitrd(t *testing.T) string {
	stage := t.TempDir()
	hvtest.Mkdirs(t, stage, "dev", "proc", "modules", "tmp", "sbin")
	hvtest.PutBusybox(t, stage)
	hvtest.PutModules(t, benchKernel, stage, append(slices.Clip(pci), "xen-netfront", "failover", "net_failover", "virtio_net")...)
	for name, text := range map[string]string{"init": netInit, "sbin/udhcpc": hvtest.GuestDHCP} {
		if err := os.WriteFile(filepath.Join(stage, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return hvtest.PackInitrd(t, stage)
}

// benchFiles are a lab's that measures: the tests of hxen-worker.
func benchFiles(t *testing.T) map[string]string {
	if os.Getenv("HXEN_BENCH") == "" {
		t.Skip("only make bench measures")
	}
	hvtest.RequireLab(t)
	return map[string]string{"bench/slack": build(t, t.TempDir(), "./testdata/slack"), "bench/test": hvtest.TestBinary(t, "app/cmd/hxen-worker")}
}

// benchQEMU adds QEMU with what it needs.
func benchQEMU(t *testing.T, files map[string]string) {
	qemu, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		t.Fatal(err)
	}
	hvtest.WithLibraries(t, files, "bench/qemu", qemu)
	for _, rom := range []string{"/usr/share/seabios/bios-256k.bin", "/usr/share/qemu/linuxboot_dma.bin", "/usr/share/qemu/kvmvapic.bin"} {
		files["bench/qemu/share/"+filepath.Base(rom)] = rom
	}
}

// benchGuest adds the guest's kernel, and unpacked.
func benchGuest(t *testing.T, files map[string]string, pkg string) {
	kernel := hvtest.KernelFile(t, pkg)
	unpacked, _, err := native.OpenKernel(t.Context(), kernel, filepath.Join(hvtest.LabCache(t), "unpacked"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer unpacked.Close()
	files["kernels/0-own/vmlinuz"] = kernel
	files["kernels/0-own/cache/"+filepath.Base(unpacked.Name())] = unpacked.Name()
}
