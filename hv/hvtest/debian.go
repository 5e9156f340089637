package hvtest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// bootArgs are the kernel's. On a busy host an emulated computer takes minutes to
// find its devices, and a login that waits for one gives up: that of the console
// waits for none. Whether KVM inside is quick enough to be believed would be chance.
const bootArgs = "root=/dev/vda rw console=ttyS0 quiet panic=-1 tsc=reliable no_timer_check mitigations=off modprobe.blacklist=kvm_amd nokaslr audit=0 apparmor=0 " +
	"systemd.mask=serial-getty@ttyS0.service systemd.wants=console-getty.service systemd.default_timeout_start_sec=1200 " +
	"systemd.mask=systemd-networkd-wait-online.service systemd.mask=e2scrub_reap.service systemd.mask=apt-daily.timer " +
	"systemd.mask=apt-daily-upgrade.timer systemd.mask=fstrim.timer systemd.mask=dpkg-db-backup.timer"

// Debian is what whole computers of the tests are made of: a Debian with systemd
// as its first process, a root without a password and an ordinary user "ann".
type Debian struct {
	Kernel, Initrd string
	Root           string // an ext4 file system, raw; never written to
}

// NewDebian makes the system with these packages besides, once: it is kept in the
// user's cache. It takes minutes, and root.
func NewDebian(t testing.TB, packages ...string) Debian {
	t.Helper()
	Require(t, "qemu", "images")
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	all := append([]string{"linux-image-cloud-amd64", "systemd-sysv", "dbus", "udev", "iproute2", "kmod", "procps"}, packages...)
	const recipe = "3" // to be raised when the lines below change
	sum := sha256.Sum256([]byte(recipe + strings.Join(all, " ")))
	dir := filepath.Join(cache, "hxen", "debian-"+hex.EncodeToString(sum[:4]))
	d := Debian{Kernel: filepath.Join(dir, "vmlinuz"), Initrd: filepath.Join(dir, "initrd"), Root: filepath.Join(dir, "root.img")}
	if _, err := os.Stat(d.Root); err == nil {
		return d
	}
	if os.Getuid() != 0 {
		t.Skip("making a Debian needs root the first time")
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), "debian-new-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(tmp)
	tool(t, tmp, "mmdebstrap", "--quiet", "--variant=minbase", `--aptopt=APT::Install-Recommends "false"`,
		"--include="+strings.Join(all, ","),
		// A ramdisk of what finds the root on a virtio disk, which makes and unpacks fast.
		`--essential-hook=mkdir -p "$1/etc/initramfs-tools/conf.d" "$1/usr/share/initramfs-tools/modules.d"
			printf 'MODULES=list\nCOMPRESS=gzip\n' > "$1/etc/initramfs-tools/conf.d/small"
			printf 'virtio_pci\nvirtio_blk\next4\ncrc32c\n' > "$1/usr/share/initramfs-tools/modules.d/virtio"`,
		`--customize-hook=echo debian > "$1/etc/hostname"`,
		`--customize-hook=chroot "$1" passwd -d root`,
		`--customize-hook=chroot "$1" useradd -m -s /bin/bash ann`,
		`--customize-hook=printf '[Match]\nName=en*\n[Network]\nDHCP=yes\n' > "$1/etc/systemd/network/dhcp.network"`,
		`--customize-hook=chroot "$1" systemctl enable systemd-networkd`,
		`--customize-hook=cp --remove-destination "$1"/boot/vmlinuz-* "$1"/vmlinuz && cp --remove-destination "$1"/boot/initrd.img-* "$1"/initrd`,
		"bookworm", "tree.tar")
	tool(t, tmp, "sh", "-ec", `
		mkdir tree
		tar -C tree -xf tree.tar --exclude='./dev/*'
		mv tree/vmlinuz tree/initrd .
		truncate -s 4000M root.img
		mke2fs -q -t ext4 -L root -d tree root.img
		rm -rf tree tree.tar`)
	if err := os.Rename(tmp, dir); err != nil && !os.IsExist(err) {
		t.Fatal(err)
	}
	return d
}

// tool runs a program that makes an image.
func tool(t testing.TB, dir, name string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out[max(0, len(out)-4000):])
	}
}

// Computer is one Debian with a disk of its own, on or off.
type Computer struct {
	t       testing.TB
	d       Debian
	disk    string // qcow2, over the Debian's
	payload string // ext4 image that is mounted at /payload
	step    time.Duration

	// Why is a command that tells more where Until gives up; "" for none.
	Why string

	cmd  *exec.Cmd
	in   io.WriteCloser
	text *growing
}

// NewComputer makes a computer that has the files of folder payload in /payload.
// step is a hang guard for each thing that is asked of it.
func (d Debian) NewComputer(t testing.TB, payload string, step time.Duration) *Computer {
	t.Helper()
	dir := t.TempDir()
	c := &Computer{t: t, d: d, disk: filepath.Join(dir, "disk.qcow2"), payload: filepath.Join(dir, "payload.img"), step: step}
	tool(t, dir, "qemu-img", "create", "-q", "-f", "qcow2", "-b", d.Root, "-F", "raw", c.disk)
	tool(t, dir, "sh", "-ec", `truncate -s 600M payload.img; mke2fs -q -t ext4 -d "$0" payload.img`, payload)
	t.Cleanup(c.kill)
	return c
}

