// Package bootdisk finds what a guest's disk would boot: it reads partitions,
// logical volumes, file systems and the configuration of boot loaders, and says
// which kernel, initial ramdisk and command line an entry has.
//
// All it reads was written by a guest and is believed in nothing: what it takes is
// bounded, and no path leads out of a volume. It does not know images, hypervisors
// or where the host keeps things.
package bootdisk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
)

// Disk is one of a guest's disks, in the guest's order.
type Disk struct {
	Data io.ReaderAt
	Size int64 // bytes
}

// Menu is what a guest's disks can boot.
type Menu struct {
	Entries []Entry // in the order of the boot loader's menu
	Default int     // the entry that the boot loader would take now
	// From is the file that says so, for messages; empty if there is none and the
	// newest kernel is taken.
	From string

	saved []save
}

// Entry is one thing to boot.
type Entry struct {
	// ID is what the boot loader's configuration calls it, and Title what its menu
	// shows. Of entries in submenus both have the submenus' before them, with > in
	// between, as GRUB's saved_entry and set default have it.
	ID, Title string
	Cmdline   string
	Kernel    string // its path on its volume

	lines bootLines
}

// Find looks the disks over and returns what can be booted; the error says why
// nothing can. ctx bounds all reading of the disks, that of files too.
func Find(ctx context.Context, disks []Disk) (*Menu, error) {
	b := &budget{ctx, maxReads}
	var spans []span
	for _, d := range disks {
		if d.Size > 0 {
			spans = append(spans, span{d.Data, b, 0, uint64(d.Size)})
		}
	}
	vols, problems := volumes(spans)
	for _, look := range []func([]*volume, *volume) (*Menu, error){fromGrub, fromBLS, fromExtlinux, fromKernels} {
		for _, v := range vols {
			if v.fs == nil {
				continue
			}
			m, err := look(vols, v)
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			if b.left < 0 {
				return nil, b.spend()
			}
			if err != nil {
				problems = append(problems, fmt.Errorf("%s: %w", v.names[0], err))
			}
			if m != nil {
				return m, nil
			}
		}
	}
	if len(problems) > 0 {
		return nil, fmt.Errorf("no kernel was found on the guest's disks: %w", errors.Join(problems...))
	}
	return nil, errors.New("no kernel was found on the guest's disks: there is no file system with a boot loader's configuration or a kernel in /boot")
}

// Pick returns the entry of that id or title, or without one the default. A name
// without its submenus will do where nothing else has it.
func (m *Menu) Pick(name string) (Entry, error) {
	i, err := m.Index(name)
	if err != nil {
		return Entry{}, err
	}
	return m.Entries[i], nil
}

// Index is the place in Entries of the one that Pick returns; -1 with an error.
func (m *Menu) Index(name string) (int, error) {
	if name == "" {
		return m.Default, nil
	}
	last := func(s string) string { return s[strings.LastIndexByte(s, '>')+1:] }
	for _, is := range []func(Entry) bool{
		func(e Entry) bool { return e.ID == name },
		func(e Entry) bool { return e.Title == name },
		func(e Entry) bool { return last(e.ID) == name },
		func(e Entry) bool { return last(e.Title) == name },
	} {
		if i := slices.IndexFunc(m.Entries, is); i >= 0 {
			return i, nil
		}
	}
	var have []string
	for _, e := range m.Entries[:min(len(m.Entries), 12)] {
		have = append(have, fmt.Sprintf("%q", e.ID))
	}
	return -1, fmt.Errorf("the guest's disk has no boot entry %q; it has %s", name, strings.Join(have, ", "))
}

// Commit writes what the boot loader would have written before it starts the
// default entry: that an entry that is to be taken once was taken. It writes to the
// Data of Find's disks, which must be io.WriterAt for it.
func (m *Menu) Commit() error {
	var problems []error
	for _, s := range m.saved {
		problems = append(problems, s.write())
	}
	return errors.Join(problems...)
}

// Open opens the entry's kernel, and its initial ramdisks as one file; nil: there
// is none.
func (e Entry) Open() (kernel, initrd *File, err error) {
	if kernel, err = e.lines.kernel.open(); err != nil {
		return nil, nil, fmt.Errorf("the kernel of boot entry %q: %w", e.ID, err)
	}
	var parts []*File
	for _, p := range e.lines.initrds {
		f, err := p.open()
		if err != nil {
			return nil, nil, fmt.Errorf("the initial ramdisk of boot entry %q: %w", e.ID, err)
		}
		parts = append(parts, f)
	}
	return kernel, join(parts), nil
}

func (p place) open() (*File, error) { return p.vol.fs.open(p.path) }

