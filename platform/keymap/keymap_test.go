package keymap

import (
	"os"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// board is a 105-key board, every key by the name of its Linux number. It is
// written out apart from the table so that a key cannot get lost in both.
const board = `ESC F1 F2 F3 F4 F5 F6 F7 F8 F9 F10 F11 F12 SYSRQ SCROLLLOCK PAUSE
GRAVE 1 2 3 4 5 6 7 8 9 0 MINUS EQUAL BACKSPACE INSERT HOME PAGEUP NUMLOCK KPSLASH KPASTERISK KPMINUS
TAB Q W E R T Y U I O P LEFTBRACE RIGHTBRACE BACKSLASH DELETE END PAGEDOWN KP7 KP8 KP9 KPPLUS
CAPSLOCK A S D F G H J K L SEMICOLON APOSTROPHE ENTER KP4 KP5 KP6
LEFTSHIFT 102ND Z X C V B N M COMMA DOT SLASH RIGHTSHIFT UP KP1 KP2 KP3 KPENTER
LEFTCTRL LEFTMETA LEFTALT SPACE RIGHTALT RIGHTMETA COMPOSE RIGHTCTRL LEFT DOWN RIGHT KP0 KPDOT`

// named reads the table's comments, which carry the kernel's names.
func named(t *testing.T) map[string]Code {
	src, err := os.ReadFile("table.go")
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]Code{}
	for _, f := range regexp.MustCompile(`\{(\d+), .*// KEY_(\w+)`).FindAllStringSubmatch(string(src), -1) {
		n, _ := strconv.Atoi(f[1])
		m[f[2]] = Code(n)
	}
	return m
}

func TestEveryKeyOfTheBoardBothWays(t *testing.T) {
	names := named(t)
	keys := strings.Fields(board)
	if len(keys) != 105 {
		t.Fatalf("the board has %d keys", len(keys))
	}
	for _, key := range keys {
		c, ok := names[key]
		if !ok {
			t.Errorf("%s is not in the table", key)
			continue
		}
		if back, ok := FromXT(c.XT()); !ok || back != c {
			t.Errorf("%s: XT %#x leads back to %d, not %d", key, c.XT(), back, c)
		}
		for _, s := range []System{X11, Wayland, Windows, Darwin} {
			scan, ok := c.Scan(s)
			if !ok {
				t.Errorf("%s has no number on %v", key, s)
				continue
			}
			if back, ok := From(s, scan); !ok || back != c {
				t.Errorf("%s: %v's %#x leads back to %d, not %d", key, s, scan, back, c)
			}
		}
		if got, err := Parse(c.ID()); err != nil || got[0] != c {
			t.Errorf("%s: its name %q reads as %v, %v", key, c.ID(), got, err)
		}
	}
}

func TestNoTwoKeysShareANumber(t *testing.T) {
	xt, ids := map[uint32]Code{}, map[string]Code{}
	scans := map[System]map[int]Code{X11: {}, Wayland: {}, Windows: {}, Darwin: {}}
	for _, r := range table {
		if other, ok := xt[uint32(r.xt)]; ok {
			t.Errorf("%d and %d share XT %#x", other, r.code, r.xt)
		}
		xt[uint32(r.xt)] = r.code
		if other, ok := ids[r.id]; ok {
			t.Errorf("%d and %d share the name %s", other, r.code, r.id)
		}
		ids[r.id] = r.code
		for s, m := range scans {
			n, ok := r.scan(s)
			if !ok {
				continue
			}
			if other, dup := m[n]; dup {
				t.Errorf("%v: %d and %d share %#x", s, other, r.code, n)
			}
			m[n] = r.code
		}
	}
}

// TestLinuxHeader holds the table against the kernel's header where it is
// installed.
func TestLinuxHeader(t *testing.T) {
	b, err := os.ReadFile("/usr/include/linux/input-event-codes.h")
	if err != nil {
		t.Skip("needs linux/input-event-codes.h:", err)
	}
	header := map[string]int{}
	for _, f := range regexp.MustCompile(`(?m)^#define\s+KEY_(\w+)\s+(\d+)`).FindAllStringSubmatch(string(b), -1) {
		header[f[1]], _ = strconv.Atoi(f[2])
	}
	for name, c := range named(t) {
		if header[name] != int(c) {
			t.Errorf("KEY_%s is %d, the table says %d", name, header[name], c)
		}
	}
}

