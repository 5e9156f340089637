package native

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/hxen-project/hxen/hv/accel"
	"github.com/hxen-project/hxen/hv/guestmem"
	"github.com/hxen-project/hxen/hv/savefile"
	"github.com/hxen-project/hxen/hv/xen"
	"github.com/hxen-project/hxen/hv/xenstore"
)

// The native engine's parts of a saved guest's file: the state as JSON; a table
// with an entry for each MiB of memory; and the memory itself as an image that can
// be mapped, with holes for zero pages. The image's sums are in the table.
const (
	saveEngine = "native"

	chunkSize  = 1 << 20
	chunkPages = chunkSize / guestmem.PageSize
	chunkEntry = chunkPages/8 + 4 // a bit for each page that is not zero, the sum of these

	imageAlign = 2 << 20
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

	Outside    outside
	Processors []accel.State
	Domain     xen.State
	Store      xenstore.State
}

// outside is what a saved guest depends on beside its memory: its images, and
// which number each disk and card of its Spec has for it, in the Spec's order.
type outside struct {
	Disks  []savefile.Disk
	Places places
}

type places struct{ Disks, NICs []int }

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

// chunkAt returns the chunk of memory that begins at off of the image.
func chunkAt(rs []region, off uint64) []byte {
	for _, r := range rs {
		if off-r.off < uint64(len(r.mem)) {
			return r.mem[off-r.off : min(uint64(len(r.mem)), off-r.off+chunkSize)]
		}
	}
	return nil
}

// writeSave writes a file's parts.
func writeSave(ctx context.Context, f *os.File, s saved, mems [][]byte, progress func(done, total int64)) (where savefile.Parts, err error) {
	if where[savefile.State], err = savefile.WriteState(f, savefile.Begin, s); err != nil {
		return where, err
	}
	rs, size := regions(mems)
	table := make([]byte, size/chunkSize*chunkEntry)
	at := where[savefile.State].Off + where[savefile.State].N
	image := savefile.Part{Off: (at + uint64(len(table)) + imageAlign - 1) / imageAlign * imageAlign, N: size}
	if err := f.Truncate(int64(image.Off + size)); err != nil {
		return where, err
	}
	err = eachChunk(ctx, size, progress, func(i uint64) error {
		return writeChunk(f, int64(image.Off+i*chunkSize), chunkAt(rs, i*chunkSize), table[i*chunkEntry:][:chunkEntry])
	})
	if err != nil {
		return where, err
	}
	where[savefile.Table] = savefile.Part{Off: at, N: uint64(len(table)), Sum: savefile.Sum(0, table)}
	where[savefile.Data] = image
	_, err = f.WriteAt(table, int64(at))
	return where, err
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
			sum = savefile.Sum(sum, mem[from:p])
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
	file  *savefile.File
	state saved
	table []byte
	image savefile.Part
}

// errDamaged is short for what is found in files.
var errDamaged = savefile.ErrDamaged

// OpenSaved opens a file that Machine.Save wrote and checks all of it but the
// memory, which loading checks.
func OpenSaved(path string) (_ *Saved, err error) {
	f, err := savefile.Open(path, saveEngine)
	if err != nil {
		return nil, err
	}
	s := &Saved{file: f, image: f.Parts[savefile.Data]}
	err = f.ReadState(&s.state)
	if err == nil {
		s.table, err = f.ReadPart(savefile.Table)
	}
	if err == nil {
		err = s.check()
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("read the saved guest %s: %w", path, err)
	}
	return s, nil
}

// check looks at what sizes depend on.
func (s *Saved) check() error {
	st := &s.state
	if _, err := newLayout(st.Memory); err != nil || st.VCPUs < 1 || st.VCPUs > xen.MaxVCPUs || len(st.Processors) != st.VCPUs ||
		st.Memory > maxImage || len(st.Grown) > maxGrown {
		return errDamaged
	}
	size := (st.Memory+chunkSize-1)/chunkSize*chunkSize + chunkSize + uint64(len(st.Grown))*guestmem.GrowSize
	if size != s.image.N || s.image.Off%imageAlign != 0 || uint64(len(s.table)) != size/chunkSize*chunkEntry {
		return errDamaged
	}
	return nil
}

// Close closes the file.
func (s *Saved) Close() error { return s.file.Close() }

// Memory and VCPUs are the saved guest's.
func (s *Saved) Memory() uint64 { return s.state.Memory }
func (s *Saved) VCPUs() int     { return s.state.VCPUs }

// load reads the saved memory into mems, which are zero.
func (s *Saved) load(ctx context.Context, mems [][]byte, progress func(done, total int64)) error {
	rs, size := regions(mems)
	if size != s.image.N {
		return errDamaged
	}
	err := eachChunk(ctx, size, progress, func(i uint64) error {
		return s.loadChunk(int64(s.image.Off+i*chunkSize), chunkAt(rs, i*chunkSize), s.table[i*chunkEntry:][:chunkEntry])
	})
	if err != nil {
		return fmt.Errorf("read the guest's memory from %s: %w", s.file.OS().Name(), err)
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
			if n, err := s.file.ReadAt(mem[from:p], off+int64(from)); n < p-from {
				return err
			}
			sum = savefile.Sum(sum, mem[from:p])
			from = -1
		}
	}
	if sum != binary.LittleEndian.Uint32(entry[chunkPages/8:]) {
		return errDamaged
	}
	return nil
}
