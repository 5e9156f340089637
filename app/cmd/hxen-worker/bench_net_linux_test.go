package main

// A pvh guest's network beside one of QEMU's, over the same hxen-netd, in the lab of
// app/cmd/hxen's TestFiguresGuestNet.

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/platform/accel"
	"github.com/hxen-project/hxen/platform/localsock"
)

// TestBenchNet has the same guest on both fetch and send a file over HTTP.
func TestBenchNet(t *testing.T) {
	dir := filepath.Join(os.Getenv("HXEN_LAB"), "bench")
	if _, err := os.Stat(filepath.Join(dir, "qemu", "run")); err != nil || os.Getenv("HXEN_LAB") == "" {
		t.Skip("runs in the lab of make bench")
	}
	s := guest(kernels(t)[0])
	s.Boot.Initrd = filepath.Join(dir, "initrd")
	s.NICs = []hv.NIC{{UUID: "01020304-0000-4000-8000-00000000000a", MAC: "52:54:00:00:00:01", Network: netUUID}}
	n := newNetwork(t, s.NICs...)
	url, got := webServer(t, bytes.Repeat([]byte("what a guest fetches"), 4<<20/20))
	go func() {
		for range got {
		}
	}()
	native := s
	native.Boot.Cmdline += " url=" + url
	h := testHost(t, s)
	n.connect(s, &h)
	for round := range 2 {
		runNative(t, native, h, accel.Open, said("hxen", round))
		benchNetQEMU(t, n, s, dir, url, said("qemu", round))
	}
}

func benchNetQEMU(t *testing.T, n *network, s hv.Spec, dir, url string, said func(string)) {
	socket := filepath.Join(n.files.Run, "qemu")
	dial := func(ctx context.Context, path string) (net.Conn, error) { return localsock.Dial(ctx, path) }
	r, err := n.doors.relay(s.NICs[0], socket, n.files.Frames(), dial, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	runQEMU(t, dir, s.Boot.Kernel, "console=ttyS0 quiet url="+url, said,
		"-netdev", "stream,id=n,server=off,addr.type=unix,addr.path="+socket, "-device", "virtio-net-pci,netdev=n,romfile=,mac="+s.NICs[0].MAC)
}

// runQEMU runs a guest on QEMU to its end.
func runQEMU(t *testing.T, dir, kernel, cmdline string, said func(string), devices ...string) {
	t.Helper()
	cmd, console := startQEMU(t, dir, kernel, cmdline, devices...)
	tell(console, said)
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// startQEMU starts a guest on QEMU with its console on a serial port.
func startQEMU(t *testing.T, dir, kernel, cmdline string, devices ...string) (cmd *exec.Cmd, console io.Reader) {
	t.Helper()
	cmd = exec.CommandContext(t.Context(), filepath.Join(dir, "qemu", "run"), append([]string{
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-M", "q35", "-accel", "kvm", "-cpu", "host", "-m", "256", "-smp", "1",
		"-L", filepath.Join(dir, "qemu", "share"), "-serial", "stdio",
		"-kernel", kernel, "-initrd", filepath.Join(dir, "initrd"), "-append", cmdline}, devices...)...)
	console, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stdout
	if _, err := cmd.StdinPipe(); err != nil { // an end of its input is something to QEMU; Wait closes it
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, console
}
