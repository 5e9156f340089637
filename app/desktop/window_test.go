package desktop

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"image"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fyne.io/fyne/v2"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/app/desktop/model"
	"github.com/hxen-project/hxen/app/desktop/model/modeltest"
	"github.com/hxen-project/hxen/hv/hvtest"
)

// windowVar makes the test binary a program that shows the real windows over a
// service in memory, for tests that look at them from outside. Its value names
// the scene.
const windowVar = "HXEN_TEST_WINDOW"

func TestMain(m *testing.M) {
	if scene := os.Getenv(windowVar); scene != "" {
		showScene(scene)
		return
	}
	os.Exit(m.Run())
}

// scene fills a service with guests in all manners of states.
func scene(name string) *modeltest.Service {
	s := modeltest.New()
	s.SetProbe("/isos/debian-12.iso", api.ProbeResult{Kind: "iso", Format: "iso9660", Size: 660 << 20, Label: "Debian 12.9.0 amd64 n", OS: "Debian 12", BIOS: true, UEFI: true})
	if name == "empty" {
		return s
	}
	s.SetHost(func(h *api.HostInfo) {
		h.Accel, h.AccelWhy = "tcg", "KVM is present but does not run guests: a test guest did not answer within 2 s."
		h.AccelCure = "Switch on nested virtualisation where this computer itself is a guest."
	})
	s.Add("debian-build", model.Running)
	s.Add("Windows 11", model.Paused, func(v *api.VM) { v.MemoryStaticMax, v.VCPUsMax = 8<<30, 4 })
	s.Add("alpine", model.Halted, func(v *api.VM) { v.MemoryStaticMax, v.VCPUsMax = 512<<20, 1 })
	crashed := s.Add("freebsd-ports", model.Halted)
	s.Change(crashed, func(v *api.VM) {
		v.OtherConfig[api.KeyLastExit], v.OtherConfig[api.KeyLastText] = "crash", "The guest crashed: triple fault at 0x7c00."
	})
	web := s.Add("web-frontend with a rather long name", model.Running)
	s.Change(web, func(v *api.VM) {
		v.OtherConfig[api.KeyNotice] = "Disk vda: writing failed, the host's disk is full. Free some room, then resume."
	})
	broken := s.Add("old-copy", model.Halted)
	s.Change(broken, func(v *api.VM) {
		v.OtherConfig[api.KeyBroken] = "Its spec.json cannot be read: unexpected end of JSON input at byte 120."
		v.AllowedOperations = nil
	})
	for i := range sceneExtra(name) {
		s.Add(fmt.Sprintf("node-%02d", i+1), []string{model.Running, model.Halted}[i%2])
	}
	if name == "task" {
		s.Hold("Create")
	}
	return s
}

func sceneExtra(name string) int {
	if name == "fifty" {
		return 44
	}
	return 3
}

// showScene shows the real window and tells on standard output, a line of JSON
// at a time, what is on it whenever that changes.
func showScene(name string) {
	svc := scene(name)
	o := Options{Service: svc, Prefs: model.LoadPrefs(os.Getenv("HXEN_TEST_PREFS")), Version: "test"}
	switch name {
	case "console":
		o.Console = "debian-build"
	case "iso":
		o.ISO = "/isos/debian-12.iso"
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	run(ctx, o, func(a *App) { go tellScene(ctx, a, svc) })
}

// told is a line of what is on the window.
type told struct {
	Selected string
	State    string
	Dialogs  int
	Words    string // of the topmost dialog
	Calls    []string
	Created  []api.NewGuest
	Width    float32
	Height   float32
}

func tellScene(ctx context.Context, a *App, svc *modeltest.Service) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	last, next := "", ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if next != last { // painted since: a beat of the loop has passed
			last = next
			fmt.Println(last)
		}
		fyne.DoAndWait(func() {
			l := a.library
			if l == nil {
				return
			}
			size := l.win.Canvas().Size()
			x := told{Dialogs: len(l.modals), Calls: svc.Calls(), Created: svc.Created(), Width: size.Width, Height: size.Height}
			if vm := l.current(); vm != nil {
				x.Selected, x.State = vm.Name(), vm.StateText()
			}
			if m := l.top(); m != nil {
				x.Words = words(m.pop.Content)
			}
			b, err := json.Marshal(x)
			if err == nil {
				next = string(b)
			}
		})
	}
}

