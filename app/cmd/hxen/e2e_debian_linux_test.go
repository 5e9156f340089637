package main

import (
	"bufio"
	"fmt"
	"image"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/hv/hvtest"
	"github.com/hxen-project/hxen/platform/paths"
)

// debianImage makes a Debian disk with systemd, once: it is kept in the cache.
// Its root shell is on the serial line after "login: root"; a line-by-line echo
// listens on port 7.
func debianImage(t *testing.T) string {
	t.Helper()
	cache, err := paths.Cache()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(cache, "e2e-debian-3.qcow2")
	if _, err := os.Stat(image); err == nil {
		return image
	}
	if os.Getuid() != 0 {
		t.Skip("making a Debian disk needs root the first time")
	}
	dir := t.TempDir()
	run := func(name string, args ...string) {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out[max(0, len(out)-2000):])
		}
	}
	setup := []string{
		`--customize-hook=echo debian > "$1/etc/hostname"`,
		`--customize-hook=chroot "$1" passwd -d root`,
		`--customize-hook=printf '[Match]\nName=en*\n[Network]\nDHCP=yes\n' > "$1/etc/systemd/network/dhcp.network"`,
		`--customize-hook=chroot "$1" systemctl enable systemd-networkd`,
		`--customize-hook=printf '[Socket]\nListenStream=7\nAccept=yes\n[Install]\nWantedBy=sockets.target\n' > "$1/etc/systemd/system/echo.socket"`,
		`--customize-hook=printf '[Service]\nExecStart=/bin/cat\nStandardInput=socket\nStandardOutput=socket\n' > "$1/etc/systemd/system/echo@.service"`,
		`--customize-hook=chroot "$1" systemctl enable echo.socket`,
		`--customize-hook=printf 'LABEL=root / ext4 defaults 0 1\n' > "$1/etc/fstab"`,
		`--customize-hook=cp "$1"/boot/vmlinuz-* "$1"/vmlinuz; cp "$1"/boot/initrd.img-* "$1"/initrd`,
	}
	args := append([]string{"--quiet", "--variant=minbase", "--include=linux-image-amd64,systemd-sysv,dbus,udev,iproute2,iputils-ping,kmod"}, setup...)
	run("mmdebstrap", append(args, "bookworm", "tree.tar")...)
	// A standalone GRUB does not load what reads partition tables by itself.
	const menu = "insmod part_gpt\ninsmod ext2\nsearch --no-floppy --label root --set=root\nlinux /vmlinuz root=LABEL=root rw console=tty0 console=ttyS0 quiet\ninitrd /initrd\nboot\n"
	if err := os.WriteFile(filepath.Join(dir, "grub.cfg"), []byte(menu), 0o644); err != nil {
		t.Fatal(err)
	}
	// A GPT disk with an EFI system partition and a root file system, each filled by
	// its own tool, so that nothing has to be mounted.
	run("sh", "-ec", `
		mkdir tree
		tar -C tree -xf tree.tar --exclude='./dev/*'
		truncate -s 3000M root.img
		mke2fs -q -t ext4 -L root -d tree root.img
		grub-mkstandalone -O x86_64-efi -o BOOTX64.EFI boot/grub/grub.cfg=grub.cfg
		truncate -s 62M esp.img
		mformat -i esp.img -F ::
		mmd -i esp.img ::/EFI ::/EFI/BOOT
		mcopy -i esp.img BOOTX64.EFI ::/EFI/BOOT/
		truncate -s 3064M disk.raw
		printf 'label: gpt\nstart=1MiB, size=62MiB, type=uefi\nstart=63MiB, size=3000MiB, type=linux\n' | /sbin/sfdisk -q disk.raw
		dd if=esp.img of=disk.raw bs=1M seek=1 conv=notrunc,sparse status=none
		dd if=root.img of=disk.raw bs=1M seek=63 conv=notrunc,sparse status=none
		qemu-img convert -O qcow2 disk.raw disk.qcow2`)
	run("cp", "disk.qcow2", image+".new")
	run("mv", image+".new", image)
	return image
}

