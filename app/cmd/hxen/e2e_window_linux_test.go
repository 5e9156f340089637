package main

import (
	"encoding/json"
	"fmt"
	"image"
	"image/draw"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/hv/hvtest"
)

// desk is an X server with a window manager and HXEN's real window on it.
type desk struct {
	h       *house
	display *hvtest.Display
	env     []string
	home    string // of the window: its settings, and the photos
}

// desktop starts the window as a user does; it finds or starts the service of
// this house.
func (h *house) desktop(args ...string) *desk {
	h.t.Helper()
	bin, err := windowProgram()
	if err != nil {
		h.t.Fatal(err)
	}
	d := &desk{h: h, env: h.env, home: h.t.TempDir()}
	d.display = hvtest.NewDisplay(h.t, "1280x1000")
	d.env = append(d.env[:len(d.env):len(d.env)], "DISPLAY="+d.display.Name, "WAYLAND_DISPLAY=", "FYNE_THEME=dark", "FYNE_SCALE=1",
		"HOME="+d.home, "XDG_CONFIG_HOME="+d.home, "XDG_CACHE_HOME="+d.home)
	window := exec.Command(filepath.Join(bin, "hxen-desktop"), args...)
	window.Stderr = os.Stderr
	d.start(window)
	return d
}

// start runs a program on the desk. It belongs to the house, which ends it.
func (d *desk) start(c *exec.Cmd) {
	d.h.t.Helper()
	c.Env = d.env
	if err := c.Start(); err != nil {
		d.h.t.Fatal(err)
	}
	go func() { _ = c.Wait() }()
}

func (d *desk) xdotool(args ...string) {
	d.h.t.Helper()
	c := exec.CommandContext(d.h.t.Context(), "xdotool", args...)
	c.Env = d.env
	if out, err := c.CombinedOutput(); err != nil {
		d.h.t.Fatalf("xdotool %q: %v\n%s", args, err, out)
	}
}

// raise waits for a window and gives it the keyboard.
func (d *desk) raise(title string) {
	d.h.t.Helper()
	d.display.Activate(d.h.t, title)
}

// raiseGuest does so with a guest's window. Where no language is set its old-style
// title, which xdotool goes by, has lost the dash.
func (d *desk) raiseGuest(name string) {
	d.h.t.Helper()
	d.raise("^" + name + " .*HXEN$")
}

// photo takes a picture of the whole desk. With HXEN_TEST_PHOTOS pictures are
// kept there for a person to look at.
func (d *desk) photo(name string) *image.RGBA {
	d.h.t.Helper()
	dir := d.home
	if keep := os.Getenv("HXEN_TEST_PHOTOS"); keep != "" {
		dir = keep
	}
	path := filepath.Join(dir, strings.ReplaceAll(d.h.t.Name(), "/", "-")+"-"+name+".png")
	c := exec.Command("import", "-window", "root", path)
	c.Env = d.env
	if out, err := c.CombinedOutput(); err != nil {
		d.h.t.Fatalf("import: %v\n%s", err, out)
	}
	f, err := os.Open(path)
	if err != nil {
		d.h.t.Fatal(err)
	}
	defer f.Close()
	img, err := png.Decode(f)
	if err != nil {
		d.h.t.Fatal(err)
	}
	out := image.NewRGBA(img.Bounds())
	draw.Draw(out, out.Rect, img, img.Bounds().Min, draw.Src)
	return out
}

// step does something to the window and waits until it shows something else and
// has come to rest.
func (d *desk) step(name string, do func()) {
	d.h.t.Helper()
	before := d.photo(name)
	do()
	d.h.eventually("the window to show "+name, func() bool { return changed(before, d.photo(name)) })
	last, since := d.photo(name), time.Now()
	d.h.eventually("the window to rest at "+name, func() bool {
		now := d.photo(name)
		if changed(last, now) {
			last, since = now, time.Now()
		}
		return time.Since(since) > time.Second
	})
}

// TestMakeRunWindow is what "make run" does with a display: the example guest
// in its window, where a person types.
func TestMakeRunWindow(t *testing.T) {
	hvtest.Require(t, "display", "images")
	h := newHouse(t)
	h.must("demo")
	d := h.desktop("--open", "demo")
	s := h.console("demo")
	s.expect("demo# ")
	screen := func() string { return s.run("cat /dev/vcs1") } // what the guest's screen shows, see vcs(4)
	h.eventually("a prompt on the guest's screen", func() bool { return strings.Contains(screen(), "demo# ") })
	d.raiseGuest("demo")
	h.eventually("the guest's screen in the window", func() bool {
		seen := d.inside(d.photo("prompt")) // the window itself is not wholly black
		return colours(seen)[[3]byte{}] > len(seen.Pix)/4/2 && lit(seen) > 1000
	})
	before, shown := h.screen("demo"), d.inside(d.photo("prompt"))
	d.xdotool("type", "--delay", "50", "uname -a")
	d.xdotool("key", "Return")
	h.eventually("the answer on the guest's screen", func() bool { return strings.Contains(screen(), "Linux demo ") })
	if after := h.screen("demo"); lit(after) <= lit(before) {
		t.Error("the picture of the screen did not change")
	}
	h.eventually("the answer in the window", func() bool { return lit(d.inside(d.photo("answer"))) > lit(shown)+500 })
}

