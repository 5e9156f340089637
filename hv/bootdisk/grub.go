package bootdisk

import (
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
)

// Bounds of a script's run.
const (
	maxSteps   = 20000
	maxValue   = 16 << 10 // bytes of a variable or a command's words
	maxVars    = 1024
	maxEntries = 1024
	maxCalls   = 32
)

// grub runs a grub.cfg as GRUB would, up to the menu. What GRUB asks its
// hardware is answered as on a computer with BIOS and without a screen.
type grub struct {
	vols  []*volume
	home  *volume // where the script lies
	vars  map[string]string
	funcs map[string][]statement
	items []*item    // the menu so far
	boot  *bootLines // of the entry that runs; nil: none does
	saved []save

	steps, calls, entries int
	err                   error // a bound was hit; everything ends
	leave                 bool  // return, break or exit is under way
}

// item is a line of the menu.
type item struct {
	title, id string
	sub       bool
	body      []statement
	args      []string
	vars      map[string]string // what it sees
	items     []*item           // of a submenu
	bls       *bootLines        // of an entry that a file describes
}

// bootLines are what an entry says to load.
type bootLines struct {
	kernel  place
	cmdline string
	initrds []place
}

// place is a file on a volume.
type place struct {
	vol  *volume
	path string
}

// save is what a script asked to keep in an environment block.
type save struct {
	at   place
	vars map[string]string
}

// runGrub reads the menu of the script at path.
func runGrub(vols []*volume, home *volume, path string) (*grub, error) {
	src, err := text(home.fs, path)
	if err != nil {
		return nil, err
	}
	prefix := "(" + home.names[0] + ")" + path[:strings.LastIndex(path, "/")]
	g := &grub{vols: vols, home: home, funcs: map[string][]statement{}, vars: map[string]string{
		"root": home.names[0], "prefix": prefix, "config_directory": prefix, "config_file": "(" + home.names[0] + ")" + path,
		"grub_platform": "pc", "grub_cpu": "i386", "cmdpath": "(" + home.names[0] + ")",
		"feature_menuentry_id": "y", "feature_platform_search_hint": "y", "feature_timeout_style": "y",
		"feature_default_font_path": "y", "feature_all_video_module": "y", "feature_200_final": "y",
		"feature_chainloader_bpb": "y", "feature_ntldr": "y", "menuentry_id_option": "--id",
	}}
	list, err := parseScript(src)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	g.run(list)
	g.fill(g.items, 0)
	if g.err != nil {
		return nil, fmt.Errorf("%s: %w", path, g.err)
	}
	return g, nil
}

// fill makes the menus of submenus. Entries see the variables as they are when the
// script has ended.
func (g *grub) fill(items []*item, depth int) {
	if depth > 8 {
		g.err = errors.New("its menus are nested too deeply")
	}
	for _, it := range items {
		if g.err != nil {
			return
		}
		it.vars = g.vars
		if !it.sub {
			continue
		}
		in := *g
		in.vars, in.items, in.saved = maps.Clone(g.vars), nil, nil
		in.call(it.body, it.args)
		in.fill(in.items, depth+1)
		it.items, g.steps, g.entries, g.err = in.items, in.steps, in.entries, in.err
	}
}

// lines runs an entry and returns what it would load; nil: it is nothing that can
// be started here.
func (g *grub) lines(it *item) *bootLines {
	if it.bls != nil {
		return it.bls
	}
	in := *g
	in.vars, in.items, in.saved, in.boot, in.leave = maps.Clone(it.vars), nil, nil, &bootLines{}, false
	in.vars["chosen"] = it.title
	in.call(it.body, it.args)
	g.steps = in.steps
	if in.err != nil || in.boot.kernel.path == "" {
		return nil
	}
	return in.boot
}

// run runs commands; the result is the last one's.
func (g *grub) run(list []statement) bool {
	ok := true
	for i := range list {
		if g.steps++; g.steps > maxSteps && g.err == nil {
			g.err = errors.New("it does not end")
		}
		if g.err != nil || g.leave {
			break
		}
		ok = g.statement(&list[i])
		g.vars["?"] = map[bool]string{true: "0", false: "1"}[ok]
	}
	return ok
}

