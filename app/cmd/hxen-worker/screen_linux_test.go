package main

// The guest suite's screen: Debian's kernels on Xen's vfb and vkbd, seen and
// typed at through RFB as a window does.

import (
	"bytes"
	_ "embed"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"net"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/hvtest"
	"github.com/hxen-project/hxen/hv/rfb"
)

// viewer is an RFB client of a guest.
type viewer struct {
	*rfb.Client
	t       *testing.T
	changed chan struct{}
}

func view(t *testing.T, l *hvtest.Live) *viewer {
	t.Helper()
	stream, err := l.Machine.(hv.Displayer).OpenDisplay(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	v := &viewer{t: t, changed: make(chan struct{}, 1)}
	v.Client, err = rfb.Connect(t.Context(), stream, rfb.Options{Handler: rfb.Handler{Updated: func(image.Rectangle) {
		select {
		case v.changed <- struct{}{}:
		default:
		}
	}}})
	if err != nil {
		t.Fatal(err)
	}
	go v.Run()
	t.Cleanup(func() { v.Close() })
	return v
}

// until waits for a picture.
func (v *viewer) until(what string, ok func(*image.RGBA) bool) *image.RGBA {
	v.t.Helper()
	guard := time.After(patience)
	for {
		v.Painted()
		img := v.Frame().CopyTo(nil, image.Rectangle{})
		if ok(img) {
			return img
		}
		select {
		case <-v.changed:
		case <-guard:
			v.t.Fatalf("%s never came on the screen of %v", what, img.Rect.Max)
		}
	}
}

// typed presses keys one after the other.
func (v *viewer) typed(xt ...uint32) {
	for _, k := range xt {
		v.Key(k, true)
		v.Key(k, false)
	}
}

// lit is how many pixels are not black.
func lit(img *image.RGBA, r image.Rectangle) (n int) {
	for y := r.Min.Y; y < r.Max.Y; y++ {
		for x := r.Min.X; x < r.Max.X; x++ {
			if c := img.RGBAAt(x, y); c.R|c.G|c.B != 0 {
				n++
			}
		}
	}
	return n
}

// screenGuest is a guest with a shell on the serial line, and one on tty1 once it
// is told.
func screenGuest(t *testing.T, kernel string) *hvtest.Live {
	t.Helper()
	s := guest(kernel)
	return boot(t, s, testHost(t, s))
}

// withKeyboard are the lab's kernels that have xen-kbdfront.
func withKeyboard(t *testing.T) (out []string) {
	t.Helper()
	for _, k := range kernels(t) {
		if !strings.Contains(k, "cloud") && filepath.Base(k) != "0-own" {
			out = append(out, k)
		}
	}
	if len(out) == 0 {
		t.Fatal("the lab has no kernel with xen-kbdfront")
	}
	return out
}

// TestGuestScreen: a kernel's text console, a shell on it that takes keys, a
// picture that is the guest's byte for byte, a screen made smaller, the pointer,
// and all again after a restart.
func TestGuestScreen(t *testing.T) {
	for _, k := range withKeyboard(t) {
		t.Run(filepath.Base(k), func(t *testing.T) {
			l := screenGuest(t, k)
			full := func(e hv.Event) bool { return e.Kind == hv.EventDisplay && e.Display == hv.DisplayFull }
			l.Event("screen and keyboard", full)
			v := view(t, l)
			checkConsole(t, l, v)
			checkPicture(t, l, v)
			checkPointer(t, l, v)
			checkResize(t, l, v)
			l.Do("reset", l.Machine.Reset)
			l.Expect(hvtest.GuestReady)
			l.Event("screen and keyboard after the reset", full)
			checkConsole(t, l, v)
			checkRepeat(t, l, v)
			l.Say("poweroff -f\n")
			l.Ended(hv.ExitPoweroff)
		})
	}
}

// checkConsole: text comes on the screen, and typed keys reach a shell on tty1.
func checkConsole(t *testing.T, l *hvtest.Live, v *viewer) {
	t.Helper()
	l.Run("printf '\\033[2J\\033[Hhxen\\n' >/dev/tty1")
	img := v.until("text", func(img *image.RGBA) bool {
		return img.Rect.Max == image.Pt(1280, 800) && lit(img, image.Rect(0, 0, 40, 16)) > 40
	})
	if n := lit(img, image.Rect(200, 100, 1280, 800)); n > 0 {
		t.Errorf("%d pixels are lit where there is no text", n)
	}
	l.Run("(setsid sh -c 'exec sh -i </dev/tty1 >/dev/tty1 2>&1') & sleep 0.2")
	v.typed(0x12, 0x2e, 0x23, 0x18, 0x39) // echo_
	v.Key(0x2a, true)                     // Shift
	v.typed(0x23)                         // H
	v.Key(0x2a, false)
	v.typed(0x17, 0x39) // i_
	v.Key(0x36, true)   // right Shift
	v.typed(0x34)       // >
	v.Key(0x36, false)
	v.typed(0x35, 0x14, 0x32, 0x19, 0x35, 0x25, 0x1c) // /tmp/k, Enter
	if got := l.Run("while [ ! -s /tmp/k ]; do sleep 0.1; done; cat /tmp/k; rm /tmp/k"); got != "Hi" {
		t.Errorf("the shell on tty1 wrote %q", got)
	}
}

// checkPicture: a program's picture is seen byte for byte, by viewers and in a
// screenshot.
func checkPicture(t *testing.T, l *hvtest.Live, v *viewer) {
	t.Helper()
	// 4096000 bytes of a sequence that does not repeat in lines.
	l.Run("printf '\\033[?25l' >/dev/tty1; seq 1 700000 | head -c 4096000 >/tmp/fb; cat /tmp/fb >/dev/fb0")
	want := sequence(4096000)
	same := func(img *image.RGBA) bool {
		return img.Rect.Max == image.Pt(1280, 800) && firstDifference(img, want) < 0
	}
	v.until("the picture", same)
	var shot bytes.Buffer
	if err := l.Machine.(hv.Screenshotter).Screenshot(t.Context(), &shot); err != nil {
		t.Fatal(err)
	}
	img, err := png.Decode(&shot)
	if err != nil {
		t.Fatal(err)
	}
	if c := color.RGBAModel.Convert(img.At(77, 99)).(color.RGBA); c.R != want[(99*1280+77)*4+2] || img.Bounds().Max != image.Pt(1280, 800) {
		t.Errorf("the screenshot has %v at 77,99", c)
	}
	l.Run("rm /tmp/fb")
}

// sequence is what seq prints, up to n bytes.
func sequence(n int) []byte {
	var b []byte
	for i := 1; len(b) < n; i++ {
		b = fmt.Appendln(b, i)
	}
	return b[:n]
}

func firstDifference(img *image.RGBA, bgrx []byte) int {
	for i := 0; i < len(bgrx); i += 4 {
		if p := img.Pix[i : i+4]; p[0] != bgrx[i+2] || p[1] != bgrx[i+1] || p[2] != bgrx[i] {
			return i
		}
	}
	return -1
}

// inputEvent is struct input_event, linux/input.h.
type inputEvent struct {
	Sec, Usec  int64
	Type, Code uint16
	Value      int32
}

// checkPointer: positions, a button and the wheel come out of the event device.
func checkPointer(t *testing.T, l *hvtest.Live, v *viewer) {
	t.Helper()
	device := l.Run(`grep -l "Xen Virtual Pointer" /sys/class/input/event*/device/name | sed 's,.*/\(event[0-9]*\)/.*,\1,'`)
	// Nine events at least: two positions may come as one.
	l.Run("(dd if=/dev/input/" + device + " bs=24 count=9 2>/dev/null >/tmp/events) & sleep 0.2")
	v.Pointer(image.Pt(1279, 799), 0)
	v.Pointer(image.Pt(640, 400), rfb.Left)
	v.Pointer(image.Pt(640, 400), 0)
	v.Wheel(0, 1)
	out := l.Run("while [ $(wc -c </tmp/events) -lt 216 ]; do sleep 0.1; done; hexdump -v -e '1/1 \"%02x\"' /tmp/events; rm /tmp/events")
	raw, err := hex.DecodeString(strings.TrimSpace(out))
	if err != nil {
		t.Fatalf("%q: %v", out, err)
	}
	got := map[[2]uint16]int32{}
	for r := bytes.NewReader(raw); r.Len() > 0; {
		var e inputEvent
		if err := binary.Read(r, binary.LittleEndian, &e); err != nil {
			t.Fatal(err)
		}
		if key := [2]uint16{e.Type, e.Code}; key != [2]uint16{1, 0x110} || e.Value == 1 { // the press
			got[key] = e.Value
		}
	}
	want := map[[2]uint16]int32{{3, 0}: 640 * 32767 / 1279, {3, 1}: 400 * 32767 / 799, {1, 0x110}: 1}
	for k, w := range want {
		if got[k] != w {
			t.Errorf("event %v has value %d, want %d", k, got[k], w)
		}
	}
}

// fbset makes the guest's screen smaller; testdata/fbset.S is its source.
//
//go:embed testdata/fbset
var fbset []byte

// checkResize: the guest makes its screen smaller; viewers follow.
func checkResize(t *testing.T, l *hvtest.Live, v *viewer) {
	t.Helper()
	var program strings.Builder
	for _, b := range fbset {
		fmt.Fprintf(&program, "\\%03o", b)
	}
	l.Run("printf '" + program.String() + "' >/tmp/fbset; chmod +x /tmp/fbset; /tmp/fbset")
	l.Run("printf '\\033[2J\\033[Hsmall' >/dev/tty1")
	v.until("a smaller screen", func(img *image.RGBA) bool {
		return img.Rect.Max == image.Pt(640, 400) && lit(img, image.Rect(0, 0, 48, 16)) > 40
	})
}

// TestViewed serves a guest's screen, with a shell on it, on TCP port 5900 until the
// guest has powered off; app/desktop/screen's TestLabScreen looks at it.
func TestViewed(t *testing.T) {
	l := screenGuest(t, withKeyboard(t)[0])
	l.Event("screen and keyboard", func(e hv.Event) bool { return e.Kind == hv.EventDisplay && e.Display == hv.DisplayFull })
	l.Run("(setsid sh -c 'exec sh -i </dev/tty1 >/dev/tty1 2>&1') & sleep 0.2")
	port, err := net.Listen("tcp", ":5900")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { port.Close() })
	go func() {
		for {
			c, err := port.Accept()
			if err != nil {
				return
			}
			stream, err := l.Machine.(hv.Displayer).OpenDisplay(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			hvtest.Join(c, stream)
		}
	}()
	l.Guard = 10 * time.Minute
	l.Ended(hv.ExitPoweroff)
}

// cursorReport is the terminal's answer to the shell, which asked where its prompt
// is; whoever reads next gets it.
var cursorReport = regexp.MustCompile("\x1b\\[[0-9;]*R")

// checkRepeat: a key that is held down is typed again and again.
func checkRepeat(t *testing.T, l *hvtest.Live, v *viewer) {
	t.Helper()
	l.Run("(cat </dev/tty1 >/tmp/r) & sleep 0.2")
	v.Key(0x2d, true) // x
	l.Run("sleep 1")
	v.Key(0x2d, false)
	v.typed(0x1c)
	got := l.Run("while ! grep -q x /tmp/r; do sleep 0.1; done; cat /tmp/r")
	if typed := cursorReport.ReplaceAllString(got, ""); len(typed) < 3 || strings.Trim(typed, "x") != "" {
		t.Errorf("a held key typed %q", got)
	}
}

// TestGuestWithoutKeyboard: a kernel without xen-kbdfront has a screen to look at,
// and says that it has no keyboard.
func TestGuestWithoutKeyboard(t *testing.T) {
	l := screenGuest(t, kernels(t)[0]) // a cloud kernel
	e := l.Event("a screen", func(e hv.Event) bool { return e.Kind == hv.EventDisplay })
	if e.Display != hv.DisplayView {
		t.Errorf("the guest's screen is %q", e.Display)
	}
	l.Run("printf '\\033[2J\\033[Hhxen\\n' >/dev/tty1")
	view(t, l).until("text", func(img *image.RGBA) bool { return lit(img, image.Rect(0, 0, 40, 16)) > 40 })
	if err := l.Machine.(hv.Keyer).SendKeys(t.Context(), []uint16{30}); err == nil || !strings.Contains(err.Error(), "xen-kbdfront") {
		t.Errorf("keys: %v", err)
	}
	l.Say("poweroff -f\n")
	l.Ended(hv.ExitPoweroff)
}
