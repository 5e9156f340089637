package screen

import (
	"image"
	"math"

	"fyne.io/fyne/v2"
)

// Mode is how the guest's picture is fitted into the window.
type Mode int

// The modes.
const (
	Fit         Mode = iota // as large as fits, the guest's proportions kept
	OneToOne                // one guest pixel is one device pixel; larger ones scroll
	Integer                 // the largest whole multiple that fits
	ResizeGuest             // the guest is asked to take the window's size
)

// arrange places a picture of size guest into a widget of size box, both in
// device pixels. The picture is centred; it exceeds the box in OneToOne only.
func arrange(m Mode, box, guest image.Point) image.Rectangle {
	if guest.X < 1 || guest.Y < 1 || box.X < 1 || box.Y < 1 {
		return image.Rectangle{}
	}
	size := guest
	fits := guest.X <= box.X && guest.Y <= box.Y
	switch {
	case m == OneToOne:
	case m == Integer && fits:
		size = guest.Mul(min(box.X/guest.X, box.Y/guest.Y))
	case m == ResizeGuest && fits:
		// The guest has not followed, or not quite: no blur for a few pixels.
	default:
		size = fitted(box, guest)
	}
	at := image.Pt(max(0, (box.X-size.X)/2), max(0, (box.Y-size.Y)/2))
	return image.Rectangle{at, at.Add(size)}
}

// fitted is guest scaled to just fit into box.
func fitted(box, guest image.Point) image.Point {
	if box.X*guest.Y <= box.Y*guest.X {
		return image.Pt(box.X, max(1, (guest.Y*box.X+guest.X/2)/guest.X))
	}
	return image.Pt(max(1, (guest.X*box.Y+guest.Y/2)/guest.Y), box.Y)
}

// toGuest is the guest's pixel under the device pixel at; outside the picture
// it is the nearest one.
func toGuest(at image.Point, place image.Rectangle, guest image.Point) image.Point {
	if place.Empty() {
		return image.Point{}
	}
	at = at.Sub(place.Min)
	// The middle of the device pixel decides.
	x := (2*at.X + 1) * guest.X / (2 * place.Dx())
	y := (2*at.Y + 1) * guest.Y / (2 * place.Dy())
	return image.Pt(min(max(x, 0), guest.X-1), min(max(y, 0), guest.Y-1))
}

// barsAround are the parts of box that place leaves free: left, right, above,
// below.
func barsAround(box image.Point, place image.Rectangle) [4]image.Rectangle {
	p := place.Intersect(image.Rectangle{Max: box})
	if p.Empty() {
		return [4]image.Rectangle{image.Rectangle{Max: box}}
	}
	return [4]image.Rectangle{
		image.Rect(0, 0, p.Min.X, box.Y),
		image.Rect(p.Max.X, 0, box.X, box.Y),
		image.Rect(p.Min.X, 0, p.Max.X, p.Min.Y),
		image.Rect(p.Min.X, p.Max.Y, p.Max.X, box.Y),
	}
}

// scale is device pixels per Fyne unit where the widget is shown, 1 elsewhere.
func (s *Screen) scale() float64 {
	c := fyne.CurrentApp().Driver().CanvasForObject(s)
	if c == nil {
		return 1
	}
	const far = 10000 // against rounding to whole pixels
	x, _ := c.PixelCoordinateForPosition(fyne.NewPos(far, 0))
	if x <= 0 {
		return 1
	}
	return float64(x) / far
}

// box is the widget's size in device pixels.
func (s *Screen) box(size fyne.Size) image.Point {
	f := s.scale()
	return image.Pt(int(math.Round(float64(size.Width)*f)), int(math.Round(float64(size.Height)*f)))
}

// pixel is the device pixel under a position in the widget.
func (s *Screen) pixel(p fyne.Position) image.Point {
	f := s.scale()
	// Fyne made the position from a whole pixel by a division in float32.
	const slack = 1.0 / 64
	return image.Pt(int(math.Floor(float64(p.X)*f+slack)), int(math.Floor(float64(p.Y)*f+slack)))
}

// units turns a length in device pixels into Fyne's.
func units(px int, scale float64) float32 { return float32(float64(px) / scale) }
