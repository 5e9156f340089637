package qemu

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/hvtest"
)

// says checks the stage and that the user reads these words.
func says(t *testing.T, se *hv.StageError, stage string, words ...string) {
	t.Helper()
	if se.Stage != stage {
		t.Errorf("stage %q, want %q: %v", se.Stage, stage, se)
	}
	for _, w := range words {
		if !strings.Contains(se.Error(), w) {
			t.Errorf("%q does not say %q", se.Error(), w)
		}
	}
	if strings.ContainsAny(se.Error(), "\n{}") {
		t.Errorf("%q is not a sentence", se.Error())
	}
}

func TestMissingQEMU(t *testing.T) {
	l := labOf(t, "")
	l.host.QEMU = hv.QEMUInfo{Missing: "install it with: apt-get install qemu-system-x86"}
	says(t, launchError(t, l, l.spec(t)), stageQEMU, "not installed", "apt-get install")
	l.host.QEMU = hv.QEMUInfo{Path: filepath.Join(l.host.Dir, "qemu-gone")}
	says(t, launchError(t, l, l.spec(t)), stageQEMU, "qemu-gone")
}

func TestMissingFirmware(t *testing.T) {
	l := newLab(t)
	s := l.spec(t)
	s.Firmware = hv.UEFI
	l.host.QEMU.Missing = "install it with: apt-get install ovmf"
	says(t, launchError(t, l, s), stageFirmware, "OVMF", "apt-get install ovmf")
	l.host.QEMU.OVMFCode, l.host.QEMU.OVMFVars = "/nowhere/code.fd", "/nowhere/vars.fd"
	says(t, launchError(t, l, s), stageFirmware, "/nowhere/code.fd", "does not exist")
	l.host.QEMU.OVMFCode = filepath.Join(l.host.Dir, "guest.img")
	says(t, launchError(t, l, s), stageFirmware, "/nowhere/vars.fd")
}

