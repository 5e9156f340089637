package bootdisk

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"unicode/utf16"
)

// fat reads FAT12, FAT16 and FAT32 with long names (Microsoft's fatgen103).
type fat struct {
	r          *extents
	uuid, name string
	bits       int
	cluster    uint64 // bytes
	table      uint64 // where the first table begins
	data       uint64 // where cluster 2 begins
	clusters   uint64 // the number of the last one, plus one
	rootAt     uint64 // FAT12 and FAT16: where the root lies, of rootSize bytes
	rootSize   uint64
	root       uint64 // FAT32: its first cluster
	sector     uint64 // of table that is held in page
	page       []byte
}

const fatPage = 4096

// openFAT returns nil if there is no such file system.
func openFAT(r *extents) (fileSystem, error) {
	var b [sectorSize]byte
	if r.size < sectorSize || r.read(b[:], 0) != nil || le16(b[510:]) != 0xaa55 || b[0] != 0xeb && b[0] != 0xe9 {
		return nil, nil
	}
	sector, per := uint64(le16(b[11:])), uint64(b[13])
	reserved, tables := uint64(le16(b[14:])), uint64(b[16])
	entries := uint64(le16(b[17:]))
	total, perTable := uint64(le16(b[19:])), uint64(le16(b[22:]))
	if total == 0 {
		total = uint64(le32(b[32:]))
	}
	ebpb := b[36:]
	if perTable == 0 {
		perTable = uint64(le32(b[36:]))
		ebpb = b[64:]
	}
	if sector < 512 || sector > 4096 || sector&(sector-1) != 0 || per == 0 || per&(per-1) != 0 || reserved == 0 || tables == 0 || tables > 2 || perTable == 0 {
		return nil, nil
	}
	fs := &fat{r: r, cluster: sector * per, table: reserved * sector, rootSize: entries * 32}
	fs.rootAt = (reserved + tables*perTable) * sector
	fs.data = fs.rootAt + (fs.rootSize+sector-1)/sector*sector
	if total*sector > r.size || fs.data > total*sector {
		return nil, nil
	}
	count := (total*sector - fs.data) / fs.cluster
	switch { // the number of clusters alone decides
	case count < 4085:
		fs.bits = 12
	case count < 65525:
		fs.bits = 16
	default:
		fs.bits, fs.root = 32, uint64(le32(b[44:]))
	}
	fs.clusters = min(count+2, perTable*sector*8/uint64(fs.bits))
	fs.uuid = fmt.Sprintf("%04X-%04X", le16(ebpb[5:]), le16(ebpb[3:]))
	if id := le32(ebpb[3:]); ebpb[2] == 0x28 || ebpb[2] == 0x29 {
		fs.uuid = fmt.Sprintf("%04X-%04X", id>>16, id&0xffff)
		fs.name = strings.TrimRight(string(ebpb[7:18]), " ")
	}
	return fs, nil
}

func (fs *fat) id() string    { return fs.uuid }
func (fs *fat) label() string { return fs.name }

// next is the cluster that follows n in its chain; 0: none.
func (fs *fat) next(n uint64) (uint64, error) {
	bit := n * uint64(fs.bits)
	at := fs.table + bit/8
	from := at / fatPage * fatPage
	if fs.page == nil || fs.sector != from || at-from+4 > uint64(len(fs.page)) {
		b := make([]byte, min(fatPage+8, fs.r.size-from))
		if err := fs.r.read(b, from); err != nil {
			return 0, err
		}
		fs.page, fs.sector = b, from
	}
	e := fs.page[at-from:]
	if len(e) < 4 {
		return 0, errDamaged
	}
	v := uint64(le32(e)) >> (bit % 8) & (1<<fs.bits - 1)
	if fs.bits == 32 {
		v &= 1<<28 - 1
	}
	end := uint64(1)<<min(fs.bits, 28) - 8
	switch {
	case v >= end:
		return 0, nil
	case v < 2 || v >= fs.clusters:
		return 0, fmt.Errorf("%w: a chain of clusters", errDamaged)
	}
	return v, nil
}