// TestWizardBootsMedia makes guests from CD images as a person does, by keyboard
// in the window, and looks at what they show there.
func TestWizardBootsMedia(t *testing.T) {
	long(t)
	hvtest.Require(t, "display")
	memtest, grub := firstOf(t, "memtest86+", memtestISOs), firstOf(t, "GRUB", grubISOs)
	for _, c := range []struct {
		name, iso string
		uefi      bool
		shows     func(*image.RGBA) bool
	}{
		{"grub-bios", grub, false, greyBar},
		{"memtest-bios", memtest, false, isMemtest},
		{"memtest-uefi", memtest, true, isMemtest},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHouse(t)
			d := h.desktop()
			d.raise("^HXEN$")
			d.step("wizard", func() { d.xdotool("key", "ctrl+n") })
			d.step("source", func() { d.xdotool("type", "--delay", "20", c.iso) })
			d.step("resources", func() { d.xdotool("key", "Return") })
			d.xdotool("key", "ctrl+a")
			d.xdotool("type", "512")
			if c.uefi {
				d.xdotool("key", "Tab", "Tab", "Tab", "Tab", "Tab", "Right")
			}
			d.step("name", func() { d.xdotool("key", "Return") })
			d.xdotool("key", "ctrl+a")
			d.xdotool("type", "--delay", "20", c.name)
			d.step("summary", func() { d.xdotool("key", "Return") })
			d.xdotool("key", "Return")
			h.eventually("the new guest to run", func() bool {
				var all []api.VM
				out, _, code := h.hxen("", "list", "-l", c.name)
				return code == 0 && json.Unmarshal([]byte(out), &all) == nil && len(all) == 1 && all[0].PowerState == "Running"
			})
			vm := h.vm(c.name)
			if uefi := vm.HVMBootParams[api.KeyFirmware] == "uefi"; uefi != c.uefi || vm.MemoryStaticMax != 512<<20 {
				t.Errorf("the wizard made a guest with %v and %d bytes", vm.HVMBootParams, vm.MemoryStaticMax)
			}
			d.xdotool("key", "Return") // opens the selected guest's screen
			d.raiseGuest(c.name)
			h.eventually("the guest's screen", func() bool { return c.shows(h.screen(c.name)) })
			h.eventually("the guest's screen in the window", func() bool { return c.shows(d.inside(d.photo("screen"))) })
			h.must("destroy", c.name)
		})
	}
}

// TestInstallerInTheWindow walks through two pages of Debian's graphical
// installer as a person does: keys and clicks on the window, and what the window
// shows.
func TestInstallerInTheWindow(t *testing.T) {
	long(t)
	hvtest.Require(t, "display", "images")
	h := newHouse(t)
	const name = "installer"
	h.must("new", name, "--iso", installerISO(t), "--memory", "1G", "--vcpus", "2", "--disk-size", "4G")
	h.must("start", name)
	d := h.desktop("--open", name)
	d.raiseGuest(name)
	for page := range 2 { // language, country
		shown := fmt.Sprint("page", page+1)
		selected := func() int { return selection(d.inside(d.photo(shown))) }
		h.eventually("a list in the window", func() bool { return selected() > 0 })
		before := h.still(name)
		first := selected()
		d.xdotool("key", "Down")
		h.eventually("the arrow key to move the selection", func() bool { return selected() > first })
		for _, y := range []int{first - 6*rowHeight, first} { // both lists begin above
			d.click(300, y)
			h.eventually("a click to move the selection", func() bool {
				at := selected()
				return at > y-2*rowHeight && at < y+2*rowHeight // the window shows more than 800 by 600 points
			})
		}
		d.xdotool("key", "Return")
		h.eventually("the next page", func() bool {
			now := h.screen(name)
			return selection(now) > 0 && changed(title(before), title(now))
		})
	}
	h.eventually("the third page in the window", func() bool { return selection(d.inside(d.photo("page3"))) > 0 })
	h.must("destroy", name)
}

// click clicks on a point of what inside shows.
func (d *desk) click(x, y int) {
	d.h.t.Helper()
	p := inside(d.photo("click").Rect).Min.Add(image.Pt(x, y))
	d.xdotool("mousemove", fmt.Sprint(p.X), fmt.Sprint(p.Y), "click", "1")
}

// inside is the part of a photo where the guest's screen is in its window, which
// openbox puts at the left and low, as it does not fit beside the library.
func (d *desk) inside(img *image.RGBA) *image.RGBA {
	r := inside(img.Rect)
	out := image.NewRGBA(image.Rect(0, 0, r.Dx(), r.Dy()))
	draw.Draw(out, out.Rect, img, r.Min, draw.Src)
	return out
}

func inside(desk image.Rectangle) image.Rectangle {
	return image.Rect(desk.Dx()/20, desk.Dy()/4, desk.Dx()*3/4, desk.Dy()*19/20)
}
