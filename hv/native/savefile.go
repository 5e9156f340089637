package native

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/hxen-project/hxen/hv/accel"
	"github.com/hxen-project/hxen/hv/guestmem"
	"github.com/hxen-project/hxen/hv/xen"
	"github.com/hxen-project/hxen/hv/xenstore"
)

// A file with a saved guest: a page of header, which says where the sections
// lie; the state as JSON; a table with an entry for each MiB of memory; and the
// memory itself as an image that can be mapped, with holes for zero pages.
// Numbers are little-endian, sums are CRC-32C.
const (
	saveMagic   = "HXENSAVE"
	saveVersion = 1
	saveHead    = 8 + 4 + 4 + 3*sectionSize // magic, version, sum, sections
	sectionSize = 8 + 8 + 4                 // offset, length, sum

	chunkSize  = 1 << 20
	chunkPages = chunkSize / guestmem.PageSize
	chunkEntry = chunkPages/8 + 4 // a bit for each page that is not zero, the sum of these

	imageAlign = 2 << 20
	maxState   = 64 << 20
	maxImage   = 1 << 44
)

// saved is the state of a machine, less its memory.
type saved struct {
	UUID   [16]byte
	Name   string
	VCPUs  int
	Memory uint64
	Grown  []uint64 // addresses of the slots that the guest made appear

	Backend     string // accelerator
	Patched     bool   // hypercalls come through a port
	KernelFound bool   // and the kernel's were replaced
	CPUID       []accel.CPUID
	TSCHz       uint64
	Incarnation uint32

	Disks      []savedDisk
	Processors []accel.State
	Domain     xen.State
	Store      xenstore.State
}

// section is where a part of the file lies. The image has sums of its own.
type section struct {
	off, n uint64
	sum    uint32
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// region is a stretch of host memory with a place in the image, at a multiple of
// chunkSize.
type region struct {
	mem []byte
	off uint64
}

// regions are a machine's memories in the image's order.
func regions(mems [][]byte) (out []region, size uint64) {
	for _, mem := range mems {
		out = append(out, region{mem, size})
		size += (uint64(len(mem)) + chunkSize - 1) / chunkSize * chunkSize
	}
	return out, size
}

// at returns the chunk of memory that begins at off of the image.
func at(rs []region, off uint64) []byte {
	for _, r := range rs {
		if off-r.off < uint64(len(r.mem)) {
			return r.mem[off-r.off : min(uint64(len(r.mem)), off-r.off+chunkSize)]
		}
	}
	return nil
}

// writeSave writes a whole file.
func writeSave(ctx context.Context, f *os.File, s saved, mems [][]byte, progress func(done, total int64)) error {
	state, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if len(state) > maxState {
		return fmt.Errorf("the guest's state of %d MiB is too large", len(state)>>20)
	}
	rs, size := regions(mems)
	table := make([]byte, size/chunkSize*chunkEntry)
	where := [3]section{{off: guestmem.PageSize, n: uint64(len(state)), sum: crc32.Checksum(state, castagnoli)}}
	where[1] = section{off: where[0].off + where[0].n, n: uint64(len(table))}
	where[2] = section{off: (where[1].off + where[1].n + imageAlign - 1) / imageAlign * imageAlign, n: size}
	if err := f.Truncate(int64(where[2].off + size)); err != nil {
		return err
	}
	err = eachChunk(ctx, size, progress, func(i uint64) error {
		return writeChunk(f, int64(where[2].off+i*chunkSize), at(rs, i*chunkSize), table[i*chunkEntry:][:chunkEntry])
	})
	if err != nil {
		return err
	}
	where[1].sum = crc32.Checksum(table, castagnoli)
	for i, b := range [][]byte{state, table} {
		if _, err := f.WriteAt(b, int64(where[i].off)); err != nil {
			return err
		}
	}
	if _, err := f.WriteAt(encodeHead(where), 0); err != nil {
		return err
	}
	return f.Sync()
}

func encodeHead(where [3]section) []byte {
	b := binary.LittleEndian.AppendUint32([]byte(saveMagic), saveVersion)
	b = append(b, 0, 0, 0, 0) // the sum, which counts as zero
	for _, s := range where {
		b = binary.LittleEndian.AppendUint64(b, s.off)
		b = binary.LittleEndian.AppendUint64(b, s.n)
		b = binary.LittleEndian.AppendUint32(b, s.sum)
	}
	binary.LittleEndian.PutUint32(b[12:], crc32.Checksum(b, castagnoli))
	return b
}

// eachChunk calls f for each chunk of an image, several at a time.
func eachChunk(ctx context.Context, size uint64, progress func(done, total int64), f func(i uint64) error) error {
	var next, done atomic.Uint64
	var failed atomic.Pointer[error]
	var told sync.Mutex
	total := size / chunkSize
	var all sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), 4) {
		all.Go(func() {
			for failed.Load() == nil {
				i := next.Add(1) - 1
				if i >= total {
					return
				}
				err := ctx.Err()
				if err == nil {
					err = f(i)
				}
				if err != nil {
					failed.CompareAndSwap(nil, &err)
					return
				}
				if n := done.Add(1); progress != nil && (n%16 == 0 || n == total) {
					told.Lock()
					progress(int64(done.Load()*chunkSize), int64(size))
					told.Unlock()
				}
			}
		})
	}
	all.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}

var zeroPage [guestmem.PageSize]byte

