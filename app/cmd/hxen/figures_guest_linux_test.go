package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/hvtest"
	"github.com/hxen-project/hxen/hv/native"
)

// labJob and labResult are testdata/labbench's Job and Result.
type labJob struct {
	Op, Name string
	Args     []string        `json:",omitempty"`
	Spec     json.RawMessage `json:",omitempty"`
	Mark     string
}

type labResult struct {
	Op, Name, Error string
	Mark            float64
	Exits           int64
	Idle            float64
	Over, Private   int64
	Lines           []string
}

// guestMark is what the guest's first process says first.
const guestMark = "HELLO-FROM-GUEST"

// TestFiguresGuest measures a pvh guest's start beside the same kernel's on
// QEMU's microvm, in the nested lab with an instruction clock: a millisecond is a
// million instructions on one processor, and repeats within 1 %. Exits, which that
// clock takes for free, are a figure of their own.
func TestFiguresGuest(t *testing.T) {
	if os.Getenv("HXEN_BENCH") == "" {
		t.Skip("make bench measures the figures")
	}
	hvtest.RequireLab(t)
	const pkg = "linux-image-cloud-amd64"
	dir := t.TempDir()
	vmlinux, _, err := native.OpenKernel(t.Context(), hvtest.KernelFile(t, pkg), filepath.Join(hvtest.LabCache(t), "unpacked"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer vmlinux.Close()
	plan := filepath.Join(dir, "plan")
	b, err := json.Marshal(labPlan(t))
	if err == nil {
		err = os.WriteFile(plan, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{
		"bench/plan": plan, "bench/vmlinux": vmlinux.Name(), "bench/initrd": markInitrd(t),
		"bench/hxen-worker": build(t, dir, "../hxen-worker"), "bench/labbench": build(t, dir, "./testdata/labbench"),
	}
	for _, name := range []string{"pvh.bin", "bios-microvm.bin"} {
		for _, dir := range []string{"/usr/share/qemu/", "/usr/share/seabios/"} {
			if _, err := os.Stat(dir + name); err == nil {
				files[dir+name] = dir + name
			}
		}
	}
	withLibraries(t, files, "qemu-system-x86_64")
	run := "/bench/labbench /bench/plan"
	if os.Getenv("HXEN_BENCH") == "profile" { // where the instructions go
		withLibraries(t, files, "perf")
		run = "perf record -q -a -F 4000 -o /tmp/profile " + run + "\nperf report -i /tmp/profile --stdio --sort comm,dso,symbol 2>/dev/null | head -120"
	}
	lab := hvtest.Lab{Kernel: pkg, Files: files, Timeout: 4 * time.Minute, Icount: true,
		Script: "for d in usr lib lib64 bench; do ln -s /lab/$d /$d; done\nexport PATH=$PATH:/usr/bin:/usr/local/bin\n" + run}
	var console string
	for range 3 { // QEMU with an instruction clock sometimes stands still (openVectors in app/cmd/hxen-worker)
		if console, err = lab.Run(t); err == nil {
			break
		}
		t.Log(err)
	}
	results := map[string][]labResult{}
	for line := range strings.Lines(console) {
		if text, ok := strings.CutPrefix(line, "@@R "); ok {
			var r labResult
			if err := json.Unmarshal([]byte(text), &r); err != nil {
				t.Fatal(err)
			}
			t.Logf("%+v", r)
			if r.Error != "" {
				t.Errorf("%s %s: %s", r.Op, r.Name, r.Error)
				continue
			}
			results[r.Op+" "+r.Name] = append(results[r.Op+" "+r.Name], r)
		}
	}
	if err != nil { // what came before counts
		t.Errorf("%v; it said last:\n%s", err, console[max(0, len(console)-2000):])
	}
	printGuestFigures(t, results)
}

// labPlan runs each monitor once to warm up, and then in turn.
func labPlan(t *testing.T) (jobs []labJob) {
	spec := hv.Spec{
		Version: hv.SpecVersion, UUID: "01020304-0000-4000-8000-000000000001", Name: "bench", Type: hv.PVH, VCPUs: 1, Memory: 256 * hv.MiB,
		Boot:    hv.Boot{Kernel: "/bench/vmlinux", Initrd: "/bench/initrd", Cmdline: "console=hvc0 quiet panic=-1"},
		Display: hv.Display{Adapter: "none"}, // as microvm is run
	}
	encode := func() json.RawMessage {
		b, err := json.Marshal(spec)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	good := encode()
	spec.Boot.Kernel = "/bench/initrd"
	bad := encode()
	microvm := func(kernel string) []string {
		return []string{"qemu-system-x86_64", "-M", "microvm,acpi=on,rtc=on,pit=off,pic=off", "-accel", "kvm", "-cpu", "host", "-m", "256",
			"-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio", "-no-reboot",
			"-kernel", kernel, "-initrd", "/bench/initrd", "-append", "console=ttyS0 quiet panic=-1"}
	}
	if os.Getenv("HXEN_BENCH") == "profile" {
		return []labJob{{Op: "boot", Name: "hxen-worker", Spec: good, Mark: guestMark}, {Op: "boot", Name: "hxen-worker", Spec: good, Mark: guestMark}}
	}
	if os.Getenv("HXEN_BENCH") == "quick" { // ours alone
		jobs = append(jobs, labJob{Op: "boot", Name: "hxen-worker", Spec: good, Mark: guestMark}, labJob{Op: "boot", Name: "hxen-worker", Spec: good, Mark: guestMark})
		return append(jobs, labJob{Op: "fail", Name: "hxen-worker", Spec: bad}, labJob{Op: "hist", Name: "hxen-worker", Spec: good, Mark: guestMark})
	}
	for range 3 {
		jobs = append(jobs,
			labJob{Op: "boot", Name: "hxen-worker", Spec: good, Mark: guestMark},
			labJob{Op: "boot", Name: "microvm", Args: microvm("/bench/vmlinux"), Mark: guestMark})
	}
	return append(jobs,
		labJob{Op: "fail", Name: "hxen-worker", Spec: bad},
		labJob{Op: "fail", Name: "microvm", Args: microvm("/nonexistent")},
		labJob{Op: "hist", Name: "hxen-worker", Spec: good, Mark: guestMark})
}

// printGuestFigures prints medians without the first, warming run.
func printGuestFigures(t *testing.T, results map[string][]labResult) {
	middle := func(key string, of func(labResult) float64) float64 {
		all := results[key]
		if len(all) == 0 {
			return 0
		}
		var v []float64
		for _, r := range all[min(1, len(all)-1):] {
			v = append(v, of(r))
		}
		slices.Sort(v)
		return v[len(v)/2]
	}
	mark := func(r labResult) float64 { return r.Mark }
	ours, theirs := middle("boot hxen-worker", mark), middle("boot microvm", mark)
	fmt.Println("\n| figure, in the nested lab | goal | hxen-worker | QEMU microvm |\n| --- | --- | --- | --- |")
	fmt.Printf("| exec to /init, 256 MiB, 1 vCPU, million instructions | 1420, <= 0.85 of microvm | %.0f (%.2f) | %.0f |\n", ours, ours/max(theirs, 1), theirs)
	for _, row := range []struct {
		name, goal string
		of         func(labResult) float64
	}{
		{"VM exits to /init", "<= 2000", func(r labResult) float64 { return float64(r.Exits) }},
		{"VM exits a second, idle", "<= 28", func(r labResult) float64 { return r.Idle }},
		{"RSS less guest RAM, KiB", "<= 12288", func(r labResult) float64 { return float64(r.Over) }},
		{"of it private, KiB", "<= 6144", func(r labResult) float64 { return float64(r.Private) }},
	} {
		fmt.Printf("| %s | %s | %.0f | %.0f |\n", row.name, row.goal, middle("boot hxen-worker", row.of), middle("boot microvm", row.of))
	}
	fmt.Printf("| start to error exit, bad kernel, million instructions | <= 10 | %.1f | %.1f |\n", middle("fail hxen-worker", mark), middle("fail microvm", mark))
}

// markInitrd is an initial ramdisk whose first process says guestMark and sleeps.
func markInitrd(t *testing.T) string {
	stage := t.TempDir()
	hvtest.Mkdirs(t, stage, "dev")
	hvtest.PutBusybox(t, stage)
	script := "#!/bin/busybox sh\necho " + guestMark + "\nwhile :; do /bin/busybox sleep 100000; done\n"
	if err := os.WriteFile(filepath.Join(stage, "init"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return hvtest.PackInitrd(t, stage)
}

// build builds one program without cgo.
func build(t *testing.T, dir, pkg string) string {
	out := filepath.Join(dir, filepath.Base(pkg))
	args := []string{"build", "-o", out}
	if os.Getenv("HXEN_BENCH") != "profile" {
		args = append(args, "-ldflags", "-s -w")
	}
	cmd := exec.Command("go", append(args, pkg)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", pkg, err, b)
	}
	return out
}

// withLibraries adds a program and the shared libraries that it says it needs.
func withLibraries(t *testing.T, files map[string]string, program string) {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("ldd", path).Output()
	if err != nil {
		t.Fatal(err)
	}
	files[path] = path
	for _, word := range strings.Fields(string(out)) {
		if strings.HasPrefix(word, "/") {
			files[word] = word
		}
	}
}
