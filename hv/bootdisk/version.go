package bootdisk

import "strings"

// compareVersions orders versions as rpm and GRUB's blscfg do (rpmvercmp): by
// pieces of digits and of letters, digits above letters, ~ below everything and ^
// above the end.
func compareVersions(a, b string) int {
	isDigit := func(c byte) bool { return c >= '0' && c <= '9' }
	isAlpha := func(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }
	skip := func(s string) string {
		for s != "" && !isDigit(s[0]) && !isAlpha(s[0]) && s[0] != '~' && s[0] != '^' {
			s = s[1:]
		}
		return s
	}
	take := func(s string, f func(byte) bool) (string, string) {
		i := 0
		for i < len(s) && f(s[i]) {
			i++
		}
		return s[:i], s[i:]
	}
	for a != "" || b != "" {
		a, b = skip(a), skip(b)
		if at, bt := strings.HasPrefix(a, "~"), strings.HasPrefix(b, "~"); at || bt {
			if at != bt {
				return sign(bt)
			}
			a, b = a[1:], b[1:]
			continue
		}
		if ac, bc := strings.HasPrefix(a, "^"), strings.HasPrefix(b, "^"); ac || bc {
			switch {
			case ac && bc:
				a, b = a[1:], b[1:]
				continue
			case ac:
				return sign(b == "")
			default:
				return sign(a != "")
			}
		}
		if a == "" || b == "" {
			break
		}
		kind := isAlpha
		if isDigit(a[0]) {
			kind = isDigit
		}
		var x, y string
		x, a = take(a, kind)
		y, b = take(b, kind)
		if y == "" { // different kinds: numbers are newer
			return sign(isDigit(x[0]))
		}
		if isDigit(x[0]) {
			x, y = strings.TrimLeft(x, "0"), strings.TrimLeft(y, "0")
			if len(x) != len(y) {
				return sign(len(x) > len(y))
			}
		}
		if c := strings.Compare(x, y); c != 0 {
			return c
		}
	}
	switch {
	case a != "":
		return 1
	case b != "":
		return -1
	}
	return 0
}

func sign(positive bool) int {
	if positive {
		return 1
	}
	return -1
}
