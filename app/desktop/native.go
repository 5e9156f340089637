package desktop

import (
	"fmt"
	"image"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/driver"
	"github.com/go-gl/glfw/v3.4/glfw"
)

// native tells whether a window is minimised or worked in, which Fyne does not,
// and has a look at keys before Fyne does.
// Fyne paints with the window library's context current, so a raster of one pixel learns
// there which window it is in; this needs the GLFW package that Fyne is built
// with.
type native struct {
	pixel  *canvas.Raster
	window *glfw.Window
}

func newNative(f *frame) *native {
	n := &native{}
	empty := image.NewRGBA(image.Rect(0, 0, 1, 1))
	_, real := f.win.(driver.NativeWindow)
	n.pixel = canvas.NewRaster(func(int, int) image.Image {
		if real && n.window == nil {
			if n.window = glfw.GetCurrentContext(); n.window != nil {
				n.watchKeys(f)
			}
		}
		return empty
	})
	n.pixel.SetMinSize(fyne.NewSquareSize(1))
	return n
}

// watchKeys has the keys that a widget of Fyne's own would swallow go to the
// window: there is no other way to get at them.
func (n *native) watchKeys(f *frame) {
	var before glfw.KeyCallback
	before = n.window.SetKeyCallback(func(w *glfw.Window, key glfw.Key, code int, action glfw.Action, mods glfw.ModifierKey) {
		if action == glfw.Press {
			command := mods&(glfw.ModControl|glfw.ModSuper) != 0
			f.beforeKey(key == glfw.KeyEscape, command && key != glfw.KeyC && key != glfw.KeyA && key < glfw.KeyLeftShift)
		}
		before(w, key, code, action, mods)
	})
}

// minimised reports whether nobody can see the window. On Fyne's goroutine.
func (n *native) minimised() bool {
	return n.window != nil && n.window.GetAttrib(glfw.Iconified) == glfw.True
}

// aside reports whether the user works in another window. On Fyne's goroutine.
func (n *native) aside() bool {
	return n.window != nil && n.window.GetAttrib(glfw.Focused) != glfw.True
}

// Check says in one sentence why no window can be made here, where Fyne would
// only end: no screen, or no OpenGL. On the main goroutine, before Run.
func Check() error {
	if err := glfw.Init(); err != nil {
		return fmt.Errorf("no window can be shown: %w", err)
	}
	defer glfw.Terminate() // Fyne begins anew, on the platform of its choice
	glfw.WindowHint(glfw.Visible, glfw.False)
	glfw.WindowHint(glfw.ContextVersionMajor, 2) // what Fyne asks for
	glfw.WindowHint(glfw.ContextVersionMinor, 1)
	w, err := glfw.CreateWindow(16, 16, "HXEN", nil, nil)
	if err != nil {
		return fmt.Errorf("no window can be shown, as OpenGL 2.1 is missing here: %w", err)
	}
	w.Destroy()
	return nil
}
