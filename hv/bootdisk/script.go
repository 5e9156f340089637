package bootdisk

import (
	"errors"
	"fmt"
	"strings"
)

// A grub.cfg is a script in a language like the shell's (GRUB's manual, "Shell-like
// scripting"). This file reads it; grub.go runs it.

// wordPart is a piece of a word: text, or a variable to put in.
type wordPart struct {
	text   string
	isVar  bool
	quoted bool
}

type word []wordPart

// plain is a word without variables; ok: it is one, and not quoted.
func (w word) plain() (string, bool) {
	if len(w) != 1 || w[0].isVar || w[0].quoted {
		return "", false
	}
	return w[0].text, true
}

// statement is a command with its words and, for menuentry and submenu, a block;
// or what a reserved word begins.
type statement struct {
	line  int
	kind  string // "", if, for, while, until, function
	words []word // of for: the variable, then the values; of function: its name
	cond  []statement
	body  []statement
	els   []statement
}

const (
	maxTokens = 200000
	maxNest   = 32
)

type token struct {
	word word
	sign byte // '\n' (also for ;), '{', '}', or 0 for a word
	line int
}

// reserved ends a list of commands where it stands for a command.
func (t token) reserved() string {
	if t.sign != 0 {
		return ""
	}
	s, _ := t.word.plain()
	return s
}

// tokens cuts a script into words and signs. A brace is a sign where it is a word
// of its own.
func tokens(src string) ([]token, error) {
	var out []token
	line := 1
	for i := 0; i < len(src); {
		if len(out) > maxTokens {
			return nil, errors.New("it is too long")
		}
		switch c := src[i]; {
		case c == '\n' || c == ';':
			out = append(out, token{sign: '\n', line: line})
			if c == '\n' {
				line++
			}
			i++
		case c == ' ' || c == '\t' || c == '\r':
			i++
		case c == '\\' && i+1 < len(src) && src[i+1] == '\n':
			line++
			i += 2
		case c == '#':
			for i < len(src) && src[i] != '\n' {
				i++
			}
		case (c == '{' || c == '}') && (i+1 == len(src) || strings.IndexByte(" \t\r\n;", src[i+1]) >= 0):
			out = append(out, token{sign: c, line: line})
			i++
		default:
			w, n, err := oneWord(src[i:])
			if err != nil {
				return nil, fmt.Errorf("line %d: %w", line, err)
			}
			out = append(out, token{word: w, line: line})
			line += strings.Count(src[i:i+n], "\n")
			i += n
		}
	}
	return out, nil
}

// oneWord reads the word that src begins with, and how long it is there.
func oneWord(src string) (w word, n int, err error) {
	var text strings.Builder
	flush := func(quoted bool) {
		if text.Len() > 0 || quoted {
			w = append(w, wordPart{text: text.String(), quoted: quoted})
			text.Reset()
		}
	}
	double := false
	for n < len(src) {
		c := src[n]
		switch {
		case c == '"':
			flush(double)
			double = !double
			n++
		case double && c == '\\' && n+1 < len(src) && strings.IndexByte("\\\"$\n", src[n+1]) >= 0,
			!double && c == '\\' && n+1 < len(src):
			if src[n+1] != '\n' {
				text.WriteByte(src[n+1])
			}
			n += 2
		case c == '$':
			name, used := variable(src[n:])
			if used == 0 { // a dollar sign that means itself, or $"..."
				if n+1 == len(src) || src[n+1] != '"' && src[n+1] != '\'' {
					text.WriteByte(c)
				}
				n++
				continue
			}
			flush(double)
			w = append(w, wordPart{text: name, isVar: true, quoted: double})
			n += used
		case double:
			text.WriteByte(c)
			n++
		case c == '\'':
			flush(false)
			end := strings.IndexByte(src[n+1:], '\'')
			if end < 0 {
				return nil, 0, errors.New("a quote is not closed")
			}
			w = append(w, wordPart{text: src[n+1 : n+1+end], quoted: true})
			n += end + 2
		case strings.IndexByte(" \t\r\n;", c) >= 0:
			flush(false)
			return w, n, nil
		default:
			text.WriteByte(c)
			n++
		}
	}
	if double {
		return nil, 0, errors.New("a quote is not closed")
	}
	flush(false)
	return w, n, nil
}

// variable reads $name, ${name}, $1, $? and the like; used is 0 if it is none.
func variable(s string) (name string, used int) {
	if strings.HasPrefix(s, "${") {
		if end := strings.IndexByte(s, '}'); end > 0 {
			return s[2:end], end + 1
		}
		return "", 0
	}
	i := 1
	for i < len(s) && (s[i] == '_' || s[i] >= 'a' && s[i] <= 'z' || s[i] >= 'A' && s[i] <= 'Z' || i > 1 && s[i] >= '0' && s[i] <= '9') {
		i++
	}
	if i == 1 && len(s) > 1 && (s[1] >= '0' && s[1] <= '9' || strings.IndexByte("?@*#", s[1]) >= 0) {
		i = 2
	}
	if i == 1 {
		return "", 0
	}
	return s[1:i], i
}

