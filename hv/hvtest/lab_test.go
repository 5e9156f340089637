package hvtest_test

import (
	"cmp"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hxen-project/hxen/hv/hvtest"
	"github.com/hxen-project/hxen/hv/native"
)

// labPackages are the packages whose tests need an accelerator.
var labPackages = []struct {
	name, path string
	args       []string
	timeout    time.Duration
}{
	{"kvm", "platform/accel/kvm", nil, 10 * time.Minute},
	{"guests", "app/cmd/hxen-worker", []string{"-test.run", "^TestGuest"}, 25 * time.Minute},
}

// TestLab runs them under a kernel that keeps Xen's hypercalls to itself
// (Debian's 6.1) and one that hands them on (6.12). The first guest of each has
// the same kernel, and goes through everything; the others are booted.
// HXEN_LAB_RUN (a regexp) and HXEN_LAB_COUNT choose guests' tests, and how often.
func TestLab(t *testing.T) {
	hvtest.RequireLab(t)
	long := os.Getenv("HXEN_LONG") != ""
	patience := time.Duration(1)
	if long {
		patience = 8
	}
	var binaries []hvtest.LabBinary
	for _, p := range labPackages {
		args := p.args
		if !long {
			args = append([]string{"-test.short"}, args...)
		}
		binaries = append(binaries, hvtest.LabBinary{Name: p.name, Path: hvtest.TestBinary(t, p.path), Args: args, Timeout: patience * p.timeout})
	}
	for kernel, guests := range map[string][]string{
		"linux-image-cloud-amd64":      {"linux-image-6.12-rt-amd64"},
		"linux-image-6.12-cloud-amd64": {"linux-image-amd64"},
	} {
		if long {
			guests = []string{"linux-image-cloud-amd64", "linux-image-amd64", "linux-image-rt-amd64",
				"linux-image-6.12-cloud-amd64", "linux-image-6.12-amd64", "linux-image-6.12-rt-amd64"}
		}
		t.Run(kernel, func(t *testing.T) {
			t.Parallel() // each lab has one processor
			files := map[string]string{}
			for _, p := range []string{"hxen", "hxen-worker", "hxen-netd"} {
				files["bin/"+p] = program(t, "./app/cmd/"+p)
			}
			addGuest(t, files, "0-own", kernel)
			for _, g := range guests {
				addGuest(t, files, strings.TrimPrefix(g, "linux-image-"), g)
			}
			addStorage(t, files)
			files["hostile"] = hostileGuest(t)
			if long {
				addClocks(t, files)
			}
			addBoot(t, files, kernel, guests[len(guests)-1])
			binaries := slices.Clone(binaries)
			short := !long && kernel == "linux-image-6.12-cloud-amd64"
			last := &binaries[len(binaries)-1]
			if run := os.Getenv("HXEN_LAB_RUN"); run != "" {
				last.Args = []string{"-test.run", run, "-test.failfast", "-test.count", cmp.Or(os.Getenv("HXEN_LAB_COUNT"), "1")}
				binaries = binaries[len(binaries)-1:]
			} else if short { // what depends on how hypercalls reach us; the other kernel has all
				last.Args = []string{"-test.short", "-test.run", "^TestGuest(Kernels|Sizes|Ends|Signature|Network)$"}
			}
			hvtest.LabSuite{Lab: hvtest.Lab{Kernel: kernel, Files: files, Timeout: patience * 30 * time.Minute}, Binaries: binaries}.Run(t)
		})
	}
}

// TestLabHostile has guests do harm for minutes; TestLab has the short form.
func TestLabHostile(t *testing.T) {
	if os.Getenv("HXEN_LONG") == "" {
		t.Skip("HXEN_LONG=1 make test-guest runs it; TestLab has the short form")
	}
	hvtest.RequireLab(t)
	hvtest.LabSuite{
		Lab: hvtest.Lab{Kernel: "linux-image-cloud-amd64", Files: map[string]string{"hostile": hostileGuest(t)}, Timeout: 30 * time.Minute},
		Binaries: []hvtest.LabBinary{{Name: "hostile", Path: hvtest.TestBinary(t, "app/cmd/hxen-worker"),
			Args: []string{"-test.run", "^TestGuestHostile$"}, Timeout: 25 * time.Minute}},
	}.Run(t)
}

// TestSaves saves and restores one guest for hours, TestClones makes many
// clones, and plugs devices in and out.
func TestSaves(t *testing.T)  { longLab(t, "^TestSaves$") }
func TestClones(t *testing.T) { longLab(t, "^(TestGuest(Service|Plug|IdleClones)|TestClones)$") }

