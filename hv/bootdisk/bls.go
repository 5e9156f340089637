package bootdisk

import (
	"cmp"
	"path"
	"slices"
	"strings"
)

// Entries in files of their own: the Boot Loader Specification, as systemd-boot
// and Fedora's GRUB read it.

var blsFolders = []string{"/loader/entries", "/boot/loader/entries"}

// blsEntry is one file.
type blsEntry struct {
	id     string // the file's name without .conf
	fields map[string][]string
}

func (e blsEntry) first(name string) string {
	if v := e.fields[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}

func parseBLS(id, src string) blsEntry {
	e := blsEntry{id, map[string][]string{}}
	for line := range strings.Lines(src) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		i := strings.IndexAny(line, " \t")
		if i < 0 {
			i = len(line)
		}
		e.fields[line[:i]] = append(e.fields[line[:i]], strings.TrimSpace(line[i:]))
	}
	return e
}

// readBLS reads the entries in a volume's folder, in the order of a menu: the
// newest first.
func readBLS(fs fileSystem, folder string) (out []blsEntry) {
	names, err := fs.names(folder)
	if err != nil {
		return nil
	}
	slices.Sort(names)
	for _, n := range names {
		id, ok := strings.CutSuffix(n, ".conf")
		if !ok || len(out) >= maxEntries {
			continue
		}
		// systemd counts a try's outcome in the name: NAME+LEFT-DONE.conf.
		if src, err := text(fs, folder+"/"+n); err == nil {
			out = append(out, parseBLS(id, src))
		}
	}
	slices.SortStableFunc(out, func(a, b blsEntry) int {
		as, bs := a.first("sort-key"), b.first("sort-key")
		if (as != "") != (bs != "") {
			return cmp.Compare(bs, as) // those with a key come first
		}
		if as != "" {
			if c := cmp.Or(cmp.Compare(as, bs), cmp.Compare(a.first("machine-id"), b.first("machine-id")),
				-compareVersions(a.first("version"), b.first("version"))); c != 0 {
				return c
			}
		}
		return -compareVersions(a.id, b.id)
	})
	return out
}

// lines says what an entry loads. vars are GRUB's, which Fedora's entries use.
func (e blsEntry) lines(v *volume, folder string, vars map[string]string) *bootLines {
	expand := func(s string) string {
		return expandPlain(s, vars)
	}
	at := func(p string) place {
		// Paths begin where the partition of the folder does. Where /boot is no
		// partition of its own, some writers leave it out.
		if !exists(v.fs, p) && folder != blsFolders[0] {
			return place{v, path.Join("/boot", p)}
		}
		return place{v, p}
	}
	kernel := e.first("linux")
	if arch := e.first("architecture"); kernel == "" || arch != "" && !strings.EqualFold(arch, "x64") {
		return nil
	}
	b := &bootLines{kernel: at(kernel)}
	b.cmdline = strings.Join(strings.Fields(expand(strings.Join(e.fields["options"], " "))), " ")
	if len(e.fields["options"]) == 0 {
		b.cmdline = cmp.Or(vars["default_kernelopts"], vars["kernelopts"])
	}
	for _, f := range e.fields["initrd"] {
		for _, p := range strings.Fields(expand(f)) {
			b.initrds = append(b.initrds, at(p))
		}
	}
	return b
}

// expandPlain puts variables into a text that is no script.
func expandPlain(s string, vars map[string]string) string {
	var out strings.Builder
	for s != "" && out.Len() <= maxValue {
		i := strings.IndexByte(s, '$')
		if i < 0 {
			break
		}
		out.WriteString(s[:i])
		name, used := variable(s[i:])
		if used == 0 {
			out.WriteByte('$')
			used = 1
		}
		out.WriteString(vars[name])
		s = s[i+used:]
	}
	out.WriteString(s)
	return out.String()
}

// bls is Fedora's blscfg: the entries become lines of the menu.
func (g *grub) bls() bool {
	for _, v := range []*volume{g.volume(g.vars["boot"]), g.volume(g.vars["root"]), g.home} {
		if v == nil {
			continue
		}
		for _, folder := range blsFolders {
			entries := readBLS(v.fs, folder)
			for _, e := range entries {
				if g.entries++; g.entries > maxEntries {
					break
				}
				it := &item{id: e.id, title: cmp.Or(e.first("title"), e.id), bls: e.lines(v, folder, g.vars)}
				if it.bls == nil { // nothing that can be started, yet a line
					it.bls = &bootLines{}
				}
				g.items = append(g.items, it)
			}
			if len(entries) > 0 {
				return true
			}
		}
	}
	return false
}

// loaderDefault is the entry that systemd-boot's loader.conf asks for: a pattern.
func loaderDefault(fs fileSystem, folder string, entries []*item) int {
	src, err := text(fs, path.Dir(folder)+"/loader.conf")
	if err != nil {
		return 0
	}
	want := strings.TrimSuffix(parseBLS("", src).first("default"), ".conf")
	if want == "" {
		return 0
	}
	for i, e := range entries {
		if ok, err := path.Match(want, e.id); e.id == want || ok && err == nil {
			return i
		}
	}
	return 0
}
