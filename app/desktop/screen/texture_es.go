//go:build (gles || arm || arm64) && !darwin

package screen

import "image"

// Fyne paints with OpenGL ES here, which may know neither BGRA nor copies: its
// raster shows the picture.
type texture struct{}

func (*texture) update([]byte, image.Point, image.Rectangle) bool { return false }

func (*texture) copyTo(image.Rectangle, bool) bool { return false }
