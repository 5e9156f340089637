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
	m, err := parseMemInfo(strings.NewReader("MemTotal:       1000 kB\nMemFree: 10 kB\nMemAvailable:    500 kB\nHugePages_Total:       0\nSwapTotal: 9 kB\nSwapFree: 8 kB\n"))
	if want := (memInfo{1000 << 10, 500 << 10, 9 << 10, 8 << 10}); err != nil || m != want {
		t.Errorf("%+v, %v; want %+v", m, err, want)
	}
	const gib = 1 << 30
	for m, want := range map[memInfo]bool{
		{16 * gib, gib, 0, 0}:                      false,
		{16 * gib, gib / 4, 0, 0}:                  true,
		{16 * gib, gib / 4, 4 * gib, gib}:          false,
		{16 * gib, gib / 4, 4 * gib, gib / 4}:      true,
		{1024 * gib, gib, 0, 0}:                    false,
		{256 << 20, 64 << 20, 0, 0}:                false,
		{256 << 20, 16 << 20, 256 << 20, 20 << 20}: true,
	} {
		if got := m.short(); got != want {
			t.Errorf("%+v is short: %v", m, got)
		}
	}
	if _, err := parseMemInfo(strings.NewReader("MemTotal: many kB\n")); err == nil {
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
