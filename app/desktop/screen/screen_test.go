package screen

import (
	"context"
	"image"
	"image/color"
	"strings"
	"testing"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/driver/desktop"
	"fyne.io/fyne/v2/driver/software"
	"fyne.io/fyne/v2/test"

	"github.com/hxen-project/hxen/platform/keymap"
)

// stage is a screen in a window in memory, a guest, and Fyne's goroutine, which
// is the test's.
type stage struct {
	*testing.T
	s   *Screen
	g   *guest
	w   *wire // the connection
	win fyne.Window
	do  chan func()
}

var red = color.RGBA{200, 10, 20, 255}

// newStage shows a guest of w x h pixels in a window of 400x300 device pixels.
func newStage(t *testing.T, w, h int) *stage {
	t.Helper()
	test.NewTempApp(t)
	st := &stage{T: t, g: newGuest(t, w, h), do: make(chan func(), 1000)}
	st.s = New(st.g.dial)
	st.s.do = func(f func()) { st.do <- f }
	st.s.native.system = keymap.X11
	st.win = test.NewTempWindow(t, st.s.View())
	st.win.SetPadded(false)
	st.win.Resize(fyne.NewSize(400, 300))
	st.s.Start()
	t.Cleanup(st.s.Close)
	st.connected()
	return st
}

// connected waits for a connection and paints its first picture.
func (st *stage) connected() {
	st.Helper()
	select {
	case st.w = <-st.g.dials:
	case <-time.After(hang):
		st.Fatal("nobody dialled")
	}
	st.want("update?")
	st.w.paint(image.Rectangle{Max: st.g.size}, red)
	st.until("the first picture", func() bool { return st.s.guest == st.g.size && st.s.connection() != nil })
	for len(st.do) > 0 {
		(<-st.do)()
	}
	st.until("a settled window", func() bool { return st.s.sizer == nil })
	st.paint()
	st.want("update?")
}

// until runs Fyne's goroutine until ok.
func (st *stage) until(what string, ok func() bool) {
	st.Helper()
	guard := time.After(hang)
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for !ok() {
		select {
		case f := <-st.do:
			f()
		case <-look.C:
		case <-guard:
			st.Fatalf("waiting for %s", what)
		}
	}
}

// want waits for the guest to be told just these lines, in this order.
func (st *stage) want(lines ...string) {
	st.Helper()
	for _, line := range lines {
		select {
		case got := <-st.g.told:
			if got != line {
				st.Fatalf("the guest is told %q, want %q (of %q)", got, line, lines)
			}
		case <-time.After(hang):
			st.Fatalf("the guest is never told %q", line)
		}
	}
}

// nothing proves that the guest was told no more: a key pressed now comes next.
func (st *stage) nothing() {
	st.Helper()
	st.s.key(keymap.Menu, true)
	st.want("key 0xdd 1")
}

func (st *stage) paint() image.Image { return st.win.Canvas().Capture() }

func event(x, y float32, b desktop.MouseButton) *desktop.MouseEvent {
	return &desktop.MouseEvent{PointEvent: fyne.PointEvent{Position: fyne.NewPos(x, y)}, Button: b}
}

func scan(c keymap.Code) *fyne.KeyEvent {
	n, _ := c.Scan(keymap.X11)
	return &fyne.KeyEvent{Physical: fyne.HardwareKey{ScanCode: n}}
}

func (st *stage) down(c keymap.Code) { st.s.KeyDown(scan(c)) }
func (st *stage) up(c keymap.Code)   { st.s.KeyUp(scan(c)) }

