package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/hv/hvtest"
)

// bootScript makes a disk with a partition, on it a GRUB configuration with two
// entries, raw and as qcow2.
const bootScript = `
PATH=$PATH:/sbin:/usr/sbin
mkdir -p tree/boot/grub
printf one >tree/boot/vmlinuz-1; printf two >tree/boot/vmlinuz-2
cat >tree/boot/grub/grub.cfg <<'END'
set default=0
menuentry 'The first' --id first { linux /boot/vmlinuz-1 root=/dev/xvda1 one }
menuentry 'The second' --id second { linux /boot/vmlinuz-2 root=/dev/xvda1 two }
END
mke2fs -q -t ext4 -d tree root.img 8M
truncate -s 10M disk.raw
printf 'label: gpt\nstart=1MiB, size=8MiB, type=linux\n' | sfdisk -q disk.raw
dd if=root.img of=disk.raw bs=1M seek=1 conv=notrunc status=none
qemu-img convert -O qcow2 disk.raw disk.qcow2
`

// TestBootEntries: what a guest's disk boots can be listed and chosen before it
// ever ran.
func TestBootEntries(t *testing.T) {
	hvtest.Require(t, "qemu", "images")
	h := newHouse(t)
	dir := t.TempDir()
	cmd := exec.Command("sh", "-ec", bootScript)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("make a disk: %v\n%s", err, out)
	}
	for _, image := range []string{"disk.raw", "disk.qcow2"} {
		t.Run(image, func(t *testing.T) {
			before, err := os.ReadFile(filepath.Join(dir, image))
			if err != nil {
				t.Fatal(err)
			}
			h.must("new", image, "--type", "pvh", "--disk", filepath.Join(dir, image))
			menu := func() (m api.BootMenu) {
				if err := json.Unmarshal([]byte(h.must("boot-entries", image, "--json")), &m); err != nil {
					t.Fatal(err)
				}
				return m
			}
			m := menu()
			if len(m.Entries) != 2 || m.Boots != 0 || m.From != "/boot/grub/grub.cfg" ||
				m.Entries[1] != (api.BootEntry{ID: "second", Title: "The second", Kernel: "/boot/vmlinuz-2", Cmdline: "root=/dev/xvda1 two"}) {
				t.Errorf("the menu is %+v", m)
			}
			h.must("boot-entries", image, "The second")
			if m := menu(); m.Boots != 1 || m.Chosen != "The second" || h.vm(image).PVBootloaderArgs != "The second" {
				t.Errorf("chosen, the menu is %+v", m)
			}
			if out := h.must("boot-entries", image); !strings.Contains(out, "* second\n    The second\n") || !strings.Contains(out, "  first\n") {
				t.Errorf("the list is:\n%s", out)
			}
			if _, errs, code := h.hxen("", "boot-entries", image, "third"); code == 0 || !strings.Contains(errs, `no boot entry "third"`) {
				t.Errorf("an entry that is not there: exit code %d, %s", code, errs)
			}
			if m := menu(); m.Chosen != "The second" {
				t.Errorf("a choice that failed left %q", m.Chosen)
			}
			h.must("boot-entries", image, "--auto")
			if m := menu(); m.Boots != 0 || m.Chosen != "" {
				t.Errorf("left to the boot loader, the menu is %+v", m)
			}
			if after, err := os.ReadFile(filepath.Join(dir, image)); err != nil || string(after) != string(before) {
				t.Errorf("looking has changed the disk (%v)", err)
			}
		})
	}
	h.must("new", "chosen", "--type", "pvh", "--disk", filepath.Join(dir, "disk.raw"), "--copy", "--boot-entry", "second")
	if got := h.vm("chosen").PVBootloaderArgs; got != "second" {
		t.Errorf("--boot-entry chose %q", got)
	}
	if out, errs, code := h.hxen("", "new", "empty", "--disk-size", "1M"); code != 0 {
		t.Fatal(out, errs)
	}
	if _, errs, code := h.hxen("", "boot-entries", "empty"); code == 0 || !strings.Contains(errs, "no kernel was found") {
		t.Errorf("an empty disk: exit code %d, %s", code, errs)
	}
}
