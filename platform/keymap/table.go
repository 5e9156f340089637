package keymap

// A row is one key under each system's number.
type row struct {
	code  Code
	xt    uint8 // QEMU's number: set 1, 0x80 for e0
	mac   int16 // kVK_* (HIToolbox/Events.h); none: -1
	id    string
	human string
}

// none is the mac column of a key that Macs have not.
const none = -1

// table holds all keys of a 105-key board and what Japanese and Brazilian
// boards have besides. Sources: linux/input-event-codes.h, QEMU's
// keycodemapdb (atset1), HIToolbox/Events.h.
var table = [...]row{
	{1, 0x01, 0x35, "esc", "Esc"},                  // KEY_ESC
	{2, 0x02, 0x12, "1", "1"},                      // KEY_1
	{3, 0x03, 0x13, "2", "2"},                      // KEY_2
	{4, 0x04, 0x14, "3", "3"},                      // KEY_3
	{5, 0x05, 0x15, "4", "4"},                      // KEY_4
	{6, 0x06, 0x17, "5", "5"},                      // KEY_5
	{7, 0x07, 0x16, "6", "6"},                      // KEY_6
	{8, 0x08, 0x1a, "7", "7"},                      // KEY_7
	{9, 0x09, 0x1c, "8", "8"},                      // KEY_8
	{10, 0x0a, 0x19, "9", "9"},                     // KEY_9
	{11, 0x0b, 0x1d, "0", "0"},                     // KEY_0
	{12, 0x0c, 0x1b, "minus", "-"},                 // KEY_MINUS
	{13, 0x0d, 0x18, "equal", "="},                 // KEY_EQUAL
	{14, 0x0e, 0x33, "backspace", "Backspace"},     // KEY_BACKSPACE
	{15, 0x0f, 0x30, "tab", "Tab"},                 // KEY_TAB
	{16, 0x10, 0x0c, "q", "Q"},                     // KEY_Q
	{17, 0x11, 0x0d, "w", "W"},                     // KEY_W
	{18, 0x12, 0x0e, "e", "E"},                     // KEY_E
	{19, 0x13, 0x0f, "r", "R"},                     // KEY_R
	{20, 0x14, 0x11, "t", "T"},                     // KEY_T
	{21, 0x15, 0x10, "y", "Y"},                     // KEY_Y
	{22, 0x16, 0x20, "u", "U"},                     // KEY_U
	{23, 0x17, 0x22, "i", "I"},                     // KEY_I
	{24, 0x18, 0x1f, "o", "O"},                     // KEY_O
	{25, 0x19, 0x23, "p", "P"},                     // KEY_P
	{26, 0x1a, 0x21, "bracketleft", "["},           // KEY_LEFTBRACE
	{27, 0x1b, 0x1e, "bracketright", "]"},          // KEY_RIGHTBRACE
	{28, 0x1c, 0x24, "enter", "Enter"},             // KEY_ENTER
	{29, 0x1d, 0x3b, "ctrl", "Ctrl"},               // KEY_LEFTCTRL
	{30, 0x1e, 0x00, "a", "A"},                     // KEY_A
	{31, 0x1f, 0x01, "s", "S"},                     // KEY_S
	{32, 0x20, 0x02, "d", "D"},                     // KEY_D
	{33, 0x21, 0x03, "f", "F"},                     // KEY_F
	{34, 0x22, 0x05, "g", "G"},                     // KEY_G
	{35, 0x23, 0x04, "h", "H"},                     // KEY_H
	{36, 0x24, 0x26, "j", "J"},                     // KEY_J
	{37, 0x25, 0x28, "k", "K"},                     // KEY_K
	{38, 0x26, 0x25, "l", "L"},                     // KEY_L
	{39, 0x27, 0x29, "semicolon", ";"},             // KEY_SEMICOLON
	{40, 0x28, 0x27, "apostrophe", "'"},            // KEY_APOSTROPHE
	{41, 0x29, 0x32, "grave", "`"},                 // KEY_GRAVE
	{42, 0x2a, 0x38, "shift", "Shift"},             // KEY_LEFTSHIFT
	{43, 0x2b, 0x2a, "backslash", "\\"},            // KEY_BACKSLASH
	{44, 0x2c, 0x06, "z", "Z"},                     // KEY_Z
	{45, 0x2d, 0x07, "x", "X"},                     // KEY_X
	{46, 0x2e, 0x08, "c", "C"},                     // KEY_C
	{47, 0x2f, 0x09, "v", "V"},                     // KEY_V
	{48, 0x30, 0x0b, "b", "B"},                     // KEY_B
	{49, 0x31, 0x2d, "n", "N"},                     // KEY_N
	{50, 0x32, 0x2e, "m", "M"},                     // KEY_M
	{51, 0x33, 0x2b, "comma", ","},                 // KEY_COMMA
	{52, 0x34, 0x2f, "period", "."},                // KEY_DOT
	{53, 0x35, 0x2c, "slash", "/"},                 // KEY_SLASH
	{54, 0x36, 0x3c, "rshift", "Right Shift"},      // KEY_RIGHTSHIFT
	{55, 0x37, 0x43, "kpmultiply", "Keypad *"},     // KEY_KPASTERISK
	{56, 0x38, 0x3a, "alt", "Alt"},                 // KEY_LEFTALT
	{57, 0x39, 0x31, "space", "Space"},             // KEY_SPACE
	{58, 0x3a, 0x39, "capslock", "Caps Lock"},      // KEY_CAPSLOCK
	{59, 0x3b, 0x7a, "f1", "F1"},                   // KEY_F1
	{60, 0x3c, 0x78, "f2", "F2"},                   // KEY_F2
	{61, 0x3d, 0x63, "f3", "F3"},                   // KEY_F3
	{62, 0x3e, 0x76, "f4", "F4"},                   // KEY_F4
	{63, 0x3f, 0x60, "f5", "F5"},                   // KEY_F5
	{64, 0x40, 0x61, "f6", "F6"},                   // KEY_F6
	{65, 0x41, 0x62, "f7", "F7"},                   // KEY_F7
	{66, 0x42, 0x64, "f8", "F8"},                   // KEY_F8
	{67, 0x43, 0x65, "f9", "F9"},                   // KEY_F9
	{68, 0x44, 0x6d, "f10", "F10"},                 // KEY_F10
	{69, 0x45, 0x47, "numlock", "Num Lock"},        // KEY_NUMLOCK
	{70, 0x46, 0x6b, "scrolllock", "Scroll Lock"},  // KEY_SCROLLLOCK
	{71, 0x47, 0x59, "kp7", "Keypad 7"},            // KEY_KP7
	{72, 0x48, 0x5b, "kp8", "Keypad 8"},            // KEY_KP8
	{73, 0x49, 0x5c, "kp9", "Keypad 9"},            // KEY_KP9
	{74, 0x4a, 0x4e, "kpsubtract", "Keypad -"},     // KEY_KPMINUS
	{75, 0x4b, 0x56, "kp4", "Keypad 4"},            // KEY_KP4
	{76, 0x4c, 0x57, "kp5", "Keypad 5"},            // KEY_KP5
	{77, 0x4d, 0x58, "kp6", "Keypad 6"},            // KEY_KP6
	{78, 0x4e, 0x45, "kpadd", "Keypad +"},          // KEY_KPPLUS
	{79, 0x4f, 0x53, "kp1", "Keypad 1"},            // KEY_KP1
	{80, 0x50, 0x54, "kp2", "Keypad 2"},            // KEY_KP2
	{81, 0x51, 0x55, "kp3", "Keypad 3"},            // KEY_KP3
	{82, 0x52, 0x52, "kp0", "Keypad 0"},            // KEY_KP0
	{83, 0x53, 0x41, "kpdecimal", "Keypad ."},      // KEY_KPDOT
	{86, 0x56, 0x0a, "less", "< (beside Shift)"},   // KEY_102ND
	{87, 0x57, 0x67, "f11", "F11"},                 // KEY_F11
	{88, 0x58, 0x6f, "f12", "F12"},                 // KEY_F12
	{89, 0x73, 0x5e, "ro", "ろ"},                    // KEY_RO
	{92, 0x79, none, "henkan", "変換"},               // KEY_HENKAN
	{93, 0x70, none, "katakanahiragana", "かな"},     // KEY_KATAKANAHIRAGANA
	{94, 0x7b, none, "muhenkan", "無変換"},            // KEY_MUHENKAN
	{96, 0x9c, 0x4c, "kpenter", "Keypad Enter"},    // KEY_KPENTER
	{97, 0x9d, 0x3e, "rctrl", "Right Ctrl"},        // KEY_RIGHTCTRL
	{98, 0xb5, 0x4b, "kpdivide", "Keypad /"},       // KEY_KPSLASH
	{99, 0x54, 0x69, "print", "Print Screen"},      // KEY_SYSRQ
	{100, 0xb8, 0x3d, "altgr", "Right Alt"},        // KEY_RIGHTALT
	{102, 0xc7, 0x73, "home", "Home"},              // KEY_HOME
	{103, 0xc8, 0x7e, "up", "Up"},                  // KEY_UP
	{104, 0xc9, 0x74, "pageup", "Page Up"},         // KEY_PAGEUP
	{105, 0xcb, 0x7b, "left", "Left"},              // KEY_LEFT
	{106, 0xcd, 0x7c, "right", "Right"},            // KEY_RIGHT
	{107, 0xcf, 0x77, "end", "End"},                // KEY_END
	{108, 0xd0, 0x7d, "down", "Down"},              // KEY_DOWN
	{109, 0xd1, 0x79, "pagedown", "Page Down"},     // KEY_PAGEDOWN
	{110, 0xd2, 0x72, "insert", "Insert"},          // KEY_INSERT
	{111, 0xd3, 0x75, "delete", "Delete"},          // KEY_DELETE
	{113, 0xa0, 0x4a, "mute", "Mute"},              // KEY_MUTE
	{114, 0xae, 0x49, "volumedown", "Volume Down"}, // KEY_VOLUMEDOWN
	{115, 0xb0, 0x48, "volumeup", "Volume Up"},     // KEY_VOLUMEUP
	{117, 0x59, 0x51, "kpequal", "Keypad ="},       // KEY_KPEQUAL
	{119, 0xc6, 0x71, "pause", "Pause"},            // KEY_PAUSE
	{121, 0x7e, 0x5f, "kpcomma", "Keypad ,"},       // KEY_KPCOMMA
	{124, 0x7d, 0x5d, "yen", "¥"},                  // KEY_YEN
	{125, 0xdb, 0x37, "super", "Super"},            // KEY_LEFTMETA
	{126, 0xdc, 0x36, "rsuper", "Right Super"},     // KEY_RIGHTMETA
	{127, 0xdd, 0x6e, "menu", "Menu"},              // KEY_COMPOSE
}
