package keymap

import (
	"fmt"
	"strings"
)

// aliases are further names that people write.
var aliases = map[string]Code{
	"control": LeftCtrl, "lctrl": LeftCtrl, "lalt": LeftAlt, "lshift": LeftShift,
	"ralt": RightAlt, "option": LeftAlt, "escape": Esc, "return": Enter, "del": Delete,
	"ins": 110, "pgup": 104, "pgdn": 109, "win": LeftSuper, "windows": LeftSuper,
	"meta": LeftSuper, "cmd": LeftSuper, "command": LeftSuper, "bksp": Backspace,
	"sysrq": printScreen, "printscreen": printScreen, "break": Pause,
}

// Name is what is printed on the key, in English: "Right Ctrl".
func (c Code) Name() string {
	if r, ok := byCode[c]; ok {
		return r.human
	}
	return fmt.Sprintf("key %d", uint16(c))
}

// ID is the key's name in a combination: "rctrl".
func (c Code) ID() string {
	if r, ok := byCode[c]; ok {
		return r.id
	}
	return ""
}

// Parse reads a combination such as "ctrl-alt-delete" or "ctrl+alt+f1" into the
// keys to press in order and to release in reverse order.
func Parse(combination string) ([]Code, error) {
	var codes []Code
	for _, name := range strings.FieldsFunc(strings.ToLower(combination), func(r rune) bool { return r == '-' || r == '+' }) {
		name = strings.ReplaceAll(strings.TrimSpace(name), " ", "")
		c, ok := byID[name]
		if !ok {
			c, ok = aliases[name]
		}
		if !ok {
			return nil, fmt.Errorf("read the keys %q: no key is called %q", combination, name)
		}
		codes = append(codes, c)
	}
	if len(codes) == 0 {
		return nil, fmt.Errorf("read the keys %q: it names no key", combination)
	}
	return codes, nil
}

// Title writes a combination for people: "Ctrl+Alt+Delete".
func Title(codes []Code) string {
	names := make([]string, len(codes))
	for i, c := range codes {
		names[i] = c.Name()
	}
	return strings.Join(names, "+")
}
