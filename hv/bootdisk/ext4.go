package bootdisk

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// ext4 reads ext2, ext3 and ext4 (Documentation/filesystems/ext4 in Linux).
// A journal that was not written back is left alone, as GRUB leaves it: files are
// as the last checkpoint has them.
type ext4 struct {
	r          *extents
	uuid, name string
	blockSize  uint64
	blocks     uint64
	super      uint64 // block of the superblock
	first      uint64 // block that group 0 begins with
	perGroup   uint64 // blocks
	inodes     uint64
	inodeGroup uint64 // inodes in a group
	inodeSize  uint64
	descSize   uint64
	metaGroup  uint64 // the first group whose descriptors lie by META_BG; ^0: none
	groups     uint64

	cache map[uint64][]byte // blocks of metadata
}

// Features that change where things lie (EXT4_FEATURE_INCOMPAT_*).
const (
	ext4Filetype = 0x2
	ext4Recover  = 0x4
	ext4MetaBG   = 0x10
	ext4Extents  = 0x40
	ext464Bit    = 0x80
	ext4MMP      = 0x100
	ext4FlexBG   = 0x200
	ext4EAInode  = 0x400
	ext4CsumSeed = 0x2000
	ext4LargeDir = 0x4000
	ext4Inline   = 0x8000
	ext4Encrypt  = 0x10000
	ext4Casefold = 0x20000

	ext4Known = ext4Filetype | ext4Recover | ext4MetaBG | ext4Extents | ext464Bit | ext4MMP | ext4FlexBG |
		ext4EAInode | ext4CsumSeed | ext4LargeDir | ext4Inline | ext4Encrypt | ext4Casefold
)

const (
	ext4Root  = 2
	ext4Cache = 512 // blocks; one more and it begins anew
)

// openExt4 returns nil if there is no such file system.
func openExt4(r *extents) (fileSystem, error) {
	var sb [1024]byte
	if r.size < 2048 || r.read(sb[:], 1024) != nil || le16(sb[0x38:]) != 0xef53 {
		return nil, nil
	}
	fs := &ext4{
		r:    r,
		uuid: fmt.Sprintf("%x-%x-%x-%x-%x", sb[0x68:0x6c], sb[0x6c:0x6e], sb[0x6e:0x70], sb[0x70:0x72], sb[0x72:0x78]),
		name: cstring(sb[0x78:0x88]), first: uint64(le32(sb[0x14:])),
		blocks: uint64(le32(sb[4:])), perGroup: uint64(le32(sb[0x20:])),
		inodes: uint64(le32(sb[0:])), inodeGroup: uint64(le32(sb[0x28:])),
		inodeSize: 128, descSize: 32, metaGroup: ^uint64(0),
		cache: map[uint64][]byte{},
	}
	features := uint32(0)
	if le32(sb[0x4c:]) > 0 { // s_rev_level
		fs.inodeSize, features = uint64(le16(sb[0x58:])), le32(sb[0x60:])
	}
	shift := le32(sb[0x18:])
	switch {
	case features&^ext4Known != 0:
		return nil, fmt.Errorf("an ext4 file system with features that are not known here (%#x)", features&^ext4Known)
	case shift > 6 || fs.perGroup == 0 || fs.inodeGroup == 0 || fs.first > 1:
		return nil, fmt.Errorf("an ext4 file system: %w", errDamaged)
	}
	if fs.blockSize = 1024 << shift; shift == 0 {
		fs.super = 1
	}
	if features&ext464Bit != 0 {
		fs.blocks |= uint64(le32(sb[0x150:])) << 32
		if fs.descSize = uint64(le16(sb[0xfe:])); fs.descSize < 64 {
			fs.descSize = 64
		}
	}
	if features&ext4MetaBG != 0 {
		fs.metaGroup = uint64(le32(sb[0x104:])) * (fs.blockSize / fs.descSize)
	}
	if fs.blocks > 1<<48 || fs.inodeSize < 128 || fs.inodeSize > fs.blockSize || fs.descSize > fs.blockSize ||
		fs.blockSize%fs.inodeSize != 0 || fs.blockSize%fs.descSize != 0 || fs.blocks <= fs.first {
		return nil, fmt.Errorf("an ext4 file system: %w", errDamaged)
	}
	fs.groups = (fs.blocks - fs.first + fs.perGroup - 1) / fs.perGroup
	return fs, nil
}

func (fs *ext4) id() string    { return fs.uuid }
func (fs *ext4) label() string { return fs.name }

