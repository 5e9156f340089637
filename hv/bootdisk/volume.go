package bootdisk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sort"
	"strings"
)

// Bounds of a search. A guest writes what it likes onto its disk; a search reads
// so much and no more.
const (
	maxReads    = 200000  // of a search and of what is then loaded
	maxConfig   = 4 << 20 // bytes of a configuration file
	maxDir      = 16 << 20
	maxNames    = 1 << 16 // entries of a folder
	maxLinks    = 40      // symbolic links on the way to a file, as Linux has it
	maxVolumes  = 256
	maxPathName = 4096
)

var (
	errDamaged = errors.New("it is damaged")
	// errMissing says that there is no such file, as opposed to one that cannot be read.
	errMissing = errors.New("there is no such file")
)

// budget ends a search that a disk would make endless.
type budget struct {
	ctx  context.Context
	left int
}

func (b *budget) spend() error {
	if err := b.ctx.Err(); err != nil {
		return err
	}
	if b.left--; b.left < 0 {
		return errors.New("the search was given up: the disk makes it endless")
	}
	return nil
}

// span is n bytes of a disk at off: a partition, a logical volume's piece, or
// all of it.
type span struct {
	r      io.ReaderAt
	budget *budget
	off, n uint64
}

// part is n bytes of s at off; what lies outside of s is cut off.
func (s span) part(off, n uint64) span {
	off = min(off, s.n)
	return span{s.r, s.budget, s.off + off, min(n, s.n-off)}
}

// read fills b from off.
func (s span) read(b []byte, off uint64) error {
	if off > s.n || uint64(len(b)) > s.n-off {
		return fmt.Errorf("it is cut off or damaged: byte %d is behind its end", off)
	}
	if err := s.budget.spend(); err != nil {
		return err
	}
	if n, err := s.r.ReadAt(b, int64(s.off+off)); n < len(b) {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("read the disk: %w", err)
	}
	return nil
}

// extents is a volume made of pieces of disks, in order.
type extents struct {
	pieces []span
	ends   []uint64 // where each piece ends in the volume
	size   uint64
}

func (e *extents) add(s span) {
	if s.n > 0 {
		e.size += s.n
		e.pieces, e.ends = append(e.pieces, s), append(e.ends, e.size)
	}
}

// each hands out the pieces that n bytes at off lie in.
func (e *extents) each(off, n uint64, f func(span) error) error {
	if off > e.size || n > e.size-off {
		return fmt.Errorf("it is cut off or damaged: byte %d is behind its end", off)
	}
	for i := sort.Search(len(e.ends), func(i int) bool { return e.ends[i] > off }); n > 0; i++ {
		p := e.pieces[i]
		p = p.part(off-(e.ends[i]-p.n), n)
		if err := f(p); err != nil {
			return err
		}
		off, n = off+p.n, n-p.n
	}
	return nil
}

func (e *extents) read(b []byte, off uint64) error {
	return e.each(off, uint64(len(b)), func(p span) error {
		err := p.read(b[:p.n], 0)
		b = b[p.n:]
		return err
	})
}

// fileSystem is a file system that is only read. Paths begin at its root, and
// symbolic links stay inside of it.
type fileSystem interface {
	id() string // as GRUB's search --fs-uuid and root=UUID= have it
	label() string
	open(path string) (*File, error)
	names(dir string) ([]string, error)
}

// volume is what has a file system: a partition, a logical volume, or a disk
// without partitions.
type volume struct {
	names []string // GRUB's, such as hd0,gpt1 and hd0,1
	data  *extents
	fs    fileSystem
}

// File is a file on a guest's disk. It is for one goroutine.
type File struct {
	Path string // in its file system
	Size int64

	readAt func(b []byte, off uint64) error
	// place is where on its volume the content lies as a whole; ok: it does.
	place func() (at uint64, ok bool)
}

// ReadAt is io.ReaderAt.
func (f *File) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read %s at %d", f.Path, off)
	}
	if off >= f.Size {
		return 0, io.EOF
	}
	n := len(b)
	if int64(n) > f.Size-off {
		n = int(f.Size - off)
	}
	if err := f.readAt(b[:n], uint64(off)); err != nil {
		return 0, fmt.Errorf("read %s: %w", f.Path, err)
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// text is a whole configuration file.
func text(fs fileSystem, path string) (string, error) {
	f, err := fs.open(path)
	if err != nil {
		return "", err
	}
	if f.Size > maxConfig {
		return "", fmt.Errorf("%s has %d bytes, too many for what it should be", path, f.Size)
	}
	b := make([]byte, f.Size)
	if _, err := io.ReadFull(io.NewSectionReader(f, 0, f.Size), b); err != nil {
		return "", err
	}
	return string(b), nil
}

// exists reports whether there is a file, or a folder, of that name.
func exists(fs fileSystem, path string) bool {
	if _, err := fs.open(path); err == nil {
		return true
	}
	_, err := fs.names(path)
	return err == nil
}

// component cuts the first name off a path.
func component(path string) (name, rest string) {
	path = strings.TrimLeft(path, "/")
	name, rest, _ = strings.Cut(path, "/")
	return name, strings.TrimLeft(rest, "/")
}
