package main

import (
	"context"
	"image"
	"image/draw"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/app/client"
	"github.com/hxen-project/hxen/hv/hvtest"
	"github.com/hxen-project/hxen/hv/rfb"
)

// Images that distributions' packages bring: memtest86+ and grub-rescue-pc.
var (
	memtestISOs = []string{"/usr/lib/memtest86+/memtest86+x64.iso", "/boot/memtest86+x64.iso", "/boot/memtest86+.iso"}
	grubISOs    = []string{"/usr/lib/grub-rescue/grub-rescue-cdrom.iso"}
)

func firstOf(t *testing.T, what string, files []string) string {
	t.Helper()
	for _, f := range files {
		if _, err := os.Stat(f); err == nil {
			return f
		}
	}
	t.Skipf("this distribution's package has no ISO of %s", what)
	return ""
}

// TestMemtest boots memtest86+ from its CD image; its screen is mostly blue and
// does not stand still.
func TestMemtest(t *testing.T) {
	long(t) // under TCG it looks for USB devices for more than a minute first
	h := newHouse(t)
	iso := firstOf(t, "memtest86+", memtestISOs)
	for _, firmware := range []string{"bios", "uefi"} {
		t.Run(firmware, func(t *testing.T) {
			h := *h
			h.t = t
			name := "memtest-" + firmware
			h.must("new", name, "--iso", iso, "--firmware", firmware, "--memory", "256M", "--vcpus", "1", "--display", "std")
			h.must("start", name)
			h.eventually("memtest86+'s blue screen", func() bool { return isMemtest(h.screen(name)) })
			before := h.screen(name)
			h.eventually("the screen to change", func() bool { return changed(before, h.screen(name)) })
			h.must("destroy", name)
		})
	}
}

// isMemtest: most of the screen has one blue.
func isMemtest(img *image.RGBA) bool {
	blue, all := 0, img.Bounds().Dx()*img.Bounds().Dy()
	for c, n := range colours(img) {
		if c[2] >= 0x80 && c[0] < 0x40 && c[1] < 0x40 {
			blue += n
		}
	}
	return blue > all*6/10
}

// changed reports whether more than a blinking cursor differs.
func changed(a, b *image.RGBA) bool {
	if a.Rect != b.Rect {
		return true
	}
	n := 0
	for i := 0; i < len(a.Pix); i += 4 {
		if [4]byte(a.Pix[i:i+4]) != [4]byte(b.Pix[i:i+4]) {
			n++
		}
	}
	return n > 200
}

// lit counts the pixels that are not nearly black.
func lit(img *image.RGBA) int {
	n := 0
	for c, pixels := range colours(img) {
		if int(c[0])+int(c[1])+int(c[2]) > 60 {
			n += pixels
		}
	}
	return n
}

// Linux KEY_* codes, input-event-codes.h.
const (
	keyL     = 38
	keyS     = 31
	keyC     = 46
	keyEnter = 28
	keyDown  = 108
)