func TestPictureIsFitted(t *testing.T) {
	st := newStage(t, 200, 100)
	img := st.paint()
	for p, want := range map[image.Point]color.RGBA{
		{200, 150}: red, {0, 50}: red, {399, 249}: red,
		{200, 48}: {0, 0, 0, 255}, {200, 251}: {0, 0, 0, 255}, // bars
	} {
		if r, g, b, _ := img.At(p.X, p.Y).RGBA(); (color.RGBA{uint8(r >> 8), uint8(g >> 8), uint8(b >> 8), 255}) != want {
			t.Errorf("%v is %v, want %v", p, img.At(p.X, p.Y), want)
		}
	}
	if st.s.picture.raster.ScaleMode != canvas.ImageScalePixels {
		t.Error("a whole multiple is not scaled by pixels")
	}
	st.win.Resize(fyne.NewSize(390, 300))
	if st.s.picture.raster.ScaleMode != canvas.ImageScaleFastest {
		t.Error("a fraction is not scaled smoothly")
	}
	if img := st.s.Snapshot().(*image.RGBA); img.Rect.Max != image.Pt(200, 100) || img.RGBAAt(199, 99) != red {
		t.Errorf("snapshot %v %v", img.Rect, img.RGBAAt(199, 99))
	}
}

// What is damaged between two paints is painted once, and what nobody paints is
// asked for no more.
func TestPaintsAreJoined(t *testing.T) {
	st := newStage(t, 200, 100)
	before := st.s.Paints()
	blue := color.RGBA{0, 0, 255, 255}
	st.w.paint(image.Rect(0, 0, 10, 10), blue)
	st.want("update?")
	st.w.paint(image.Rect(5, 5, 10, 10), blue)
	st.want("update?")
	st.w.paint(image.Rect(190, 90, 200, 100), blue)
	refreshes := 0
	guard := time.After(hang)
	for joined := false; !joined; {
		select {
		case f := <-st.do:
			refreshes++
			f()
		case <-time.After(time.Millisecond):
		case <-guard:
			t.Fatal("the damage is never joined")
		}
		st.s.mu.Lock()
		joined = st.s.damage == image.Rect(0, 0, 200, 100)
		st.s.mu.Unlock()
	}
	st.nothing() // three updates wait for a paint: no fourth is asked for
	if refreshes+len(st.do) != 1 {
		t.Errorf("%d refreshes for one paint", refreshes+len(st.do))
	}
	st.paint()
	st.want("update?")
	if got := st.s.Paints() - before; got != 1 {
		t.Errorf("%d paints", got)
	}
	for _, p := range []image.Point{{5, 5}, {195, 95}} {
		if got := st.s.picture.shown.RGBAAt(p.X, p.Y); got != blue {
			t.Errorf("%v is %v", p, got)
		}
	}
	st.s.show(false) // minimised
	st.w.paint(image.Rect(0, 0, 1, 1), blue)
	st.until("an update", func() bool { st.s.mu.Lock(); defer st.s.mu.Unlock(); return st.s.pending })
	st.paint()
	st.nothing()
	st.s.show(true)
	st.want("update?")
}

func TestPointerInEveryModeAndScale(t *testing.T) {
	for _, c := range []struct {
		name  string
		scale float32
		mode  Mode
		at    fyne.Position
		want  string
	}{
		{"fit", 1, Fit, fyne.NewPos(0, 50), "pointer 0,0 0x0"},
		{"fit, right below", 1, Fit, fyne.NewPos(399, 249), "pointer 199,99 0x0"},
		{"fit, in the bar", 1, Fit, fyne.NewPos(200, 0), "pointer 100,0 0x0"},
		{"1:1", 1, OneToOne, fyne.NewPos(150, 120), "pointer 50,20 0x0"},
		{"integer", 1, Integer, fyne.NewPos(21, 73), "pointer 10,11 0x0"},
		// At scale 2 the window is 800x600 device pixels.
		{"fit 2x", 2, Fit, fyne.NewPos(399.5, 249.5), "pointer 199,99 0x0"},
		{"1:1 2x", 2, OneToOne, fyne.NewPos(150.5, 125), "pointer 1,0 0x0"},
		{"integer 2x", 2, Integer, fyne.NewPos(2, 52), "pointer 1,1 0x0"},
		{"fit 1.5x", 1.5, Fit, fyne.NewPos(200, 150), "pointer 100,50 0x0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			st := newStage(t, 200, 100)
			st.win.Canvas().(software.WindowlessCanvas).SetScale(c.scale)
			st.win.Resize(fyne.NewSize(400, 300))
			st.s.SetMode(c.mode)
			if c.want != "pointer 0,0 0x0" {
				st.s.MouseIn(event(0, 0, 0))
				st.want("pointer 0,0 0x0")
			} else {
				st.s.MouseIn(event(300, 200, 0))
				st.want("pointer 150,75 0x0")
			}
			st.s.MouseMoved(event(c.at.X, c.at.Y, 0))
			st.want(c.want)
		})
	}
}

