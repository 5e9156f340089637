package screen

import (
	"image"
	"math"

	"fyne.io/fyne/v2"
	"github.com/go-gl/glfw/v3.4/glfw"
)

// pane is a canvas object that paints itself. Fyne's painter does not know its
// type and draws nothing for it, but asks for its size when its turn has come, and
// nobody else does while a window's context is current: then the picture is copied
// into the window. Tests look at the real window's pixels.
type pane struct {
	screen *Screen
	at     fyne.Position
	size   fyne.Size

	// Fyne's goroutine alone:
	window  *glfw.Window // that texture belongs to
	texture texture
	stale   image.Rectangle // of texture
	smooth  bool            // scale by a filter
	works   bool            // the raster is not needed
	failed  bool            // do not try again
}

// Size is for Fyne, and where the picture is painted.
func (p *pane) Size() fyne.Size {
	if w := p.screen.native.window; w != nil && !p.failed && glfw.GetCurrentContext() == w {
		p.paint(w)
	}
	return p.size
}

// paint copies the picture into the window, and notes whether that can be done.
func (p *pane) paint(w *glfw.Window) {
	s := p.screen
	if p.window != w {
		p.window, p.texture = w, texture{}
	}
	s.mu.Lock()
	if s.frame == nil {
		s.mu.Unlock()
		return
	}
	s.collectLocked()
	var ok bool
	s.frame.Look(func(bgra []byte, size image.Point) { ok = p.texture.update(bgra, size, p.stale) })
	p.stale = image.Rectangle{}
	s.paintedLocked()
	s.mu.Unlock()
	ok = ok && p.texture.copyTo(s.place.Add(s.origin()), p.smooth)
	if ok == p.works {
		return
	}
	p.works, p.failed = ok, !ok
	s.do(func() {
		if p.works {
			s.picture.raster.Hide()
		} else {
			s.picture.raster.Show()
		}
	})
}

// origin is the widget's upper left corner in the window, in device pixels.
func (s *Screen) origin() image.Point {
	at, f := fyne.CurrentApp().Driver().AbsolutePositionForObject(s), s.scale()
	return image.Pt(int(math.Round(float64(at.X)*f)), int(math.Round(float64(at.Y)*f)))
}

// The rest is for Fyne.

func (p *pane) MinSize() fyne.Size      { return fyne.Size{} }
func (p *pane) Move(at fyne.Position)   { p.at = at }
func (p *pane) Position() fyne.Position { return p.at }
func (p *pane) Resize(size fyne.Size)   { p.size = size }
func (p *pane) Visible() bool           { return true }
func (p *pane) Show()                   {}
func (p *pane) Hide()                   {}
func (p *pane) Refresh()                {}
