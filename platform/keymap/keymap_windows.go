package keymap

// Host is how the window library numbers keys here.
func Host(wayland bool) System { return Windows }

// Latches tells whether the host reports the key once per toggle instead of a
// press and a release.
func Latches(Code) bool { return false }