// parseScript reads a whole script.
func parseScript(src string) ([]statement, error) {
	t, err := tokens(src)
	if err != nil {
		return nil, err
	}
	p := &scriptParser{tokens: t}
	list, err := p.list(0)
	if err == nil && p.at < len(p.tokens) {
		err = fmt.Errorf("line %d: %q is out of place", p.tokens[p.at].line, p.what())
	}
	return list, err
}

type scriptParser struct {
	tokens []token
	at     int
}

// what describes the present token.
func (p *scriptParser) what() string {
	if p.at >= len(p.tokens) {
		return "the end"
	}
	if t := p.tokens[p.at]; t.sign != 0 {
		return string(t.sign)
	}
	return p.tokens[p.at].reserved()
}

func (p *scriptParser) sign() byte {
	if p.at < len(p.tokens) {
		return p.tokens[p.at].sign
	}
	return '\n'
}

// need takes a reserved word or a sign.
func (p *scriptParser) need(what string) error {
	for what != "\n" && p.at < len(p.tokens) && p.sign() == '\n' {
		p.at++
	}
	if p.what() != what {
		line := 0
		if p.at < len(p.tokens) {
			line = p.tokens[p.at].line
		}
		return fmt.Errorf("line %d: %q instead of %q", line, p.what(), what)
	}
	p.at++
	return nil
}

// list reads commands up to a word that ends lists, which it leaves.
func (p *scriptParser) list(depth int) (out []statement, err error) {
	if depth > maxNest {
		return nil, errors.New("it is nested too deeply")
	}
	for p.at < len(p.tokens) {
		switch p.sign() {
		case '\n':
			p.at++
			continue
		case '}':
			return out, nil
		}
		switch p.tokens[p.at].reserved() {
		case "then", "else", "elif", "fi", "do", "done":
			return out, nil
		}
		s, err := p.statement(depth)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

func (p *scriptParser) statement(depth int) (statement, error) {
	s := statement{line: p.tokens[p.at].line}
	switch begin := p.tokens[p.at].reserved(); begin {
	case "if":
		p.at++
		err := p.ifStatement(&s, depth)
		return s, err
	case "while", "until":
		s.kind = begin
		p.at++
		var err error
		if s.cond, err = p.until("do", depth); err == nil {
			s.body, err = p.until("done", depth)
		}
		return s, err
	case "for":
		s.kind = begin
		p.at++
		for p.sign() == 0 {
			if p.tokens[p.at].reserved() != "in" || len(s.words) != 1 {
				s.words = append(s.words, p.tokens[p.at].word)
			}
			p.at++
		}
		if len(s.words) == 0 {
			return s, fmt.Errorf("line %d: for without a name", s.line)
		}
		err := p.need("do")
		if err == nil {
			s.body, err = p.until("done", depth)
		}
		return s, err
	case "function":
		s.kind = begin
		p.at++
		if p.sign() != 0 || p.at >= len(p.tokens) {
			return s, fmt.Errorf("line %d: function without a name", s.line)
		}
		s.words = []word{p.tokens[p.at].word}
		p.at++
		err := p.block(&s.body, depth)
		return s, err
	}
	err := p.command(&s, depth)
	return s, err
}

// until reads a list and the reserved word that ends it.
func (p *scriptParser) until(end string, depth int) ([]statement, error) {
	list, err := p.list(depth + 1)
	if err != nil {
		return nil, err
	}
	return list, p.need(end)
}

func (p *scriptParser) ifStatement(s *statement, depth int) error {
	s.kind = "if"
	if depth > maxNest {
		return errors.New("it is nested too deeply")
	}
	var err error
	if s.cond, err = p.until("then", depth); err != nil {
		return err
	}
	if s.body, err = p.list(depth + 1); err != nil {
		return err
	}
	switch p.what() {
	case "else":
		p.at++
		s.els, err = p.until("fi", depth)
		return err
	case "elif":
		p.at++
		inner := statement{line: s.line}
		err := p.ifStatement(&inner, depth+1)
		s.els = []statement{inner}
		return err
	}
	return p.need("fi")
}

// block reads { commands }.
func (p *scriptParser) block(list *[]statement, depth int) (err error) {
	if err := p.need("{"); err != nil {
		return err
	}
	if *list, err = p.list(depth + 1); err != nil {
		return err
	}
	return p.need("}")
}

// command reads a command's words, and the block of a menu entry.
func (p *scriptParser) command(s *statement, depth int) error {
	for p.at < len(p.tokens) && p.sign() == 0 {
		s.words = append(s.words, p.tokens[p.at].word)
		p.at++
	}
	if p.sign() != '{' {
		return nil
	}
	if len(s.words) == 0 {
		return fmt.Errorf("line %d: a block without a command", s.line)
	}
	return p.block(&s.body, depth)
}
