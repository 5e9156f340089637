package bootdisk

import (
	"path"
	"strings"
)

// extlinuxPaths are where extlinux, syslinux and U-Boot's distro boot look.
var extlinuxPaths = []string{
	"/boot/extlinux/extlinux.conf", "/extlinux/extlinux.conf", "/boot/extlinux.conf", "/extlinux.conf",
	"/boot/syslinux/syslinux.cfg", "/syslinux/syslinux.cfg", "/syslinux.cfg",
}

// extlinux reads a configuration of syslinux: its labels, and which is the default.
func extlinux(v *volume, at string) (items []*item, def int, err error) {
	src, err := text(v.fs, at)
	if err != nil {
		return nil, 0, err
	}
	x := &extlinuxFile{vol: v, dir: path.Dir(at)}
	x.read(src, 0)
	for i, it := range x.items {
		if it.id == x.def || x.menuDefault == it {
			def = i
		}
	}
	return x.items, def, nil
}

type extlinuxFile struct {
	vol         *volume
	dir         string
	items       []*item
	def, append string
	menuDefault *item
}

func (x *extlinuxFile) place(p string) place {
	if !strings.HasPrefix(p, "/") {
		p = path.Join(x.dir, p)
	}
	return place{x.vol, p}
}

func (x *extlinuxFile) read(src string, depth int) {
	var it *item // the label that is being read
	for line := range strings.Lines(src) {
		key, value, _ := strings.Cut(strings.TrimSpace(strings.ReplaceAll(line, "\t", " ")), " ")
		value = strings.TrimSpace(value)
		key = strings.ToLower(key)
		if key == "menu" {
			sub, rest, _ := strings.Cut(value, " ")
			key, value = "menu "+strings.ToLower(sub), strings.TrimSpace(rest)
		}
		switch key {
		case "default":
			x.def = value
		case "include", "menu include":
			file, _, _ := strings.Cut(value, " ")
			if p := x.place(file); depth < 4 {
				if src, err := text(p.vol.fs, p.path); err == nil {
					x.read(src, depth+1)
				}
			}
		case "label":
			if len(x.items) >= maxEntries {
				return
			}
			it = &item{id: value, title: value, bls: &bootLines{cmdline: x.append}}
			x.items = append(x.items, it)
		case "append":
			switch {
			case value == "-":
				value = ""
			case it == nil:
				x.append = value
			}
			if it != nil {
				it.bls.set(x, value)
			}
		}
		if it == nil {
			continue
		}
		switch key {
		case "menu label":
			it.title = strings.ReplaceAll(value, "^", "")
		case "menu default":
			x.menuDefault = it
		case "kernel", "linux":
			if !strings.HasSuffix(value, ".c32") {
				it.bls.kernel = x.place(value)
			}
		case "initrd":
			it.bls.initrds = nil
			for p := range strings.SplitSeq(value, ",") {
				it.bls.initrds = append(it.bls.initrds, x.place(p))
			}
		}
	}
}

// set takes a command line; initrd= in it is for the loader.
func (b *bootLines) set(x *extlinuxFile, cmdline string) {
	var keep []string
	for w := range strings.FieldsSeq(cmdline) {
		if p, ok := strings.CutPrefix(w, "initrd="); ok {
			b.initrds = nil
			for f := range strings.SplitSeq(p, ",") {
				b.initrds = append(b.initrds, x.place(f))
			}
			continue
		}
		keep = append(keep, w)
	}
	b.cmdline = strings.Join(keep, " ")
}
