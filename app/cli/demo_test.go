package cli

import (
	"bufio"
	"bytes"
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/hxen-project/hxen/hv/hvtest"
)

// TestDemoGuestBoots runs the demo guest under the bare QEMU command: its shell
// answers on the serial line and it powers itself off.
func TestDemoGuestBoots(t *testing.T) {
	hvtest.Require(t, "qemu", "images")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute) // a hang guard; it takes seconds
	defer cancel()
	image, err := prepareDemo(ctx, func(s string) { t.Log(s) })
	if err != nil {
		t.Fatal(err)
	}
	again, err := prepareDemo(ctx, func(s string) { t.Errorf("prepared twice: %s", s) })
	if err != nil || again != image {
		t.Fatalf("second time: %+v, %v", again, err)
	}
	start := time.Now()
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", "-M", "q35", "-accel", "tcg", "-m", "256", "-nodefaults",
		"-display", "none", "-device", "virtio-vga", "-no-reboot", "-serial", "stdio", "-kernel", image.kernel, "-initrd", image.initrd, "-append", demoCmdline,
		"-netdev", "user,id=n", "-device", "virtio-net-pci,netdev=n")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(stdout)
	seen := waitFor(t, r, demoPrompt)
	t.Logf("prompt after %v", time.Since(start))
	if !strings.Contains(seen, "What you can do here") {
		t.Errorf("no page of help in %q", seen)
	}
	stdin.Write([]byte("until [ -f /run/address ]; do sleep 0.1; done; uname -s; cat /run/address; lsmod | wc -l\n"))
	if got := waitFor(t, r, "10.0.2.15"); !strings.Contains(got, "Linux") {
		t.Errorf("uname said %q", got)
	}
	stdin.Write([]byte("poweroff\n"))
	if err := cmd.Wait(); err != nil {
		t.Errorf("QEMU ended with %v", err)
	}
}

func waitFor(t *testing.T, r *bufio.Reader, want string) string {
	t.Helper()
	var seen bytes.Buffer
	for !strings.Contains(seen.String(), want) {
		b, err := r.ReadByte()
		if err != nil {
			t.Fatalf("waiting for %q: %v after %q", want, err, seen.String())
		}
		seen.WriteByte(b)
	}
	return seen.String()
}
