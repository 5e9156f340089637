// Package savefile is the file that a saved guest is, whatever engine wrote it: a
// page of header that says where its three parts lie, and the parts. And it is
// how the guest's disks were when it was saved.
//
// It does not know what is in the parts: the engines' files say that. Files may
// come from anywhere, and are hostile.
package savefile

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// The header: magic, version, sum of the header, the engine's name, and offset,
// length and sum of each part. Numbers are little-endian, sums are CRC-32C. It is
// written last: a file without it is a save that was never finished.
const (
	magic      = "HXENSAVE"
	version    = 2
	engineSize = 8
	partSize   = 8 + 8 + 4
	headSize   = 8 + 4 + 4 + engineSize + parts*partSize

	// Begin is where the first part may lie.
	Begin = 4096
	// MaxRead bounds the parts that are read at once.
	MaxRead = 64 << 20

	parts = 3
)

// The parts: the machine's state as JSON, a table that the engine may want for
// its data, and the data.
const (
	State = iota
	Table
	Data
)

// Part is where a part lies, and its sum; 0 where the engine has sums of its own.
type Part struct {
	Off, N uint64
	Sum    uint32
}

// Parts are all of a file's, by State, Table and Data.
type Parts [parts]Part

// ErrDamaged is a file that is not what was written.
var ErrDamaged = errors.New("the file is damaged")

// castagnoli is made when a sum is asked for, as every start of a worker would else
// spend a millisecond on it.
var castagnoli = sync.OnceValue(func() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) })

// Sum goes on with a part's sum; it begins with 0.
func Sum(sum uint32, b []byte) uint32 { return crc32.Update(sum, castagnoli(), b) }

// Write makes the file at path appear whole or not at all: write fills in a file
// beside it, and says where it has put what.
func Write(ctx context.Context, path, engine string, write func(f *os.File) (Parts, error)) error {
	return Whole(ctx, path, func(f *os.File) error {
		p, err := write(f)
		if err == nil {
			_, err = f.WriteAt(head(engine, p), 0)
		}
		return err
	})
}

// Whole is Write for a file that is no saved guest.
func Whole(ctx context.Context, path string, write func(f *os.File) error) (err error) {
	tmp := path + ".part"
	f, err := os.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(tmp) // the error that counts is told
		}
	}()
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return err
	}
	if err := Rename(tmp, path); err != nil {
		return err
	}
	SyncDir(filepath.Dir(path))
	return nil
}

// SyncDir has a folder outlive a power cut as it is now: who has come, and who is
// gone. Windows cannot, and needs not.
func SyncDir(dir string) {
	if d, err := os.Open(dir); err == nil {
		_ = d.Sync()
		_ = d.Close()
	}
}

// WriteState writes v as JSON at off and returns the part that it is.
func WriteState(f *os.File, off uint64, v any) (Part, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return Part{}, err
	}
	if len(b) > MaxRead {
		return Part{}, fmt.Errorf("the guest's state of %d MiB is too large", len(b)>>20)
	}
	_, err = f.WriteAt(b, int64(off))
	return Part{off, uint64(len(b)), Sum(0, b)}, err
}

func head(engine string, p Parts) []byte {
	b := binary.LittleEndian.AppendUint32([]byte(magic), version)
	b = append(b, 0, 0, 0, 0) // the sum, which counts as zero
	b = append(b, make([]byte, engineSize)...)
	copy(b[16:16+engineSize], engine)
	for _, s := range p {
		b = binary.LittleEndian.AppendUint64(b, s.Off)
		b = binary.LittleEndian.AppendUint64(b, s.N)
		b = binary.LittleEndian.AppendUint32(b, s.Sum)
	}
	binary.LittleEndian.PutUint32(b[12:], Sum(0, b))
	return b
}

// File is an open saved guest.
type File struct {
	Parts Parts
	r     io.ReaderAt
	f     *os.File
}

// Open opens a file that the engine has written. What its parts hold is checked
// when it is read.
func Open(path, engine string) (_ *File, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open the saved guest: %w", err)
	}
	defer func() {
		if err != nil {
			f.Close()
			err = fmt.Errorf("read the saved guest %s: %w", path, err)
		}
	}()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is not a plain file")
	}
	s, err := Read(f, uint64(info.Size()), engine)
	if err != nil {
		return nil, err
	}
	s.f = f
	return s, nil
}

// Read is Open for a file of size bytes that is open already.
func Read(r io.ReaderAt, size uint64, engine string) (*File, error) {
	b := make([]byte, headSize)
	if n, err := r.ReadAt(b, 0); n < 12 || string(b[:8]) != magic {
		if err != nil && err != io.EOF {
			return nil, err
		}
		return nil, errors.New("it is no saved guest")
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v != version {
		return nil, fmt.Errorf("it is of version %d, and this HXEN reads version %d: restore it with the HXEN that saved it", v, version)
	}
	sum := binary.LittleEndian.Uint32(b[12:])
	clear(b[12:16])
	if size < headSize || Sum(0, b) != sum {
		return nil, ErrDamaged
	}
	if by := strings.TrimRight(string(b[16:16+engineSize]), "\x00"); by != engine {
		return nil, fmt.Errorf("it was saved by the engine %q, and this one is %q", by, engine)
	}
	f := &File{r: r}
	for i := range f.Parts {
		p := b[16+engineSize+i*partSize:]
		s := Part{binary.LittleEndian.Uint64(p), binary.LittleEndian.Uint64(p[8:]), binary.LittleEndian.Uint32(p[16:])}
		if s.Off > size || s.N > size-s.Off {
			return nil, fmt.Errorf("%w: it ends too early", ErrDamaged)
		}
		f.Parts[i] = s
	}
	return f, nil
}

// ReadPart reads State or Table, and checks its sum.
func (f *File) ReadPart(i int) ([]byte, error) {
	p := f.Parts[i]
	if p.N > MaxRead {
		return nil, ErrDamaged
	}
	b := make([]byte, p.N)
	if n, err := f.r.ReadAt(b, int64(p.Off)); n < len(b) {
		return nil, err
	}
	if Sum(0, b) != p.Sum {
		return nil, ErrDamaged
	}
	return b, nil
}

// ReadState reads the state into v.
func (f *File) ReadState(v any) error {
	b, err := f.ReadPart(State)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%w: its state: %w", ErrDamaged, err)
	}
	return nil
}

// Data reads the data from its beginning.
func (f *File) Data() *io.SectionReader {
	p := f.Parts[Data]
	return io.NewSectionReader(f.r, int64(p.Off), int64(p.N))
}

// ReadAt is the whole file's.
func (f *File) ReadAt(b []byte, off int64) (int, error) { return f.r.ReadAt(b, off) }

// OS is the open file; nil for one of Read.
func (f *File) OS() *os.File { return f.f }

// Close closes the file.
func (f *File) Close() error { return f.f.Close() }