func TestButtons(t *testing.T) {
	st := newStage(t, 400, 300)
	st.s.MouseIn(event(10, 10, 0))
	st.want("pointer 10,10 0x0")
	st.s.MouseDown(event(10, 10, desktop.MouseButtonPrimary))
	st.want("pointer 10,10 0x1")
	if !st.s.Grabbed() {
		t.Error("a click does not grab the keyboard")
	}
	// A drag goes on outside, and so does its end.
	st.s.Dragged(&fyne.DragEvent{PointEvent: fyne.PointEvent{Position: fyne.NewPos(-50, 700)}})
	st.want("pointer 0,299 0x1")
	st.s.MouseUp(event(-60, 700, desktop.MouseButtonPrimary))
	st.want("pointer 0,299 0x0")
	// The right button's release outside never comes.
	st.s.MouseDown(event(20, 20, desktop.MouseButtonSecondary))
	st.want("pointer 20,20 0x0", "pointer 20,20 0x4")
	st.s.MouseOut()
	st.want("pointer 20,20 0x0")
	st.s.MouseUp(event(500, 20, desktop.MouseButtonSecondary))
	st.want("pointer 399,20 0x0")
	st.s.MouseDown(event(30, 30, desktop.MouseButtonTertiary))
	st.want("pointer 30,30 0x0", "pointer 30,30 0x2")
}

func TestWheel(t *testing.T) {
	st := newStage(t, 400, 300)
	turn := func(dx, dy float32) {
		st.s.Scrolled(&fyne.ScrollEvent{PointEvent: fyne.PointEvent{Position: fyne.NewPos(5, 6)}, Scrolled: fyne.NewDelta(dx, dy)})
	}
	turn(0, 25)
	st.want("pointer 5,6 0x0", "pointer 5,6 0x8", "pointer 5,6 0x0")
	turn(0, -50)
	st.want("pointer 5,6 0x10", "pointer 5,6 0x0", "pointer 5,6 0x10", "pointer 5,6 0x0")
	turn(0, 10) // a touchpad's small steps add up
	turn(0, 10)
	turn(0, 10)
	st.want("pointer 5,6 0x8", "pointer 5,6 0x0")
	turn(0, -20) // and a turn back starts anew
	st.nothing()
	turn(25, 0)
	st.want("pointer 5,6 0x40", "pointer 5,6 0x0")
	st.down(keymap.LeftShift)
	st.want("key 0x2a 1")
	turn(25, 0) // Fyne's doing
	st.want("pointer 5,6 0x8", "pointer 5,6 0x0")
	if got := calm(11 * 25 * 125); got != 11*25 {
		t.Errorf("a rush of 11 steps is %v", got)
	}
}

func TestRelativePointer(t *testing.T) {
	st := newStage(t, 400, 300)
	st.w.say(0, 0, 400, 300, -257)
	st.until("relative mode", func() bool { return st.s.pointer.relative })
	st.want("update?")
	st.s.Grab()
	st.s.MouseIn(event(100, 100, 0))
	st.s.MouseMoved(event(110, 95, 0))
	st.want("pointer 32777,32762 0x0", "pointer 32767,32767 0x0") // 0x7fff is zero; the nudge moves nothing
	st.s.MouseDown(event(110, 95, desktop.MouseButtonPrimary))
	st.want("pointer 32767,32767 0x1")
	st.s.MouseUp(event(110, 95, desktop.MouseButtonPrimary))
	st.want("pointer 32767,32767 0x0")
	st.s.MouseOut()
	st.s.MouseIn(event(300, 300, 0)) // a jump from outside is no motion
	st.nothing()
}

