package screen

import (
	"image"
	"image/color"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"

	"github.com/hxen-project/hxen/hv/rfb"
)

var barColour = color.NRGBA{A: 255}

// smallest is the least size, in Fyne's units, that a screen asks for.
var smallest = fyne.NewSize(160, 100)

// picture is how the guest's pixels reach the window. Fyne knows one way only: a
// raster that is refreshed, for which it makes a new texture each time and which
// its shader draws, pixel by pixel, as if it were translucent and had round
// corners. Without a GPU that costs more than all else, so the raster is there for
// where nothing better works, and for the first moment. The pane in front of it
// brings what has changed into a texture of its own and copies that.
type picture struct {
	raster *canvas.Raster
	pane   *pane

	// Fyne's goroutine alone:
	shown *image.RGBA     // what the raster was given last
	stale image.Rectangle // of shown
}

func (s *Screen) initPicture() {
	p := &s.picture
	p.raster = canvas.NewRaster(s.generate)
	p.raster.ScaleMode = canvas.ImageScalePixels
	p.pane = &pane{screen: s}
}

// damaged notes that pixels in r of frame have changed and asks for a paint
// unless one has been asked for. On the stream's goroutine.
func (s *Screen) damaged(frame *rfb.Frame, r image.Rectangle) {
	size := frame.Size()
	s.mu.Lock()
	if s.frame != frame || s.size != size {
		s.frame, r = frame, image.Rectangle{Max: size}
	}
	resized := s.size != size
	s.size = size
	s.damage = s.damage.Union(r)
	ask := !s.pending
	s.pending = true
	s.mu.Unlock()
	if resized {
		s.do(s.follow)
	}
	if ask {
		// Fyne paints at most 60 times a second; what is damaged until then rides
		// along. A hidden widget is not painted, asks for nothing more and lets
		// the stream run dry.
		s.do(s.repaint)
	}
}

// repaint asks for a paint.
func (s *Screen) repaint() {
	if s.picture.pane.works {
		canvas.Refresh(s.picture.pane)
		return
	}
	s.picture.raster.Refresh()
}

// generate hands the whole picture to Fyne's painter, which keeps it until the
// raster is refreshed again.
func (s *Screen) generate(int, int) image.Image {
	s.native.attach(s)
	p := &s.picture
	s.mu.Lock()
	defer s.mu.Unlock()
	s.paintedLocked()
	if s.frame == nil {
		return image.Black
	}
	s.collectLocked()
	p.shown = s.frame.CopyTo(p.shown, p.stale)
	p.stale = image.Rectangle{}
	return p.shown
}

// collectLocked hands out what has changed.
func (s *Screen) collectLocked() {
	p := &s.picture
	p.stale, p.pane.stale = p.stale.Union(s.damage), p.pane.stale.Union(s.damage)
	s.damage = image.Rectangle{}
}

// paintedLocked notes that the painter has all there is.
func (s *Screen) paintedLocked() {
	s.pending = false
	if s.client != nil {
		s.client.Painted()
	}
	if s.frame != nil {
		s.paints.Add(1)
	}
}

// follow lays out again after the guest has changed its screen.
func (s *Screen) follow() {
	s.mu.Lock()
	size := s.size
	s.mu.Unlock()
	if size == s.guest {
		return
	}
	s.guest = size
	s.Refresh()
	s.scroll.Refresh()
	if s.OnSize != nil {
		s.OnSize(size)
	}
}

// minSize makes room for the picture where it must not be made smaller.
func (s *Screen) minSize() fyne.Size {
	if s.mode != OneToOne || s.guest == (image.Point{}) {
		return smallest
	}
	f := s.scale()
	return smallest.Max(fyne.NewSize(units(s.guest.X, f), units(s.guest.Y, f)))
}

// layout places picture and bars on whole device pixels.
func (s *Screen) layout(size fyne.Size) {
	f, box := s.scale(), s.box(size)
	s.place = arrange(s.mode, box, s.guest)
	put := func(o fyne.CanvasObject, r image.Rectangle) {
		o.Move(fyne.NewPos(units(r.Min.X, f), units(r.Min.Y, f)))
		o.Resize(fyne.NewSize(units(r.Dx(), f), units(r.Dy(), f)))
	}
	filter := canvas.ImageScaleFastest // smooth, by the GPU
	if s.guest != (image.Point{}) && s.place.Dx()%s.guest.X == 0 && s.place.Dy()%s.guest.Y == 0 {
		filter = canvas.ImageScalePixels // the same or crisper, and cheaper
	}
	if raster := s.picture.raster; raster.ScaleMode != filter {
		raster.ScaleMode = filter
		s.repaint()
	}
	put(s.picture.raster, s.place)
	s.picture.pane.smooth = filter == canvas.ImageScaleFastest
	for i, r := range barsAround(box, s.place) {
		put(s.bars[i], r)
		if r.Empty() {
			s.bars[i].Hide()
		} else {
			s.bars[i].Show()
		}
	}
}

// CreateRenderer is for Fyne.
func (s *Screen) CreateRenderer() fyne.WidgetRenderer {
	objects := []fyne.CanvasObject{s.picture.raster, s.picture.pane}
	for _, b := range s.bars {
		objects = append(objects, b)
	}
	return &renderer{s, objects}
}

type renderer struct {
	s       *Screen
	objects []fyne.CanvasObject
}

func (r *renderer) Destroy()                     {}
func (r *renderer) MinSize() fyne.Size           { return r.s.minSize() }
func (r *renderer) Objects() []fyne.CanvasObject { return r.objects }

func (r *renderer) Layout(size fyne.Size) {
	r.s.layout(size)
	r.s.settle()
}

func (r *renderer) Refresh() {
	r.s.layout(r.s.Size())
	r.s.repaint()
}
