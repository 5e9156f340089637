package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// small builds a setup program that carries the real hxen and stand-ins for the
// rest: it is there in seconds.
func small(t *testing.T, tool, bin, share, version, stamp string) string {
	t.Helper()
	dir := t.TempDir()
	payload, program := filepath.Join(dir, "payload"), filepath.Join(dir, "hxen-setup")
	sum := tell(t, tool, "payload", "-bin", bin, "-share", share, "-icon", filepath.Join(root, "app/desktop/icons/hxen.svg"),
		"-version", version, "-stamp", stamp, "-out", payload)
	gobuild(t, program, "-X main.version="+version+" -X main.payload="+strings.TrimSpace(sum), ".")
	tell(t, tool, "attach", "-program", program, "-payload", payload)
	return program
}

const root = "../../.."

func gobuild(t *testing.T, out, flags string, packages ...string) {
	t.Helper()
	cmd := exec.Command("go", append([]string{"build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w " + flags, "-o", out}, packages...)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build %q: %v\n%s", packages, err, out)
	}
}

func tell(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		t.Fatalf("%s %q: %v", name, args, err)
	}
	return string(out)
}

// home is a user's home folder, to install into.
type home struct {
	t   *testing.T
	dir string
}

func (h home) run(program string, args ...string) (string, int) {
	h.t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), "HOME="+h.dir, "LANG=C", "LC_ALL=C", "DISPLAY=", "WAYLAND_DISPLAY=", "XDG_RUNTIME_DIR="+h.dir+"-run", "SUDO_UID=", "XDG_DATA_HOME=", "HXEN_HOME=")
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		h.t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

func (h home) must(program string, args ...string) string {
	h.t.Helper()
	out, code := h.run(program, args...)
	if code != 0 {
		h.t.Fatalf("%s %q: code %d\n%s", filepath.Base(program), args, code, out)
	}
	return out
}

func (h home) files() map[string]string {
	all := map[string]string{}
	filepath.WalkDir(h.dir, func(path string, d fs.DirEntry, err error) error {
		name, _ := filepath.Rel(h.dir, path)
		if err != nil || strings.HasPrefix(name, ".local/state") {
			return err
		}
		st, err := d.Info()
		if err != nil {
			return err
		}
		all[name] = fmt.Sprintf("%v %d", st.Mode(), st.Size())
		if st.IsDir() {
			all[name] = st.Mode().String() // its size is the file system's business
		}
		return nil
	})
	return all
}

// TestForOneUser takes the real setup program through its life in one user's
// home: plan, install, again, repair, upgrade, refuse, remove.
func TestForOneUser(t *testing.T) {
	bin, share := t.TempDir(), t.TempDir()
	for _, name := range []string{"hxen-worker", "hxen-netd", "hxen-desktop"} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\nexit 1\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	tool := filepath.Join(t.TempDir(), "packaging")
	gobuild(t, tool, "", "../../packaging")
	gobuild(t, filepath.Join(bin, "hxen"), "-X main.version=v1.0.0", "../../../app/cmd/hxen")
	v1, v2 := small(t, tool, bin, share, "v1.0.0", "1700000000"), small(t, tool, bin, share, "v1.1.0", "1710000000")

	h := home{t, t.TempDir()}
	before := h.files()
	all := []string{"--user", "--yes", "--components", "command,window"}
	h.must(v1, all...)
	one := h.files()
	program := func(name string) string { return filepath.Join(h.dir, ".local/bin", name) }
	if v := h.must(program("hxen"), "version"); !strings.Contains(v, "v1.0.0") {
		t.Errorf("hxen version: %s", v)
	}
	if b, err := os.ReadFile(filepath.Join(h.dir, ".local/share/applications/hxen.desktop")); err != nil || !bytes.Contains(b, []byte("Exec="+program("hxen-desktop"))) {
		t.Errorf("the menu entry: %v\n%s", err, b)
	}
	same := func(what string, want map[string]string) {
		t.Helper()
		if d := differences(want, h.files(), func(name string) bool { return strings.HasSuffix(name, ".cache") }); len(d) > 0 {
			t.Errorf("%s:\n%s", what, strings.Join(d, "\n"))
		}
	}
	h.must(v1, all...)
	same("installed again", one)
	os.Remove(filepath.Join(h.dir, ".local/lib/hxen/hxen-netd"))
	os.Remove(program("hxen"))
	h.must(program("hxen-setup"), all...)
	same("repaired", one)

	h.must(v2, all...)
	if v := h.must(program("hxen-setup"), "--version"); !strings.Contains(v, "v1.1.0") {
		t.Errorf("hxen-setup --version: %s", v)
	}
	two := h.files()
	if out, code := h.run(v1, all...); code != exitRefused || !strings.Contains(out, "HXEN v1.1.0 is installed, which is newer than the v1.0.0") {
		t.Errorf("an older one: code %d\n%s", code, out)
	}
	same("an older one", two)

	// A plan is done as it is, or not at all.
	plan := filepath.Join(t.TempDir(), "plan.json")
	text := h.must(v2, append(all, "--print-plan")...)
	if err := os.WriteFile(plan, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	h.must(v2, "--from-plan", plan)
	same("its own plan", two)
	for was, is := range map[string]string{`"window"`: `"wine"`, h.dir: "/etc", `"files"`: `"kvm"`, `"format": 1`: `"format": 2`} {
		if err := os.WriteFile(plan, []byte(strings.Replace(text, was, is, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, code := h.run(v2, "--from-plan", plan); code != exitUsage {
			t.Errorf("a plan with %s for %s: code %d\n%s", is, was, code, out)
		}
	}
	same("tampered plans", two)

	// So is what the program carries.
	b, err := os.ReadFile(v2)
	if err != nil {
		t.Fatal(err)
	}
	bad := filepath.Join(t.TempDir(), "bad")
	for what, b := range map[string][]byte{"changed": append(append(bytes.Clone(b[:len(b)-2000000]), "changed"...), b[len(b)-2000000+7:]...), "cut short": b[:len(b)-100000]} {
		if err := os.WriteFile(bad, b, 0o755); err != nil {
			t.Fatal(err)
		}
		other := home{t, t.TempDir()}
		out, code := other.run(bad, all...)
		if code != exitFailed || !strings.Contains(out, "download it again") || len(other.files()) > 1 {
			t.Errorf("%s: code %d, %d files\n%s", what, code, len(other.files()), out)
		}
	}

	h.must(program("hxen-setup"), "--uninstall", "--yes")
	same("removed", before)
	if left, _ := filepath.Glob(h.dir + "/.local/state/*"); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}
