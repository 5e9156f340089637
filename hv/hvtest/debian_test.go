package hvtest_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hxen-project/hxen/hv/hvtest"
)

// debianScript makes a Debian disk with a GPT and one partition: one kernel is
// installed, another one lies in /root as a package. grub-probe has nothing to look
// at there, so one that knows the answers stands in for it while grub.cfg is made.
const debianScript = `
cat >probe <<'END'
#!/bin/sh
for a; do case ${a#--target=} in
	device) echo /dev/xvda1;; fs) echo ext2;; fs_uuid) echo 11111111-2222-4333-8444-555555555555;;
	drive) echo "(hd0,gpt1)";; partmap) echo gpt;; compatibility_hint) echo hd0,gpt1;; hints_string) echo "--hint='hd0,gpt1'";;
esac; done
END
chmod +x probe
(cd "$OUT" && apt-get -q -o APT::Sandbox::User=root download "$NEXT")
# The guest's processor is emulated twice: it takes xz and time limits badly.
dpkg-deb -R "$OUT"/*.deb next-tree
rm "$OUT"/*.deb
dpkg-deb -Zgzip -z1 -b next-tree "$OUT/next.deb" >/dev/null
rm -r next-tree
mmdebstrap --quiet --variant=minbase --include="$FIRST,systemd-sysv,dbus,udev,kmod,initramfs-tools,grub2-common" \
	--essential-hook='mkdir -p "$1/etc/initramfs-tools/conf.d" "$1/usr/share/initramfs-tools/modules.d" "$1/etc/default/grub.d"
		printf "MODULES=list\nCOMPRESS=gzip\n" >"$1/etc/initramfs-tools/conf.d/small"
		printf "xen-blkfront\next4\ncrc32c\n" >"$1/usr/share/initramfs-tools/modules.d/hxen"
		printf "GRUB_TIMEOUT=0\nGRUB_CMDLINE_LINUX=console=hvc0\n" >"$1/etc/default/grub.d/hxen.cfg"' \
	--customize-hook='mkdir -p "$1/etc/systemd/system.conf.d"; printf "[Manager]\nDefaultTimeoutStartSec=infinity\nDefaultDeviceTimeoutSec=infinity\n" >"$1/etc/systemd/system.conf.d/slow.conf"
		for u in udevd journald logind; do mkdir -p "$1/etc/systemd/system/systemd-$u.service.d"; printf "[Service]\nWatchdogSec=0\nTimeoutStartSec=infinity\n" >"$1/etc/systemd/system/systemd-$u.service.d/slow.conf"; done
		for u in e2scrub_reap.service e2scrub_all.timer apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer fstrim.timer systemd-tmpfiles-clean.timer getty@tty1.service; do ln -s /dev/null "$1/etc/systemd/system/$u"; done' \
	--customize-hook='echo debian >"$1/etc/hostname"; chroot "$1" passwd -d root; printf "LABEL=root / ext4 defaults 0 1\n" >"$1/etc/fstab"' \
	--customize-hook="cp $OUT/next.deb \"\$1/root/next.deb\"" \
	--customize-hook='mkdir -p "$1/boot/grub"; mv "$1/usr/sbin/grub-probe" "$1/usr/sbin/grub-probe.real"; cp probe "$1/usr/sbin/grub-probe"
		chroot "$1" update-grub; mv "$1/usr/sbin/grub-probe.real" "$1/usr/sbin/grub-probe"' \
	bookworm tree.tar
mkdir tree
tar -C tree -xf tree.tar --exclude='./dev/*'
truncate -s 1400M root.img
mke2fs -q -t ext4 -L root -U 11111111-2222-4333-8444-555555555555 -d tree root.img
truncate -s 1404M disk.raw
printf 'label: gpt\nstart=1MiB, size=1400MiB, type=linux\n' | sfdisk -q disk.raw
dd if=root.img of=disk.raw bs=1M seek=1 conv=notrunc,sparse status=none
`

// debianDisk makes the disk once; it is kept in the cache.
func debianDisk(t *testing.T) string {
	t.Helper()
	hvtest.Require(t, "images")
	image := filepath.Join(hvtest.LabCache(t), "debian-2.raw")
	if _, err := os.Stat(image); err == nil {
		return image
	}
	if os.Getuid() != 0 {
		t.Skip("making a Debian disk needs root the first time")
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "next"), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-ec", debianScript)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin", "OUT="+filepath.Join(dir, "next"),
		"FIRST=linux-image-cloud-amd64", "NEXT="+newestOf(t, "linux-image-6.12-cloud-amd64"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("make a Debian disk: %v\n%s", err, out[max(0, len(out)-3000):])
	}
	for _, args := range [][]string{{"cp", "--sparse=always", filepath.Join(dir, "disk.raw"), image + ".new"}, {"mv", image + ".new", image}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("keep the disk: %v\n%s", err, out)
		}
	}
	return image
}