func TestAllKeysGoToTheGuest(t *testing.T) {
	st := newStage(t, 400, 300)
	st.s.Grab()
	for _, c := range []keymap.Code{keymap.Tab, keymap.LeftAlt, keymap.F12, keymap.LeftSuper, keymap.Esc} {
		st.down(c)
		st.up(c)
	}
	st.want("key 0xf 1", "key 0xf 0", "key 0x38 1", "key 0x38 0", "key 0x58 1", "key 0x58 0", "key 0xdb 1", "key 0xdb 0", "key 0x1 1", "key 0x1 0")
	st.s.KeyDown(&fyne.KeyEvent{Name: fyne.KeyA, Physical: fyne.HardwareKey{ScanCode: 92}}) // no key has it
	st.up(keymap.Menu)                                                                      // pressed elsewhere
	st.nothing()
}

func TestReleaseKey(t *testing.T) {
	st := newStage(t, 400, 300)
	var grabs []bool
	st.s.OnGrab = func(g bool) { grabs = append(grabs, g) }
	st.s.Grab()
	if st.win.Canvas().Focused() != fyne.Focusable(st.s) {
		t.Fatal("not focused")
	}
	// Before another key it is an ordinary one.
	st.down(keymap.RightCtrl)
	st.down(keymap.Tab)
	st.want("key 0x9d 1", "key 0xf 1")
	st.up(keymap.Tab)
	st.up(keymap.RightCtrl)
	st.want("key 0xf 0", "key 0x9d 0")
	if !st.s.Grabbed() {
		t.Error("a combination with the release key released")
	}
	// Alone it releases, and lets go of everything.
	st.down(keymap.LeftShift)
	st.want("key 0x2a 1")
	st.down(keymap.RightCtrl)
	st.up(keymap.RightCtrl)
	st.want("key 0x2a 0")
	if st.s.Grabbed() || st.win.Canvas().Focused() != nil {
		t.Error("still grabbed")
	}
	if len(grabs) != 2 || !grabs[0] || grabs[1] {
		t.Errorf("told %v", grabs)
	}
	st.s.SetReleaseKey(keymap.F12)
	st.s.Grab()
	st.down(keymap.RightCtrl)
	st.want("key 0x9d 1")
	st.down(keymap.F12)
	st.up(keymap.F12)
	st.want("key 0x9d 0")
	if st.s.Grabbed() {
		t.Error("the other release key does not release")
	}
}

func TestFocusLostLetsGo(t *testing.T) {
	st := newStage(t, 400, 300)
	st.s.Grab()
	st.down(keymap.LeftAlt)
	st.want("key 0x38 1")
	st.win.Canvas().Unfocus() // Alt-Tab: the release goes to another window
	st.want("key 0x38 0")
	st.down(keymap.RightCtrl) // a release key seen half must not count later
	st.s.FocusLost()
	st.s.FocusGained()
	st.up(keymap.RightCtrl)
	if !st.s.Grabbed() {
		t.Error("half a release key released")
	}
}

func TestSendKeysAndTypeText(t *testing.T) {
	st := newStage(t, 400, 300)
	if err := st.s.SendKeys("ctrl-alt-delete"); err != nil {
		t.Fatal(err)
	}
	st.want("key 0x1d 1", "key 0x38 1", "key 0xd3 1", "key 0xd3 0", "key 0x38 0", "key 0x1d 0")
	if err := st.s.SendKeys("ctrl-nonsense"); err == nil || !strings.Contains(err.Error(), "nonsense") {
		t.Errorf("nonsense: %v", err)
	}
	missing, err := st.s.TypeText(context.Background(), "aß!\n")
	if err != nil || string(missing) != "ß" {
		t.Errorf("%v, missing %q", err, string(missing))
	}
	st.want("key 0x1e 1", "key 0x1e 0", "key 0x2a 1", "key 0x2 1", "key 0x2 0", "key 0x2a 0", "key 0x1c 1", "key 0x1c 0")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := st.s.TypeText(ctx, "abc"); err == nil || !strings.Contains(err.Error(), "0 of 3") {
		t.Errorf("cancelled: %v", err)
	}
	st.nothing()
}

