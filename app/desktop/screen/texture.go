//go:build (!gles && !arm && !arm64) || darwin

package screen

import (
	"image"
	"strings"

	"github.com/go-gl/gl/v2.1/gl"
)

// The build tags are those of Fyne's painter on desktop OpenGL, which has
// initialised the package used here. All methods run while it paints.

// texture is the guest's picture in OpenGL, to be copied as it is: without a GPU
// that is a copy in memory, where a shader costs several times as much. For Mesa
// to copy so, the texture has the window's order of colours, and its first row is
// the upper one. The zero texture is empty.
type texture struct {
	id, framebuffer uint32
	size            image.Point
}

// update brings the part r of a picture, rows of BGRA without gaps, into the
// texture, and all of it when it has another size. False if it cannot be done.
func (t *texture) update(bgra []byte, size image.Point, r image.Rectangle) bool {
	if len(bgra) == 0 || t.id == 0 && !t.make() {
		return false
	}
	gl.ActiveTexture(gl.TEXTURE0)
	gl.BindTexture(gl.TEXTURE_2D, t.id)
	if t.size != size {
		t.size = size
		gl.TexImage2D(gl.TEXTURE_2D, 0, gl.RGBA, int32(size.X), int32(size.Y), 0, gl.BGRA, gl.UNSIGNED_BYTE, gl.Ptr(&bgra[0]))
		return gl.GetError() == gl.NO_ERROR && t.complete()
	}
	if r = r.Intersect(image.Rectangle{Max: size}); r.Empty() {
		return true
	}
	gl.PixelStorei(gl.UNPACK_ROW_LENGTH, int32(size.X))
	gl.TexSubImage2D(gl.TEXTURE_2D, 0, int32(r.Min.X), int32(r.Min.Y), int32(r.Dx()), int32(r.Dy()),
		gl.BGRA, gl.UNSIGNED_BYTE, gl.Ptr(&bgra[4*(r.Min.Y*size.X+r.Min.X)]))
	gl.PixelStorei(gl.UNPACK_ROW_LENGTH, 0)
	return gl.GetError() == gl.NO_ERROR
}

// make makes the texture, still empty, if OpenGL can copy out of one.
func (t *texture) make() bool {
	if all := gl.GetString(gl.EXTENSIONS); all == nil || !strings.Contains(gl.GoStr(all)+" ", "GL_ARB_framebuffer_object ") {
		return false
	}
	gl.GenTextures(1, &t.id)
	gl.GenFramebuffers(1, &t.framebuffer)
	gl.ActiveTexture(gl.TEXTURE0)
	gl.BindTexture(gl.TEXTURE_2D, t.id)
	gl.TexParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.NEAREST) // there are no smaller versions of it
	gl.TexParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, gl.NEAREST)
	return gl.GetError() == gl.NO_ERROR
}

// complete reports whether the texture can be read as a framebuffer.
func (t *texture) complete() bool {
	gl.BindFramebuffer(gl.READ_FRAMEBUFFER, t.framebuffer)
	defer gl.BindFramebuffer(gl.READ_FRAMEBUFFER, 0)
	gl.FramebufferTexture2D(gl.READ_FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, t.id, 0)
	return gl.CheckFramebufferStatus(gl.READ_FRAMEBUFFER) == gl.FRAMEBUFFER_COMPLETE
}

// copyTo copies the picture to a place in the window, in device pixels from its
// upper left corner. What clips Fyne's painting clips this.
func (t *texture) copyTo(place image.Rectangle, smooth bool) bool {
	var view [4]int32 // x, y, width, height
	gl.GetIntegerv(gl.VIEWPORT, &view[0])
	filter := uint32(gl.NEAREST)
	if smooth {
		filter = gl.LINEAR
	}
	gl.BindFramebuffer(gl.READ_FRAMEBUFFER, t.framebuffer)
	gl.BlitFramebuffer(0, int32(t.size.Y), int32(t.size.X), 0,
		int32(place.Min.X), view[3]-int32(place.Max.Y), int32(place.Max.X), view[3]-int32(place.Min.Y), gl.COLOR_BUFFER_BIT, filter)
	gl.BindFramebuffer(gl.READ_FRAMEBUFFER, 0)
	return gl.GetError() == gl.NO_ERROR
}
