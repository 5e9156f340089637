package hostinfo

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hxen-project/hxen/hv/hvtest"
	"github.com/hxen-project/hxen/platform/accel"
	"github.com/hxen-project/hxen/platform/paths"
)

func TestMain(m *testing.M) {
	accel.ProbeChild()
	os.Exit(m.Run())
}

func testStore(t *testing.T) paths.Store {
	t.Helper()
	s, err := paths.At(filepath.Join(t.TempDir(), "store", "not", "made", "yet"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Every check answers on every computer, and whoever reads a problem also reads
// what to do about it.
func TestCollect(t *testing.T) {
	checks := Collect(t.Context(), testStore(t))
	var ids []string
	for _, c := range checks {
		t.Logf("%-4s %-16s %s %s", c.State, c.ID, c.Detail, c.Cure)
		ids = append(ids, c.ID)
		if c.Title == "" || c.Detail == "" || !slices.Contains([]State{OK, Warn, Fail, Info}, c.State) {
			t.Errorf("incomplete: %+v", c)
		}
		if c.State == OK && c.Cure != "" {
			t.Errorf("a cure for what is well: %+v", c)
		}
		if strings.ContainsAny(c.Detail+c.Cure, "\n\r") {
			t.Errorf("more than a line: %+v", c)
		}
	}
	for _, want := range []string{"os", "reboot", "service", "cpu", "memory", "disk", "qemu", "qemu-img", "firmware",
		"accelerator.tcg", "conflicts", "display", "opengl", "sockets"} {
		if !slices.Contains(ids, want) {
			t.Errorf("no check %q", want)
		}
	}
	again := Collect(t.Context(), testStore(t))
	if len(again) != len(checks) {
		t.Fatalf("%d checks, then %d", len(checks), len(again))
	}
	for i := range again {
		if again[i].ID != checks[i].ID {
			t.Errorf("the order changes: %s, then %s", checks[i].ID, again[i].ID)
		}
	}
}

func TestTooOld(t *testing.T) {
	for _, c := range []struct {
		os   OS
		want string
	}{
		{OS{ID: "debian", Kernel: "6.1.0-27-amd64"}, ""},
		{OS{ID: "centos", Kernel: "3.10.0-1160.el7.x86_64"}, "Linux 4.18"},
		{OS{ID: "rhel", Kernel: "4.18.0-553.el8_10.x86_64"}, ""},
		{OS{ID: "debian"}, ""},
		{OS{ID: "windows", Kernel: "10.0.26100"}, ""},
		{OS{ID: "windows", Kernel: "10.0.17134"}, "Windows 10 1809 or Windows Server 2019"},
		{OS{ID: "windows", Kernel: "6.1.7601"}, "Windows 10 1809 or Windows Server 2019"},
		{OS{ID: "macos", Kernel: "24.1.0"}, ""},
		{OS{ID: "macos", Kernel: "20.6.0"}, "macOS 12"},
	} {
		if got := tooOld(c.os); got != c.want {
			t.Errorf("%+v: %q, want %q", c.os, got, c.want)
		}
	}
}

func TestThisComputer(t *testing.T) {
	if p := Processor(); p.Count < 1 {
		t.Errorf("processor %+v", p)
	}
	total, free, err := Memory()
	if err != nil || total < 64<<20 || free == 0 || free > total {
		t.Errorf("memory %d of %d, %v", free, total, err)
	}
	dir := t.TempDir()
	free, total, err = DiskFree(dir)
	if err != nil || total == 0 || free > total {
		t.Errorf("disk %d of %d, %v", free, total, err)
	}
	_, totalBelow, err := DiskFree(filepath.Join(dir, "not", "yet"))
	if err != nil || totalBelow != total {
		t.Errorf("disk of a folder to be made: %d, %v; want %d", totalBelow, err, total)
	}
	if o := System(); o.Name == "" || o.ID == "" || o.Kernel == "" {
		t.Errorf("system %+v", o)
	}
}

func TestRealQEMU(t *testing.T) {
	hvtest.Require(t, "qemu")
	q, err := FindQEMU(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !q.has("tcg") || q.has("Accelerators") || q.Img == "" {
		t.Errorf("%+v", q)
	}
	if !regexp.MustCompile(`^\d+\.\d+`).MatchString(q.Version) || !regexp.MustCompile(`^pc-q35-\d`).MatchString(q.Machine) {
		t.Errorf("version %q, machine %q", q.Version, q.Machine)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if again, err := FindQEMU(cancelled); err != nil || again.Version != q.Version {
		t.Errorf("a known QEMU was asked again: %+v, %v", again, err)
	}
}

func TestChosenQEMU(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the stand-ins are shell scripts")
	}
	dir := t.TempDir()
	script := func(body string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, qemuName), []byte("#!/bin/sh\n"+body), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv(QEMUVar, filepath.Join(dir, "gone"))
	if _, err := FindQEMU(t.Context()); err == nil || !strings.Contains(err.Error(), QEMUVar) {
		t.Errorf("a missing QEMU: %v", err)
	}
	script(`case "$1" in
--version) echo "QEMU emulator version 9.1.0 (v9.1.0)";;
-accel) printf 'Accelerators supported in QEMU binary:\ntcg\nwhpx\n';;
-machine) printf 'Supported machines are:\nq35  Standard PC (alias of pc-q35-9.1)\n';;
esac`)
	t.Setenv(QEMUVar, dir) // the folder will do
	q, err := FindQEMU(t.Context())
	if err != nil || q.Version != "9.1.0" || q.Machine != "pc-q35-9.1" || !slices.Equal(q.Accelerators, []string{"tcg", "whpx"}) {
		t.Errorf("%+v, %v", q, err)
	}
	script(`echo "illegal instruction, or so" >&2; exit 4`)
	if _, err := FindQEMU(t.Context()); err == nil || !strings.Contains(err.Error(), "illegal instruction, or so") {
		t.Errorf("a QEMU that fails: %v", err)
	}
	script(`echo hello`)
	if _, err := FindQEMU(t.Context()); err == nil || !strings.Contains(err.Error(), "does not say") {
		t.Errorf("a program that is no QEMU: %v", err)
	}
	script(`sleep 1000`)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := FindQEMU(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a QEMU that hangs: %v", err)
	}
}

func TestMissingQEMU(t *testing.T) {
	dir := t.TempDir()
	t.Setenv(QEMUVar, "")
	t.Setenv("PATH", dir)
	_, err := locateQEMU([]string{filepath.Join(dir, "a")})
	var missing *MissingError
	if !errors.As(err, &missing) || !slices.Equal(missing.Parts, []Part{PartQEMU}) || missing.Cure != InstallCommand(PartQEMU) {
		t.Fatalf("%v", err)
	}
	rhel := filepath.Join(dir, "b", exe("qemu-kvm"))
	if err := os.Mkdir(filepath.Dir(rhel), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(rhel, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if p, err := locateQEMU([]string{filepath.Join(dir, "a"), filepath.Dir(rhel)}); err != nil || p != rhel {
		t.Errorf("%q, %v; want %q", p, err, rhel)
	}
}

func TestParseQEMU(t *testing.T) {
	for out, want := range map[string]string{
		"QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)\nCopyright": "7.2.22",
		"QEMU emulator version 10.0.2\r\n":                                       "10.0.2",
		"QEMU PC emulator version 0.9":                                           "0.9",
	} {
		if v, err := parseVersion(out); err != nil || v != want {
			t.Errorf("%q: %q, %v", out, v, err)
		}
	}
	for out, want := range map[string]string{
		"q35                  Standard PC (alias of pc-q35-7.2)\npc-q35-7.2 x": "pc-q35-7.2",
		"pc-q35-2.9   Old\npc-q35-2.12  Newer\npc-q35-2.8 x\n":                 "pc-q35-2.12",
		"q35  RHEL-9 PC (alias of pc-q35-rhel9.4.0)\n":                         "pc-q35-rhel9.4.0",
		"pc-q35-rhel9.2.0  x\npc-q35-rhel9.4.0  x\n":                           "pc-q35-rhel9.4.0",
	} {
		if m, err := parseMachines(out); err != nil || m != want {
			t.Errorf("%q: %q, %v", out, m, err)
		}
	}
	if m, err := parseMachines("microvm  x\n"); err == nil {
		t.Errorf("no q35: %q", m)
	}
	got := parseAccelerators("Accelerators supported in QEMU binary:\r\ntcg\r\nwhpx\r\n")
	if !slices.Equal(got, []string{"tcg", "whpx"}) {
		t.Errorf("accelerators %q", got)
	}
}

func FuzzParseQEMU(f *testing.F) {
	f.Add("QEMU emulator version 7.2.22")
	f.Add("q35 x (alias of pc-q35-7.2)")
	f.Add("pc-q35-99999999999999999999.1 x\npc-q35-2.1 y")
	f.Add("tcg\nkvm\n")
	f.Fuzz(func(t *testing.T, out string) {
		if v, err := parseVersion(out); err == nil && len(numbers(v)) < 2 {
			t.Errorf("version %q", v)
		}
		if m, err := parseMachines(out); err == nil && (!strings.HasPrefix(m, "pc-q35-") || strings.ContainsAny(m, ", =\n")) {
			t.Errorf("machine %q", m)
		}
		for _, a := range parseAccelerators(out) {
			if strings.ContainsAny(a, ", =-\n") {
				t.Errorf("accelerator %q", a)
			}
		}
	})
}

func TestInstallCommand(t *testing.T) {
	all := []Part{PartQEMU, PartImg, PartFirmware}
	for _, c := range []struct {
		os   OS
		root bool
		want string
	}{
		{OS{ID: "debian"}, false, "sudo apt-get install qemu-system-x86 qemu-utils ovmf"},
		{OS{ID: "debian"}, true, "apt-get install qemu-system-x86 qemu-utils ovmf"},
		{OS{ID: "ubuntu", Like: []string{"debian"}}, false, "sudo apt-get install qemu-system-x86 qemu-utils ovmf"},
		{OS{ID: "linuxmint", Like: []string{"ubuntu", "debian"}}, false, "sudo apt-get install qemu-system-x86 qemu-utils ovmf"},
		{OS{ID: "fedora"}, false, "sudo dnf install qemu-system-x86 qemu-img edk2-ovmf"},
		{OS{ID: "rocky", Like: []string{"rhel", "centos", "fedora"}}, false, "sudo dnf install qemu-kvm qemu-img edk2-ovmf"},
		{OS{ID: "manjaro", Like: []string{"arch"}}, false, "sudo pacman -S qemu-system-x86 qemu-img edk2-ovmf"},
		{OS{ID: "opensuse-tumbleweed", Like: []string{"opensuse", "suse"}}, false, "sudo zypper install qemu-x86 qemu-tools qemu-ovmf-x86_64"},
		{OS{ID: "alpine"}, false, "sudo apk add qemu-system-x86_64 qemu-img ovmf"},
		{OS{ID: "macos"}, false, "brew install qemu"},
		{OS{ID: "windows"}, false, "winget install SoftwareFreedomConservancy.QEMU"},
		{OS{ID: "plan9"}, false, "Install qemu, qemu-img, firmware with your system's package manager."},
	} {
		if got := installCommand(c.os, c.root, all); got != c.want {
			t.Errorf("%s: %q, want %q", c.os.ID, got, c.want)
		}
	}
	if got := installCommand(OS{ID: "debian"}, false, []Part{PartOpenGL}); got != "sudo apt-get install libgl1 libwayland-client0" {
		t.Errorf("OpenGL: %q", got)
	}
}

func TestParseOSRelease(t *testing.T) {
	got := parseOSRelease(strings.NewReader(`# comment
PRETTY_NAME="Ubuntu \"Noble\" 24.04 LTS"
NAME=Ubuntu
VERSION_ID='24.04'
ID=ubuntu
ID_LIKE="debian other"
broken line
=x
`))
	want := OS{ID: "ubuntu", Like: []string{"debian", "other"}, Version: "24.04", Name: `Ubuntu "Noble" 24.04 LTS`}
	if got.ID != want.ID || !slices.Equal(got.Like, want.Like) || got.Version != want.Version || got.Name != want.Name {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func FuzzParseOSRelease(f *testing.F) {
	f.Add("ID=debian\nPRETTY_NAME=\"x\\\n")
	f.Add("ID='")
	f.Add("ID=\"\\\"")
	f.Fuzz(func(t *testing.T, s string) {
		if o := parseOSRelease(strings.NewReader(s)); strings.Contains(o.ID, "\n") {
			t.Errorf("%+v", o)
		}
	})
}
