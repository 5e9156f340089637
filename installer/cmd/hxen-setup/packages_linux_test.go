package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hxen-project/hxen/hv/hvtest"
)

// one is the only file of a folder with this ending.
func one(t *testing.T, dir, ending string) string {
	t.Helper()
	all, _ := filepath.Glob(filepath.Join(dir, "*"+ending))
	if len(all) != 1 {
		t.Fatalf("%d files end with %s in %s", len(all), ending, dir)
	}
	return all[0]
}

// TestPackage installs the .deb on a computer without OpenGL, removes and purges it.
func TestPackage(t *testing.T) {
	m := newMachine(t, plainPackages)
	dir := build(t, "v1.0.0", 1700000000, "deb rpm")
	m.put(one(t, dir, ".deb"), "hxen.deb")
	before := m.files()
	m.run("root", "dpkg -i /home/ann/hxen.deb")
	if v := m.run("ann", "hxen version"); !strings.Contains(v, "v1.0.0") {
		t.Errorf("hxen version: %s", v)
	}
	m.run("ann", "hxen list && man -w hxen >/dev/null 2>&1 || test -e /usr/share/man/man1/hxen.1")
	installed := m.files()
	m.put(older(t), "hxen-setup")
	if out, code := m.try("ann", silentSetup); code != exitRefused || !strings.Contains(out, "installed as a package") {
		t.Errorf("the setup beside the package: code %d\n%s", code, out)
	}
	m.run("root", "rm /home/ann/hxen-setup; dpkg -r hxen")
	m.run("root", "dpkg -P hxen || true")
	if d := differences(before, m.files(), userData); len(d) > 0 {
		t.Errorf("left:\n%s", strings.Join(d, "\n"))
	}

	// The .rpm has the same files, with the same content.
	list, err := exec.Command("sh", "-c", "rpm2cpio '"+one(t, dir, ".rpm")+"' | cpio -it --quiet").Output()
	if err != nil {
		t.Fatalf("rpm2cpio: %v", err)
	}
	inRPM := map[string]bool{}
	for line := range strings.Lines(string(list)) {
		inRPM[strings.TrimPrefix(strings.TrimPrefix(strings.TrimSpace(line), "."), "/")] = true
	}
	n := 0
	for name, what := range installed {
		if _, was := before[name]; was || strings.HasPrefix(what, "d") || userData(name) {
			continue
		}
		n++
		if !inRPM[name] {
			t.Errorf("the .rpm lacks %s", name)
		}
	}
	if n < 20 {
		t.Errorf("only %d files", n)
	}
}

// TestReproducible builds what "make dist" makes twice, in the same and then in
// another folder of work: all bytes are the same.
func TestReproducible(t *testing.T) {
	long(t)
	first := build(t, "v1.0.0", 1700000000, "setup deb rpm")
	again := filepath.Join(t.TempDir(), "again")
	cmd := exec.Command("../../packaging/dist", "v1.0.0", again, "setup deb rpm")
	cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH=1700000000", "GOFLAGS=-trimpath -buildvcs=false", "TMPDIR="+t.TempDir())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("dist: %v\n%s", err, out)
	}
	entries, err := os.ReadDir(first)
	if err != nil || len(entries) < 5 {
		t.Fatalf("%d files, %v", len(entries), err)
	}
	for _, e := range entries {
		a, aerr := os.ReadFile(filepath.Join(first, e.Name()))
		b, berr := os.ReadFile(filepath.Join(again, e.Name()))
		if aerr != nil || berr != nil || !bytes.Equal(a, b) {
			t.Errorf("%s is not the same: %v, %v", e.Name(), aerr, berr)
		}
	}
	if out, err := exec.Command("sh", "-c", "cd '"+again+"' && sha256sum -c --quiet SHA256SUMS").CombinedOutput(); err != nil {
		t.Errorf("SHA256SUMS: %s", out)
	}
}

// TestDescriptions: what desktops and software shops read is valid.
func TestDescriptions(t *testing.T) {
	assets := "../../packaging/assets/"
	dir := t.TempDir()
	for _, name := range []string{"hxen.desktop", "hxen-setup.desktop", "metainfo.xml"} {
		b, err := os.ReadFile(assets + name)
		if err != nil {
			t.Fatal(err)
		}
		s := strings.NewReplacer("@PREFIX@", "/usr/local", "@VERSION@", "1.0.0", "@DATE@", "2025-01-01").Replace(string(b))
		if err := os.WriteFile(filepath.Join(dir, name), []byte(s), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range [][]string{{"desktop-file-validate", "hxen.desktop"}, {"desktop-file-validate", "hxen-setup.desktop"},
		{"appstreamcli", "validate", "--no-net", "metainfo.xml"}} {
		if _, err := exec.LookPath(c[0]); err != nil {
			hvtest.RequireThat(t, "display", c[0]+" is not installed")
		}
		cmd := exec.Command(c[0], c[1:]...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", strings.Join(c, " "), err, out)
		}
	}
}