// join makes one file of several, each begun at a multiple of four bytes as
// Linux's unpacking of initial ramdisks asks for.
func join(parts []*File) *File {
	switch len(parts) {
	case 0:
		return nil
	case 1:
		return parts[0]
	}
	all := &File{Path: parts[0].Path}
	var from []int64
	for _, p := range parts {
		all.Size = (all.Size + 3) &^ 3
		from = append(from, all.Size)
		all.Size += p.Size
	}
	all.readAt = func(b []byte, off uint64) error {
		clear(b)
		for i, p := range parts {
			begin, end := max(int64(off), from[i]), min(int64(off)+int64(len(b)), from[i]+p.Size)
			if begin >= end {
				continue
			}
			if n, err := p.ReadAt(b[begin-int64(off):end-int64(off)], begin-from[i]); int64(n) < end-begin {
				return err
			}
		}
		return nil
	}
	return all
}

// flatten makes entries of a menu's items; def is the one to take.
func flatten(items []*item, def *item, lines func(*item) *bootLines) *Menu {
	m := &Menu{Default: -1}
	var walk func(items []*item, id, title string)
	walk = func(items []*item, id, title string) {
		for i, it := range items {
			own := it.id
			if own == "" {
				own = it.title
			}
			if own == "" {
				own = fmt.Sprint(i)
			}
			if it.sub {
				walk(it.items, id+own+">", title+it.title+">")
				continue
			}
			b := lines(it)
			if b == nil || b.kernel.path == "" {
				continue
			}
			if it == def {
				m.Default = len(m.Entries)
			}
			m.Entries = append(m.Entries, Entry{id + own, title + it.title, b.cmdline, b.kernel.path, *b})
		}
	}
	walk(items, "", "")
	if len(m.Entries) == 0 {
		return nil
	}
	m.Default = max(m.Default, 0) // what cannot be started here is passed over
	return m
}

var grubPaths = []string{"/boot/grub/grub.cfg", "/boot/grub2/grub.cfg", "/grub/grub.cfg", "/grub2/grub.cfg"}

func fromGrub(vols []*volume, v *volume) (*Menu, error) {
	var problems []error
	for _, p := range grubPaths {
		if _, err := v.fs.open(p); err != nil {
			if !errors.Is(err, errMissing) {
				problems = append(problems, err)
			}
			continue
		}
		g, err := runGrub(vols, v, p)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		var def *item
		if path := choose(g.items, g.vars["default"]); len(path) > 0 {
			def = path[len(path)-1]
		}
		if m := flatten(g.items, def, g.lines); m != nil {
			m.From, m.saved = p, g.saved
			return m, nil
		}
		problems = append(problems, fmt.Errorf("%s has no entry that starts a Linux kernel", p))
	}
	return nil, errors.Join(problems...)
}

func fromBLS(_ []*volume, v *volume) (*Menu, error) {
	for _, folder := range blsFolders {
		var items []*item
		for _, e := range readBLS(v.fs, folder) {
			if b := e.lines(v, folder, nil); b != nil {
				title := e.first("title")
				if title == "" {
					title = e.id
				}
				items = append(items, &item{id: e.id, title: title, bls: b})
			}
		}
		if len(items) == 0 {
			continue
		}
		m := flatten(items, items[loaderDefault(v.fs, folder, items)], own)
		if m != nil {
			m.From = folder
		}
		return m, nil
	}
	return nil, nil
}

func fromExtlinux(_ []*volume, v *volume) (*Menu, error) {
	for _, p := range extlinuxPaths {
		items, def, err := extlinux(v, p)
		if errors.Is(err, errMissing) {
			continue
		}
		if err != nil || len(items) == 0 {
			return nil, err
		}
		m := flatten(items, items[def], own)
		if m != nil {
			m.From = p
		}
		return m, nil
	}
	return nil, nil
}

func own(it *item) *bootLines { return it.bls }

// fromKernels is for a disk without a boot loader, as image builders leave it when
// the kernel is to come from outside: the newest kernel is started, with the
// volume as its root.
func fromKernels(_ []*volume, v *volume) (*Menu, error) {
	for _, folder := range []string{"/boot", "/"} {
		names, err := v.fs.names(folder)
		if err != nil {
			continue
		}
		var items []*item
		slices.SortFunc(names, func(a, b string) int { return compareVersions(b, a) })
		for _, n := range names {
			version, ok := strings.CutPrefix(n, "vmlinuz-")
			if !ok || len(items) >= maxEntries {
				continue
			}
			b := &bootLines{kernel: place{v, path.Join(folder, n)}, cmdline: "root=UUID=" + v.fs.id() + " ro"}
			for _, initrd := range []string{"initrd.img-" + version, "initramfs-" + version + ".img", "initrd-" + version, "initramfs-" + version} {
				if slices.Contains(names, initrd) {
					b.initrds = []place{{v, path.Join(folder, initrd)}}
					break
				}
			}
			items = append(items, &item{id: version, title: "Linux " + version, bls: b})
		}
		if len(items) > 0 {
			return flatten(items, items[0], own), nil
		}
	}
	return nil, nil
}