// block reads a block of metadata. The caller must not change it.
func (fs *ext4) block(n uint64) ([]byte, error) {
	if b, ok := fs.cache[n]; ok {
		return b, nil
	}
	if n == 0 || n >= fs.blocks {
		return nil, fmt.Errorf("%w: it names block %d of %d", errDamaged, n, fs.blocks)
	}
	b := make([]byte, fs.blockSize)
	if err := fs.r.read(b, n*fs.blockSize); err != nil {
		return nil, err
	}
	if len(fs.cache) >= ext4Cache {
		clear(fs.cache)
	}
	fs.cache[n] = b
	return b, nil
}

// inodeTable is where a group's inodes lie.
func (fs *ext4) inodeTable(group uint64) (uint64, error) {
	each := fs.blockSize / fs.descSize
	block := fs.super + 1 + group/each
	if group >= fs.metaGroup { // each block of descriptors lies in the first group that it describes
		first := group - group%each
		if block = fs.first + first*fs.perGroup; first == 0 {
			block = fs.super
		}
		if fs.backup(first) {
			block++
		}
	}
	b, err := fs.block(block)
	if err != nil {
		return 0, err
	}
	d := b[group%each*fs.descSize:]
	table := uint64(le32(d[8:]))
	if fs.descSize >= 64 {
		table |= uint64(le32(d[0x28:])) << 32
	}
	return table, nil
}

// backup reports whether a group begins with a superblock. With META_BG mke2fs
// writes them as sparse_super has it: 0, 1 and the powers of 3, 5 and 7.
func (fs *ext4) backup(group uint64) bool {
	if group <= 1 {
		return true
	}
	for _, base := range []uint64{3, 5, 7} {
		n := base
		for n < group {
			n *= base
		}
		if n == group {
			return true
		}
	}
	return false
}

// Inode flags and kinds.
const (
	inodeEncrypted = 0x800
	inodeExtents   = 0x80000
	inodeInline    = 0x10000000

	kindMask = 0xf000
	kindDir  = 0x4000
	kindFile = 0x8000
	kindLink = 0xa000
)

type inode struct {
	number uint64
	kind   uint16
	flags  uint32
	size   uint64
	block  [60]byte // extents, block map, or what is inline
	extra  []byte   // the attributes behind the inode's own fields
}

func (fs *ext4) inode(n uint64) (*inode, error) {
	if n == 0 || n > fs.inodes {
		return nil, fmt.Errorf("%w: it names inode %d of %d", errDamaged, n, fs.inodes)
	}
	group, index := (n-1)/fs.inodeGroup, (n-1)%fs.inodeGroup
	if group >= fs.groups {
		return nil, fmt.Errorf("%w: inode %d is in group %d of %d", errDamaged, n, group, fs.groups)
	}
	table, err := fs.inodeTable(group)
	if err != nil {
		return nil, err
	}
	each := fs.blockSize / fs.inodeSize
	b, err := fs.block(table + index/each)
	if err != nil {
		return nil, err
	}
	b = b[index%each*fs.inodeSize:][:fs.inodeSize]
	in := &inode{
		number: n, kind: le16(b) & kindMask, flags: le32(b[0x20:]),
		size: uint64(le32(b[4:])) | uint64(le32(b[0x6c:]))<<32,
	}
	copy(in.block[:], b[0x28:])
	if in.kind == kindDir && in.flags&inodeInline == 0 {
		in.size = min(in.size, maxDir) // its upper half is another field in old file systems
	}
	if len(b) > 0x82 {
		if at := 128 + int(le16(b[0x80:])); at < len(b) {
			in.extra = b[at:]
		}
	}
	return in, nil
}

// inline is the content of a small file or folder that lies in its inode: the
// place of the block map, and behind it the attribute system.data.
func (in *inode) inline() []byte {
	out := in.block[:]
	if x := in.extra; len(x) > 4 && le32(x) == 0xea020000 {
		values := x[4:] // where offsets of values begin
		for e := values; len(e) >= 16 && le32(e) != 0; {
			name, off, size := int(e[0]), int(le16(e[2:])), int(le32(e[8:]))
			if 16+name > len(e) {
				break
			}
			// index 7 is the prefix "system."
			if e[1] == 7 && string(e[16:16+name]) == "data" && size >= 0 && off+size >= off && off+size <= len(values) {
				out = append(out[:len(out):len(out)], values[off:off+size]...)
				break
			}
			e = e[min(len(e), (16+name+3)&^3):]
		}
	}
	return out[:min(uint64(len(out)), in.size)]
}

