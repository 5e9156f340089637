package hvtest

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// Lab is a computer with a KVM that works: QEMU emulates an AMD processor with
// SVM, a Debian kernel in it offers /dev/kvm, and test binaries run on that.
type Lab struct {
	Kernel   string // Debian's package that depends on the newest kernel of a line
	Binaries []LabBinary
	Timeout  time.Duration // for everything; a hang guard
}

// LabBinary is one static test binary (CGO_ENABLED=0 go test -c).
type LabBinary struct {
	Name, Path string
	Args       []string      // -test.run and the like
	Timeout    time.Duration // a hang guard; what runs longer is killed, the next one runs
}

// labModules make /dev/kvm, in the order in which they are loaded.
var labModules = []string{"irqbypass", "kvm", "kvm-amd"}

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

// Run starts the lab and reports every test in it as a subtest.
func (l Lab) Run(t *testing.T) {
	tree := l.fetch(t)
	kernels, err := filepath.Glob(filepath.Join(tree, "boot", "vmlinuz-*"))
	if err != nil || len(kernels) != 1 {
		t.Fatalf("kernels in %s: %q, %v", tree, kernels, err)
	}
	initrd := l.pack(t, tree)
	console := l.boot(t, kernels[0], initrd)
	for range 2 {
		if !strings.Contains(console, "Oops: int3") && !strings.Contains(console, "int3: 0000") {
			break
		}
		// QEMU's translator, with several processors, sometimes runs code that
		// Linux has just patched as it was in between. This is no test's result.
		t.Logf("the lab's own kernel fell over a patch of its code; once more. It said:\n%s", console)
		console = l.boot(t, kernels[0], initrd)
	}
	for _, b := range l.Binaries {
		l.report(t, b, console)
	}
	if t.Failed() {
		t.Logf("the lab's console:\n%s", console)
	}
}