// growing is what a console has said, with a way to wait for more.
type growing struct {
	mu   sync.Mutex // guards the fields below
	more *sync.Cond
	all  strings.Builder
	end  bool
}

func (g *growing) Write(b []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.all.Write(b)
	g.more.Broadcast()
	return len(b), nil
}

// On switches the computer on, logs root in on its serial line and mounts the
// payload.
func (c *Computer) On() {
	c.t.Helper()
	c.cmd = exec.Command("qemu-system-x86_64", "-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "2048",
		"-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio",
		"-kernel", c.d.Kernel, "-initrd", c.d.Initrd, "-append", bootArgs,
		"-drive", "if=virtio,format=qcow2,file="+c.disk, "-drive", "if=virtio,format=raw,readonly=on,file="+c.payload,
		"-nic", "user,model=virtio-net-pci,restrict=on")
	c.text = &growing{}
	c.text.more = sync.NewCond(&c.text.mu)
	var err error
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		c.t.Fatal(err)
	}
	c.cmd.Stdout, c.cmd.Stderr = c.text, c.text
	if err := c.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	text, cmd := c.text, c.cmd
	go func() {
		_ = cmd.Wait()
		text.mu.Lock()
		defer text.mu.Unlock()
		text.end = true
		text.more.Broadcast()
	}()
	from := c.await(0, "login: ")
	c.say("root")
	from = c.await(from, "# ")
	c.say("stty -echo; PS1=; PS2=; export TERM=dumb SYSTEMD_PAGER= SYSTEMD_COLORS=0; bind 'set enable-bracketed-paste off' 2>/dev/null; mkdir -p /payload; mount -o ro /dev/vdb /payload; echo is'-'on")
	c.await(from, "is-on")
}

func (c *Computer) say(line string) {
	c.t.Helper()
	if _, err := io.WriteString(c.in, line+"\n"); err != nil {
		c.t.Fatalf("say %q to the computer: %v\n%s", line, err, c.Console())
	}
}

// await waits until the console has said text after a place, and returns the
// place after it.
func (c *Computer) await(from int, text string) int {
	c.t.Helper()
	late := false
	guard := time.AfterFunc(c.step, func() {
		c.text.mu.Lock()
		defer c.text.mu.Unlock()
		late = true
		c.text.more.Broadcast()
	})
	defer guard.Stop()
	c.text.mu.Lock()
	defer c.text.mu.Unlock()
	for {
		all := c.text.all.String()
		if i := strings.Index(all[from:], text); i >= 0 {
			return from + i + len(text)
		}
		if late || c.text.end {
			c.t.Fatalf("the computer never said %q (off: %v); it said:\n%s", text, c.text.end, all[from:])
		}
		c.text.more.Wait()
	}
}

// Console is all that the console has said since the computer was switched on.
func (c *Computer) Console() string {
	c.text.mu.Lock()
	defer c.text.mu.Unlock()
	return c.text.all.String()
}

// Try runs a shell command as root and returns what it printed and its exit code.
func (c *Computer) Try(command string) (out string, code int) {
	c.t.Helper()
	from := len(c.Console())
	c.say("echo b'@'egin; { " + command + "\n} 2>&1; echo e'@'nd $? .")
	begun := c.await(from, "b@egin")
	ended := c.await(begun, "e@nd ")
	after := c.await(ended, " .")
	all := c.Console()
	if _, err := fmt.Sscan(all[ended:after], &code); err != nil {
		c.t.Fatalf("%s: %v in %q", command, err, all[ended:after])
	}
	out = strings.TrimSpace(strings.ReplaceAll(all[begun:ended-len("e@nd ")], "\r", ""))
	c.t.Logf("%s # %s: %d, %d bytes", time.Now().Format(time.TimeOnly), command, code, len(out))
	return out, code
}

// Run is Try of what must not fail.
func (c *Computer) Run(command string) string {
	c.t.Helper()
	out, code := c.Try(command)
	if code != 0 {
		c.t.Fatalf("%s: exit code %d\n%s", command, code, out)
	}
	return out
}

// Until runs a command again and again until ok takes what it prints.
func (c *Computer) Until(what, command string, ok func(out string) bool) string {
	c.t.Helper()
	for deadline := time.Now().Add(c.step); ; {
		out, _ := c.Try(command)
		if ok(out) {
			return out
		}
		if time.Now().After(deadline) {
			why, _ := c.Try(c.Why + "\n:")
			c.t.Fatalf("never %s; %s says:\n%s\n%s", what, command, out, why)
		}
		time.Sleep(time.Second)
	}
}

// Off waits until the computer has switched itself off or restarts, after a
// command such as "systemctl poweroff", and returns what the console said
// meanwhile.
func (c *Computer) Off(command string) string {
	c.t.Helper()
	from := len(c.Console())
	c.say(command)
	late := false
	guard := time.AfterFunc(c.step, func() {
		c.text.mu.Lock()
		defer c.text.mu.Unlock()
		late = true
		c.text.more.Broadcast()
	})
	defer guard.Stop()
	c.text.mu.Lock()
	defer c.text.mu.Unlock()
	for !c.text.end {
		if late {
			c.t.Fatalf("the computer does not end after %q; it says:\n%s", command, c.text.all.String()[from:])
		}
		c.text.more.Wait()
	}
	return c.text.all.String()[from:]
}

func (c *Computer) kill() {
	if c.cmd != nil && c.cmd.Process != nil {
		_ = c.cmd.Process.Kill() // it may have ended
	}
}
