package hostinfo

import (
	"bufio"
	"io"
	"strings"
)

// parseOSRelease reads os-release(5): shell-like assignments, values plain or in
// quotes with backslashes. What is not understood is passed over.
func parseOSRelease(r io.Reader) OS {
	var o OS
	for sc := bufio.NewScanner(r); sc.Scan(); {
		k, v, ok := strings.Cut(strings.TrimSpace(sc.Text()), "=")
		if !ok || strings.HasPrefix(k, "#") {
			continue
		}
		v = unquote(v)
		switch k {
		case "ID":
			o.ID = v
		case "ID_LIKE":
			o.Like = strings.Fields(v)
		case "VERSION_ID":
			o.Version = v
		case "PRETTY_NAME":
			o.Name = v
		case "NAME":
			if o.Name == "" {
				o.Name = v
			}
		}
	}
	return o
}

func unquote(v string) string {
	quote := byte(0)
	if len(v) >= 2 && (v[0] == '"' || v[0] == '\'') && v[len(v)-1] == v[0] {
		quote, v = v[0], v[1:len(v)-1]
	}
	if quote == '\'' {
		return v
	}
	var b strings.Builder
	for i := 0; i < len(v); i++ {
		if v[i] == '\\' && i+1 < len(v) {
			i++
		}
		b.WriteByte(v[i])
	}
	return b.String()
}
