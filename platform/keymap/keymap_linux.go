package keymap

// Host is how the window library numbers keys here. Linux has two ways, and
// only the running window knows which display server it talks to.
func Host(wayland bool) System {
	if wayland {
		return Wayland
	}
	return X11
}

// Latches tells whether the host reports the key once per toggle instead of a
// press and a release.
func Latches(Code) bool { return false }
