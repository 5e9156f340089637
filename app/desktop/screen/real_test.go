package screen

import (
	"bufio"
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hxen-project/hxen/hv/hvtest"
)

// real is an X server with a window manager, a QEMU and our window on it.
type real struct {
	testing.TB
	dir     string
	display *hvtest.Display

	sock    string
	monitor string
	qemu    *exec.Cmd
	window  *exec.Cmd
	in      io.Writer
	lines   chan string // answers of the window
	events  chan string // lines with a star
}

// start runs a program for the length of the test.
func (r *real) start(name string, args ...string) *exec.Cmd {
	r.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "DISPLAY="+r.display.Name)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if r.Failed() {
			r.Logf("%s: %s", name, said.String())
		}
	})
	return cmd
}

// run runs a program to its end and returns what it says.
func (r *real) run(name string, args ...string) string {
	r.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "DISPLAY="+r.display.Name)
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// eventually looks until ok; what it looks at has no event to wait for.
func (r *real) eventually(what string, ok func() bool) {
	r.Helper()
	for end := time.Now().Add(hang); !ok(); {
		if time.Now().After(end) {
			r.keep("failed")
			r.Fatalf("waiting for %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// newReal starts an X server of its own and a QEMU with the given devices.
func newReal(t testing.TB, guest ...string) *real {
	t.Helper()
	hvtest.Require(t, "qemu", "display")
	dir, err := os.MkdirTemp("", "scr") // short: a socket's path is bounded
	if err != nil {
		t.Fatal(err)
	}
	r := &real{TB: t, dir: dir, sock: filepath.Join(dir, "vnc"), monitor: filepath.Join(dir, "mon"),
		lines: make(chan string, 100), events: make(chan string, 1000)}
	t.Cleanup(func() { os.RemoveAll(dir) })
	r.display = hvtest.NewDisplay(t, "1440x960")
	r.qemu = r.start("qemu-system-x86_64", append([]string{"-nodefaults", "-accel", "tcg", "-m", "128", "-display", "none",
		"-monitor", "unix:" + r.monitor + ",server=on,wait=off", "-vnc", "unix:" + r.sock}, guest...)...)
	r.eventually("QEMU's socket", func() bool { _, err := os.Stat(r.sock); return err == nil })
	return r
}

// open shows the guest in our window, 1280x800 at the given scale.
func (r *real) open(scale string) {
	r.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "DISPLAY="+r.display.Name, "FYNE_SCALE="+scale, "FYNE_PLATFORM=x11", "LP_NUM_THREADS=0", // as hxen-desktop sets it
		"HOME="+r.dir, "XDG_CONFIG_HOME="+r.dir, windowEnv+"="+r.sock)
	in, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		r.Fatal(err)
	}
	r.window, r.in = cmd, in
	r.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if r.Failed() {
			r.Logf("window: %s", said.String())
		}
	})
	go func() {
		for s := bufio.NewScanner(out); s.Scan(); {
			if strings.HasPrefix(s.Text(), "*") {
				r.events <- s.Text()
			} else {
				r.lines <- s.Text()
			}
		}
		close(r.lines)
	}()
	r.display.Activate(r, "screentest")
	r.eventually("the first picture", func() bool { return r.ask("guest") != "(0,0)" })
	r.ask("size 1280 800") // the window's scale is known by now
	r.eventually("the window's size", func() bool { return r.grab().Rect.Max == image.Pt(1280, 800) })
}

// id is our window's.
func (r *real) id() string {
	return r.run("xdotool", "search", "--onlyvisible", "--name", "screentest")
}

// ask gives the window one order.
func (r *real) ask(order string) string {
	r.Helper()
	fmt.Fprintln(r.in, order)
	select {
	case line, ok := <-r.lines:
		if !ok {
			r.Fatal("the window is gone")
		}
		return line
	case <-time.After(hang):
		r.Fatalf("the window does not answer %q", order)
	}
	return ""
}

// grab photographs the window's content: what is on the glass.
func (r *real) grab() *image.RGBA {
	r.Helper()
	file := filepath.Join(r.dir, "grab.png")
	r.run("import", "-window", r.id(), file)
	return load(r, file)
}

func load(t testing.TB, file string) *image.RGBA {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	img, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	out := image.NewRGBA(img.Bounds())
	for y := out.Rect.Min.Y; y < out.Rect.Max.Y; y++ {
		for x := out.Rect.Min.X; x < out.Rect.Max.X; x++ {
			out.Set(x, y, img.At(x, y))
		}
	}
	return out
}

func (r *real) keep(name string) {
	if dir := os.Getenv("HXEN_KEEP_SCREENSHOTS"); dir != "" {
		r.run("import", "-window", "root", filepath.Join(dir, name+".png"))
	}
}

func (r *real) cpu(pid int) time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		r.Fatal(err)
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+2:]))
	user, _ := strconv.Atoi(f[11])
	sys, _ := strconv.Atoi(f[12])
	return time.Duration(user+sys) * 10 * time.Millisecond // USER_HZ is 100 on Linux
}

