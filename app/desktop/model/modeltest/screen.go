package modeltest

import (
	"bytes"
	"context"
	"image"
	"image/color"
	"image/png"

	"github.com/hxen-project/hxen/app/api"
)

// Screenshot implements model.Service: a text screen of 1280 by 800 whose
// colour and lines depend on the guest.
func (s *Service) Screenshot(_ context.Context, vm api.Ref) ([]byte, error) {
	s.mu.Lock()
	err := s.fail["Screenshot"]
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return Picture(vm)
}

// Picture is the screen of a guest as PNG.
func Picture(vm api.Ref) ([]byte, error) {
	seed := 0
	for _, c := range vm {
		seed = seed*31 + int(c)
	}
	seed &= 0xffff
	backs := []color.RGBA{{24, 26, 32, 255}, {18, 52, 86, 255}, {60, 20, 50, 255}, {10, 40, 30, 255}}
	img := image.NewPaletted(image.Rect(0, 0, 1280, 800), color.Palette{backs[seed%len(backs)], color.RGBA{200, 205, 210, 255}})
	for line := range 30 {
		width := (seed>>(line%8)&7)*80 + 120
		for y := line*24 + 20; y < line*24+30; y++ {
			for x := 24; x < 24+width; x++ {
				if x%10 < 7 {
					img.SetColorIndex(x, y, 1)
				}
			}
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
