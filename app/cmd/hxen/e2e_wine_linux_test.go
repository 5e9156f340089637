package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hxen-project/hxen/hv/hvtest"
)

// wine is a Windows of its own, with HXEN's programs in C:\hxen.
type wine struct {
	t      *testing.T
	script string // runs a Windows program
	env    []string
	exe    string // hxen.exe
}

// limit bounds one command: wine is slow to begin, and this computer may be busy.
const wineLimit = 5 * time.Minute

func newWine(t *testing.T) *wine {
	t.Helper()
	hvtest.Require(t, "wine", "mingw")
	script, err := filepath.Abs(root + "/.ci/wine")
	if err != nil {
		t.Fatal(err)
	}
	prefix := filepath.Join(t.TempDir(), "prefix")
	w := &wine{t: t, script: script, env: append(os.Environ(), "WINEPREFIX="+prefix, `HXEN_HOME=C:\guests`)}
	cmd := exec.Command(script, "cmd", "/c", "mkdir", `C:\hxen`)
	cmd.Env = w.env
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("make a Windows: %v\n%s", err, out)
	}
	t.Cleanup(func() { // ends the programs of this Windows alone
		cmd := exec.Command("wineserver", "-k")
		cmd.Env = w.env
		_ = cmd.Run()
		cmd = exec.Command("wineserver", "-w")
		cmd.Env = w.env
		_ = cmd.Run()
	})
	dir := filepath.Join(prefix, "drive_c", "hxen")
	build := exec.Command("go", "build", "-o", dir+"/", "./app/cmd/hxen", "./app/cmd/hxen-worker", "./app/cmd/hxen-netd")
	build.Dir = root
	build.Env = append(os.Environ(), "GOOS=windows", "GOARCH=amd64", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build for Windows: %v\n%s", err, out)
	}
	w.exe = filepath.Join(dir, "hxen.exe")
	resources := exec.Command(root+"/installer/packaging/resources", "v1.2.3", w.exe, filepath.Join(dir, "hxen-worker.exe"), filepath.Join(dir, "hxen-netd.exe"))
	if out, err := resources.CombinedOutput(); err != nil {
		t.Fatalf("resources: %v\n%s", err, out)
	}
	return w
}

// command prepares hxen.exe.
func (w *wine) command(args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(w.t.Context(), wineLimit)
	w.t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, w.script, append([]string{w.exe}, args...)...)
	cmd.Env = w.env
	cmd.WaitDelay = 10 * time.Second // what it has started may hold on to its output
	return cmd
}

// run runs hxen.exe and returns what it printed; code is how it must end.
func (w *wine) run(code int, args ...string) (stdout, stderr string) {
	w.t.Helper()
	cmd := w.command(args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != code {
		w.t.Fatalf("hxen.exe %s: %v\n%s\n%s", strings.Join(args, " "), err, out.String(), errs.String())
	}
	return out.String(), errs.String()
}

// TestWine runs the Windows programs under wine: what they say of the computer,
// the API over a named pipe, and the service in the service manager. Guests do
// not run there.
func TestWine(t *testing.T) {
	w := newWine(t)

	out, _ := w.run(1, "doctor", "--json")
	if !strings.Contains(out, "the Windows Hypervisor Platform is not installed") || !strings.Contains(out, "Turn Windows features on or off") {
		t.Errorf("doctor does not say what is missing: %s", out)
	}
	if _, errs := w.run(1, "doctor", "--self-test"); !strings.Contains(errs, "Windows Hypervisor Platform") {
		t.Errorf("the self-test: %s", errs)
	}

	// Somebody's service, over the pipe.
	service := w.command("service")
	said, err := service.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	service.Stderr = &log
	if err := service.Start(); err != nil {
		t.Fatal(err)
	}
	ready := make([]byte, len("ready"))
	if _, err := said.Read(ready); err != nil || string(ready) != "ready" {
		t.Fatalf("the service said %q, %v\n%s", ready, err, log.String())
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(w.exe), "vmlinuz"), []byte("a kernel"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.run(0, "new", "one", "--kernel", `C:\hxen\vmlinuz`, "--memory", "128M")
	w.run(0, "rename", "one", "two")
	if out, _ := w.run(0, "list"); !strings.Contains(out, "two") {
		t.Errorf("list: %s", out)
	}
	if _, errs := w.run(1, "start", "two"); !strings.Contains(errs, "QEMU (qemu-system-x86_64) is not installed; install it with: winget install") {
		t.Errorf("a guest without QEMU: %s", errs)
	}

	// The computer's service takes over, and is the computer's to start.
	w.run(0, "service", "install")
	if out, _ := w.run(0, "service", "status"); !strings.Contains(out, "run") {
		t.Errorf("status: %s", out)
	}
	if out, _ := w.run(0, "list"); !strings.Contains(out, "two") {
		t.Errorf("the installed service does not serve the store: %s", out)
	}
	w.run(0, "service", "restart")
	if out, _ := w.run(0, "list"); !strings.Contains(out, "two") {
		t.Errorf("the restarted service does not serve the store: %s", out)
	}
	w.run(0, "remove", "--yes", "two")
	w.run(0, "service", "uninstall")
	w.run(1, "service", "status")
	_ = service.Wait()
}

// TestWineStore: the command line and the computer's service have the same guests,
// also those that were made before it was installed, and the user keeps them when it
// is removed.
func TestWineStore(t *testing.T) {
	w := newWine(t)
	w.env = slices.DeleteFunc(w.env, func(e string) bool { return strings.HasPrefix(e, "HXEN_HOME=") })
	drive := filepath.Dir(filepath.Dir(w.exe))
	if err := os.WriteFile(filepath.Join(drive, "hxen", "vmlinuz"), []byte("a kernel"), 0o600); err != nil {
		t.Fatal(err)
	}
	create := func(name string) { w.run(0, "new", name, "--kernel", `C:\hxen\vmlinuz`, "--memory", "128M") }
	guests := func(when string, place string, want ...string) {
		t.Helper()
		out, _ := w.run(0, "list")
		for _, name := range want {
			if !strings.Contains(out, name) {
				t.Errorf("%s %s is missing:\n%s", when, name, out)
			}
		}
		if all, _ := filepath.Glob(filepath.Join(drive, place, "guests", "*", "spec.json")); len(all) != len(want) {
			t.Errorf("%s %s has %q, want %q", when, place, all, want)
		}
	}
	create("before")
	guests("without a service", "users/*/AppData/Local/HXEN", "before")

	if out, _ := w.run(0, "service", "install"); !strings.Contains(out, `C:\ProgramData\HXEN`) {
		t.Errorf("install: %s", out)
	}
	const place = "ProgramData/HXEN"
	guests("with the service", place, "before")
	create("with")
	guests("with the service", place, "before", "with")
	w.run(0, "service", "restart")
	guests("after a restart", place, "before", "with")
	if log, err := os.ReadFile(filepath.Join(drive, place, "service.log")); err != nil || len(log) == 0 {
		t.Errorf("the service's own log: %v", err)
	}

	w.run(0, "service", "uninstall")
	guests("without the service again", place, "before", "with")
	if left, _ := filepath.Glob(filepath.Join(drive, "users/*/AppData/Local/HXEN/guests")); len(left) > 0 {
		t.Errorf("a second store: %q", left)
	}
}
