package screen

import (
	"image"
	"math"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/driver/desktop"

	"github.com/hxen-project/hxen/hv/rfb"
	"github.com/hxen-project/hxen/platform/keymap"
)

var (
	_ desktop.Mouseable  = (*Screen)(nil)
	_ desktop.Hoverable  = (*Screen)(nil)
	_ desktop.Cursorable = (*Screen)(nil)
	_ fyne.Scrollable    = (*Screen)(nil)
	_ fyne.Draggable     = (*Screen)(nil)
)

// pointer is where the host's pointer is and what of it the guest has been told.
type pointer struct {
	relative bool
	at       image.Point // device pixels in the widget
	known    bool        // at is where the pointer was a moment ago
	buttons  rfb.Buttons
	wheel    fyne.Delta // what is left of wheel steps
}

// MouseIn is for Fyne.
func (s *Screen) MouseIn(e *desktop.MouseEvent) {
	s.pointer.known = false
	s.moveTo(e.Position)
}

// MouseMoved is for Fyne.
func (s *Screen) MouseMoved(e *desktop.MouseEvent) { s.moveTo(e.Position) }

// MouseOut is for Fyne. A drag keeps the pointer ours, but Fyne does not drag by
// the right button: its release outside would be lost.
func (s *Screen) MouseOut() {
	s.setButtons(0)
	s.pointer.known = false
}

// Dragged is for Fyne: the pointer moves with a button down, perhaps outside.
func (s *Screen) Dragged(e *fyne.DragEvent) { s.moveTo(e.Position) }

// DragEnd is for Fyne; MouseUp follows or has come.
func (s *Screen) DragEnd() {}

// MouseDown is for Fyne.
func (s *Screen) MouseDown(e *desktop.MouseEvent) {
	s.Grab()
	s.moveTo(e.Position)
	s.setButtons(s.pointer.buttons | button(e.Button))
}

// MouseUp is for Fyne.
func (s *Screen) MouseUp(e *desktop.MouseEvent) {
	s.moveTo(e.Position)
	s.setButtons(s.pointer.buttons &^ button(e.Button))
}

func button(b desktop.MouseButton) rfb.Buttons {
	switch b {
	case desktop.MouseButtonPrimary:
		return rfb.Left
	case desktop.MouseButtonSecondary:
		return rfb.Right
	case desktop.MouseButtonTertiary:
		return rfb.Middle
	}
	return 0 // Fyne tells of side buttons, but not which
}

func (s *Screen) moveTo(p fyne.Position) {
	at := s.pixel(p)
	moved := at.Sub(s.pointer.at)
	if !s.pointer.known {
		moved = image.Point{}
	}
	s.pointer.at, s.pointer.known = at, true
	c := s.connection()
	if c == nil || s.place.Empty() {
		return
	}
	if !s.pointer.relative {
		c.Pointer(toGuest(at, s.place, s.guest), s.pointer.buttons)
		return
	}
	// Without a lock the host's pointer ends at the screen's edge and the
	// guest's with it; until it is moved on, that is all there is.
	if moved != (image.Point{}) && s.keys.grabbed {
		c.Move(moved, s.pointer.buttons)
	}
}

func (s *Screen) setButtons(b rfb.Buttons) {
	if s.pointer.buttons == b {
		return
	}
	s.pointer.buttons = b
	c := s.connection()
	if c == nil || s.place.Empty() {
		return
	}
	if s.pointer.relative {
		c.Move(image.Point{}, b)
		return
	}
	c.Pointer(toGuest(s.pointer.at, s.place, s.guest), b)
}

// Fyne's wheel: one detent is wheelStep; ten and more at once are multiplied by
// wheelRush besides (internal/driver/glfw/scroll_speed_default.go).
const (
	wheelStep = 25
	wheelRush = 125
)

// Scrolled is for Fyne.
func (s *Screen) Scrolled(e *fyne.ScrollEvent) {
	d := fyne.Delta{DX: calm(e.Scrolled.DX), DY: calm(e.Scrolled.DY)}
	if d.DY == 0 && (s.keys.held[keymap.LeftShift] || s.keys.held[keymap.RightShift]) {
		d.DX, d.DY = 0, d.DX // Fyne swaps the axes for Shift; the guest decides itself
	}
	w := &s.pointer.wheel
	w.DX, w.DY = carry(w.DX, d.DX), carry(w.DY, d.DY)
	dx, dy := int(w.DX/wheelStep), int(w.DY/wheelStep)
	if dx == 0 && dy == 0 {
		return
	}
	w.DX -= float32(dx * wheelStep)
	w.DY -= float32(dy * wheelStep)
	if c := s.connection(); c != nil {
		s.moveTo(e.Position)
		c.Wheel(dx, dy)
	}
}

// calm takes Fyne's multiplication out.
func calm(d float32) float32 {
	if math.Abs(float64(d)) >= 10*wheelStep*wheelRush {
		return d / wheelRush
	}
	return d
}

// carry adds to what is left of earlier steps, which a turn back forgets.
func carry(left, d float32) float32 {
	if left*d < 0 {
		left = 0
	}
	return left + d
}

// cursor is the guest's pointer shape.
type cursor struct {
	shape desktop.Cursor // nil: the guest has not said
}

func (c *cursor) set(img *image.RGBA, hot image.Point) {
	if img == nil {
		c.shape = desktop.HiddenCursor
		return
	}
	c.shape = &shape{img, hot}
}

// shape is a cursor with a picture. Fyne notices another one by its address.
type shape struct {
	img *image.RGBA
	hot image.Point
}

// Image is for Fyne.
func (s *shape) Image() (image.Image, int, int) { return s.img, s.hot.X, s.hot.Y }

// Cursor is for Fyne, which asks when the pointer moves: the guest's shape over
// its picture, the host's own where the guest has none and beside the picture.
func (s *Screen) Cursor() desktop.Cursor {
	if s.cursor.shape == nil || (s.pointer.known && !s.pointer.at.In(s.place)) {
		return desktop.DefaultCursor
	}
	return s.cursor.shape
}