func (g *grub) statement(s *statement) bool {
	switch s.kind {
	case "if":
		if g.run(s.cond) {
			return g.run(s.body)
		}
		return g.run(s.els)
	case "while", "until":
		for g.err == nil && !g.leave && g.run(s.cond) == (s.kind == "while") {
			g.steps++
			g.run(s.body)
		}
		return true
	case "for":
		name, _ := s.words[0].plain()
		for _, v := range g.expand(s.words[1:]) {
			g.set(name, v)
			g.run(s.body)
		}
		return true
	case "function":
		if name, ok := s.words[0].plain(); ok && len(g.funcs) < maxVars {
			g.funcs[name] = s.body
		}
		return true
	}
	words := g.expand(s.words)
	if len(words) == 0 {
		return true
	}
	return g.command(words, s)
}

// call runs a function or a block with arguments.
func (g *grub) call(body []statement, args []string) bool {
	if g.calls++; g.calls > maxCalls {
		g.err = errors.New("its functions call each other without end")
		return false
	}
	old := map[string]string{}
	for i := range 10 {
		old[strconv.Itoa(i)] = g.vars[strconv.Itoa(i)]
		if delete(g.vars, strconv.Itoa(i)); i > 0 && i <= len(args) {
			g.vars[strconv.Itoa(i)] = args[i-1]
		}
	}
	ok := g.run(body)
	g.leave = false
	maps.Copy(g.vars, old)
	g.calls--
	return ok
}

func (g *grub) set(name, value string) {
	if len(value) > maxValue || len(g.vars) > maxVars {
		g.err = errors.New("its variables grow too large")
		return
	}
	g.vars[name] = value
}

// expand puts variables in. Outside of quotes a value is cut at its spaces.
func (g *grub) expand(words []word) []string {
	var out []string
	total := 0
	for _, w := range words {
		var cur strings.Builder
		started := false
		for _, p := range w {
			v := p.text
			if p.isVar {
				v = g.vars[p.text]
			}
			if total += len(v) + 1; total > maxValue {
				g.err = errors.New("a command grows too long")
				return nil
			}
			if !p.isVar || p.quoted {
				cur.WriteString(v)
				started = started || p.quoted || v != ""
				continue
			}
			for i, f := range strings.Split(strings.NewReplacer("\t", " ", "\n", " ").Replace(v), " ") {
				if i > 0 && started {
					out = append(out, cur.String())
					cur.Reset()
					started = false
				}
				cur.WriteString(f)
				started = started || f != ""
			}
		}
		if started {
			out = append(out, cur.String())
		}
	}
	return out
}

// volume finds a volume by one of GRUB's names, with or without parentheses.
func (g *grub) volume(name string) *volume {
	name = strings.TrimSuffix(strings.TrimPrefix(name, "("), ")")
	for _, v := range g.vols {
		for _, n := range v.names {
			if n == name && v.fs != nil {
				return v
			}
		}
	}
	return nil
}

// file resolves GRUB's name of a file: (device)/path, or a path on $root.
func (g *grub) file(name string) (place, bool) {
	device := g.vars["root"]
	if strings.HasPrefix(name, "(") {
		d, rest, ok := strings.Cut(name[1:], ")")
		if !ok {
			return place{}, false
		}
		device, name = d, rest
	}
	v := g.volume(device)
	return place{v, name}, v != nil && strings.HasPrefix(name, "/")
}

func (g *grub) size(name string) (int64, bool) {
	p, ok := g.file(name)
	if !ok {
		return 0, false
	}
	f, err := p.vol.fs.open(p.path)
	if err != nil {
		return 0, false
	}
	return f.Size, true
}

// choose finds the entry that GRUB would take, by a number, an id or a title, and
// for submenus such a name behind '>' (grub-core/normal/menu.c).
func choose(items []*item, name string) []*item {
	head, rest, deeper := strings.Cut(name, ">")
	found := -1
	if n, err := strconv.Atoi(head); err == nil && n >= 0 && n < len(items) {
		found = n
	}
	for i, it := range items {
		if found < 0 && head != "" && (it.id == head || it.title == head) {
			found = i
		}
		if found < 0 && deeper && (it.id == name || it.title == name) {
			return []*item{it}
		}
	}
	switch {
	case found < 0 && len(items) == 0:
		return nil
	case found < 0:
		found = 0
	}
	it := items[found]
	if !it.sub {
		return []*item{it}
	}
	return append([]*item{it}, choose(it.items, rest)...)
}