// TestGRUBRescue boots GRUB's rescue CD and types "ls" at its prompt, which
// prints the disks and so lights more of the screen.
func TestGRUBRescue(t *testing.T) {
	h := newHouse(t)
	iso := firstOf(t, "GRUB", grubISOs)
	h.must("info") // the service runs
	probe, err := h.connect().Probe(t.Context(), iso)
	if err != nil {
		t.Fatal(err)
	}
	boots := map[string]bool{"bios": probe.BIOS, "uefi": probe.UEFI} // Debian's is for BIOS only
	if !probe.BIOS {
		t.Error("the CD image is said not to boot in BIOS mode")
	}
	for firmware, can := range boots {
		if !can {
			continue
		}
		t.Run(firmware, func(t *testing.T) {
			h := *h
			h.t = t
			name := "grub-" + firmware
			h.must("new", name, "--iso", iso, "--firmware", firmware, "--memory", "256M", "--vcpus", "1")
			c := h.connect()
			h.must("start", name)
			vm, _, err := c.Find(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			press := func(keys ...uint16) {
				for _, k := range keys {
					if err := c.Keys(t.Context(), vm, k); err != nil {
						t.Fatal(err)
					}
				}
			}
			h.eventually("the bar of GRUB's menu", func() bool { return greyBar(h.screen(name)) })
			press(keyDown) // stops the count-down
			menu := h.still(name)
			press(keyC)
			h.eventually("GRUB's command line", func() bool { now := h.screen(name); return changed(menu, now) && !greyBar(now) })
			prompt := h.still(name)
			press(keyL, keyS, keyEnter)
			h.eventually("GRUB to answer ls", func() bool { return lit(h.screen(name)) > lit(prompt)+100 })
			h.must("cd-eject", name)
			h.must("cd-insert", name, iso)
			h.must("destroy", name)
		})
	}
}

// greyBar: much of the screen has the grey that highlights a line of text.
func greyBar(img *image.RGBA) bool {
	for c, n := range colours(img) {
		if c[0] == c[1] && c[1] == c[2] && c[0] >= 0x80 && c[0] <= 0xc0 && n > 8000 {
			return true
		}
	}
	return false
}

// still waits until the screen shows something that has not changed for a while.
func (h *house) still(name string) *image.RGBA {
	h.t.Helper()
	last, since := h.screen(name), time.Now()
	h.eventually("a screen that stands still", func() bool {
		now := h.screen(name)
		if changed(last, now) {
			last, since = now, time.Now()
		}
		return lit(last) > 100 && time.Since(since) > 2*time.Second
	})
	return last
}

// netboot is where debian-installer-VERSION-netboot-amd64 has the graphical
// installer.
const netboot = "/usr/lib/debian-installer/images/*/amd64/gtk/debian-installer/amd64"

// installerISO makes a CD image of Debian's graphical installer, as no package
// holds one.
func installerISO(t *testing.T) string {
	t.Helper()
	found, _ := filepath.Glob(netboot)
	if len(found) == 0 {
		t.Skip("no package debian-installer-VERSION-netboot-amd64 here")
	}
	tree, iso := t.TempDir(), filepath.Join(t.TempDir(), "installer.iso")
	for _, f := range []string{"linux", "initrd.gz"} {
		b, err := os.ReadFile(filepath.Join(found[0], f))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(tree, f), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	const menu = "insmod all_video\nset timeout=0\nset gfxpayload=800x600\nmenuentry installer {\n linux /linux vga=788 --- quiet\n initrd /initrd.gz\n}\n"
	if err := os.MkdirAll(filepath.Join(tree, "boot", "grub"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(tree, "boot", "grub", "grub.cfg"), []byte(menu), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("grub-mkrescue", "-o", iso, tree).CombinedOutput(); err != nil {
		t.Fatalf("grub-mkrescue: %v\n%s", err, out)
	}
	return iso
}

// XT scan codes, 0x80 set for those with an e0 prefix.
const (
	xtDown  = 0xd0
	xtEnter = 0x1c
)

// TestDebianInstaller walks through two pages of the graphical installer by keys
// and by the pointer, over the console stream that the window uses.
func TestDebianInstaller(t *testing.T) {
	long(t)
	hvtest.Require(t, "images")
	h := newHouse(t)
	iso := installerISO(t)
	for _, firmware := range []string{"bios", "uefi"} {
		t.Run(firmware, func(t *testing.T) {
			h := *h
			h.t = t
			name := "installer-" + firmware
			h.must("new", name, "--iso", iso, "--firmware", firmware, "--memory", "1G", "--vcpus", "2", "--disk-size", "4G")
			h.must("start", name)
			h.eventually("the installer's list of languages", func() bool { return selection(h.screen(name)) > 0 })
			screen := h.dialScreen(name)
			press := func(xt uint32) {
				screen.Key(xt, true)
				screen.Key(xt, false)
			}
			click := func(y int) {
				at := image.Pt(h.screen(name).Rect.Dx()/4, y)
				screen.Pointer(at, 0)
				screen.Pointer(at, 1)
				screen.Pointer(at, 0)
				h.eventually("a click to move the selection", func() bool {
					s := selection(h.screen(name))
					return s > y-rowHeight && s < y+rowHeight
				})
			}
			for page := range 2 { // language, country
				before := h.still(name)
				first := selection(before)
				t.Logf("page %d: the selection is at %d", page+1, first)
				press(xtDown)
				h.eventually("the arrow key to move the selection", func() bool { return selection(h.screen(name)) > first })
				click(first - 5*rowHeight) // both lists begin above
				click(first)
				press(xtEnter)
				h.eventually("the next page", func() bool {
					now := h.screen(name)
					return selection(now) > 0 && changed(title(before), title(now))
				})
			}
			h.must("destroy", name)
		})
	}
}

// rowHeight is about that of the installer's lists, and banner that of its top.
const rowHeight, banner = 24, 100

// selection is the height at which one of the installer's lists shows the
// selected row: a bar of a strong colour, wider than half of the screen; 0
// without one.
func selection(img *image.RGBA) int {
	bar, r := 0, img.Bounds()
	for y := banner; y < r.Max.Y; y++ {
		strong := 0
		for x := range r.Max.X {
			c := img.RGBAAt(x, y)
			if max(c.R, c.G, c.B)-min(c.R, c.G, c.B) > 40 {
				strong++
			}
		}
		switch {
		case strong > r.Dx()/2:
			bar++
		case bar >= rowHeight/3:
			return y - bar/2
		default:
			bar = 0
		}
	}
	return 0
}

// title is the strip of the installer's screen that names the page.
func title(img *image.RGBA) *image.RGBA {
	out := image.NewRGBA(image.Rect(0, 0, img.Rect.Dx(), 50))
	draw.Draw(out, out.Rect, img, image.Pt(0, 75), draw.Src)
	return out
}

// dialScreen opens a guest's screen as the window does.
func (h *house) dialScreen(name string) *rfb.Client {
	h.t.Helper()
	c := h.connect()
	vm, _, err := c.Find(h.t.Context(), name)
	if err != nil {
		h.t.Fatal(err)
	}
	return dialScreen(h.t, c, vm)
}

func dialScreen(t *testing.T, c *client.Client, vm api.Ref) *rfb.Client {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	console, err := c.ConsoleOf(ctx, vm, api.ProtocolRFB)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := c.Console(ctx, console)
	if err != nil {
		t.Fatal(err)
	}
	first := make(chan struct{}, 1)
	screen, err := rfb.Connect(ctx, conn, rfb.Options{Handler: rfb.Handler{Updated: func(image.Rectangle) {
		select {
		case first <- struct{}{}:
		default:
		}
	}}})
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = screen.Run() }()
	t.Cleanup(func() { screen.Close() })
	select {
	case <-first:
	case <-ctx.Done():
		t.Fatal("no picture over RFB")
	}
	return screen
}
