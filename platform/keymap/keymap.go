// Package keymap knows keys: what number each system, QEMU and Linux give a
// place on the keyboard, what a key is called, and which keys type a text on a
// US board. It knows places, never layouts (those are the guest's business),
// and no window and no protocol. All tables are there on every system; a
// per-system file only says which one is the host's.
//
// keymap.go translates numbers, table.go holds them, names.go reads and writes
// key combinations, typing.go turns text into strokes.
package keymap

import "fmt"

// Code is a key, by its Linux KEY_* number (linux/input-event-codes.h).
type Code uint16

// The keys that programs name.
const (
	Esc        Code = 1
	Backspace  Code = 14
	Tab        Code = 15
	Enter      Code = 28
	LeftCtrl   Code = 29
	LeftShift  Code = 42
	RightShift Code = 54
	LeftAlt    Code = 56
	Space      Code = 57
	CapsLock   Code = 58
	F11        Code = 87
	F12        Code = 88
	RightCtrl  Code = 97
	RightAlt   Code = 100
	Delete     Code = 111
	Pause      Code = 119
	LeftSuper  Code = 125
	RightSuper Code = 126
	Menu       Code = 127

	numLock     Code = 69
	printScreen Code = 99
)

// System is a way of numbering keys, as the window library (GLFW 3.4) reports
// them.
type System int

// The systems.
const (
	X11     System = iota // X keycode: Linux number + 8
	Wayland               // Linux number (wl_keyboard.key)
	Windows               // set 1 make code, 0x100 for extended
	Darwin                // kVK_* virtual key code
)

func (s System) String() string {
	switch s {
	case X11:
		return "X11"
	case Wayland:
		return "Wayland"
	case Windows:
		return "Windows"
	case Darwin:
		return "Darwin"
	}
	return fmt.Sprintf("System(%d)", int(s))
}

var (
	byCode = map[Code]*row{}
	byID   = map[string]Code{}
	byScan [Darwin + 1]map[int]Code
)

func init() {
	for s := range byScan {
		byScan[s] = map[int]Code{}
	}
	for i := range table {
		r := &table[i]
		byCode[r.code] = r
		byID[r.id] = r.code
		for s := range byScan {
			if n, ok := r.scan(System(s)); ok {
				byScan[s][n] = r.code
			}
		}
	}
}

// scan is what the system s calls the key.
func (r *row) scan(s System) (int, bool) {
	switch s {
	case X11:
		return int(r.code) + 8, true
	case Wayland:
		return int(r.code), true
	case Darwin:
		return int(r.mac), r.mac != none
	}
	// GLFW's win32_window.c: these three differ from what the keyboard sends.
	switch r.code {
	case numLock:
		return 0x145, true
	case Pause:
		return 0x45, true
	case printScreen:
		return 0x137, true
	}
	return int(r.xt&0x7f) | int(r.xt&0x80)<<1, true
}

// From finds the key that the system s reports as scan.
func From(s System, scan int) (Code, bool) {
	if s < 0 || int(s) >= len(byScan) {
		return 0, false
	}
	c, ok := byScan[s][scan]
	return c, ok
}

// Scan is what the system s reports for the key, if it has it.
func (c Code) Scan(s System) (int, bool) {
	r, ok := byCode[c]
	if !ok {
		return 0, false
	}
	return r.scan(s)
}

// XT is QEMU's number of the key: its set 1 make code, with 0x80 for an e0
// prefix; 0 if there is none. Pause is 0xc6 and Print Screen 0x54.
func (c Code) XT() uint32 {
	if r, ok := byCode[c]; ok {
		return uint32(r.xt)
	}
	return 0
}

// FromXT finds the key that QEMU calls xt.
func FromXT(xt uint32) (Code, bool) {
	for i := range table {
		if uint32(table[i].xt) == xt {
			return table[i].code, true
		}
	}
	return 0, false
}

// Modifier tells whether the key does nothing of its own when held.
func (c Code) Modifier() bool {
	switch c {
	case LeftCtrl, RightCtrl, LeftShift, RightShift, LeftAlt, RightAlt, LeftSuper, RightSuper:
		return true
	}
	return false
}
