package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hxen-project/hxen/hv/hvtest"
)

// home is a store of its own with a real service, whose programs are the lab's.
type home struct {
	t   *testing.T
	dir string
}

func newHome(t *testing.T) *home {
	t.Helper()
	// Not t.TempDir: the service, which the first command starts, goes on until the
	// lab ends.
	dir, err := os.MkdirTemp("", "home")
	if err != nil {
		t.Fatal(err)
	}
	h := &home{t, dir}
	run, err := os.MkdirTemp("", "run")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("HXEN_HOME", filepath.Join(h.dir, "store"))
	t.Setenv("XDG_RUNTIME_DIR", run)
	t.Setenv("HOME", h.dir)
	t.Cleanup(func() {
		if t.Failed() {
			for _, pattern := range []string{"service.log", "guests/*/worker.log"} {
				logs, _ := filepath.Glob(filepath.Join(h.dir, "store", pattern))
				for _, l := range logs {
					b, _ := os.ReadFile(l)
					t.Logf("%s:\n%s", l, b)
				}
			}
		}
	})
	return h
}

// hxen runs the command line.
func (h *home) hxen(in string, args ...string) (string, error) {
	cmd := exec.Command(filepath.Join(os.Getenv("HXEN_LAB"), "bin", "hxen"), args...)
	cmd.Stdin = strings.NewReader(in)
	timer := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (h *home) must(args ...string) string {
	h.t.Helper()
	out, err := h.hxen("", args...)
	if err != nil {
		h.t.Fatalf("hxen %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// run has a guest of GuestInitrd's run a command; mark makes its answer one of a kind.
func (h *home) run(guest, mark, command string) string {
	h.t.Helper()
	out, err := h.hxen(command+"; echo "+mark[:1]+"''"+mark[1:]+"\n", "console", "--until", mark, guest)
	if err != nil {
		h.t.Fatalf("%s in %s: %v\n%s", command, guest, err, out)
	}
	return out
}

func (h *home) record(guest string) (r struct {
	PowerState  string            `json:"power_state"`
	OtherConfig map[string]string `json:"other_config"`
	Template    bool              `json:"is_a_template"`
	UUID        string            `json:"uuid"`
}) {
	h.t.Helper()
	var all []json.RawMessage
	out := h.must("list", "-l", guest)
	if err := json.Unmarshal([]byte(out), &all); err != nil || len(all) != 1 {
		h.t.Fatalf("hxen list -l %s: %v\n%s", guest, err, out)
	}
	if err := json.Unmarshal(all[0], &r); err != nil {
		h.t.Fatal(err)
	}
	return r
}

// TestGuestService goes the whole way, from the command line through the service
// and a confined worker: start, save, restore, template and clones.
func TestGuestService(t *testing.T) {
	longOnly(t) // it takes a minute
	k := kernels(t)[0]
	h := newHome(t)
	cache := filepath.Join(h.dir, ".cache")
	if err := os.CopyFS(filepath.Join(cache, "hxen"), os.DirFS(filepath.Join(k, "cache"))); err != nil {
		t.Fatal(err)
	}
	h.must("new", "web", "--type", "pvh", "--kernel", filepath.Join(k, "vmlinuz"), "--initrd", filepath.Join(k, "initrd"),
		"--cmdline", "console=hvc0 quiet", "--memory", "128M", "--vcpus", "1", "--disk-size", "4M")
	h.must("start", "web")
	h.must("console", "--until", strings.TrimSpace(hvtest.GuestReady), "web")
	if walls := h.record("web").OtherConfig["hxen:isolation"]; !strings.Contains(walls, "seccomp") || !strings.Contains(walls, "landlock") {
		t.Errorf("the walls around the worker are %q", walls)
	}
	h.run("web", "mark1", "echo remembered >/tmp/word; dd if=/tmp/word of=/dev/xvda conv=fsync 2>/dev/null")
	h.must("save", "web")
	if r := h.record("web"); r.PowerState != "Suspended" {
		t.Fatalf("after a save the guest is %s", r.PowerState)
	}
	h.must("restore", "web")
	if out := h.run("web", "mark2", "cat /tmp/word"); !strings.Contains(out, "remembered") {
		t.Errorf("the restored guest said %q", out)
	}
	h.must("template", "web", "base") // a copy; the guest goes on
	if out := h.run("web", "mark3", "cat /tmp/word"); !strings.Contains(out, "remembered") {
		t.Errorf("after its template was made the guest said %q", out)
	}
	if r := h.record("base"); !r.Template || r.PowerState != "Suspended" {
		t.Errorf("the template is %+v", r)
	}
	if out, err := h.hxen("", "start", "base"); err == nil {
		t.Errorf("a template was started: %s", out)
	}
	began := time.Now()
	h.must("clone", "--count", "3", "base", "worker")
	t.Logf("3 clones by the command line: %v", time.Since(began).Round(time.Millisecond))
	for _, name := range []string{"worker-1", "worker-2", "worker-3"} {
		r := h.record(name)
		out := h.run(name, "mark4", "cat /tmp/word /sys/hypervisor/uuid; head -c 10 /dev/xvda")
		if !strings.Contains(out, "remembered") || !strings.Contains(out, r.UUID) || strings.Count(out, "remembered") < 2 {
			t.Errorf("%s said %q", name, out)
		}
		h.must("destroy", name)
	}
	// The confined worker gets a file that nobody knew of at its start, and an address
	// on a network.
	data := diskImage(t, h.dir, "data.img", 1<<20)
	dev := strings.TrimSpace(h.must("block-attach", "web", data))
	out := h.run("web", "mark5", await("[ -e /dev/"+dev+" ]")+"; sha256sum /dev/"+dev)
	if !strings.Contains(out, sum(t, data)) {
		t.Errorf("of a disk that came while it ran the guest said %q", out)
	}
	h.must("block-detach", "web", dev)
	h.must("network-attach", "web")
	if list := h.must("network-list", "web"); strings.Count(list, "52:54:00:") != 2 {
		t.Errorf("its cards: %q", list)
	}
	h.run("web", "mark6", await("[ -e /sys/class/net/eth1 ]")+"; udhcpc -i eth1 -s /sbin/udhcpc -n -q -t 20; ip addr show dev eth1")
	h.must("network-detach", "web", "1")
	h.must("reset", "web") // its kernel is read again, by a worker that can open no files
	if out := h.run("web", "mark7", "[ -e /tmp/word ] || echo anew"); !strings.Contains(out, "\nanew") {
		t.Errorf("after a reset the guest said %q", out)
	}
	h.must("template", "--undo", "base")
	h.must("destroy", "web")
}