// run says where n consecutive blocks of a file lie from block at of it on; disk 0
// is a hole.
func (fs *ext4) run(in *inode, at uint64) (disk, n uint64, err error) {
	if in.flags&inodeExtents != 0 {
		return fs.extent(in.block[:], at, 5, 1<<32)
	}
	return fs.mapped(in, at)
}

// extent looks a block up in a tree of extents, of which node is the root.
func (fs *ext4) extent(node []byte, at uint64, depth uint16, next uint64) (disk, n uint64, err error) {
	entries, level := int(le16(node[2:])), le16(node[6:])
	if le16(node) != 0xf30a || entries > (len(node)-12)/12 || level > depth {
		return 0, 0, fmt.Errorf("%w: a tree of extents", errDamaged)
	}
	found := -1
	for i := range entries {
		if first := uint64(le32(node[12+12*i:])); first <= at {
			found = i
		} else {
			next = min(next, first)
			break
		}
	}
	if at >= next {
		return 0, 0, fmt.Errorf("%w: a tree of extents", errDamaged)
	}
	if found < 0 {
		return 0, next - at, nil
	}
	e := node[12+12*found:][:12]
	if level > 0 {
		b, err := fs.block(uint64(le32(e[4:])) | uint64(le16(e[8:]))<<32)
		if err != nil {
			return 0, 0, err
		}
		if le16(b[6:]) != level-1 {
			return 0, 0, fmt.Errorf("%w: a tree of extents", errDamaged)
		}
		return fs.extent(b, at, level-1, next)
	}
	first, count := uint64(le32(e)), uint64(le16(e[4:]))
	written := count <= 32768
	if !written {
		count -= 32768
	}
	if at >= first+count {
		return 0, next - at, nil
	}
	n = first + count - at
	if !written {
		return 0, n, nil
	}
	return (uint64(le16(e[6:]))<<32 | uint64(le32(e[8:]))) + at - first, n, nil
}

// mapped looks blocks up in ext2's map: twelve blocks, then one, two and three
// steps away.
func (fs *ext4) mapped(in *inode, at uint64) (disk, n uint64, err error) {
	for n < 64 {
		b, err := fs.mappedOne(in, at+n)
		if err != nil {
			return 0, 0, err
		}
		if n > 0 && (disk == 0 && b != 0 || disk != 0 && b != disk+n) {
			break
		}
		if n == 0 {
			disk = b
		}
		n++
	}
	return disk, n, nil
}

func (fs *ext4) mappedOne(in *inode, at uint64) (uint64, error) {
	if at < 12 {
		return uint64(le32(in.block[4*at:])), nil
	}
	at -= 12
	each := fs.blockSize / 4
	for level, span := uint64(0), each; level < 3; level, span = level+1, span*each {
		if at >= span {
			at -= span
			continue
		}
		b := uint64(le32(in.block[4*(12+level):]))
		for step := span / each; b != 0; step /= each {
			node, err := fs.block(b)
			if err != nil {
				return 0, err
			}
			b = uint64(le32(node[at/step*4:]))
			if at %= step; step == 1 {
				break
			}
		}
		return b, nil
	}
	return 0, nil // behind what the map can hold; the size was wrong
}

// read fills b from byte off of a file on; the caller has seen to its size.
func (fs *ext4) read(in *inode, b []byte, off uint64) error {
	if in.flags&inodeInline != 0 {
		if data := in.inline(); off < uint64(len(data)) {
			clear(b[copy(b, data[off:]):])
		} else {
			clear(b)
		}
		return nil
	}
	for len(b) > 0 {
		disk, n, err := fs.run(in, off/fs.blockSize)
		if err != nil {
			return err
		}
		skip := off % fs.blockSize
		n = min(uint64(len(b)), n*fs.blockSize-skip)
		switch {
		case disk == 0:
			clear(b[:n])
		case disk >= fs.blocks:
			return fmt.Errorf("%w: it names block %d of %d", errDamaged, disk, fs.blocks)
		default:
			if err := fs.r.read(b[:n], disk*fs.blockSize+skip); err != nil {
				return err
			}
		}
		b, off = b[n:], off+n
	}
	return nil
}

func le16(b []byte) uint16 { return binary.LittleEndian.Uint16(b) }
func le32(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }
func le64(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }

// cstring ends at the first zero byte.
func cstring(b []byte) string {
	s, _, _ := strings.Cut(string(b), "\x00")
	return s
}
