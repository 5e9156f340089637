package keymap

import "strings"

// Stroke is one key, with Shift or without.
type Stroke struct {
	Code  Code
	Shift bool
}

// strokes are the characters of a US board.
var strokes = usStrokes()

func usStrokes() map[rune]Stroke {
	m := map[rune]Stroke{' ': {Space, false}, '\n': {Enter, false}, '\t': {Tab, false}}
	row := func(first Code, plain, shifted string) {
		for i := range plain {
			c := first + Code(i)
			m[rune(plain[i])] = Stroke{c, false}
			m[rune(shifted[i])] = Stroke{c, true}
		}
	}
	// The rows of the board have Linux numbers in sequence.
	row(2, "1234567890-=", "!@#$%^&*()_+")
	row(16, "qwertyuiop[]", "QWERTYUIOP{}")
	row(30, "asdfghjkl;'`", "ASDFGHJKL:\"~")
	row(43, "\\zxcvbnm,./", "|ZXCVBNM<>?")
	return m
}

// Strokes are the keys that type text in a guest whose keyboard is set to the
// US layout. What that board cannot type is left out and returned as missing,
// each character once.
func Strokes(text string) (typed []Stroke, missing []rune) {
	text = strings.ReplaceAll(text, "\r\n", "\n")
	text = strings.ReplaceAll(text, "\r", "\n")
	seen := map[rune]bool{}
	for _, r := range text {
		if s, ok := strokes[r]; ok {
			typed = append(typed, s)
			continue
		}
		if !seen[r] {
			seen[r] = true
			missing = append(missing, r)
		}
	}
	return typed, missing
}
