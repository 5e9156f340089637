package bootdisk

import (
	"slices"
	"strconv"
	"strings"
)

// command runs one of GRUB's commands, or a function. Unknown ones fail, as in
// GRUB, and the script goes on.
func (g *grub) command(words []string, s *statement) bool {
	name, args := words[0], words[1:]
	if name == "set" && len(args) > 0 {
		name, args = args[0], args[1:]
		if !strings.Contains(name, "=") {
			return false
		}
	}
	if v, value, ok := strings.Cut(name, "="); ok && v != "" && len(args) == 0 {
		g.set(v, value)
		return true
	}
	if f, ok := g.funcs[name]; ok {
		return g.call(f, args)
	}
	switch name {
	case "[", "test":
		if name == "[" {
			if len(args) == 0 || args[len(args)-1] != "]" {
				return false
			}
			args = args[:len(args)-1]
		}
		return g.test(args)
	case "unset":
		for _, a := range args {
			delete(g.vars, a)
		}
		return true
	case "true", "export", "insmod", "echo", "terminal_input", "terminal_output", "gfxmode", "sleep", "clear", "set", "rmmod",
		"play", "normal", "background_image", "background_color", "loopback", "recordfail", "serial", "terminal", "videoinfo", "load_video":
		return true
	case "return", "break", "continue", "exit", "configfile_done":
		g.leave = true
		return true
	case "menuentry", "submenu":
		return g.menuEntry(args, s, name == "submenu")
	case "search", "search.fs_uuid", "search.fs_label", "search.file":
		return g.search(name, args)
	case "load_env", "save_env":
		return g.environment(args, name == "save_env")
	case "source", ".", "configfile":
		return g.source(args)
	case "blscfg":
		return g.bls()
	case "linux", "linux16", "linuxefi", "linuxxen", "initrd", "initrd16", "initrdefi":
		return g.load(name, args)
	case "multiboot", "multiboot2", "xen_hypervisor", "chainloader":
		if g.boot != nil { // not Linux by itself, whatever else the entry says
			g.boot.kernel = place{}
			g.leave = true
		}
		return true
	}
	return false
}

// menuEntry adds a line to the menu.
func (g *grub) menuEntry(args []string, s *statement, sub bool) bool {
	it := &item{sub: sub, body: s.body}
	for i := 0; i < len(args); i++ {
		switch a := args[i]; {
		case a == "--class" || a == "--users" || a == "--hotkey" || a == "--source":
			i++
		case a == "--id":
			if i++; i < len(args) {
				it.id = args[i]
			}
		case strings.HasPrefix(a, "--id="):
			it.id = a[len("--id="):]
		case strings.HasPrefix(a, "--"):
		case it.title == "":
			it.title = a
		default:
			it.args = append(it.args, a)
		}
	}
	if g.entries++; g.entries > maxEntries || g.boot != nil {
		return false
	}
	g.items = append(g.items, it)
	return true
}

// load notes what an entry would load.
func (g *grub) load(name string, args []string) bool {
	if g.boot == nil || len(args) == 0 {
		return false
	}
	if strings.HasPrefix(name, "initrd") {
		g.boot.initrds = nil
		for _, a := range args {
			p, ok := g.file(strings.TrimPrefix(a, "--nounzip"))
			if ok {
				g.boot.initrds = append(g.boot.initrds, p)
			}
		}
		return true
	}
	p, ok := g.file(args[0])
	if !ok {
		return false
	}
	g.boot.kernel = p
	for i, a := range args[1:] { // as GRUB writes them for the kernel
		if strings.ContainsAny(a, " \t") {
			if k, v, ok := strings.Cut(a, "="); ok && !strings.ContainsAny(k, " \t") {
				args[i+1] = k + `="` + v + `"`
			} else {
				args[i+1] = `"` + a + `"`
			}
		}
	}
	g.boot.cmdline = strings.Join(args[1:], " ")
	return true
}