func TestBadDisks(t *testing.T) {
	l := newLab(t)
	try := func(stage string, change func(*hv.Spec), words ...string) {
		t.Helper()
		s := l.spec(t)
		change(&s)
		says(t, launchError(t, l, s), stage, words...)
	}
	outside := t.TempDir()
	img := func(args ...string) {
		t.Helper()
		cmd := exec.Command("qemu-img", args...)
		cmd.Dir = l.host.Dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	img("create", "-q", "-f", "qcow2", filepath.Join(outside, "base.qcow2"), "1M")
	img("create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", filepath.Join(outside, "base.qcow2"), "thief.qcow2")
	img("create", "-q", "-f", "qcow2", "-o", "data_file="+filepath.Join(outside, "data"), "split.qcow2", "1M")
	img("create", "-q", "-f", "qcow2", "base.qcow2", "1M")
	img("create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", "base.qcow2", "own.qcow2")
	forgetFormat(t, filepath.Join(l.host.Dir, "own.qcow2"))
	if err := os.Symlink(filepath.Join(outside, "base.qcow2"), filepath.Join(l.host.Dir, "link.qcow2")); err != nil {
		t.Fatal(err)
	}
	img("create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", "link.qcow2", "sly.qcow2")

	qcow2 := func(path string) func(*hv.Spec) {
		return func(s *hv.Spec) { s.Disks[0].Path, s.Disks[0].Format = path, hv.QCOW2 }
	}
	try(stageDisk, qcow2("guest.img"), "guest.img", "not a qcow2")
	try(stageDisk, qcow2("thief.qcow2"), "outside the guest's folder", outside)
	try(stageDisk, qcow2("sly.qcow2"), "outside the guest's folder")
	try(stageDisk, qcow2("split.qcow2"), "data in another file")
	try(stageDisk, qcow2("own.qcow2"), "does not say which format")
	try(stageDisk, func(s *hv.Spec) { s.Disks[0].Path = "gone.img" }, "gone.img", "does not exist")
	try(stageDisk, func(s *hv.Spec) { s.Disks[0].Path = "." }, "not a file")
	try("check", func(s *hv.Spec) { s.Type = hv.PVH }, "hvm")
	try("check", func(s *hv.Spec) { s.Boot.Kernel = "/nowhere/vmlinuz" }, "kernel /nowhere/vmlinuz does not exist")
	try(stageMachine, func(s *hv.Spec) { s.Machine = "pc-q35-1.0" }, "pc-q35-1.0", "it has pc-q35-")
	if os.Getuid() != 0 {
		secret := filepath.Join(l.host.Dir, "secret.img")
		if err := os.WriteFile(secret, nil, 0); err != nil {
			t.Fatal(err)
		}
		try(stageDisk, func(s *hv.Spec) { s.Disks[0].Path = secret }, "may not be opened")
	}
	if err := New().Check(hv.Spec{}); err == nil {
		t.Error("an empty spec passes the check")
	}
}

// forgetFormat makes the header extension that names the backing file's format
// one that nobody knows, as old versions of qemu-img left it out.
func forgetFormat(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	i := bytes.Index(b, binary.BigEndian.AppendUint32(nil, extBackingFmt))
	if i < 0 {
		t.Fatal("the image does not name its backing file's format")
	}
	b[i] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestOwnBacking: a chain inside the guest's folder is fine.
func TestOwnBacking(t *testing.T) {
	l := newLab(t)
	s := l.spec(t)
	cmd := exec.Command("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", "guest.img", "top.qcow2")
	cmd.Dir = l.host.Dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	s.Disks[0].Path, s.Disks[0].Format = "top.qcow2", hv.QCOW2
	boots(t, l, s)
}

// boots launches s and waits for the tiny guest in it.
func boots(t *testing.T, l *lab, s hv.Spec) *Machine {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), hvtest.Guard)
	defer cancel()
	m, err := New().Launch(ctx, s, l.host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	until(t, m.(*Machine), "READY")
	return m.(*Machine)
}

// until reads the console up to text, and returns what it read.
func until(t *testing.T, m *Machine, text string) string {
	t.Helper()
	got := make(chan string, 1)
	go func() {
		var all strings.Builder
		b := make([]byte, 1)
		for !strings.HasSuffix(all.String(), text) {
			if n, err := m.Console().Read(b); n == 0 || err != nil {
				break
			}
			all.WriteByte(b[0])
		}
		got <- all.String()
	}()
	hang, cancel := context.WithTimeout(t.Context(), hvtest.Guard)
	defer cancel()
	select {
	case s := <-got:
		if !strings.HasSuffix(s, text) {
			t.Fatalf("the console ended after %q, without %q", s, text)
		}
		return s
	case <-hang.Done():
		t.Fatalf("%q never came", text)
	}
	panic("unreachable")
}

func TestLockedDisk(t *testing.T) {
	l := newLab(t)
	boots(t, l, l.spec(t))
	second := newLab(t)
	s := second.spec(t)
	s.Disks[0].Path = filepath.Join(l.host.Dir, "guest.img")
	says(t, launchError(t, second, s), stageDisk, s.Disks[0].Path, "in use by another program", "stop the other guest")
}

// TestTooMuchMemory limits QEMU's address space, since hosts promise more than
// they have.
func TestTooMuchMemory(t *testing.T) {
	l := newLab(t)
	s := l.spec(t)
	boots(t, l, s).Close() // has QEMU's abilities remembered, which need no limit
	start := l.host.Start
	l.host.Start = func(c hv.Command) (hv.Process, error) {
		c.Args = append([]string{"-c", `ulimit -v 3000000; exec "$0" "$@"`, c.Path}, c.Args...)
		c.Path = "/bin/sh"
		return start(c)
	}
	s.Memory = 64 * hv.GiB
	says(t, launchError(t, l, s), stageMemory, "memory", "give the guest less memory")
}

// TestCancelMidway cancels at the moment that QEMU runs.
func TestCancelMidway(t *testing.T) {
	l := newLab(t)
	s := l.spec(t)
	boots(t, l, s).Close()
	ctx, cancel := context.WithCancel(t.Context())
	start := l.host.Start
	l.host.Start = func(c hv.Command) (hv.Process, error) {
		defer cancel()
		return start(c)
	}
	_, err := New().Launch(ctx, s, l.host)
	var se *hv.StageError
	if !errors.As(err, &se) || !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	if left := l.left(t); len(left) > 0 {
		t.Errorf("left %q", left)
	}
}

// TestNextAccelerator: one that fails in QEMU although the host's probe was
// content is passed over, and the user can read why.
func TestNextAccelerator(t *testing.T) {
	l := newLab(t)
	s := l.spec(t)
	boots(t, l, s).Close()
	l.host.Accel = []hv.AccelInfo{{Name: "kvm", Usable: true}}
	start := l.host.Start
	l.host.Start = func(c hv.Command) (hv.Process, error) {
		for _, a := range c.Args {
			if a == "kvm" {
				c.Path, c.Args = "/bin/sh", []string{"-c", "echo qemu-system-x86_64: failed to initialize kvm: No such device >&2; exit 1"}
			}
		}
		return start(c)
	}
	m := boots(t, l, s)
	if i := m.Info(); i.Accelerator != "tcg" || !strings.Contains(i.AccelReason, "QEMU could not use kvm: failed to initialize kvm") {
		t.Errorf("got %+v", i)
	}
}

func TestAccelerators(t *testing.T) {
	c := caps{Accels: []string{"kvm", "tcg"}}
	usable, why := c.accelerator([]hv.AccelInfo{
		{Name: "whpx", Usable: true}, {Name: "kvm", Reason: "KVM does not run guests", Cure: "Load kvm."}, {Name: "tcg", Usable: true},
	})
	if len(usable) != 1 || usable[0] != "tcg" || why["tcg"] != "The installed QEMU was built without whpx. KVM does not run guests. Load kvm." {
		t.Errorf("got %v, %v", usable, why)
	}
}

// TestExplain: what QEMU is known to say, as it says it.
func TestExplain(t *testing.T) {
	for _, c := range []struct{ stderr, stage, words string }{
		{`qemu-system-x86_64: -blockdev {"a":{}}: Failed to get "write" lock` + "\nIs another process using the image [/a/b.img]?\n", stageDisk, "/a/b.img is in use"},
		{"qemu-system-x86_64: cannot set up guest memory 'pc.ram': Cannot allocate memory\n", stageMemory, "cannot give the guest its memory"},
		{"Could not access KVM kernel module: Permission denied\nqemu-system-x86_64: -accel kvm: failed to initialize kvm: Permission denied\n", stageAccel, "Permission denied"},
		{"qemu-system-x86_64: ../../target/i386/kvm/kvm.c:3183: kvm_buf_set_msrs: Assertion `ret == cpu->kvm_msr_buf->nmsrs' failed.\n", stageAccel, "kvm_buf_set_msrs"},
		{"qemu-system-x86_64: -machine pc-q35-1: unsupported machine type\nUse -machine help to list supported machines\n", stageMachine, ""},
		{`qemu-system-x86_64: -device {"driver":"virtio-vga"}: 'virtio-vga' is not a valid device model name`, stageQEMU, "no device virtio-vga"},
		{"qemu: error while loading shared libraries: libx.so.1: cannot open\n", stageQEMU, "libx.so.1"},
		{"qemu-system-x86_64: Error loading uncompressed kernel without PVH ELF Note\n", stageKernel, "bzImage"},
		{"warning: x\nqemu-system-x86_64: strange \x1b[2Jthings\nqemu-system-x86_64: warning: y\n", stageQEMU, "code 3: strange  [2Jthings"},
		{"", stageQEMU, "ended with code 3"},
	} {
		says(t, explain(c.stderr, 3, nil), c.stage, c.words)
	}
	if se := explain("", -1, errors.New("signal: killed")); !strings.Contains(se.Error(), "signal: killed") {
		t.Error(se)
	}
}
