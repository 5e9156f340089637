package rfb

import (
	"encoding/binary"
	"image"
	"sync"
)

// Frame is the guest's picture, which the reader writes and others copy out of or
// look at. The zero Frame is empty.
type Frame struct {
	mu   sync.Mutex
	size image.Point // guarded by mu
	pix  []byte      // guarded by mu: rows of BGRX without gaps, as it comes, X 255
}

// Size is the picture's size in pixels.
func (f *Frame) Size() image.Point {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.size
}

// at is where a pixel is in a picture of a width.
func at(width, x, y int) int { return (y*width + x) * bytesPerPixel }

// CopyTo copies the part r of the picture into dst and returns dst, or a new
// image when dst is nil or not of the picture's size, which is then copied
// whole.
func (f *Frame) CopyTo(dst *image.RGBA, r image.Rectangle) *image.RGBA {
	f.mu.Lock()
	defer f.mu.Unlock()
	bounds := image.Rectangle{Max: f.size}
	if dst == nil || dst.Rect != bounds {
		dst, r = image.NewRGBA(bounds), bounds
	}
	r = r.Intersect(bounds)
	for y := r.Min.Y; y < r.Max.Y; y++ {
		from, to := at(f.size.X, r.Min.X, y), at(f.size.X, r.Max.X, y)
		swizzle(dst.Pix[from:to], f.pix[from:to])
	}
	return dst
}

// Look calls f with the picture: rows of opaque BGRA without gaps, none if there
// is no picture yet. f must neither keep nor change them. The reader waits for it.
func (f *Frame) Look(look func(bgra []byte, size image.Point)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	look(f.pix, f.size)
}

// resize gives the frame a new size, keeping what fits so that a guest that
// grows its screen does not flash.
func (f *Frame) resize(w, h int) {
	pix := make([]byte, w*h*bytesPerPixel)
	for i := 3; i < len(pix); i += bytesPerPixel {
		pix[i] = 0xff
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	row := min(w, f.size.X) * bytesPerPixel
	for y := range min(h, f.size.Y) {
		copy(pix[at(w, 0, y):][:row], f.pix[at(f.size.X, 0, y):])
	}
	f.pix, f.size = pix, image.Pt(w, h)
}

// put writes rows of w BGRX pixels at x, y. The caller has checked that they
// are inside.
func (f *Frame) put(x, y, w int, bgrx []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	row := w * bytesPerPixel
	for ; len(bgrx) >= row; y++ {
		opaque(f.pix[at(f.size.X, x, y):][:row], bgrx[:row])
		bgrx = bgrx[row:]
	}
}

// move copies the rectangle dst from src, which may overlap it.
func (f *Frame) move(dst image.Rectangle, src image.Point) {
	f.mu.Lock()
	defer f.mu.Unlock()
	row := dst.Dx() * bytesPerPixel
	for i := range dst.Dy() {
		if src.Y < dst.Min.Y { // downwards: last row first
			i = dst.Dy() - 1 - i
		}
		copy(f.pix[at(f.size.X, dst.Min.X, dst.Min.Y+i):][:row], f.pix[at(f.size.X, src.X, src.Y+i):])
	}
}

// opaque copies BGRX and makes it BGRA with alpha 255, four pixels at a time.
// Both are of the same length, a multiple of four.
func opaque(dst, src []byte) {
	const alpha = 0xff000000_ff000000
	for len(src) >= 16 && len(dst) >= 16 {
		s, d := src[:16], dst[:16] // one bounds check for all four words
		a, b := binary.LittleEndian.Uint64(s), binary.LittleEndian.Uint64(s[8:])
		binary.LittleEndian.PutUint64(d, a|alpha)
		binary.LittleEndian.PutUint64(d[8:], b|alpha)
		src, dst = src[16:], dst[16:]
	}
	for len(src) >= 4 && len(dst) >= 4 {
		dst[0], dst[1], dst[2], dst[3] = src[0], src[1], src[2], 0xff
		src, dst = src[4:], dst[4:]
	}
}

// swizzle turns BGRX into opaque RGBA, four pixels at a time. Both are of the
// same length, a multiple of four.
func swizzle(dst, src []byte) {
	for len(src) >= 16 && len(dst) >= 16 {
		s, d := src[:16], dst[:16] // one bounds check for all four words
		a, b := binary.LittleEndian.Uint64(s), binary.LittleEndian.Uint64(s[8:])
		binary.LittleEndian.PutUint64(d, swap2(a))
		binary.LittleEndian.PutUint64(d[8:], swap2(b))
		src, dst = src[16:], dst[16:]
	}
	for len(src) >= 4 && len(dst) >= 4 {
		dst[0], dst[1], dst[2], dst[3] = src[2], src[1], src[0], 0xff
		src, dst = src[4:], dst[4:]
	}
}

// swap2 swaps blue and red in two pixels and makes them opaque.
func swap2(v uint64) uint64 {
	const (
		green = 0x0000ff00_0000ff00
		low   = 0x000000ff_000000ff
		alpha = 0xff000000_ff000000
	)
	return v&green | v>>16&low | v&low<<16 | alpha
}
