package rfb

import "strings"

// KeyCode is the key of a scan code as RFB carries it (set 1, 0x80 for an e0
// prefix) by its Linux KEY_* number (linux/input-event-codes.h); 0: no key.
func KeyCode(xt uint32) uint16 {
	if xt > 0xff {
		return 0
	}
	if code := scanCodes[xt]; code != 0 {
		return uint16(code)
	}
	// Linux has numbered the old keyboards' keys as their scan codes are.
	if xt <= 0x53 || xt >= 0x56 && xt <= 0x58 {
		return uint16(xt)
	}
	return 0
}

// scanCodes are those that Linux does not number alike (QEMU's keycodemapdb,
// atset1 and linux).
var scanCodes = [256]uint8{
	0x54: 99, 0xb7: 99, 0x59: 117, 0x70: 93, 0x73: 89, 0x79: 92, 0x7b: 94, 0x7d: 124, 0x7e: 121,
	0x90: 165, 0x99: 163, 0x9c: 96, 0x9d: 97, 0xa0: 113, 0xa1: 140, 0xa2: 164, 0xa4: 166, 0xae: 114, 0xb0: 115, 0xb2: 172, 0xb5: 98, 0xb8: 100,
	0xc6: 119, 0xc7: 102, 0xc8: 103, 0xc9: 104, 0xcb: 105, 0xcd: 106, 0xcf: 107, 0xd0: 108, 0xd1: 109, 0xd2: 110, 0xd3: 111,
	0xdb: 125, 0xdc: 126, 0xdd: 127, 0xde: 116, 0xdf: 142, 0xe3: 143, 0xec: 155,
}

// The characters of a US board by their key's Linux number, without Shift and
// with it.
const (
	plainKeys   = "\x00\x001234567890-=\x00\x00qwertyuiop[]\x00\x00asdfghjkl;'`\x00\\zxcvbnm,./"
	shiftedKeys = "\x00\x00!@#$%^&*()_+\x00\x00QWERTYUIOP{}\x00\x00ASDFGHJKL:\"~\x00|ZXCVBNM<>?"
)

// symCode is the key for a keysym (X11's keysymdef.h) on a US board, for viewers
// that send no scan codes; 0: none. Shift is a key of its own that they send too.
func symCode(sym uint32) uint16 {
	switch {
	case sym == ' ':
		return 57
	case sym > ' ' && sym < 0x7f:
		ch := string(rune(sym))
		return uint16(max(strings.Index(plainKeys, ch), strings.Index(shiftedKeys, ch), 0))
	case sym >= 0xffbe && sym <= 0xffc7: // F1 to F10
		return uint16(59 + sym - 0xffbe)
	}
	return uint16(symCodes[sym])
}

var symCodes = map[uint32]uint8{
	0xff08: 14, 0xff09: 15, 0xfe20: 15, 0xff0d: 28, 0xff13: 119, 0xff14: 70, 0xff15: 99, 0xff1b: 1, // BackSpace Tab ISO_Left_Tab Return Pause Scroll_Lock Sys_Req Escape
	0xff50: 102, 0xff51: 105, 0xff52: 103, 0xff53: 106, 0xff54: 108, 0xff55: 104, 0xff56: 109, 0xff57: 107, // Home and the arrows to End
	0xff61: 99, 0xff63: 110, 0xff67: 127, 0xff6b: 119, 0xff7f: 69, 0xffff: 111, // Print Insert Menu Break Num_Lock Delete
	0xff8d: 96, 0xff95: 71, 0xff96: 75, 0xff97: 72, 0xff98: 77, 0xff99: 80, 0xff9a: 73, 0xff9b: 81, 0xff9c: 79, 0xff9d: 76, 0xff9e: 82, 0xff9f: 83, // KP_Enter, KP_Home to KP_Delete
	0xffaa: 55, 0xffab: 78, 0xffac: 121, 0xffad: 74, 0xffae: 83, 0xffaf: 98, // KP_* + , - . /
	0xffb0: 82, 0xffb1: 79, 0xffb2: 80, 0xffb3: 81, 0xffb4: 75, 0xffb5: 76, 0xffb6: 77, 0xffb7: 71, 0xffb8: 72, 0xffb9: 73, // KP_0 to KP_9
	0xffc8: 87, 0xffc9: 88, // F11 F12
	0xffe1: 42, 0xffe2: 54, 0xffe3: 29, 0xffe4: 97, 0xffe5: 58, 0xffe7: 56, 0xffe8: 100, 0xffe9: 56, 0xffea: 100, 0xffeb: 125, 0xffec: 126, 0xfe03: 100, // Shift Control Caps_Lock Meta Alt Super ISO_Level3_Shift
}
