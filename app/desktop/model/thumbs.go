package model

import (
	"bytes"
	"context"
	"fmt"
	"hash/fnv"
	"image"
	"image/draw"
	"image/png"
	"time"

	"github.com/hxen-project/hxen/app/api"
)

// Largest sizes of thumbnails and previews in pixels: enough for a screen of
// twice the usual density.
const (
	ThumbWidth    = 144
	ThumbHeight   = 90
	PreviewWidth  = 560
	PreviewHeight = 350
)

// thumbsEvery is the pause between rounds of fetching.
const thumbsEvery = 3 * time.Second

// Thumbs keeps the thumbnails of the guests that are on screen fresh.
type Thumbs struct {
	lib  *Library
	want func() []*VM
	tick <-chan time.Time
}

// NewThumbs makes a Thumbs; want is called on the loop before each round and
// names the guests whose picture is seen now: none when the window is hidden.
func (l *Library) NewThumbs(want func() []*VM) *Thumbs {
	return &Thumbs{lib: l, want: want}
}

// Run fetches until ctx ends. It runs on a goroutine of its own.
func (t *Thumbs) Run(ctx context.Context) {
	tick := t.tick
	if tick == nil {
		ticker := time.NewTicker(thumbsEvery)
		defer ticker.Stop()
		tick = ticker.C
	}
	seen := map[api.Ref]uint64{}
	for {
		refs := make(chan []api.Ref, 1)
		t.lib.loop(func() { refs <- t.running() })
		select {
		case <-ctx.Done():
			return
		case list := <-refs:
			for _, ref := range list {
				t.fetch(ctx, ref, seen)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick:
		}
	}
}

func (t *Thumbs) running() []api.Ref {
	var out []api.Ref
	for _, vm := range t.want() {
		saved := vm.Is(Suspended) && vm.thumb == nil // what it showed last does not change
		if (vm.Is(Running) && vm.Display() != DisplayNone || saved) && !vm.gone && vm.NoScreen() == "" && t.lib.state == Online {
			out = append(out, vm.Ref)
		}
	}
	return out
}

// fetch brings one picture; an unchanged one costs nothing on the loop, and a
// guest that has none now keeps the last.
func (t *Thumbs) fetch(ctx context.Context, ref api.Ref, seen map[api.Ref]uint64) {
	ctx, cancel := context.WithTimeout(ctx, 2*thumbsEvery)
	defer cancel()
	data, err := t.lib.svc.Screenshot(ctx, ref)
	if err != nil {
		return
	}
	h := fnv.New64a()
	h.Write(data)
	if seen[ref] == h.Sum64() {
		return
	}
	seen[ref] = h.Sum64()
	screen, err := decodeScreen(data)
	if err != nil {
		return
	}
	preview := shrink(screen, PreviewWidth, PreviewHeight)
	thumb := shrink(preview, ThumbWidth, ThumbHeight)
	t.lib.loop(func() {
		if vm := t.lib.vms[ref]; vm != nil {
			vm.thumb, vm.preview = thumb, preview
			t.lib.tell(News{What: ChangedVM, VMs: map[api.Ref]bool{ref: true}})
		}
	})
}

// thumbMost bounds the pixels of a screen that is decoded.
const thumbMost = 64 << 20

func decodeScreen(data []byte) (image.Image, error) {
	c, err := png.DecodeConfig(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("read screenshot: %w", err)
	}
	if c.Width <= 0 || c.Height <= 0 || c.Width > thumbMost/c.Height {
		return nil, fmt.Errorf("read screenshot: %d by %d pixels are too many", c.Width, c.Height)
	}
	img, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("read screenshot: %w", err)
	}
	return img, nil
}

// shrink scales img to fit w by h, keeping its shape, each pixel the mean of
// those it covers. Smaller pictures keep their size.
func shrink(img image.Image, w, h int) *image.RGBA {
	b := img.Bounds()
	src, ok := img.(*image.RGBA)
	if !ok || b.Min != (image.Point{}) {
		src = image.NewRGBA(image.Rect(0, 0, b.Dx(), b.Dy()))
		draw.Draw(src, src.Rect, img, b.Min, draw.Src)
	}
	sw, sh := b.Dx(), b.Dy()
	if sw*h > sh*w {
		h = max(1, sh*w/sw)
	} else {
		w = max(1, sw*h/sh)
	}
	w, h = min(w, sw), min(h, sh)
	out := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		y0, y1 := y*sh/h, max((y+1)*sh/h, y*sh/h+1)
		for x := range w {
			x0, x1 := x*sw/w, max((x+1)*sw/w, x*sw/w+1)
			var r, g, bl uint32
			for yy := y0; yy < y1; yy++ {
				line := src.Pix[yy*src.Stride+x0*4 : yy*src.Stride+x1*4]
				for i := 0; i+3 < len(line); i += 4 {
					r, g, bl = r+uint32(line[i]), g+uint32(line[i+1]), bl+uint32(line[i+2])
				}
			}
			n := uint32((y1 - y0) * (x1 - x0))
			i := out.PixOffset(x, y)
			out.Pix[i], out.Pix[i+1], out.Pix[i+2], out.Pix[i+3] = uint8(r/n), uint8(g/n), uint8(bl/n), 255
		}
	}
	return out
}
