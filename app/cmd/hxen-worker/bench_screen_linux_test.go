package main

// A pvh guest's screen beside QEMU's std VGA, looked at by the same RFB client, in the
// lab of app/cmd/hxen's TestFiguresGuestScreen.

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/native"
	"github.com/hxen-project/hxen/hv/rfb"
	"github.com/hxen-project/hxen/platform/accel"
)

// TestBenchScreen has the same guest on both paint its whole screen all the time, and
// prints how many of them a viewer gets in a second: both send bare pixels, and only
// what has changed.
func TestBenchScreen(t *testing.T) {
	dir := filepath.Join(os.Getenv("HXEN_LAB"), "bench")
	if _, err := os.Stat(filepath.Join(dir, "qemu", "run")); err != nil || os.Getenv("HXEN_LAB") == "" {
		t.Skip("runs in the lab of make bench")
	}
	kernel := kernels(t)[0]
	for round := range 2 {
		screenNative(t, kernel, dir, round)
		screenQEMU(t, kernel, dir, round)
	}
}

func screenNative(t *testing.T, kernel, dir string, round int) {
	s := guest(kernel)
	s.Boot.Initrd = filepath.Join(dir, "initrd")
	m, err := native.New(accel.Open).Launch(t.Context(), s, testHost(t, s))
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for range m.Events() {
		}
	}()
	watchScreen(t, "hxen", round, m.(hv.Consoler).Console(), func() (io.ReadWriteCloser, error) {
		return m.(hv.Displayer).OpenDisplay(t.Context())
	})
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	_, _ = m.Wait() // its power was taken
}

// screenQEMU: as hv/qemu starts a guest with the adapter "std". Its kernel sets the
// mode by the firmware's numbers: 0x200 and Bochs' of 1280x800 in 32 bits.
func screenQEMU(t *testing.T, kernel, dir string, round int) {
	socket := filepath.Join(t.TempDir(), "s")
	cmd, console := startQEMU(t, dir, filepath.Join(kernel, "vmlinuz"), "console=ttyS0 quiet vga=0x37a", "-device", "VGA", "-vnc", "unix:"+socket)
	watchScreen(t, "qemu", round, console, func() (io.ReadWriteCloser, error) { return net.Dial("unix", socket) })
	_ = cmd.Process.Kill()
	_ = cmd.Wait() // it was killed
}

// watchScreen looks at a guest's screen for a while once it paints.
func watchScreen(t *testing.T, who string, round int, console io.Reader, open func() (io.ReadWriteCloser, error)) {
	t.Helper()
	paints := make(chan struct{}, 100)
	go tell(console, func(line string) {
		said(who, round)(line)
		select {
		case paints <- struct{}{}:
		default:
		}
	})
	select {
	case <-paints:
	case <-time.After(patience):
		t.Fatalf("%s's guest never paints", who)
	}
	stream, err := open()
	if err != nil {
		t.Fatal(err)
	}
	counted := &countingStream{ReadWriteCloser: stream}
	var c *rfb.Client
	c, err = rfb.Connect(t.Context(), counted, rfb.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Run() }()
	painter := time.NewTicker(time.Second / 120) // a window's, which never is the slower one
	defer painter.Stop()
	look := func(span time.Duration) float64 {
		began, bytes := time.Now(), counted.read.Load()
		for time.Since(began) < span {
			<-painter.C
			c.Painted()
		}
		size := c.Frame().Size()
		return float64(counted.read.Load()-bytes) / float64(max(size.X*size.Y*4, 1)) / time.Since(began).Seconds()
	}
	look(time.Second)
	for pass := range 2 {
		said(who, round)(fmt.Sprintf("%d screens-1280x800 %.2f /s", pass, look(4*time.Second)))
	}
	if size := c.Frame().Size(); size.X != 1280 || size.Y != 800 {
		t.Errorf("%s's screen is of %v", who, size)
	}
	c.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// countingStream counts what is read of it.
type countingStream struct {
	io.ReadWriteCloser
	read atomic.Int64
}

func (c *countingStream) Read(b []byte) (int, error) {
	n, err := c.ReadWriteCloser.Read(b)
	c.read.Add(int64(n))
	return n, err
}