// driven is a real window on an X server of its own.
type driven struct {
	t       *testing.T
	display *hvtest.Display
	env     []string
	lines   chan told
	last    told
	ended   chan error
	shot    image.Image
}

// drive shows a scene on a new X server with a window manager.
func drive(t *testing.T, name, size string, env ...string) *driven {
	t.Helper()
	display := hvtest.NewDisplay(t, size)
	dir := t.TempDir()
	d := &driven{t: t, display: display, lines: make(chan told, 1024), ended: make(chan error, 1)}
	d.env = append(os.Environ(), "DISPLAY="+display.Name, "WAYLAND_DISPLAY=", "HOME="+dir, "XDG_CONFIG_HOME="+dir,
		"XDG_CACHE_HOME="+dir, "HXEN_TEST_PREFS="+filepath.Join(dir, "window.json"), windowVar+"="+name)
	d.env = append(d.env, env...)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	window := exec.Command(self)
	window.Env = d.env
	window.Stderr = os.Stderr
	out, err := window.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := window.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		in := bufio.NewScanner(out)
		in.Buffer(nil, 1<<20)
		for in.Scan() {
			var x told
			if json.Unmarshal(in.Bytes(), &x) == nil {
				d.lines <- x
			}
		}
		d.ended <- window.Wait()
	}()
	t.Cleanup(func() { _ = window.Process.Kill() })
	return d
}

// until waits for the window to tell what is wanted; the time only guards
// against a hang.
func (d *driven) until(what string, ok func(told) bool) {
	d.t.Helper()
	guard := time.After(5 * time.Minute)
	for !ok(d.last) {
		select {
		case d.last = <-d.lines:
		case err := <-d.ended:
			d.t.Fatalf("the window ended (%v) before %s", err, what)
		case <-guard:
			d.t.Fatalf("waited in vain: %s; the window tells %+v", what, d.last)
		}
	}
}

func (d *driven) xdotool(args ...string) {
	d.t.Helper()
	c := exec.Command("xdotool", args...)
	c.Env = d.env
	if out, err := c.CombinedOutput(); err != nil {
		d.t.Fatalf("xdotool %q: %v\n%s", args, err, out)
	}
}

// photo takes a picture of the whole screen as soon as it shows something else
// than the last photo did: what the window tells is painted a moment later. With
// HXEN_TEST_PHOTOS pictures are kept there for a person to look at.
func (d *driven) photo(name string) image.Image {
	d.t.Helper()
	dir := d.t.TempDir()
	if keep := os.Getenv("HXEN_TEST_PHOTOS"); keep != "" {
		dir = keep
	}
	path := filepath.Join(dir, strings.ReplaceAll(d.t.Name(), "/", "-")+"-"+name+".png")
	for guard := time.Now().Add(5 * time.Minute); time.Now().Before(guard); {
		if img := d.capture(path); d.shot == nil || differ(d.shot, img) {
			d.shot = img
			return img
		}
	}
	d.t.Fatalf("the screen does not change for %s", name)
	return nil
}

func (d *driven) capture(path string) image.Image {
	d.t.Helper()
	c := exec.Command("import", "-window", "root", path)
	c.Env = d.env
	if out, err := c.CombinedOutput(); err != nil {
		d.t.Fatalf("import: %v\n%s", err, out)
	}
	f, err := os.Open(path)
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	img, err := png.Decode(f)
	if err != nil {
		d.t.Fatal(err)
	}
	return img
}

// differ reports whether more than a hundredth of the pixels differ.
func differ(a, b image.Image) bool {
	n, all := 0, 0
	for y := a.Bounds().Min.Y; y < a.Bounds().Max.Y; y += 3 {
		for x := a.Bounds().Min.X; x < a.Bounds().Max.X; x += 3 {
			all++
			if a.At(x, y) != b.At(x, y) {
				n++
			}
		}
	}
	return n*100 > all
}

// colours counts the colours of a picture: a window that shows texts has many,
// an empty one few.
func colours(img image.Image) int {
	seen := map[[3]uint32]bool{}
	b := img.Bounds()
	for y := b.Min.Y; y < b.Max.Y; y += 2 {
		for x := b.Min.X; x < b.Max.X; x += 2 {
			r, g, bl, _ := img.At(x, y).RGBA()
			seen[[3]uint32{r >> 12, g >> 12, bl >> 12}] = true
		}
	}
	return len(seen)
}