// newestOf is the package of a kernel that one of Debian's packages stands for.
func newestOf(t *testing.T, pkg string) string {
	t.Helper()
	out, err := exec.Command("apt-cache", "depends", "--important", pkg).Output()
	_, rest, ok := strings.Cut(string(out), "Depends: ")
	if err != nil || !ok {
		t.Fatalf("apt-cache depends %s: %v\n%s", pkg, err, out)
	}
	name, _, _ := strings.Cut(rest, "\n")
	return strings.TrimSpace(name)
}

// TestLabDebian: a Debian disk boots by itself as a pvh guest, and after another
// kernel was installed in it, that one; and so it does through GRUB. It takes many
// minutes: installing a kernel is slow on a processor that is emulated twice.
func TestLabDebian(t *testing.T) {
	if os.Getenv("HXEN_LONG") == "" {
		t.Skip("long: HXEN_LONG=1 make test-guest")
	}
	hvtest.RequireLab(t)
	files := map[string]string{}
	addGRUB(t, files)
	disk, binary := debianDisk(t), hvtest.TestBinary(t, "app/cmd/hxen-worker")
	for _, name := range []string{"Boots", "GRUB"} {
		t.Run(name, func(t *testing.T) {
			// On 6.1 a kernel's calls have to be found in it, also one that comes late.
			hvtest.LabSuite{
				Lab:      hvtest.Lab{Kernel: "linux-image-cloud-amd64", Files: files, Disks: []string{disk}, Timeout: 90 * time.Minute},
				Binaries: []hvtest.LabBinary{{Name: "debian", Path: binary, Args: []string{"-test.run", "^TestDebian" + name + "$"}, Timeout: 85 * time.Minute}},
			}.Run(t)
		})
	}
}

// addGRUB adds a GRUB that starts as a PVH guest and reads the disk's own
// configuration.
func addGRUB(t *testing.T, files map[string]string) {
	t.Helper()
	if _, err := os.Stat("/usr/lib/grub/i386-xen_pvh"); err != nil {
		hvtest.RequireThat(t, "lab", "GRUB for PVH guests is not installed (grub-xen-bin)")
	}
	dir := t.TempDir()
	config, out := filepath.Join(dir, "cfg"), filepath.Join(dir, "grub")
	if err := os.WriteFile(config, []byte("search --no-floppy --label root --set=root\nset prefix=($root)/boot/grub\nconfigfile $prefix/grub.cfg\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	args := []string{"-O", "i386-xen_pvh", "-o", out, "-p", "/boot/grub", "-c", config,
		"part_gpt", "ext2", "linux", "search", "search_label", "search_fs_uuid", "configfile", "normal", "test", "loadenv", "echo", "gzio", "reboot", "halt"}
	if said, err := exec.Command("grub-mkimage", args...).CombinedOutput(); err != nil {
		t.Fatalf("grub-mkimage: %v\n%s", err, said)
	}
	files["grub"] = out
}

// bootScript makes a disk with two kernels, and GRUB's configuration of them.
const bootScript = `
PATH=$PATH:/sbin:/usr/sbin
cat >tree/boot/grub/grub.cfg <<'END'
load_env
set default="${saved_entry}"
set timeout=0
menuentry 'The first' --id a { linux /boot/vmlinuz-a console=hvc0 quiet entry=a; initrd /boot/initrd-a }
menuentry 'The other' --id b { linux /boot/vmlinuz-b console=hvc0 quiet entry=b; initrd /boot/initrd-b }
END
{ printf '# GRUB Environment Block\nsaved_entry=a\n'; head -c 985 /dev/zero | tr '\0' '#'; } >tree/boot/grub/grubenv
mke2fs -q -t ext4 -L root -d tree root.img 60M
truncate -s 62M boot.raw
printf 'label: gpt\nstart=1MiB, size=60MiB, type=linux\n' | sfdisk -q boot.raw
dd if=root.img of=boot.raw bs=1M seek=1 conv=notrunc status=none
`

// addBoot adds a disk that boots by itself either of two kernels, and GRUB.
func addBoot(t *testing.T, files map[string]string, first, other string) {
	t.Helper()
	addGRUB(t, files)
	dir := t.TempDir()
	hvtest.Mkdirs(t, dir, "tree/boot/grub")
	for name, pkg := range map[string]string{"a": first, "b": other} {
		for to, from := range map[string]string{"vmlinuz-": hvtest.KernelFile(t, pkg), "initrd-": hvtest.GuestInitrd(t, pkg, "xen-blkfront")} {
			b, err := os.ReadFile(from)
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, "tree/boot", to+name), b, 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-ec", bootScript)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("make a disk: %v\n%s", err, out)
	}
	files["boot.raw"] = filepath.Join(dir, "boot.raw")
}
