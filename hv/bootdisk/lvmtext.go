package bootdisk

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// section is one of LVM's text format: names with values, and sections.
type section struct {
	name     string
	values   map[string][]value // a plain value is a list of one
	sections map[string]section
}

type value struct {
	text   string
	number uint64
}

func (s section) text(name string) string {
	if v := s.values[name]; len(v) == 1 {
		return v[0].text
	}
	return ""
}

func (s section) number(name string) uint64 {
	if v := s.values[name]; len(v) == 1 {
		return v[0].number
	}
	return 0
}

func (s section) list(name string) (out []string) {
	for _, v := range s.values[name] {
		out = append(out, v.text)
	}
	return out
}

// parseLVM reads a volume group's description (man lvm.conf has the syntax).
func parseLVM(text string) (section, error) {
	p := &lvmParser{s: text}
	s, err := p.section(0)
	if err == nil && p.token() != "" {
		err = errors.New("a brace too many")
	}
	if err != nil {
		return section{}, fmt.Errorf("its description is damaged: %w", err)
	}
	return s, nil
}

type lvmParser struct{ s string }

// token is the next word, string (with its first quote) or sign; empty at the end.
func (p *lvmParser) token() string {
	for {
		p.s = strings.TrimLeft(p.s, " \t\r\n")
		if !strings.HasPrefix(p.s, "#") {
			break
		}
		_, p.s, _ = strings.Cut(p.s, "\n")
	}
	if p.s == "" {
		return ""
	}
	n := 1
	switch p.s[0] {
	case '{', '}', '[', ']', '=', ',':
	case '"':
		for n < len(p.s) && p.s[n] != '"' {
			if p.s[n] == '\\' {
				n++
			}
			n++
		}
		t := p.s[:min(n, len(p.s))]
		p.s = p.s[min(n+1, len(p.s)):]
		return t
	default:
		if i := strings.IndexAny(p.s, " \t\r\n{}[]=,#\""); i >= 0 {
			n = i
		} else {
			n = len(p.s)
		}
	}
	t := p.s[:n]
	p.s = p.s[n:]
	return t
}

func (p *lvmParser) section(depth int) (section, error) {
	s := section{values: map[string][]value{}, sections: map[string]section{}}
	if depth > 8 {
		return s, errors.New("too deep")
	}
	for {
		name := p.token()
		if name == "" || name == "}" {
			if (name == "") != (depth == 0) {
				return s, errors.New("braces do not match")
			}
			return s, nil
		}
		switch sign := p.token(); sign {
		case "{":
			inner, err := p.section(depth + 1)
			if err != nil {
				return s, err
			}
			inner.name = name
			s.sections[name] = inner
		case "=":
			v, err := p.values()
			if err != nil {
				return s, err
			}
			s.values[name] = v
		default:
			return s, fmt.Errorf("%.40q follows %.40q", sign, name)
		}
	}
}

func (p *lvmParser) values() ([]value, error) {
	t := p.token()
	if t != "[" {
		v, err := plainValue(t)
		return []value{v}, err
	}
	var out []value
	for {
		switch t := p.token(); t {
		case "]":
			return out, nil
		case ",":
		default:
			v, err := plainValue(t)
			if err != nil {
				return nil, err
			}
			out = append(out, v)
		}
	}
}

func plainValue(t string) (value, error) {
	if s, ok := strings.CutPrefix(t, `"`); ok {
		return value{text: strings.NewReplacer(`\\`, `\`, `\"`, `"`).Replace(s)}, nil
	}
	if t == "" || strings.Contains("{}[]=,", t) {
		return value{}, errors.New("a value is missing")
	}
	n, _ := strconv.ParseUint(t, 10, 64) // what is no number is none that is asked for
	return value{text: t, number: n}, nil
}
