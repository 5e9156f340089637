package rfb

import (
	"image"
	"math/bits"
)

// tileSize is the side of the squares that changes are kept by, in pixels.
const tileSize = 16

// tiles says which squares of a picture have changed: it joins any number of
// changes in memory that depends on the picture's size alone.
type tiles struct {
	size  image.Point // of the picture, in pixels
	words int         // of one row of squares
	bits  []uint64    // row by row, lowest bit first
	some  bool        // there may be a bit set
}

// newTiles makes the squares of a picture in which nothing has changed.
func newTiles(size image.Point) tiles {
	words := (size.X + 64*tileSize - 1) / (64 * tileSize)
	rows := (size.Y + tileSize - 1) / tileSize
	return tiles{size: size, words: words, bits: make([]uint64, words*rows)}
}

// mark adds the squares that r touches; r may be any rectangle.
func (t *tiles) mark(r image.Rectangle) {
	r = r.Intersect(image.Rectangle{Max: t.size})
	if r.Empty() {
		return
	}
	t.some = true
	x0, x1 := r.Min.X/tileSize, (r.Max.X-1)/tileSize
	for y := r.Min.Y / tileSize; y <= (r.Max.Y-1)/tileSize; y++ {
		row := t.bits[y*t.words : (y+1)*t.words]
		for w := x0 / 64; w <= x1/64; w++ {
			m := ^uint64(0)
			if w == x0/64 {
				m &= ^uint64(0) << (x0 % 64)
			}
			if w == x1/64 {
				m &= ^uint64(0) >> (63 - x1%64)
			}
			row[w] |= m
		}
	}
}

// set adds one square.
func (t *tiles) set(x, y int) {
	t.some = true
	t.bits[y*t.words+x/64] |= 1 << (x % 64)
}

// add adds the squares of another picture of the same size.
func (t *tiles) add(o *tiles) {
	t.some = t.some || o.some
	for i, b := range o.bits {
		t.bits[i] |= b
	}
}

// reset forgets all squares.
func (t *tiles) reset() {
	clear(t.bits)
	t.some = false
}

// each calls f for every run of changed squares in a row of them, from the top,
// as the pixels that it covers, and forgets them.
func (t *tiles) each(f func(r image.Rectangle)) {
	if !t.some {
		return
	}
	t.some = false
	for y := 0; y*tileSize < t.size.Y; y++ {
		row := t.bits[y*t.words : (y+1)*t.words]
		for x := next(row, 0, 0); x < 64*t.words; {
			end := next(row, x, ^uint64(0))
			f(image.Rect(x*tileSize, y*tileSize, min(end*tileSize, t.size.X), min((y+1)*tileSize, t.size.Y)))
			x = next(row, end, 0)
		}
		clear(row)
	}
}

// next is the first square from x on whose bit is not that of flat, which is
// all zeros or all ones; behind the last one if there is none.
func next(row []uint64, x int, flat uint64) int {
	for w := x / 64; w < len(row); w++ {
		v := row[w] ^ flat
		if w == x/64 {
			v &= ^uint64(0) << (x % 64)
		}
		if v != 0 {
			return w*64 + bits.TrailingZeros64(v)
		}
	}
	return 64 * len(row)
}

// maxRects bounds the rectangles of one message, which counts them in 16 bits.
const maxRects = 4096

// take joins the changed squares to rectangles and forgets them.
func (t *tiles) take() []image.Rectangle {
	var out []image.Rectangle
	var above, here []int // rectangles that reach into the row above and into this one, from the left
	y := -1
	t.each(func(r image.Rectangle) {
		if r.Min.Y != y {
			above, here, y = here, above[:0], r.Min.Y
		}
		for len(above) > 0 && out[above[0]].Min.X < r.Min.X {
			above = above[1:]
		}
		if len(above) > 0 {
			a := &out[above[0]]
			if a.Min.X == r.Min.X && a.Max.X == r.Max.X && a.Max.Y == r.Min.Y {
				a.Max.Y = r.Max.Y
				here = append(here, above[0])
				return
			}
		}
		here = append(here, len(out))
		out = append(out, r)
	})
	if len(out) <= maxRects {
		return out
	}
	var all image.Rectangle
	for _, r := range out {
		all = all.Union(r)
	}
	return []image.Rectangle{all}
}