// chain is where a file's content lies, for size bytes.
func (fs *fat) chain(first, size uint64) (*extents, error) {
	out := &extents{}
	limit, seen := fs.r.size/fs.cluster, uint64(0)
	if fs.bits < 32 {
		first &= 0xffff // the upper half is another field there
	}
	var at, n uint64 // clusters that follow each other
	flush := func() error {
		return fs.r.each(at, n, func(p span) error { out.add(p); return nil })
	}
	for c := first; c != 0 && seen*fs.cluster < size; {
		if seen++; c < 2 || c >= fs.clusters || seen > limit {
			return nil, fmt.Errorf("%w: a chain of clusters", errDamaged)
		}
		if here := fs.data + (c-2)*fs.cluster; n > 0 && here == at+n {
			n += fs.cluster
		} else {
			if err := flush(); err != nil {
				return nil, err
			}
			at, n = here, fs.cluster
		}
		var err error
		if c, err = fs.next(c); err != nil {
			return nil, err
		}
	}
	return out, flush()
}

type fatEntry struct {
	name, short string
	dir         bool
	first, size uint64
}

// list reads a folder; nil is the root.
func (fs *fat) list(dir *fatEntry) ([]fatEntry, error) {
	var data *extents
	var err error
	switch {
	case dir != nil && !dir.dir:
		return nil, errMissing
	case dir == nil && fs.bits < 32:
		data = &extents{}
		err = fs.r.each(fs.rootAt, fs.rootSize, func(p span) error { data.add(p); return nil })
	case dir == nil:
		data, err = fs.chain(fs.root, maxDir)
	default:
		data, err = fs.chain(dir.first, maxDir)
	}
	if err != nil {
		return nil, err
	}
	b := make([]byte, min(data.size, maxDir))
	if err := data.read(b, 0); err != nil {
		return nil, err
	}
	return fatEntries(b), nil
}

// fatEntries decodes a folder. The pieces of a long name come before its entry,
// the last piece first.
func fatEntries(b []byte) (out []fatEntry) {
	var long []uint16
	for ; len(b) >= 32 && b[0] != 0 && len(out) < maxNames; b = b[32:] {
		attr := b[11]
		switch {
		case b[0] == 0xe5: // deleted
			long = nil
			continue
		case attr&0x3f == 0x0f:
			var piece []uint16
			for _, at := range []int{1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30} {
				piece = append(piece, le16(b[at:]))
			}
			if b[0]&0x40 != 0 || len(long) > 260 {
				long = nil
			}
			long = append(piece, long...)
			continue
		case attr&0x08 != 0: // the label
			long = nil
			continue
		}
		e := fatEntry{dir: attr&0x10 != 0, first: uint64(le16(b[20:]))<<16 | uint64(le16(b[26:])), size: uint64(le32(b[28:]))}
		e.short = strings.TrimRight(string(b[:8]), " ")
		if ext := strings.TrimRight(string(b[8:11]), " "); ext != "" {
			e.short += "." + ext
		}
		e.name = e.short
		if long != nil {
			for i, u := range long {
				if u == 0 {
					long = long[:i]
					break
				}
			}
			e.name = string(utf16.Decode(long))
		}
		out, long = append(out, e), nil
	}
	return out
}

func (fs *fat) find(name string) (*fatEntry, error) {
	var at *fatEntry
	for rest := path.Clean("/" + name); rest != "" && rest != "/"; {
		var part string
		part, rest = component(rest)
		list, err := fs.list(at)
		if err != nil {
			return nil, err
		}
		at = nil
		for i, e := range list {
			if strings.EqualFold(e.name, part) || strings.EqualFold(e.short, part) {
				at = &list[i]
				break
			}
		}
		if at == nil {
			return nil, errMissing
		}
	}
	return at, nil
}

func (fs *fat) open(name string) (*File, error) {
	e, err := fs.find(name)
	if err == nil && (e == nil || e.dir) {
		err = errors.New("it is no file")
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	data, err := fs.chain(e.first, e.size)
	if err == nil && data.size < e.size {
		err = fmt.Errorf("%w: its chain of clusters is too short", errDamaged)
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	return &File{Path: path.Clean("/" + name), Size: int64(e.size), readAt: data.read}, nil
}

func (fs *fat) names(dir string) ([]string, error) {
	e, err := fs.find(dir)
	var list []fatEntry
	if err == nil {
		list, err = fs.list(e)
	}
	if err != nil {
		return nil, fmt.Errorf("open the folder %s: %w", dir, err)
	}
	var out []string
	for _, e := range list {
		if e.name != "." && e.name != ".." {
			out = append(out, e.name)
		}
	}
	return out, nil
}
