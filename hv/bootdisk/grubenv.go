package bootdisk

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// The environment block: a file of 1024 bytes that is written in its place,
// filled up with # (grub-core/lib/envblk.c).
const (
	envMark = "# GRUB Environment Block\n"
	maxEnv  = 64 << 10
)

// parseEnv reads a block; nil: it is none.
func parseEnv(s string) map[string]string {
	body, ok := strings.CutPrefix(s, envMark)
	if !ok || len(s) > maxEnv {
		return nil
	}
	vars := map[string]string{}
	for body != "" {
		var line strings.Builder
		i := 0
		for ; i < len(body) && body[i] != '\n'; i++ {
			if body[i] == '\\' && i+1 < len(body) {
				i++
			}
			line.WriteByte(body[i])
		}
		comment := body[0] == '#'
		body = body[min(i+1, len(body)):]
		if name, value, ok := strings.Cut(line.String(), "="); ok && !comment {
			vars[name] = value
		}
	}
	return vars
}

// formatEnv writes a block of size bytes; ok: they are enough.
func formatEnv(vars map[string]string, size int) (b []byte, ok bool) {
	b = []byte(envMark)
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		value := strings.NewReplacer(`\`, `\\`, "\n", "\\\n").Replace(vars[name])
		b = append(b, name+"="+value+"\n"...)
	}
	if len(b) > size {
		return nil, false
	}
	for len(b) < size {
		b = append(b, '#')
	}
	return b, true
}

// environment is load_env and save_env.
func (g *grub) environment(args []string, write bool) bool {
	file := g.vars["prefix"] + "/grubenv"
	var names []string
	for i := 0; i < len(args); i++ {
		switch a := args[i]; {
		case a == "-f" || a == "--file":
			if i++; i < len(args) {
				file = args[i]
			}
		case strings.HasPrefix(a, "--file="):
			file = a[len("--file="):]
		case strings.HasPrefix(a, "-"):
		default:
			names = append(names, a)
		}
	}
	p, ok := g.file(file)
	if !ok {
		return false
	}
	if write {
		s := save{at: p, vars: map[string]string{}}
		for _, n := range names {
			s.vars[n] = g.vars[n]
		}
		if len(g.saved) < 16 {
			g.saved = append(g.saved, s)
		}
		return true
	}
	src, err := text(p.vol.fs, p.path)
	if err != nil {
		return false
	}
	vars := parseEnv(src)
	if vars == nil {
		return false
	}
	for name, value := range vars {
		if len(names) == 0 || slices.Contains(names, name) {
			g.set(name, value)
		}
	}
	return true
}

// write does what a script asked to save: GRUB too overwrites the block where it
// lies, as nothing else about the file changes.
func (s save) write() error {
	f, err := s.at.vol.fs.open(s.at.path)
	if err != nil {
		return err
	}
	if f.Size > maxEnv || f.place == nil {
		return fmt.Errorf("%s is no environment block of GRUB's that can be written here", f.Path)
	}
	src, err := text(s.at.vol.fs, s.at.path)
	if err != nil {
		return err
	}
	at, ok := f.place()
	vars := parseEnv(src)
	if !ok || vars == nil {
		return fmt.Errorf("%s is no environment block of GRUB's that can be written here", f.Path)
	}
	for name, value := range s.vars {
		if value == "" {
			delete(vars, name)
		} else {
			vars[name] = value
		}
	}
	b, ok := formatEnv(vars, len(src))
	if !ok {
		return fmt.Errorf("%s has no room for more", f.Path)
	}
	if string(b) == src {
		return nil
	}
	return s.at.vol.data.each(at, uint64(len(b)), func(p span) error {
		w, ok := p.r.(io.WriterAt)
		if !ok {
			return fmt.Errorf("write %s: the disk is only read", f.Path)
		}
		if _, err := w.WriteAt(b[:p.n], int64(p.off)); err != nil {
			return fmt.Errorf("write %s: %w", f.Path, err)
		}
		b = b[p.n:]
		return nil
	})
}
