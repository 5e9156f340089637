package kvm

import (
	"errors"
	"fmt"
	"os"

	"github.com/hxen-project/hxen/hv/accel"
	"golang.org/x/sys/unix"
)

const (
	page     = 4096
	hugePage = 2 << 20
)

// ram is private memory of this process, outside of the Go heap.
type ram struct {
	whole []byte // what was mapped
	mem   []byte // the part of it from a 2 MiB boundary on
	file  uint64 // bytes at the start of mem that a file gives
}

func (h *hypervisor) NewRAM(c accel.RAMConfig) (accel.RAM, error) {
	if c.Size == 0 || c.Size%page != 0 || c.Size > 1<<46 || c.Offset < 0 || c.Offset%page != 0 {
		return nil, fmt.Errorf("guest memory of %d bytes from offset %d: both must be multiples of %d", c.Size, c.Offset, page)
	}
	whole, err := unix.Mmap(-1, 0, int(c.Size+hugePage), unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		return nil, fmt.Errorf("get %d MiB of guest memory: %w", c.Size>>20, err)
	}
	skip := -address(whole) % hugePage
	r := &ram{whole: whole, mem: whole[skip : skip+c.Size : skip+c.Size]}
	if c.File != nil {
		if err := r.mapFile(c.File, c.Offset); err != nil {
			_ = r.Close()
			return nil, err
		}
	}
	advice := unix.MADV_HUGEPAGE
	if c.Sparse {
		advice = unix.MADV_NOHUGEPAGE // where the host gives them unasked
	}
	// Without huge pages the guest is slower, and works.
	if err := unix.Madvise(r.mem[r.file:], advice); err != nil && !errors.Is(err, unix.EINVAL) {
		_ = r.Close()
		return nil, fmt.Errorf("say how large the guest's pages may be: %w", err)
	}
	return r, nil
}

// mapFile lays the file over the start of the memory. Pages wholly behind the
// file's end are not mapped: touching them would be a bus error.
func (r *ram) mapFile(f *os.File, off int64) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() <= off {
		return nil
	}
	n := min(uint64(info.Size()-off+page-1)/page*page, uint64(len(r.mem)))
	if err := mapFixed(r.mem[:n], f, off); err != nil {
		return fmt.Errorf("map %s as guest memory: %w", f.Name(), err)
	}
	r.file = n
	return nil
}

func (r *ram) Bytes() []byte { return r.mem }

func (r *ram) Discard(off, n uint64) error {
	if off%page != 0 || n%page != 0 || off > uint64(len(r.mem)) || n > uint64(len(r.mem))-off {
		return fmt.Errorf("discard %#x bytes at %#x of guest memory: not whole pages of its %#x", n, off, len(r.mem))
	}
	// MADV_DONTNEED would bring the file's content back.
	if off < r.file {
		k := min(n, r.file-off)
		if err := mapFixed(r.mem[off:off+k], nil, 0); err != nil {
			return fmt.Errorf("discard guest memory: %w", err)
		}
		off, n = off+k, n-k
	}
	if n == 0 {
		return nil
	}
	if err := unix.Madvise(r.mem[off:off+n], unix.MADV_DONTNEED); err != nil {
		return fmt.Errorf("discard guest memory: %w", err)
	}
	return nil
}

func (r *ram) Close() error {
	if r.whole == nil {
		return nil
	}
	err := unix.Munmap(r.whole)
	r.whole, r.mem = nil, nil
	return err
}
