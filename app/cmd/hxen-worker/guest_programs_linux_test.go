package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hxen-project/hxen/hv/hvtest"
)

// programs is the command line with a service of its own.
type programs struct {
	t           *testing.T
	hxen, store string
	env         []string
}

// newPrograms has the programs of the lab and an empty store.
func newPrograms(t *testing.T) *programs {
	t.Helper()
	run, err := os.MkdirTemp("", "run") // t.TempDir's paths are too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	store := filepath.Join(home, "store")
	p := &programs{t: t, store: store, hxen: filepath.Join(os.Getenv("HXEN_LAB"), "bin", "hxen"),
		env: append(os.Environ(), "HXEN_HOME="+store, "HOME="+home, "XDG_RUNTIME_DIR="+run, "LANG=C")}
	service := exec.Command(p.hxen, "service")
	service.Env = p.env
	var said bytes.Buffer
	service.Stdout, service.Stderr = &said, &said
	if err := service.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = service.Process.Signal(syscall.SIGTERM)
		_ = service.Wait()
		if t.Failed() {
			t.Logf("the service said:\n%s", said.String())
		}
		os.RemoveAll(run)
	})
	return p
}

// run runs a command, which must succeed, and returns what it printed.
func (p *programs) run(args ...string) string {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, p.hxen, args...)
	cmd.Env = p.env
	out, err := cmd.CombinedOutput()
	if err != nil {
		p.t.Fatalf("hxen %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// TestGuestPrograms: what a person types, on a computer whose accelerator works:
// the self-test, a guest of type pvh from new to shutdown.
func TestGuestPrograms(t *testing.T) {
	longOnly(t)
	k := kernels(t)[0]
	p := newPrograms(t)
	out := p.run("doctor", "--self-test")
	if !strings.Contains(out, "\n0 of ") || strings.Count(out, "pass ") < 10 {
		t.Errorf("the self-test said:\n%s", out)
	}
	p.run("new", "box", "--type", "pvh", "--kernel", filepath.Join(k, "vmlinuz"), "--initrd", filepath.Join(k, "initrd"),
		"--cmdline", "console=hvc0 quiet", "--memory", "256M", "--vcpus", "2")
	ready := strings.TrimSpace(hvtest.GuestReady)
	p.run("start", "box")
	p.run("console", "--until", ready, "box")
	if out := p.run("list"); !listed.MatchString(out) {
		t.Errorf("hxen list says of a running guest:\n%s", out)
	}
	record := p.run("list", "-l", "box")
	if !json.Valid([]byte(record)) || !strings.Contains(record, `"pvh"`) || !strings.Contains(record, `kvm`) {
		t.Errorf("its record is\n%s", record)
	}
	p.run("reboot", "box")
	var log []byte
	for deadline := time.Now().Add(patience); bytes.Count(log, []byte(ready)) < 2; time.Sleep(100 * time.Millisecond) {
		logs, err := filepath.Glob(filepath.Join(p.store, "guests", "*", "worker", "console.log"))
		if err == nil && len(logs) == 1 {
			log, err = os.ReadFile(logs[0])
		}
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("the guest did not restart: %v; its console %q said:\n%s", err, logs, log)
		}
	}
	p.run("shutdown", "box")
	if out := p.run("list"); listed.MatchString(out) || !strings.Contains(out, "box") {
		t.Errorf("hxen list says of a guest that was shut down:\n%s", out)
	}
}

// listed is a guest that runs or waits, in xl's letters.
var listed = regexp.MustCompile(`(?m)^box .* (r-|-b)----`)
