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

const benchKernel = "linux-image-6.12-cloud-amd64"

// TestFiguresGuestDisk has one lab run the same guest on both in turns, and tells
// the medians.
func TestFiguresGuestDisk(t *testing.T) {
	if os.Getenv("HXEN_BENCH") == "" {
		t.Skip("only make bench measures")
	}
	hvtest.RequireLab(t)
	files := map[string]string{}
	benchPrograms(t, files)
	benchGuest(t, files)
	lab := hvtest.Lab{Kernel: benchKernel, Files: files, Timeout: 25 * time.Minute,
		Script: "export HXEN_LAB=/lab\ncd /tmp\n/lab/bench/test -test.v -test.run '^TestBenchDisk$' -test.timeout 20m\n"}
	console, err := lab.Run(t)
	figures := map[string]map[string][]float64{} // by what is done, then by who
	for line := range strings.Lines(console) {
		_, line, ok := strings.Cut(line, "@@D ")
		if !ok {
			continue
		}
		f := strings.Fields(line) // who, round, pass, what, IOPS ...
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
	for what, by := range figures {
		hxen, qemu := middle(by["hxen"]), middle(by["qemu"])
		t.Logf("%-14s requests/s: hxen %8.0f, QEMU with an I/O thread %8.0f: %.2f (%v; %v)", what, hxen, qemu, hxen/qemu, by["hxen"], by["qemu"])
	}
	t.Logf("the lab's console:\n%s", console)
}

func middle(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

// benchPrograms are the tests of hxen-worker, and QEMU with what it needs.
func benchPrograms(t *testing.T, files map[string]string) {
	dir := t.TempDir()
	for out, args := range map[string][]string{
		"test":      {"test", "-c", "-ldflags", "-s -w", "./app/cmd/hxen-worker"},
		"diskbench": {"build", "-ldflags", "-s -w", "./app/cmd/hxen-worker/testdata/diskbench"},
	} {
		args = slices.Insert(args, 1, "-o", filepath.Join(dir, out))
		build := exec.Command("go", args...)
		build.Dir, build.Env = "../../..", append(os.Environ(), "CGO_ENABLED=0")
		if b, err := build.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", out, err, b)
		}
	}
	files["bench/test"] = filepath.Join(dir, "test")
	stage := filepath.Join(dir, "guest")
	hvtest.Mkdirs(t, stage, "dev", "proc", "modules")
	hvtest.PutBusybox(t, stage)
	for _, m := range []string{"xen-blkfront", "virtio_blk"} {
		hvtest.PutModule(t, hvtest.KernelPackage(t, benchKernel), m, filepath.Join(stage, "modules"))
	}
	if err := os.Rename(filepath.Join(dir, "diskbench"), filepath.Join(stage, "init")); err != nil {
		t.Fatal(err)
	}
	files["bench/initrd"] = hvtest.PackInitrd(t, stage)

	qemu, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		t.Fatal(err)
	}
	hvtest.WithLibraries(t, files, "bench/qemu", qemu)
	for _, rom := range []string{"/usr/share/seabios/bios-256k.bin", "/usr/share/qemu/linuxboot_dma.bin", "/usr/share/qemu/kvmvapic.bin"} {
		files["bench/qemu/share/"+filepath.Base(rom)] = rom
	}
}

// benchGuest is the guest's kernel, and unpacked.
func benchGuest(t *testing.T, files map[string]string) {
	kernel := hvtest.KernelFile(t, benchKernel)
	unpacked, _, err := native.OpenKernel(t.Context(), kernel, filepath.Join(hvtest.LabCache(t), "unpacked"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer unpacked.Close()
	files["kernels/0-own/vmlinuz"] = kernel
	files["kernels/0-own/cache/"+filepath.Base(unpacked.Name())] = unpacked.Name()
}
