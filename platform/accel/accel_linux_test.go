package accel

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A verdict is asked for once per boot, and again when somebody wants it fresh.
func TestProbeRemembers(t *testing.T) {
	var st unix.Stat_t
	if err := unix.Access(device, unix.R_OK|unix.W_OK); err != nil {
		t.Skipf("needs %s: %v", device, err)
	}
	if err := unix.Stat(device, &st); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "probes.json")
	first := probeHost(t.Context(), Options{Cache: file})
	if r, ok := recall(file, cacheKey(st.Ino)); !ok || r != first {
		t.Fatalf("remembered %+v, %v; the verdict was %+v", r, ok, first)
	}
	planted := Result{Name: "kvm", Reason: "planted"}
	remember(file, cacheKey(st.Ino), planted)
	if r := probeHost(t.Context(), Options{Cache: file}); r != planted {
		t.Errorf("asked again: %+v", r)
	}
	if r := probeHost(t.Context(), Options{Cache: file, Fresh: true}); r.Reason == "planted" {
		t.Error("a fresh probe recalled")
	}
	if r, ok := recall(file, cacheKey(st.Ino)); !ok || r.Reason == "planted" {
		t.Errorf("a fresh verdict is not remembered: %+v", r)
	}
	remember(file, "another boot", planted)
	if r := probeHost(t.Context(), Options{Cache: file}); r.Reason == "planted" {
		t.Error("recalled the verdict of another boot")
	}
}

func TestRefused(t *testing.T) {
	intel := host{vendor: "intel", virtual: true, group: "kvm"}
	for _, c := range []struct {
		what         string
		err          error
		h            host
		reason, cure string
	}{
		{"no rights", unix.EACCES, intel, "permission denied on /dev/kvm", "sudo usermod -aG kvm $USER"},
		{"other group", unix.EACCES, host{group: "virt", virtual: true}, "permission denied", "sudo usermod -aG virt $USER"},
		{"old session", unix.EACCES, host{group: "kvm", inGroup: true}, "this session began before", "Log out"},
		{"no module", unix.ENOENT, intel, "module for KVM is not loaded", "modprobe kvm_intel"},
		{"no module, AMD", unix.ENOENT, host{vendor: "amd", virtual: true}, "not loaded", "modprobe kvm_amd"},
		{"dead node", unix.ENXIO, intel, "not loaded", "modprobe kvm_intel"},
		{"no VT-x", unix.ENOENT, host{vendor: "intel"}, "does not offer hardware virtualisation", "firmware"},
		{"VirtualBox", unix.EBUSY, host{modules: []string{"vboxdrv"}}, "VirtualBox is using", "of VirtualBox"},
		{"VMware", unix.EBUSY, host{modules: []string{"vmmon"}}, "VMware is using", "of VMware"},
		{"somebody", unix.EBUSY, host{}, "another hypervisor is using", "another hypervisor"},
		{"something else", unix.EMFILE, intel, "too many open files", ""},
	} {
		r := refused(c.err, c.h)
		if r.Usable || r.Name != "kvm" || !strings.Contains(r.Reason, c.reason) || !strings.Contains(r.Cure, c.cure) {
			t.Errorf("%s: %+v", c.what, r)
		}
	}
}

func TestJudge(t *testing.T) {
	for _, c := range []struct {
		err          error
		usable, firm bool
	}{
		{nil, true, true},
		{errors.New("it hung"), false, true},
		{errBusy, false, false},
		{errNoVerdict, false, false},
	} {
		if r, firm := judge("how", c.err); r.Usable != c.usable || firm != c.firm {
			t.Errorf("%v: %+v, firm %v", c.err, r, firm)
		}
	}
}

func TestHostFiles(t *testing.T) {
	write := func(s string) string {
		f := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(f, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
		return f
	}
	if v, ok := processor(write("processor\t: 0\nvendor_id\t: AuthenticAMD\nflags\t\t: fpu svm lm\n\nflags : x\n")); v != "amd" || !ok {
		t.Errorf("AMD: %q, %v", v, ok)
	}
	if v, ok := processor(write("vendor_id\t: GenuineIntel\nflags\t\t: fpu notvmx lm\nvmx flags\t: vnmi\n")); v != "intel" || ok {
		t.Errorf("Intel without VT-x: %q, %v", v, ok)
	}
	if v, ok := processor("/nonexistent"); v != "" || ok {
		t.Errorf("nothing: %q, %v", v, ok)
	}
	got := modules(write("vboxdrv 1 0 - Live 0x0\nkvm 1 1 kvm_amd, Live 0x0\n"))
	if len(got) != 2 || got[0] != "vboxdrv" || got[1] != "kvm" {
		t.Errorf("modules: %q", got)
	}
}

func TestClocks(t *testing.T) {
	for _, c := range []struct {
		list   string
		err    error
		stable bool
	}{
		{"tsc hpet acpi_pm \n", nil, true},
		{"kvm-clock tsc acpi_pm \n", nil, true},
		{"hpet acpi_pm \n", nil, false},
		{"", errors.New("no such file"), true},
	} {
		if why := judgeClocks([]byte(c.list), c.err); (why == "") != c.stable {
			t.Errorf("%q, %v: %q", c.list, c.err, why)
		}
	}
}
