package hvtest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"image"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Display is an X server of the test's own, with a window manager.
type Display struct {
	Name   string // as in DISPLAY: ":3"
	Server int    // the X server's process id
	pixels string // the file that is its screen, an XWD dump (X11/XWDFile.h: big-endian words)
}

// NewDisplay starts an X server with a screen of this size ("1280x800"), 24 bits
// deep, and a window manager. Both end with the test.
func NewDisplay(t testing.TB, size string) *Display {
	t.Helper()
	Require(t, "display")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	dir := t.TempDir()
	// The server picks a free display and writes its number (Xserver(1), -displayfd).
	x := exec.Command("Xvfb", "-displayfd", "3", "-screen", "0", size+"x24", "-noreset", "-ac", "-nolisten", "tcp", "-fbdir", dir)
	x.ExtraFiles = []*os.File{w}
	began(t, x)
	w.Close()
	number, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		t.Fatalf("Xvfb: %v", err)
	}
	d := &Display{Name: ":" + strings.TrimSpace(number), Server: x.Process.Pid, pixels: filepath.Join(dir, "Xvfb_screen0")}
	wm := exec.Command("openbox")
	wm.Env = d.Env()
	began(t, wm)
	for end := time.Now().Add(3 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		asked := exec.Command("xprop", "-root", "_NET_SUPPORTING_WM_CHECK")
		asked.Env = d.Env()
		if out, _ := asked.CombinedOutput(); bytes.Contains(out, []byte("window id")) {
			return d
		}
		if time.Now().After(end) {
			t.Fatal("the window manager does not begin")
		}
	}
}

func began(t testing.TB, c *exec.Cmd) {
	t.Helper()
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
	})
}

// Env is this process's environment with the display in it.
func (d *Display) Env() []string {
	return append(os.Environ(), "DISPLAY="+d.Name, "WAYLAND_DISPLAY=")
}

// Activate waits for a window whose title matches the regexp and gives it the
// keyboard.
func (d *Display) Activate(t testing.TB, title string) {
	t.Helper()
	if err := d.ActivateWithin(t, title, Guard); err != nil {
		t.Fatal(err)
	}
}

// ActivateWithin is Activate with an end. It asks again and again: a request can be
// lost to a window that is still being mapped, and who waits for its effect waits for
// good. The error shows what windows there are.
func (d *Display) ActivateWithin(t testing.TB, title string, limit time.Duration) error {
	run := func(name string, args ...string) ([]byte, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		x := exec.CommandContext(ctx, name, args...)
		x.Env = d.Env()
		return x.CombinedOutput()
	}
	for end := time.Now().Add(limit); ; {
		out, err := run("xdotool", "search", "--onlyvisible", "--name", title, "windowactivate", "--sync")
		if err == nil {
			return nil
		}
		if time.Now().After(end) {
			tree, _ := run("xwininfo", "-root", "-tree")
			return fmt.Errorf("no window %q takes the keyboard: %w\n%s\n%s", title, err, out, tree)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// Glass is the X server's framebuffer, read from its file: looking at it costs the
// programs that are measured next to nothing, as asking the server would not.
type Glass struct {
	t              testing.TB
	file           *os.File
	offset, stride int64 // of the first pixel, and from row to row, in bytes
	rows           int64
}

// Glass opens it, until the test ends.
func (d *Display) Glass(t testing.TB) *Glass {
	t.Helper()
	f, err := os.Open(d.pixels)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	head := make([]byte, 25*4)
	if _, err := f.ReadAt(head, 0); err != nil {
		t.Fatal(err)
	}
	word := func(i int) int64 { return int64(binary.BigEndian.Uint32(head[4*i:])) }
	const headerSize, height, bytesPerLine, colours, colourBytes = 0, 5, 12, 19, 12
	return &Glass{t, f, word(headerSize) + word(colours)*colourBytes, word(bytesPerLine), word(height)}
}

// At is the pixel at p, as 0xRRGGBB.
func (g *Glass) At(p image.Point) uint32 {
	g.t.Helper()
	var b [4]byte
	if _, err := g.file.ReadAt(b[:], g.offset+int64(p.Y)*g.stride+4*int64(p.X)); err != nil {
		g.t.Fatal(err)
	}
	return binary.LittleEndian.Uint32(b[:])
}

// Painted reports whether there is more than an empty desktop and a window's bare
// frame. It looks at every eighth row.
func (g *Glass) Painted() bool {
	g.t.Helper()
	colours := map[uint32]bool{}
	line := make([]byte, g.stride)
	for y := int64(0); y < g.rows; y += 8 {
		if _, err := g.file.ReadAt(line, g.offset+y*g.stride); err != nil {
			g.t.Fatal(err)
		}
		for x := 0; x+4 <= len(line); x += 4 {
			colours[binary.LittleEndian.Uint32(line[x:])] = true
		}
	}
	return len(colours) > 64
}
