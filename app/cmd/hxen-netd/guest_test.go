package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hxen-project/hxen/hv/hvtest"
	"github.com/hxen-project/hxen/platform/paths"
)

const hang = 5 * time.Minute // a guard against hanging, not a measurement

// guestInit is a guest's first program: the card's modules, DHCP, then a shell
// on the serial line that the test talks to. It is no interactive one: that takes
// the death of a child, which interrupts its read, for the end of its input, and
// the first process inherits children (those of "timeout") that die at any time.
const guestInit = `#!/bin/sh
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
for m in virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci failover net_failover virtio_net; do insmod /$m.ko; done
ifconfig lo up; ifconfig eth0 up
udhcpc -i eth0 -s /dhcp -n -q -t 10 >/dev/null 2>&1
mkdir /www; echo "this is $(cat /sys/class/net/eth0/address)" >/www/index.html; httpd -h /www
stty -echo
echo; echo READY
while IFS= read -r line; do eval "$line"; done
`

const guestDHCP = `#!/bin/sh
[ "$1" = bound ] || exit 0
ifconfig eth0 $ip netmask $subnet; route add default gw $router
echo "search $search" >/etc/resolv.conf; echo "nameserver $dns" >>/etc/resolv.conf
`

// guestFiles returns a kernel and an initramfs; the distribution's kernel
// package is fetched once and kept in the cache.
func guestFiles(t testing.TB) (kernel, initrd string) {
	t.Helper()
	hvtest.Require(t, "qemu")
	cache, err := paths.Cache()
	if err != nil {
		t.Fatal(err)
	}
	tree := filepath.Join(cache, "kernel-test")
	glob := func(pattern string) string {
		if found, _ := filepath.Glob(filepath.Join(tree, pattern)); len(found) > 0 {
			return found[len(found)-1]
		}
		return ""
	}
	if glob("boot/vmlinuz-*") == "" {
		fetchKernel(t, tree)
	}
	files := map[string][]byte{"init": []byte(guestInit), "dhcp": []byte(guestDHCP)}
	for _, m := range []string{"drivers/virtio/virtio", "drivers/virtio/virtio_ring", "drivers/virtio/virtio_pci_modern_dev",
		"drivers/virtio/virtio_pci_legacy_dev", "drivers/virtio/virtio_pci", "net/core/failover", "drivers/net/net_failover", "drivers/net/virtio_net"} {
		files[filepath.Base(m)+".ko"] = read(t, glob("lib/modules/*/kernel/"+m+".ko"))
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Skip("needs busybox-static")
	}
	files["bin/busybox"] = read(t, busybox)
	initrd = filepath.Join(t.TempDir(), "initrd.gz")
	if err := os.WriteFile(initrd, initramfs(files), 0o600); err != nil {
		t.Fatal(err)
	}
	return glob("boot/vmlinuz-*"), initrd
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// fetchKernel unpacks the distribution's cloud kernel into tree.
func fetchKernel(t testing.TB, tree string) {
	t.Helper()
	tmp := t.TempDir()
	script := `set -e
pkg=$(apt-cache depends linux-image-cloud-amd64 | awk '/Depends: linux-image/{print $2; exit}')
apt-get download "$pkg" >/dev/null 2>&1
dpkg-deb -x ./*.deb tree`
	cmd := exec.Command("sh", "-c", script)
	cmd.Dir = tmp
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Skipf("no kernel for a test guest can be had: %v %s", err, out)
	}
	if err := os.MkdirAll(filepath.Dir(tree), 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cp", "-a", filepath.Join(tmp, "tree")+"/.", tree+"/").CombinedOutput(); err != nil {
		t.Fatalf("keep the kernel: %v %s", err, out)
	}
}

// initramfs packs files as a compressed cpio archive (Linux,
// Documentation/driver-api/early-userspace/buffer-format.rst).
func initramfs(files map[string][]byte) []byte {
	var raw bytes.Buffer
	ino := 0
	add := func(name string, mode int, data []byte) {
		ino++
		fmt.Fprintf(&raw, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
			ino, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name)+1, 0, name)
		raw.Write(make([]byte, -raw.Len()&3))
		raw.Write(data)
		raw.Write(make([]byte, -raw.Len()&3))
	}
	for _, d := range []string{"bin", "dev", "proc", "sys", "etc"} {
		add(d, 0o40755, nil)
	}
	for name, data := range files {
		add(name, 0o100755, data)
	}
	for _, applet := range strings.Fields("sh mount mkdir insmod ifconfig route udhcpc httpd stty ping nslookup nc dd cat echo ip poweroff arping sleep timeout") {
		add("bin/"+applet, 0o120777, []byte("busybox"))
	}
	add("TRAILER!!!", 0, nil)
	var out bytes.Buffer
	z, _ := gzip.NewWriterLevel(&out, gzip.BestSpeed)
	z.Write(raw.Bytes())
	z.Close()
	return out.Bytes()
}

// guest is a QEMU guest with a shell on its serial line.
type guest struct {
	t     testing.TB
	in    io.Writer
	lines chan string
	n     int
}

// boot starts a guest with one card; netdev is QEMU's -netdev argument with id n0.
func boot(t testing.TB, kernel, initrd, netdev, mac string) *guest {
	t.Helper()
	cmd := exec.Command("qemu-system-x86_64", "-M", "q35", "-accel", "tcg", "-m", "192", "-nodefaults", "-no-reboot", "-display", "none",
		"-serial", "stdio", "-kernel", kernel, "-initrd", initrd, "-append", "console=ttyS0 quiet panic=-1 no_timer_check", // a busy machine may be late with its ticks
		"-netdev", netdev, "-device", "virtio-net-pci,netdev=n0,romfile=,mac="+mac)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	g := &guest{t: t, in: in, lines: make(chan string, 1000)}
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(g.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			g.lines <- strings.TrimRight(s.Text(), "\r")
		}
	})
	t.Cleanup(func() {
		cmd.Process.Kill()
		for range g.lines {
		}
		wg.Wait()
		cmd.Wait()
	})
	g.until("READY")
	return g
}

// until returns the lines before the one that is mark.
func (g *guest) until(mark string) string {
	g.t.Helper()
	var got []string
	for guard := time.After(hang); ; {
		select {
		case l, ok := <-g.lines:
			if !ok {
				g.t.Fatalf("the guest has ended after:\n%s", strings.Join(got, "\n"))
			}
			if strings.HasPrefix(l, mark) {
				return strings.Join(append(got, strings.TrimPrefix(l, mark)), "\n")
			}
			got = append(got, l)
		case <-guard:
			g.t.Fatalf("the guest hangs after:\n%s", strings.Join(got, "\n"))
		}
	}
}

// try runs a command in the guest: its output and whether it succeeded.
func (g *guest) try(command string) (string, bool) {
	g.t.Helper()
	g.n++
	mark := fmt.Sprintf("DONE-%d-", g.n)
	fmt.Fprintf(g.in, "%s; rc=$?; echo; echo %s$rc\n", command, mark)
	out := g.until(mark)
	return strings.TrimSpace(out), strings.HasSuffix(out, "\n0")
}

// run wants a command to succeed and every word of want in its output.
func (g *guest) run(command string, want ...string) string {
	g.t.Helper()
	out, ok := g.try(command)
	if !ok {
		g.t.Errorf("in the guest, %q failed:\n%s", command, out)
	}
	for _, w := range want {
		if !strings.Contains(out, w) {
			g.t.Errorf("in the guest, %q does not say %q:\n%s", command, w, out)
		}
	}
	return out
}