// Numbers seen elsewhere: QEMU's and the window library's own tables.
func TestKnownNumbers(t *testing.T) {
	for _, k := range []struct {
		id            string
		xt            uint32
		x11, win, mac int
	}{
		{"a", 0x1e, 38, 0x1e, 0x00},
		{"kpenter", 0x9c, 104, 0x11c, 0x4c},
		{"rctrl", 0x9d, 105, 0x11d, 0x3e},
		{"print", 0x54, 107, 0x137, 0x69},
		{"altgr", 0xb8, 108, 0x138, 0x3d},
		{"pause", 0xc6, 127, 0x045, 0x71},
		{"numlock", 0x45, 77, 0x145, 0x47},
		{"super", 0xdb, 133, 0x15b, 0x37},
		{"menu", 0xdd, 135, 0x15d, 0x6e},
		{"less", 0x56, 94, 0x056, 0x0a},
		{"delete", 0xd3, 119, 0x153, 0x75},
		{"kpdivide", 0xb5, 106, 0x135, 0x4b},
		{"f12", 0x58, 96, 0x058, 0x6f},
		{"kp7", 0x47, 79, 0x047, 0x59},
	} {
		c := byID[k.id]
		if got := c.XT(); got != k.xt {
			t.Errorf("%s: XT %#x, want %#x", k.id, got, k.xt)
		}
		for s, want := range map[System]int{X11: k.x11, Wayland: k.x11 - 8, Windows: k.win, Darwin: k.mac} {
			if got, _ := c.Scan(s); got != want {
				t.Errorf("%s on %v: %#x, want %#x", k.id, s, got, want)
			}
		}
	}
}

func TestUnknownNumbers(t *testing.T) {
	// 92 is X's ISO_Level3_Shift, which no key sends; the rest is nonsense.
	for _, scan := range []int{92, 0, -1, 7, 1 << 20} {
		if c, ok := From(X11, scan); ok {
			t.Errorf("X11's %d is taken for %s", scan, c.Name())
		}
	}
	if _, ok := From(System(99), 38); ok {
		t.Error("an unknown system has keys")
	}
	if Code(84).XT() != 0 || Code(84).ID() != "" || Code(84).Name() != "key 84" {
		t.Error("an unknown key has numbers")
	}
}

func TestParse(t *testing.T) {
	for in, want := range map[string][]Code{
		"ctrl-alt-delete":         {LeftCtrl, LeftAlt, Delete},
		"Ctrl+Alt+F1":             {LeftCtrl, LeftAlt, 59},
		"print screen":            {printScreen},
		"super":                   {LeftSuper},
		"alt - sysrq - b":         {LeftAlt, printScreen, 48},
		"ctrl-alt-backspace":      {LeftCtrl, LeftAlt, Backspace},
		"ctrl-minus":              {LeftCtrl, 12},
		"rctrl-altgr-pgdn-escape": {RightCtrl, RightAlt, 109, Esc},
	} {
		got, err := Parse(in)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %v, %v; want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "-", "ctrl-nothing", "ä"} {
		if got, err := Parse(in); err == nil {
			t.Errorf("%q is read as %v", in, got)
		}
	}
	if got := Title([]Code{LeftCtrl, LeftAlt, Delete}); got != "Ctrl+Alt+Delete" {
		t.Errorf("title %q", got)
	}
}

func TestAliasesHideNoKey(t *testing.T) {
	for name := range aliases {
		if _, ok := byID[name]; ok {
			t.Errorf("%q is a key's own name", name)
		}
	}
}

func TestStrokes(t *testing.T) {
	got, missing := Strokes("Hi!\r\né~é\t€")
	want := []Stroke{{35, true}, {23, false}, {2, true}, {Enter, false}, {41, true}, {Tab, false}}
	if !reflect.DeepEqual(got, want) || string(missing) != "é€" {
		t.Errorf("%v, missing %q; want %v", got, string(missing), want)
	}
	// Every character of ASCII that is printed has a key.
	for r := rune(' '); r < 0x7f; r++ {
		if s, missing := Strokes(string(r)); missing != nil || len(s) != 1 || s[0].Code.XT() == 0 {
			t.Errorf("%q: %v, missing %q", r, s, string(missing))
		}
	}
	// Against QEMU's own understanding of a US board: what is under the fingers.
	for r, id := range map[rune]string{'|': "backslash", '~': "grave", '"': "apostrophe", '<': "comma", '?': "slash", '_': "minus", 'M': "m", '{': "bracketleft", '0': "0", ')': "0"} {
		if s, _ := Strokes(string(r)); s[0].Code.ID() != id {
			t.Errorf("%q is on %s, not %s", r, s[0].Code.ID(), id)
		}
	}
}

func TestModifiers(t *testing.T) {
	n := 0
	for _, r := range table {
		if r.code.Modifier() {
			n++
		}
	}
	if n != 8 {
		t.Errorf("%d modifiers", n)
	}
}