func TestReconnects(t *testing.T) {
	st := newStage(t, 200, 100)
	var told []string
	st.s.OnConnection = func(live bool, err error) {
		if live {
			told = append(told, "live")
		} else {
			told = append(told, err.Error())
		}
	}
	st.s.Grab()
	st.down(keymap.LeftAlt)
	st.want("key 0x38 1")
	st.w.Close()
	st.until("word of the end", func() bool { return len(told) > 0 })
	if !strings.Contains(told[0], "read the guest's screen") {
		t.Errorf("told %q", told[0])
	}
	if st.s.Snapshot().(*image.RGBA).RGBAAt(0, 0) != red {
		t.Error("the last picture is gone")
	}
	if err := st.s.SendKeys("ctrl-c"); st.s.connection() == nil && err == nil {
		t.Error("keys go nowhere without a word")
	}
	st.g.size = image.Pt(400, 300)
	for line := range st.g.told {
		if line == "end" {
			break
		}
	}
	st.connected()
	if told[len(told)-1] != "live" || st.s.GuestSize() != image.Pt(400, 300) {
		t.Errorf("told %q, size %v", told, st.s.GuestSize())
	}
	// Alt went down in the guest that was; its release is none of the new one's.
	st.up(keymap.LeftAlt)
	st.nothing()
	st.s.Close()
	st.s.Close()
}

func TestGuestIsAskedForTheWindowsSize(t *testing.T) {
	st := newStage(t, 200, 100)
	able := func(reason, status int) {
		st.w.say(reason, status, 200, 100, -308, byte(1), []byte{0, 0, 0}, int32(0), 0, 0, 200, 100, int32(0))
	}
	able(0, 0)
	st.want("update?")
	st.win.Canvas().(software.WindowlessCanvas).SetScale(2)
	st.s.SetMode(ResizeGuest)
	st.win.Resize(fyne.NewSize(300, 200))
	st.win.Resize(fyne.NewSize(400, 300))
	st.until("a settled window", func() bool { return st.s.sizer == nil })
	st.want("size 800x600") // device pixels, and the last size alone
	able(1, 4)
	st.want("update?")
	st.nothing() // the answer is no reason to ask again
	st.w.say(0, 0, 800, 600, -308, byte(1), []byte{0, 0, 0}, int32(0), 0, 0, 800, 600, int32(0))
	st.until("the guest's new size", func() bool { return st.s.GuestSize() == image.Pt(800, 600) })
	if st.s.place != image.Rect(0, 0, 800, 600) {
		t.Errorf("placed at %v", st.s.place)
	}
}

func TestOneToOneScrolls(t *testing.T) {
	st := newStage(t, 1000, 700)
	st.s.SetMode(OneToOne)
	if got := st.s.MinSize(); got != fyne.NewSize(1000, 700) {
		t.Errorf("the screen wants %v", got)
	}
	if got := st.s.Size(); got.Width < 1000 {
		t.Errorf("the screen has %v", got)
	}
	st.s.SetMode(Fit)
	if got := st.s.Size(); got != fyne.NewSize(400, 300) {
		t.Errorf("back in fit the screen has %v", got)
	}
}

func TestCursor(t *testing.T) {
	st := newStage(t, 200, 100)
	if st.s.Cursor() != desktop.DefaultCursor {
		t.Error("a guest without a shape of its own changes the host's")
	}
	st.w.say(1, 1, 2, 2, -314, int32(0), make([]byte, 16))
	st.until("a cursor", func() bool { return st.s.cursor.shape != nil })
	if _, ok := st.s.Cursor().(*shape); !ok {
		t.Errorf("cursor %v", st.s.Cursor())
	}
	st.s.MouseMoved(event(5, 5, 0)) // beside the picture
	if st.s.Cursor() != desktop.DefaultCursor {
		t.Error("the guest's shape beside its picture")
	}
	st.s.MouseMoved(event(200, 150, 0))
	st.w.say(0, 0, 0, 0, -314, int32(0))
	st.until("no cursor", func() bool { return st.s.cursor.shape == desktop.Cursor(desktop.HiddenCursor) })
}