// TestDebianDisk runs a whole distribution: systemd, an address from the
// network, a forwarded port, a second guest to talk to, and both ways to end.
func TestDebianDisk(t *testing.T) {
	long(t)
	hvtest.Require(t, "images")
	h := newHouse(t)
	image := debianImage(t)
	port := freePort(t)
	h.must("new", "debian", "--disk", image, "--copy", "--firmware", "uefi", "--memory", "512M", "--vcpus", "2",
		"--forward", fmt.Sprintf("%d:7", port))
	h.must("demo")
	other := h.console("demo")
	other.expect("demo# ")
	other.run("until [ -f /run/address ]; do sleep 0.2; done")
	address := strings.Fields(other.run("cat /run/address"))
	h.must("start", "debian")
	s := h.console("debian")
	login := func() {
		s.expect("login: ")
		s.say("root")
		s.expect("# ")
	}
	login()
	s.run("until ip -4 addr show scope global | grep -q inet; do sleep 0.2; done")
	got := s.run("ip -4 -o addr show scope global")

	c := h.connect()
	guest := h.vm("debian")
	var card api.VIF // of a guest without an agent, the card alone tells
	h.eventually("the guest's address in its card's record", func() bool {
		err := c.Call(t.Context(), "VIF.get_record", &card, guest.VIFs[0])
		return err == nil && len(card.IPv4Addresses) == 1
	})
	if !strings.Contains(got, card.IPv4Addresses[0]+"/") {
		t.Errorf("the record says %s, the guest %s", card.IPv4Addresses, got)
	}
	echo(t, port)

	var target string
	for _, f := range address {
		if net.ParseIP(f) != nil {
			target = f
		}
	}
	if got := s.run("ping -c 2 -W 5 " + target); !strings.Contains(got, " 0% packet loss") {
		t.Errorf("the second guest at %q does not answer: %s", target, got)
	}

	h.resizes(t, "debian")

	s.say("poweroff")
	s.expect("debian has ended")
	h.must("start", "debian")
	s = h.console("debian")
	login()
	began := time.Now()
	h.must("shutdown", "debian")
	t.Logf("a clean shutdown took %v", time.Since(began).Round(time.Second))
	if vm := h.vm("debian"); vm.PowerState != "Halted" {
		t.Errorf("after shutdown: %s", vm.PowerState)
	}
	disk, _ := filepath.Glob(filepath.Join(h.home, "guests", guest.UUID, "disk-*.qcow2"))
	if len(disk) != 1 {
		t.Fatalf("disks: %v", disk)
	}
	if out, err := exec.Command("qemu-img", "check", disk[0]).CombinedOutput(); err != nil {
		t.Errorf("the disk is damaged: %v\n%s", err, out)
	}
}

// resizes asks the guest for other sizes of its screen, as the window does when
// it "resizes the guest". Linux gives its text console no more room than it had
// at boot, 1280 by 800.
func (h *house) resizes(t *testing.T, name string) {
	t.Helper()
	screen := h.dialScreen(name)
	for _, want := range []image.Point{{1024, 768}, {1280, 720}, {1280, 800}} {
		screen.RequestSize(want.X, want.Y)
		h.eventually(fmt.Sprintf("a screen of %d by %d", want.X, want.Y), func() bool { return h.screen(name).Bounds().Size() == want })
	}
}

// echo talks to the guest's echo through the forwarded port.
func echo(t *testing.T, port int) {
	t.Helper()
	conn, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", port), patience)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	fmt.Fprintln(conn, "through the forward")
	line, err := bufio.NewReader(conn).ReadString('\n')
	if line != "through the forward\n" {
		t.Errorf("the forwarded port answered %q, %v", line, err)
	}
}

// freePort finds a port that nobody uses now.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