// search looks a file system up by its uuid, label or a file on it.
func (g *grub) search(name string, args []string) bool {
	by, into, set := strings.TrimPrefix(name, "search."), "root", name != "search"
	var plain []string
	for i := 0; i < len(args); i++ {
		switch a := args[i]; {
		case a == "-u" || a == "--fs-uuid":
			by = "fs_uuid"
		case a == "-l" || a == "--label" || a == "--fs-label":
			by = "fs_label"
		case a == "-f" || a == "--file":
			by = "file"
		case a == "--set" || a == "-s":
			set = true
			if i+1 < len(args) && !strings.HasPrefix(args[i+1], "-") && i+2 < len(args) {
				i++
				into = args[i]
			}
		case strings.HasPrefix(a, "--set="):
			set, into = true, a[len("--set="):]
		case a == "--hint" || strings.HasPrefix(a, "--hint-") && !strings.Contains(a, "="):
			i++
		case strings.HasPrefix(a, "-"):
		default:
			plain = append(plain, a)
		}
	}
	if len(plain) == 0 {
		return false
	}
	if name != "search" && len(plain) > 1 {
		into = plain[1]
	}
	for _, v := range g.vols {
		if v.fs == nil {
			continue
		}
		found := false
		switch by {
		case "fs_uuid":
			found = strings.EqualFold(v.fs.id(), plain[0])
		case "fs_label":
			found = v.fs.label() == plain[0]
		case "file":
			found = exists(v.fs, plain[0])
		}
		if found {
			if set {
				g.set(into, v.names[0])
			}
			return true
		}
	}
	return false
}

// source runs another script in the place of the command.
func (g *grub) source(args []string) bool {
	if len(args) != 1 || g.boot != nil {
		return false
	}
	p, ok := g.file(args[0])
	if !ok {
		return false
	}
	src, err := text(p.vol.fs, p.path)
	if err != nil {
		return false
	}
	list, err := parseScript(src)
	if err != nil {
		return false
	}
	if g.calls++; g.calls > maxCalls {
		return false
	}
	ok = g.run(list)
	g.calls--
	return ok
}

// test is the command of that name: ! ( ) -a -o, comparisons, files.
func (g *grub) test(args []string) bool {
	t := &tester{g: g, args: args}
	return t.or(0)
}

type tester struct {
	g    *grub
	args []string
}

func (t *tester) next() string {
	if len(t.args) == 0 {
		return ""
	}
	a := t.args[0]
	t.args = t.args[1:]
	return a
}

func (t *tester) has(words ...string) bool {
	if len(t.args) > 0 && slices.Contains(words, t.args[0]) {
		t.args = t.args[1:]
		return true
	}
	return false
}

func (t *tester) or(depth int) bool {
	ok := t.and(depth)
	for t.has("-o") {
		ok = t.and(depth) || ok
	}
	return ok
}

func (t *tester) and(depth int) bool {
	ok := t.one(depth)
	for t.has("-a") {
		ok = t.one(depth) && ok
	}
	return ok
}

func (t *tester) one(depth int) bool {
	if depth > maxNest || len(t.args) == 0 {
		return false
	}
	switch {
	case len(t.args) >= 3 && slices.Contains(comparisons, t.args[1]):
		a, op, b := t.next(), t.next(), t.next()
		return compare(a, op, b)
	case t.has("!"):
		return !t.one(depth + 1)
	case t.has("("):
		ok := t.or(depth + 1)
		t.has(")")
		return ok
	}
	a := t.next()
	if len(t.args) == 0 {
		return a != ""
	}
	switch a {
	case "-n":
		return t.next() != ""
	case "-z":
		return t.next() == ""
	case "-f", "-s":
		n, ok := t.g.size(t.next())
		return ok && (a == "-f" || n > 0)
	case "-e", "-d":
		p, ok := t.g.file(t.next())
		return ok && exists(p.vol.fs, p.path)
	}
	return a != ""
}

var comparisons = []string{"=", "==", "!=", "<", ">", "<=", ">=", "-eq", "-ne", "-lt", "-gt", "-le", "-ge"}

func compare(a, op, b string) bool {
	switch op {
	case "=", "==":
		return a == b
	case "!=":
		return a != b
	case "<":
		return a < b
	case ">":
		return a > b
	case "<=":
		return a <= b
	case ">=":
		return a >= b
	}
	x, _ := strconv.ParseInt(a, 0, 64)
	y, _ := strconv.ParseInt(b, 0, 64)
	switch op {
	case "-eq":
		return x == y
	case "-ne":
		return x != y
	case "-lt":
		return x < y
	case "-gt":
		return x > y
	case "-le":
		return x <= y
	}
	return x >= y
}