// painter is the guest in hv/rfb/testdata/paint.S.
func painter(t testing.TB) []string {
	file, err := filepath.Abs("../../../hv/rfb/testdata/paint.bin")
	if err != nil {
		t.Fatal(err)
	}
	return []string{"-M", "pc", "-device", "VGA,addr=02.0",
		"-drive", "if=floppy,format=raw,readonly=on,file=" + file}
}

var blockColours = [2]color.RGBA{{0x20, 0x40, 0xff, 255}, {255, 255, 255, 255}}

// The window shows what the guest painted, pixel by pixel, and keys typed by the
// user reach the guest.
func TestRealWindow(t *testing.T) {
	r := newReal(t, painter(t)...)
	r.open("1")
	block := func(n int) func() bool {
		return func() bool { return r.grab().RGBAAt(40, 40) == blockColours[n%2] }
	}
	r.eventually("the guest's picture", block(0))
	if got := r.ask("place"); got != "(0,0)-(1280,800)" {
		t.Errorf("the picture is at %s", got)
	}
	r.run("xdotool", "mousemove", "--sync", "700", "500", "click", "1")
	r.eventually("the grab", func() bool {
		return len(r.events) > 0 && strings.Contains(strings.Join(drain(r.events), " "), "grab true")
	})
	for n := 1; n < 4; n++ {
		r.run("xdotool", "key", "a")
		r.eventually("the block to change", block(n))
	}
	r.run("xdotool", "key", "f") // the gradient, whole screen
	r.eventually("the gradient", func() bool { return r.grab().RGBAAt(1279, 799) != color.RGBA{0, 0, 0, 255} })
	r.run("xdotool", "key", "a")
	r.eventually("the block over the gradient", block(4))
	r.keep("painter")

	// A still guest: the glass shows the guest's own picture, all of it.
	snapshot := filepath.Join(r.dir, "snap.png")
	r.eventually("the same picture on the glass and in the guest", func() bool {
		r.ask("snapshot " + snapshot)
		return bytes.Equal(load(t, snapshot).Pix, r.grab().Pix)
	})

	r.eventually("a loop that waits for input", func() bool { return r.ask("paced") == "true" })
	if r.ask("pane") != "true" {
		t.Error("Fyne's slow raster is used")
	}

	// The release key gives the keyboard back: no key reaches the guest then.
	drain(r.events)
	r.run("xdotool", "key", "105") // Right Ctrl by its number; by name xdotool adds a Left Ctrl
	r.eventually("the release", func() bool { return strings.Contains(strings.Join(drain(r.events), " "), "grab false") })
	before := r.ask("paints")
	r.run("xdotool", "key", "a")
	if !block(4)() {
		t.Error("a key reached the guest after the release")
	}
	r.run("xdotool", "click", "1")
	r.eventually("the grab", func() bool { return strings.Contains(strings.Join(drain(r.events), " "), "grab true") })
	r.run("xdotool", "key", "a")
	r.keep("again")
	r.eventually("the keyboard again", block(5))
	if r.ask("paints") == before {
		t.Error("no paint is counted")
	}
}

func drain(c chan string) []string {
	var all []string
	for len(c) > 0 {
		all = append(all, <-c)
	}
	return all
}

// A minimised window asks for nothing and paints nothing; restored it is up to
// date.
func TestRealWindowMinimised(t *testing.T) {
	r := newReal(t, painter(t)...)
	r.open("1")
	r.run("xdotool", "mousemove", "--sync", "700", "500", "click", "1")
	r.eventually("the first block", func() bool { return r.grab().RGBAAt(40, 40) == blockColours[0] })
	r.run("xdotool", "key", "s") // paints without end
	paints := func() int { n, _ := strconv.Atoi(r.ask("paints")); return n }
	start := paints()
	r.eventually("paints", func() bool { return paints() > start+5 })
	id := r.id()
	r.run("xdotool", "windowminimize", "--sync", id)
	// What was asked for before may still arrive; then there is silence.
	last, since := paints(), time.Now()
	r.eventually("silence", func() bool {
		if n := paints(); n != last {
			last, since = n, time.Now()
		}
		return time.Since(since) > time.Second
	})
	r.run("xdotool", "windowmap", "--sync", id)
	r.eventually("paints again", func() bool { return paints() > last+5 })
}

// At scale 2 the picture still has device pixels and the pointer still meets
// them.
func TestRealWindowAtScale2(t *testing.T) {
	r := newReal(t, painter(t)...)
	r.open("2")
	r.eventually("the guest's picture", func() bool { return r.grab().RGBAAt(40, 40) == blockColours[0] })
	if got := r.ask("place"); got != "(0,0)-(1280,800)" {
		t.Errorf("the picture is at %s", got)
	}
	img := r.grab()
	for p, want := range map[image.Point]color.RGBA{{63, 63}: blockColours[0], {64, 64}: {0, 0, 0, 255}, {64, 10}: {0, 0, 0, 255}} {
		if got := img.RGBAAt(p.X, p.Y); got != want {
			t.Errorf("%v is %v, want %v", p, got, want)
		}
	}
	r.keep("scale2")
}
