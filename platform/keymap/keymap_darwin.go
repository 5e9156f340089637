package keymap

// Host is how the window library numbers keys here.
func Host(wayland bool) System { return Darwin }

// Latches tells whether the host reports the key once per toggle instead of a
// press and a release: macOS tells of Caps Lock by its light (flagsChanged).
func Latches(c Code) bool { return c == CapsLock }
