package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestTemplateOfQEMU has guests of type hvm made like a template: their disks hold
// what differs from the template's, which has to stay. And one of them gets a disk and
// a card while it runs.
func TestTemplateOfQEMU(t *testing.T) {
	h := newHouse(t)
	h.must("new", "base", "--disk-size", "1G", "--memory", "64M", "--vcpus", "1")
	h.must("template", "base")
	h.must("clone", "--no-start", "--count", "2", "base", "web")
	base := h.vm("base")
	if !base.IsATemplate {
		t.Errorf("the template: %+v", base)
	}
	disks, _ := filepath.Glob(filepath.Join(h.home, "guests", h.vm("web-1").UUID, "disk-*.qcow2"))
	if len(disks) != 1 {
		t.Fatalf("the clone has the disks %q", disks)
	}
	b, err := os.ReadFile(disks[0])
	if err != nil {
		t.Fatal(err)
	}
	if want := "../" + base.UUID + "/disk-"; !strings.Contains(string(b), want) {
		t.Errorf("the clone's disk of %d bytes does not name %s", len(b), want)
	}
	for _, refused := range [][]string{{"start", "base"}, {"template", "--undo", "base"}, {"template", "web-1"}, {"remove", "--yes", "base"}} {
		if _, said, code := h.hxen("", refused...); code == 0 {
			t.Errorf("%q went well: %s", refused, said)
		}
	}
	h.must("start", "web-1")
	data := filepath.Join(t.TempDir(), "data.img")
	if err := os.WriteFile(data, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	h.must("block-attach", "web-1", data)
	h.must("network-attach", "web-1")
	if list := h.must("network-list", "web-1"); strings.Count(list, "52:54:00:") != 2 || strings.Count(list, " 4 ") != 2 {
		t.Errorf("its cards: %q", list)
	}
	if list := h.must("block-list", "web-1"); strings.Count(list, " 4 ") != 3 { // its own, the CD drive, the new one
		t.Errorf("its disks: %q", list)
	}
	// A guest without a system lets go of nothing.
	if _, said, code := h.hxen("", "block-detach", "web-1", "xvdc"); code == 0 || !strings.Contains(said, "let go") {
		t.Errorf("detach: %d, %s", code, said)
	}
	h.must("mem-set", "web-1", "48M")
	h.must("destroy", "web-1")
	h.must("start", "web-1") // with what it was given, in its settings
	h.must("destroy", "web-1")
	h.must("network-detach", "web-1", "1")
	h.must("block-detach", "web-1", "xvdc")
	for _, name := range []string{"web-1", "web-2", "base"} {
		h.must("remove", "--yes", name)
	}
}
