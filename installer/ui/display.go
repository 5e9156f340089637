package ui

import (
	"fmt"

	"github.com/go-gl/glfw/v3.4/glfw"
)

// Displayable says in one sentence why no window can be made here, where Fyne
// would only end the program. Call it on the main goroutine, before Run.
func Displayable() error {
	if err := glfw.Init(); err != nil {
		return fmt.Errorf("no window can be shown: %w", err)
	}
	defer glfw.Terminate() // Fyne begins anew
	glfw.WindowHint(glfw.Visible, glfw.False)
	glfw.WindowHint(glfw.ContextVersionMajor, 2) // Fyne's own demand
	glfw.WindowHint(glfw.ContextVersionMinor, 1)
	w, err := glfw.CreateWindow(16, 16, "HXEN Setup", nil, nil)
	if err != nil {
		return fmt.Errorf("no window can be shown: OpenGL 2.1 is missing: %w", err)
	}
	w.Destroy()
	return nil
}
