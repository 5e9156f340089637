package screen

import (
	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/driver"
	"github.com/go-gl/glfw/v3.4/glfw"

	"github.com/hxen-project/hxen/platform/keymap"
)

// native is what Fyne does not tell about its window. Fyne paints with the
// window library's context current, so the window can be asked for then; this
// needs the same GLFW package that Fyne is built with.
type native struct {
	system keymap.System
	window *glfw.Window
}

// attach learns about the window at the first paint in it. While painting.
func (n *native) attach(s *Screen) {
	var nw driver.NativeWindow
	if n.window == nil {
		var ok bool
		if nw, ok = windowOf(s).(driver.NativeWindow); !ok {
			return // a canvas in memory, or not in a window yet
		}
	}
	w := glfw.GetCurrentContext()
	if w == nil || w == n.window {
		return
	}
	n.window = w
	if nw != nil {
		nw.RunNative(func(context any) {
			_, wayland := context.(driver.WaylandWindowContext)
			n.system = keymap.Host(wayland)
		})
	}
	var before glfw.IconifyCallback
	before = w.SetIconifyCallback(func(w *glfw.Window, iconified bool) {
		if before != nil {
			before(w, iconified)
		}
		s.show(!iconified)
	})
}

func windowOf(s *Screen) fyne.Window {
	d := fyne.CurrentApp().Driver()
	c := d.CanvasForObject(s)
	if c == nil {
		return nil
	}
	for _, w := range d.AllWindows() {
		if w.Canvas() == c {
			return w
		}
	}
	return nil
}
