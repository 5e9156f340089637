package native

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/backend/blk"
	"github.com/hxen-project/hxen/hv/backend/fb"
	"github.com/hxen-project/hxen/hv/hvtest"
	"github.com/hxen-project/hxen/hv/xenabi"
)

// makeBootDisks makes testdata's disks: a file system with kernels of these versions,
// each with a ramdisk, and GRUB's menu of them.
func makeBootDisks(t *testing.T, kernel []byte) {
	for _, versions := range []string{"1", "21"} {
		dir := t.TempDir()
		hvtest.Mkdirs(t, dir, "boot/grub")
		menu := "set default=0\n"
		put := func(name, content string) {
			t.Helper()
			if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		for _, v := range strings.Split(versions, "") {
			put("boot/vmlinuz-"+v, string(kernel))
			put("boot/initrd-"+v, "initrd "+v)
			menu += fmt.Sprintf("menuentry 'Linux %[1]s' --id e%[1]s {\nlinux /boot/vmlinuz-%[1]s root=UUID=x console=ttyS0 v=%[1]s\ninitrd /boot/initrd-%[1]s\n}\n", v)
		}
		put("boot/grub/grub.cfg", menu)
		fs := filepath.Join(t.TempDir(), "fs")
		out, err := exec.CommandContext(t.Context(), "/sbin/mke2fs", "-q", "-F", "-t", "ext4", "-O", "^has_journal", "-d", dir, fs, "1M").CombinedOutput()
		if err != nil {
			t.Fatalf("mke2fs: %v\n%s", err, out)
		}
		b, err := os.ReadFile(fs)
		if err != nil {
			t.Fatal(err)
		}
		var z bytes.Buffer
		w, _ := gzip.NewWriterLevel(&z, gzip.BestCompression)
		if _, err := w.Write(b); err != nil {
			t.Fatal(err)
		}
		w.Close()
		if err := os.WriteFile("testdata/boot-"+versions+".gz", z.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// diskWith writes the disk with kernels of these versions over what a guest may have
// open.
func diskWith(t *testing.T, path, versions string) {
	t.Helper()
	f, err := os.Open("testdata/boot-" + versions + ".gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err == nil {
		err = os.WriteFile(path, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// startedWith is the command line and the ramdisk that a guest finds.
func startedWith(c *hvtest.FakeCPU) string {
	info := load[xenabi.StartInfo](c, c.Regs().RBX)
	line := make([]byte, 200)
	c.Load(info.CmdlinePaddr, line)
	line, _, _ = bytes.Cut(line, []byte{0})
	module := load[xenabi.ModlistEntry](c, info.ModlistPaddr)
	initrd := make([]byte, module.Size)
	c.Load(module.Paddr, initrd)
	return string(line) + ", " + string(initrd)
}

// TestBootFromDisk: a guest without a kernel on the host boots its disk's, and
// after a restart the one that it has put there meanwhile. HXEN_SEEDS=1 makes the
// disks again.
func TestBootFromDisk(t *testing.T) {
	s := testSpec(t)
	if os.Getenv("HXEN_SEEDS") != "" {
		kernel, err := os.ReadFile(s.Boot.Kernel)
		if err != nil {
			t.Fatal(err)
		}
		makeBootDisks(t, kernel)
	}
	path := filepath.Join(t.TempDir(), "disk")
	diskWith(t, path, "1")
	s.Boot = hv.Boot{}
	s.Disks = []hv.Disk{{UUID: diskID, Path: path, Format: hv.Raw, Mode: hv.ReadWrite}}
	run := func(s hv.Spec, restart bool) []string {
		var seen []string
		_, ended := launchFakeOn(t, hv.Host{OpenDisk: openHostFile}, s, func(c *hvtest.FakeCPU) {
			seen = append(seen, startedWith(c))
			if restart && len(seen) == 1 {
				diskWith(t, path, "21")
				shutdown(c, xenabi.SHUTDOWN_reboot)
			}
			shutdown(c, xenabi.SHUTDOWN_poweroff)
		})
		if reason, _ := ended(); reason != hv.ExitPoweroff {
			t.Errorf("it ended as %s", reason)
		}
		return seen
	}
	one, two := "root=UUID=x v=1 console=hvc0 "+blk.KernelOption+" "+fb.KernelOption+", initrd 1", "root=UUID=x v=2 console=hvc0 "+blk.KernelOption+" "+fb.KernelOption+", initrd 2"
	if got := strings.Join(run(s, true), "; "); got != one+"; "+two {
		t.Errorf("the guest was started with %s", got)
	}
	s.Boot.Entry = "e1"
	if got := strings.Join(run(s, false), "; "); got != one {
		t.Errorf("with the entry chosen it was started with %s", got)
	}
	s.Boot.Entry = "e3"
	if _, err := New(nil).Launch(t.Context(), s, hv.Host{Dir: t.TempDir(), Work: t.TempDir(), OpenDisk: openHostFile}); err == nil || !strings.Contains(err.Error(), `"e2", "e1"`) {
		t.Errorf("an entry that is not there: %v", err)
	}
}
