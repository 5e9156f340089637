package screen

import (
	"image"
	"testing"
)

func TestArrange(t *testing.T) {
	box := image.Pt(800, 600)
	for _, c := range []struct {
		mode  Mode
		guest image.Point
		want  image.Rectangle
	}{
		{Fit, image.Pt(1280, 800), image.Rect(0, 50, 800, 550)},
		{Fit, image.Pt(400, 600), image.Rect(200, 0, 600, 600)},
		{Fit, image.Pt(400, 300), image.Rect(0, 0, 800, 600)},
		{Fit, image.Pt(16000, 1), image.Rect(0, 299, 800, 300)},
		{OneToOne, image.Pt(400, 300), image.Rect(200, 150, 600, 450)},
		{OneToOne, image.Pt(1280, 800), image.Rect(0, 0, 1280, 800)},
		{Integer, image.Pt(300, 200), image.Rect(100, 100, 700, 500)},
		{Integer, image.Pt(720, 400), image.Rect(40, 100, 760, 500)},
		{Integer, image.Pt(1280, 800), image.Rect(0, 50, 800, 550)},
		{ResizeGuest, image.Pt(800, 600), image.Rect(0, 0, 800, 600)},
		{ResizeGuest, image.Pt(792, 600), image.Rect(4, 0, 796, 600)},
		{ResizeGuest, image.Pt(1600, 1200), image.Rect(0, 0, 800, 600)},
		{Fit, image.Point{}, image.Rectangle{}},
	} {
		if got := arrange(c.mode, box, c.guest); got != c.want {
			t.Errorf("mode %d, guest %v: %v, want %v", c.mode, c.guest, got, c.want)
		}
	}
	if got := arrange(Fit, image.Point{}, image.Pt(5, 5)); !got.Empty() {
		t.Errorf("no room, yet %v", got)
	}
}

func TestToGuest(t *testing.T) {
	guest := image.Pt(400, 300)
	for _, c := range []struct {
		at    image.Point
		place image.Rectangle
		want  image.Point
	}{
		{image.Pt(200, 150), image.Rect(200, 150, 600, 450), image.Pt(0, 0)},
		{image.Pt(599, 449), image.Rect(200, 150, 600, 450), image.Pt(399, 299)},
		{image.Pt(600, 450), image.Rect(200, 150, 600, 450), image.Pt(399, 299)},
		{image.Pt(0, 0), image.Rect(200, 150, 600, 450), image.Pt(0, 0)},
		{image.Pt(1, 1), image.Rect(0, 0, 800, 600), image.Pt(0, 0)},
		{image.Pt(2, 3), image.Rect(0, 0, 800, 600), image.Pt(1, 1)},
		{image.Pt(799, 599), image.Rect(0, 0, 800, 600), image.Pt(399, 299)},
		{image.Pt(0, 0), image.Rect(0, 0, 100, 75), image.Pt(2, 2)},
		{image.Pt(99, 74), image.Rect(0, 0, 100, 75), image.Pt(398, 298)},
		{image.Pt(5, 5), image.Rectangle{}, image.Pt(0, 0)},
	} {
		if got := toGuest(c.at, c.place, guest); got != c.want {
			t.Errorf("%v in %v: %v, want %v", c.at, c.place, got, c.want)
		}
	}
	// At 1:1 every pixel is itself.
	for x := range 400 {
		if got := toGuest(image.Pt(x+7, 9), image.Rect(7, 9, 407, 309), guest); got != image.Pt(x, 0) {
			t.Fatalf("pixel %d is %v", x, got)
		}
	}
}

func TestBarsCoverTheRest(t *testing.T) {
	box := image.Pt(40, 30)
	for _, place := range []image.Rectangle{
		image.Rect(0, 5, 40, 25), image.Rect(10, 0, 30, 30), image.Rect(4, 3, 30, 20), image.Rect(0, 0, 40, 30), image.Rect(0, 0, 80, 80), {},
	} {
		covered := map[image.Point]int{}
		count := func(r image.Rectangle) {
			for y := r.Min.Y; y < r.Max.Y; y++ {
				for x := r.Min.X; x < r.Max.X; x++ {
					covered[image.Pt(x, y)]++
				}
			}
		}
		count(place.Intersect(image.Rectangle{Max: box}))
		for _, bar := range barsAround(box, place) {
			count(bar)
		}
		if len(covered) != box.X*box.Y {
			t.Errorf("%v: %d of %d pixels covered", place, len(covered), box.X*box.Y)
		}
		for p, n := range covered {
			if n != 1 || !p.In(image.Rectangle{Max: box}) {
				t.Fatalf("%v: %v is covered %d times", place, p, n)
			}
		}
	}
}
