package rfb

import (
	"encoding/binary"
	"image"
	"image/draw"
	"sync"
)

// Frame is the guest's picture: opaque RGBA that the reader writes and others
// copy out of. The zero Frame is empty.
type Frame struct {
	mu  sync.Mutex
	img *image.RGBA // guarded by mu; Stride == 4*W, alpha 255
}

// Size is the picture's size in pixels.
func (f *Frame) Size() image.Point {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.sizeLocked()
}

func (f *Frame) sizeLocked() image.Point {
	if f.img == nil {
		return image.Point{}
	}
	return f.img.Rect.Max
}

// CopyTo copies the part r of the picture into dst and returns dst, or a new
// image when dst is nil or not of the picture's size, which is then copied
// whole.
func (f *Frame) CopyTo(dst *image.RGBA, r image.Rectangle) *image.RGBA {
	f.mu.Lock()
	defer f.mu.Unlock()
	bounds := image.Rectangle{Max: f.sizeLocked()}
	if dst == nil || dst.Rect != bounds {
		dst, r = image.NewRGBA(bounds), bounds
	}
	r = r.Intersect(bounds)
	if r.Empty() {
		return dst
	}
	if r.Dx() == bounds.Dx() {
		from, to := r.Min.Y*f.img.Stride, r.Max.Y*f.img.Stride
		copy(dst.Pix[from:to], f.img.Pix[from:to])
		return dst
	}
	for y := r.Min.Y; y < r.Max.Y; y++ {
		from := f.img.PixOffset(r.Min.X, y)
		to := from + r.Dx()*bytesPerPixel
		copy(dst.Pix[from:to], f.img.Pix[from:to])
	}
	return dst
}

// Look calls f with the picture, nil if there is none yet, which f must neither
// keep nor change. The reader waits for it.
func (f *Frame) Look(look func(img *image.RGBA)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	look(f.img)
}

// resize gives the frame a new size, keeping what fits so that a guest that
// grows its screen does not flash.
func (f *Frame) resize(w, h int) {
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	draw.Draw(img, img.Rect, image.Black, image.Point{}, draw.Src)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.img != nil {
		draw.Draw(img, img.Rect.Intersect(f.img.Rect), f.img, image.Point{}, draw.Src)
	}
	f.img = img
}

// put writes rows of w BGRX pixels at x, y. The caller has checked that they
// are inside.
func (f *Frame) put(x, y, w int, bgrx []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	row := w * bytesPerPixel
	for ; len(bgrx) >= row; y++ {
		off := f.img.PixOffset(x, y)
		swizzle(f.img.Pix[off:off+row], bgrx[:row])
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
		d, s := f.img.PixOffset(dst.Min.X, dst.Min.Y+i), f.img.PixOffset(src.X, src.Y+i)
		copy(f.img.Pix[d:d+row], f.img.Pix[s:s+row])
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
