//go:build (gles || arm || arm64) && !darwin

package screen

import "image"

// Fyne paints with OpenGL ES here, which cannot tell a texture's size: each
// paint brings the whole picture.

func boundTexture(image.Point) uint32 { return 0 }

func updateTexture(uint32, *image.RGBA, image.Rectangle) bool { return false }
