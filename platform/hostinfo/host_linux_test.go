package hostinfo

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestParseCPUInfo(t *testing.T) {
	model, virtual := parseCPUInfo(strings.NewReader("processor\t: 0\nmodel name\t: AMD Ryzen 7\nflags\t\t: fpu svm lm\n\nmodel name\t: another\n"))
	if model != "AMD Ryzen 7" || virtual != "svm" {
		t.Errorf("%q, %q", model, virtual)
	}
	if model, virtual := parseCPUInfo(strings.NewReader("flags : avx_vmxish\n")); model != "" || virtual != "" {
		t.Errorf("%q, %q", model, virtual)
	}
}

func TestParseMemInfo(t *testing.T) {
	total, free, err := parseMemInfo(strings.NewReader("MemTotal:       1000 kB\nMemFree: 10 kB\nMemAvailable:    500 kB\nHugePages_Total:       0\n"))
	if err != nil || total != 1000<<10 || free != 500<<10 {
		t.Errorf("%d of %d, %v", free, total, err)
	}
	if _, _, err := parseMemInfo(strings.NewReader("MemTotal: many kB\n")); err == nil {
		t.Error("no error")
	}
}

func TestRebootWanted(t *testing.T) {
	dir := t.TempDir()
	if why := rebootWanted(dir, "6.1"); why != "" {
		t.Errorf("nothing is known: %q", why)
	}
	make := func(name string) {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	make("usr/lib/modules/6.2")
	if why := rebootWanted(dir, "6.1"); !strings.Contains(why, "6.1") {
		t.Errorf("the modules are gone: %q", why)
	}
	make("usr/lib/modules/6.1")
	if why := rebootWanted(dir, "6.1"); why != "" {
		t.Errorf("the modules are there: %q", why)
	}
	make("run/reboot-required")
	if why := rebootWanted(dir, "6.1"); !strings.Contains(why, "update") {
		t.Errorf("an update waits: %q", why)
	}
}