// fetch unpacks the kernel's package into the user's cache and returns where.
func (l Lab) fetch(t *testing.T) string {
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, "hxen", "lab")
	depends, _ := exec.CommandContext(t.Context(), "apt-cache", "depends", "--important", l.Kernel).Output()
	i := strings.Index(string(depends), "Depends: linux-image-")
	if i < 0 {
		RequireThat(t, "lab", "apt knows no kernel of "+l.Kernel+", a package of Debian's; apt-get update may help")
	}
	name, _, _ := strings.Cut(string(depends[i+len("Depends: "):]), "\n")
	tree := filepath.Join(dir, name)
	if _, err := os.Stat(tree); err == nil {
		return tree
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	tmp, err := os.MkdirTemp(dir, "fetch-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(tmp)
	// As root, apt would fetch as a user of its own that may not write here.
	output(t, tmp, "apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", name)
	debs, err := filepath.Glob(filepath.Join(tmp, "*.deb"))
	if err != nil || len(debs) != 1 {
		t.Fatalf("apt-get download %s left %q, %v", name, debs, err)
	}
	output(t, tmp, "dpkg-deb", "-x", debs[0], "tree")
	if err := os.Rename(filepath.Join(tmp, "tree"), tree); err != nil && !os.IsExist(err) {
		t.Fatal(err)
	}
	return tree
}

// pack makes the initramfs: BusyBox, modules, test binaries and what runs them.
func (l Lab) pack(t *testing.T, tree string) string {
	stage := t.TempDir()
	for _, d := range []string{"bin", "dev", "proc", "sys", "tmp", "modules", "tests"} {
		if err := os.Mkdir(filepath.Join(stage, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal(err)
	}
	put(t, busybox, filepath.Join(stage, "bin", "busybox"))
	for _, m := range labModules {
		found := findModule(tree, m)
		if found == "" {
			t.Fatalf("%s has no module %s", tree, m)
		}
		to := filepath.Join(stage, "modules", m+".ko")
		if strings.HasSuffix(found, ".xz") {
			if err := os.WriteFile(to, []byte(output(t, "", "busybox", "xzcat", found)), 0o644); err != nil {
				t.Fatal(err)
			}
		} else {
			put(t, found, to)
		}
	}
	for _, b := range l.Binaries {
		put(t, b.Path, filepath.Join(stage, "tests", b.Name))
	}
	if err := os.WriteFile(filepath.Join(stage, "init"), []byte(l.init()), 0o755); err != nil {
		t.Fatal(err)
	}
	initrd := filepath.Join(t.TempDir(), "initrd")
	output(t, stage, "busybox", "sh", "-c", `busybox find . | busybox cpio -o -H newc > "$0"`, initrd)
	return initrd
}

// findModule returns a module's file, compressed or not; empty: there is none.
func findModule(tree, name string) (found string) {
	_ = filepath.WalkDir(tree, func(path string, _ fs.DirEntry, err error) error {
		if base, _, ok := strings.Cut(filepath.Base(path), ".ko"); err == nil && ok && base == name {
			found = path
			return fs.SkipAll
		}
		return nil
	})
	return found
}

// init is the lab's first and only process.
func (l Lab) init() string {
	var b strings.Builder
	b.WriteString(`#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin HOME=/tmp HXEN_REQUIRE=accel
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for m in ` + strings.Join(labModules, " ") + `; do
	insmod /modules/$m.ko || echo "@@ module $m failed"
done
uname -r
cd /tests
`)
	for _, t := range l.Binaries {
		fmt.Fprintf(&b, "echo '@@ begin %s'\ntimeout -s KILL %d ./%s -test.v -test.timeout %ds %s\necho '@@ end %s' $?\n",
			t.Name, int(t.Timeout.Seconds())+5, t.Name, int(t.Timeout.Seconds()), quote(t.Args), t.Name)
	}
	b.WriteString("poweroff -f\n")
	return b.String()
}

func quote(args []string) string {
	var b strings.Builder
	for _, a := range args {
		b.WriteString(" '" + strings.ReplaceAll(a, "'", `'\''`) + "'")
	}
	return b.String()
}

// boot runs the lab to its end and returns what its console said.
func (l Lab) boot(t *testing.T, kernel, initrd string) string {
	ctx, cancel := context.WithTimeout(t.Context(), l.Timeout)
	defer cancel()
	start := time.Now()
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", "-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "max,+svm,+npt",
		"-smp", "2", "-m", "1536", "-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio",
		"-kernel", kernel, "-initrd", initrd, "-append", "console=ttyS0 quiet panic=-1 tsc=reliable") // TCG's counters are one, which Linux cannot know
	cmd.WaitDelay = 10 * time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if ctx.Err() != nil {
		t.Errorf("the lab hung and was ended after %v", l.Timeout)
	} else if err != nil {
		t.Errorf("the lab ended with %v", err)
	}
	t.Logf("the lab ran for %v", time.Since(start).Round(time.Second))
	return strings.ReplaceAll(out.String(), "\r", "")
}

// labResult is one test's end, as the testing package tells it.
type labResult struct{ verdict, name, took string }

var labLine = regexp.MustCompile(`(?m)^ *--- (PASS|FAIL|SKIP): (.+) \(([0-9.]+s)\)$`)

// parseLab finds a binary's results on the console. An error says what is wrong
// beside failed tests.
func parseLab(console, name string) ([]labResult, error) {
	_, section, begun := strings.Cut(console, "@@ begin "+name+"\n")
	if !begun {
		return nil, errors.New("it was never started")
	}
	section, rest, ended := strings.Cut(section, "@@ end "+name+" ")
	var results []labResult
	passed := false
	for _, m := range labLine.FindAllStringSubmatch(section, -1) {
		results = append(results, labResult{m[1], m[2], m[3]})
		passed = passed || m[1] == "PASS"
	}
	status, _, _ := strings.Cut(rest, "\n")
	switch {
	case !ended:
		return results, errors.New("it never ended")
	case status != "0":
		return results, fmt.Errorf("it ended with status %s", status)
	case !passed:
		return results, errors.New("nothing passed")
	}
	return results, nil
}

// report turns one binary's output into subtests.
func (l Lab) report(t *testing.T, b LabBinary, console string) {
	t.Run(b.Name, func(t *testing.T) {
		results, err := parseLab(console, b.Name)
		for _, r := range results {
			t.Run(strings.TrimPrefix(r.name, "Test"), func(t *testing.T) {
				switch r.verdict {
				case "FAIL":
					t.Errorf("failed in the lab after %s", r.took)
				case "SKIP":
					t.Skip("skipped in the lab")
				}
			})
		}
		if err != nil {
			t.Error(err)
		}
	})
}

// put copies a program or a module.
func put(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, b, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// output runs a program in dir and returns what it printed.
func output(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "LC_ALL=C")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(cmd.Args, " "), err, stderr.Bytes())
	}
	return string(out)
}