func TestRealWindowByKeyboard(t *testing.T) {
	d := drive(t, "main", "800x600", "FYNE_THEME=light")
	d.until("the list", func(x told) bool { return x.Selected == "alpine" })
	d.display.Activate(t, "^HXEN$")
	d.xdotool("key", "Down")
	d.until("the next guest", func(x told) bool { return x.Selected == "debian-build" })
	if n := colours(d.photo("library")); n < 30 {
		t.Errorf("the library shows %d colours", n)
	}
	d.xdotool("key", "ctrl+n")
	d.until("the wizard", func(x told) bool { return x.Dialogs == 1 && strings.Contains(x.Words, "CD image") })
	d.xdotool("type", "--delay", "20", "/isos/debian-12.iso")
	d.until("the file is known", func(x told) bool { return strings.Contains(x.Words, "Debian 12") })
	d.photo("source")
	d.xdotool("key", "Return")
	d.until("resources", func(x told) bool { return strings.Contains(x.Words, "Processors") })
	d.xdotool("key", "ctrl+a")
	d.xdotool("type", "2048")
	d.photo("resources")
	d.xdotool("key", "Return")
	d.until("the name", func(x told) bool { return strings.Contains(x.Words, "on the command line") })
	d.xdotool("key", "Return")
	d.until("the summary", func(x told) bool { return strings.Contains(x.Words, "This will be created") })
	d.photo("summary")
	d.xdotool("key", "Return")
	d.until("the new guest runs and is selected", func(x told) bool { return x.Dialogs == 0 && x.Selected == "Debian 12" && x.State == "Running" })
	if g := d.last.Created; len(g) != 1 || g[0].Memory != 2<<30 || g[0].ISO != "/isos/debian-12.iso" {
		t.Errorf("created %+v", g)
	}
	d.xdotool("key", "ctrl+k")
	d.until("the question", func(x told) bool { return x.Dialogs == 1 && strings.Contains(x.Words, "pulling the plug") })
	d.xdotool("key", "Tab", "Return")
	d.until("it is off", func(x told) bool { return x.Dialogs == 0 && x.State == "Off" })
	d.xdotool("key", "F1")
	d.until("the help", func(x told) bool { return strings.Contains(x.Words, "Ctrl+N") })
	d.photo("help")
	d.xdotool("key", "Escape")
	d.until("no dialog", func(x told) bool { return x.Dialogs == 0 })
	d.xdotool("key", "Delete")
	d.until("the delete question", func(x told) bool { return strings.Contains(x.Words, "disk-1.qcow2") })
	d.photo("delete")
	d.xdotool("key", "Tab", "Tab", "space")
	d.until("it is deleted", func(x told) bool { return x.Dialogs == 0 && x.Selected == "debian-build" })
	if c := d.last.Calls; c[len(c)-1] != "Delete" {
		t.Errorf("calls %q", c)
	}
	d.xdotool("key", "ctrl+w")
	select {
	case err := <-d.ended:
		if err != nil {
			t.Errorf("the window ended with %v", err)
		}
	case <-time.After(5 * time.Minute):
		t.Error("Ctrl+W does not close the window")
	}
}

// TestRealWindowOnADenseScreen looks at the window at twice the density, dark.
func TestRealWindowOnADenseScreen(t *testing.T) {
	d := drive(t, "fifty", "1600x1200", "FYNE_THEME=dark", "FYNE_SCALE=2")
	d.until("the list", func(x told) bool { return x.Selected == "alpine" })
	d.display.Activate(t, "^HXEN$")
	d.photo("first")
	d.xdotool("key", "End", "ctrl+t")
	d.until("the settings", func(x told) bool { return x.Dialogs == 1 && strings.Contains(x.Words, "Boot order") })
	if n := colours(d.photo("settings")); n < 20 {
		t.Errorf("the settings show %d colours", n)
	}
	d.until("the window fits the screen of 800 by 600 points", func(x told) bool { return x.Width <= 800 && x.Height <= 600 })
	d.xdotool("key", "Escape")
	d.until("no dialog", func(x told) bool { return x.Dialogs == 0 })
	d.photo("library")
}