// writeChunk writes the pages of mem that are not zero, and fills in entry.
func writeChunk(f *os.File, off int64, mem, entry []byte) error {
	sum := uint32(0)
	from := -1 // where the run of pages that are not zero begins
	for p := 0; p <= len(mem); p += guestmem.PageSize {
		if p < len(mem) && !bytes.Equal(mem[p:p+guestmem.PageSize], zeroPage[:]) {
			entry[p/guestmem.PageSize/8] |= 1 << (p / guestmem.PageSize % 8)
			if from < 0 {
				from = p
			}
			continue
		}
		if from >= 0 {
			sum = crc32.Update(sum, castagnoli, mem[from:p])
			if _, err := f.WriteAt(mem[from:p], off+int64(from)); err != nil {
				return err
			}
			from = -1
		}
	}
	binary.LittleEndian.PutUint32(entry[chunkPages/8:], sum)
	return nil
}

// Saved is an open file with a saved guest.
type Saved struct {
	f     *os.File
	state saved
	table []byte
	image section
}

var errDamaged = errors.New("the file is damaged")

// OpenSaved opens a file that Machine.Save wrote and checks all of it but the
// memory, which loading checks.
func OpenSaved(path string) (_ *Saved, err error) {
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
	s := &Saved{f: f}
	where, err := readHead(f, uint64(info.Size()))
	if err != nil {
		return nil, err
	}
	s.image = where[2]
	state, err := readSection(f, where[0])
	if err != nil {
		return nil, err
	}
	if s.table, err = readSection(f, where[1]); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(state, &s.state); err != nil {
		return nil, fmt.Errorf("%w: its state: %w", errDamaged, err)
	}
	return s, s.check()
}

// readHead reads where the sections lie, all within the file and of lengths that
// belong together.
func readHead(f io.ReaderAt, size uint64) (where [3]section, err error) {
	head := make([]byte, saveHead)
	if n, err := f.ReadAt(head, 0); n < 12 || string(head[:8]) != saveMagic {
		if err != nil && err != io.EOF {
			return where, err
		}
		return where, errors.New("it is no saved guest of the native engine's")
	}
	if v := binary.LittleEndian.Uint32(head[8:]); v != saveVersion {
		return where, fmt.Errorf("it is of version %d, and this HXEN reads version %d: restore it with the HXEN that saved it", v, saveVersion)
	}
	sum := binary.LittleEndian.Uint32(head[12:])
	clear(head[12:16])
	if size < saveHead || crc32.Checksum(head, castagnoli) != sum {
		return where, errDamaged
	}
	for i := range where {
		b := head[16+i*sectionSize:]
		where[i] = section{binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:]), binary.LittleEndian.Uint32(b[16:])}
		if s := where[i]; s.off > size || s.n > size-s.off {
			return where, fmt.Errorf("%w: it ends too early", errDamaged)
		}
	}
	if n := where[2].n; where[0].n > maxState || n > maxImage || n%chunkSize != 0 || where[2].off%imageAlign != 0 || where[1].n != n/chunkSize*chunkEntry {
		return where, errDamaged
	}
	return where, nil
}

func readSection(f io.ReaderAt, s section) ([]byte, error) {
	b := make([]byte, s.n)
	if n, err := f.ReadAt(b, int64(s.off)); n < len(b) {
		return nil, err
	}
	if crc32.Checksum(b, castagnoli) != s.sum {
		return nil, errDamaged
	}
	return b, nil
}

// check looks at what sizes depend on.
func (s *Saved) check() error {
	st := &s.state
	if _, err := newLayout(st.Memory); err != nil || st.VCPUs < 1 || st.VCPUs > xen.MaxVCPUs || len(st.Processors) != st.VCPUs ||
		st.Memory > maxImage || len(st.Grown) > maxGrown {
		return errDamaged
	}
	size := (st.Memory+chunkSize-1)/chunkSize*chunkSize + chunkSize + uint64(len(st.Grown))*guestmem.GrowSize
	if size != s.image.n {
		return errDamaged
	}
	return nil
}

// Close closes the file.
func (s *Saved) Close() error { return s.f.Close() }

// Memory and VCPUs are the saved guest's.
func (s *Saved) Memory() uint64 { return s.state.Memory }
func (s *Saved) VCPUs() int     { return s.state.VCPUs }

// load reads the saved memory into mems, which are zero.
func (s *Saved) load(ctx context.Context, mems [][]byte, progress func(done, total int64)) error {
	rs, size := regions(mems)
	if size != s.image.n {
		return errDamaged
	}
	err := eachChunk(ctx, size, progress, func(i uint64) error {
		return s.loadChunk(int64(s.image.off+i*chunkSize), at(rs, i*chunkSize), s.table[i*chunkEntry:][:chunkEntry])
	})
	if err != nil {
		return fmt.Errorf("read the guest's memory from %s: %w", s.f.Name(), err)
	}
	return nil
}

func (s *Saved) loadChunk(off int64, mem, entry []byte) error {
	sum := uint32(0)
	from := -1
	for p := 0; p <= len(mem); p += guestmem.PageSize {
		if p < len(mem) && entry[p/guestmem.PageSize/8]&(1<<(p/guestmem.PageSize%8)) != 0 {
			if from < 0 {
				from = p
			}
			continue
		}
		if from >= 0 {
			if n, err := s.f.ReadAt(mem[from:p], off+int64(from)); n < p-from {
				return err
			}
			sum = crc32.Update(sum, castagnoli, mem[from:p])
			from = -1
		}
	}
	if sum != binary.LittleEndian.Uint32(entry[chunkPages/8:]) {
		return errDamaged
	}
	return nil
}
