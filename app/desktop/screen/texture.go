//go:build (!gles && !arm && !arm64) || darwin

package screen

import (
	"image"

	"github.com/go-gl/gl/v2.1/gl"
)

// The build tags are those of Fyne's painter on desktop OpenGL, which has
// initialised the package used here. All functions run while it paints.

// boundTexture is the texture that was painted last, 0 unless it is of this size.
func boundTexture(size image.Point) uint32 {
	var id int32
	gl.GetIntegerv(gl.TEXTURE_BINDING_2D, &id)
	if id <= 0 || boundSize() != size {
		return 0
	}
	return uint32(id)
}

// updateTexture brings the part r of img into a texture of the same size; false
// if the texture is no such one any more.
func updateTexture(id uint32, img *image.RGBA, r image.Rectangle) bool {
	if !gl.IsTexture(id) {
		return false
	}
	gl.ActiveTexture(gl.TEXTURE0)
	gl.BindTexture(gl.TEXTURE_2D, id)
	if boundSize() != img.Rect.Size() {
		return false
	}
	if r = r.Intersect(img.Rect); r.Empty() {
		return true
	}
	gl.PixelStorei(gl.UNPACK_ROW_LENGTH, int32(img.Stride/4))
	gl.TexSubImage2D(gl.TEXTURE_2D, 0, int32(r.Min.X), int32(r.Min.Y), int32(r.Dx()), int32(r.Dy()),
		gl.RGBA, gl.UNSIGNED_BYTE, gl.Ptr(&img.Pix[img.PixOffset(r.Min.X, r.Min.Y)]))
	gl.PixelStorei(gl.UNPACK_ROW_LENGTH, 0)
	return gl.GetError() == gl.NO_ERROR
}

func boundSize() image.Point {
	var w, h int32
	gl.GetTexLevelParameteriv(gl.TEXTURE_2D, 0, gl.TEXTURE_WIDTH, &w)
	gl.GetTexLevelParameteriv(gl.TEXTURE_2D, 0, gl.TEXTURE_HEIGHT, &h)
	return image.Pt(int(w), int(h))
}