func longLab(t *testing.T, tests string) {
	if os.Getenv("HXEN_LONG") == "" {
		t.Skip("make test-save runs it; TestLab has the short form")
	}
	hvtest.RequireLab(t)
	const kernel = "linux-image-cloud-amd64"
	files := map[string]string{}
	for _, p := range []string{"hxen", "hxen-worker", "hxen-netd"} {
		files["bin/"+p] = program(t, "./app/cmd/"+p)
	}
	addGuest(t, files, "0-own", kernel)
	hvtest.LabSuite{Lab: hvtest.Lab{Kernel: kernel, Files: files, Timeout: 4 * time.Hour}, Binaries: []hvtest.LabBinary{
		{Name: "saves", Path: hvtest.TestBinary(t, "app/cmd/hxen-worker"), Args: []string{"-test.run", cmp.Or(os.Getenv("HXEN_LAB_RUN"), tests)}, Timeout: 4 * time.Hour},
	}}.Run(t)
}

// hostileGuest builds the guest that does harm.
func hostileGuest(t *testing.T) string {
	if _, err := exec.LookPath("gcc"); err != nil {
		hvtest.RequireThat(t, "lab", "gcc is not installed")
	}
	out := filepath.Join(t.TempDir(), "hostile")
	build := exec.Command("gcc", "-m32", "-march=i686", "-ffreestanding", "-fno-pic", "-fno-stack-protector", "-O1", "-nostdlib", "-static",
		"-Wl,-Ttext-segment=0x100000,--build-id=none,-z,noexecstack,-e,entry", "-o", out, "testdata/hostile.c")
	if b, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the hostile guest: %v\n%s", err, b)
	}
	return out
}

// program builds one of ours for the lab.
func program(t *testing.T, path string) string {
	out := filepath.Join(t.TempDir(), filepath.Base(path))
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", out, path)
	build.Dir, build.Env = "../..", append(os.Environ(), "CGO_ENABLED=0")
	if b, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", path, err, b)
	}
	return out
}

// addGuest adds a kernel for guests, and unpacked here: the lab's processor is
// slow.
func addGuest(t *testing.T, files map[string]string, name, pkg string) {
	kernel := hvtest.KernelFile(t, pkg)
	unpacked, _, err := native.OpenKernel(t.Context(), kernel, filepath.Join(hvtest.LabCache(t), "unpacked"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer unpacked.Close()
	dir := "kernels/" + name + "/"
	files[dir+"vmlinuz"] = kernel
	modules := []string{"xen-netfront", "xen-blkfront", "evdev"}
	if os.Getenv("HXEN_LONG") != "" { // TestGuestFalls' watchdog
		modules = append(modules, "watchdog", "xen_wdt")
	}
	files[dir+"initrd"] = hvtest.GuestInitrd(t, pkg, modules...)
	files[dir+"cache/"+filepath.Base(unpacked.Name())] = unpacked.Name()
}

// addClocks adds the program that compares clocks, for the lab and for its guests.
func addClocks(t *testing.T, files map[string]string) {
	stage := t.TempDir()
	hvtest.Mkdirs(t, stage, "bin")
	out := filepath.Join(stage, "bin", "clocks")
	if b, err := exec.Command("gcc", "-O1", "-static", "-s", "-o", out, "testdata/clocks.c").CombinedOutput(); err != nil {
		t.Fatalf("build the program that reads clocks: %v\n%s", err, b)
	}
	files["clocks"], files["clocks.initrd"] = out, hvtest.PackInitrd(t, stage)
}

// addStorage adds QEMU's storage daemon with its libraries, and an image for it.
func addStorage(t *testing.T, files map[string]string) {
	daemon, err := exec.LookPath("qemu-storage-daemon")
	if err != nil {
		hvtest.RequireThat(t, "lab", "qemu-storage-daemon is not installed (qemu-system-common)")
	}
	hvtest.WithLibraries(t, files, "storage", daemon)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "disk.raw"), []byte(strings.Repeat("what a disk holds", 500000)), 0o600); err != nil {
		t.Fatal(err)
	}
	make := exec.Command("sh", "-c", "truncate -s 12M disk.raw && qemu-img convert -c -O qcow2 disk.raw disk.qcow2 && sha256sum disk.raw >disk.sha256")
	make.Dir = dir
	if out, err := make.CombinedOutput(); err != nil {
		t.Fatalf("make an image: %v\n%s", err, out)
	}
	for _, name := range []string{"disk.qcow2", "disk.sha256"} {
		files["storage/"+name] = filepath.Join(dir, name)
	}
}
