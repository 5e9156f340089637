package whp

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"

	"github.com/hxen-project/hxen/hv/accel"
)

const (
	page     = 4096
	hugePage = 2 << 20
)

// ram is committed memory of this process.
type ram struct {
	host host
	mem  []byte
	free func() error

	mu   sync.Mutex
	used map[*vm]int // guarded by mu; in how many slots of which machines it is
}

// NewRAM reads a file's content instead of mapping it: Windows maps files in
// steps of 64 KiB, and not over memory that is there.
func (h *hypervisor) NewRAM(c accel.RAMConfig) (accel.RAM, error) {
	if c.Size == 0 || c.Size%page != 0 || c.Size > 1<<46 || c.Offset < 0 || c.Offset%page != 0 {
		return nil, fmt.Errorf("guest memory of %d bytes from offset %d: both must be multiples of %d", c.Size, c.Offset, page)
	}
	mem, free, err := h.host.Alloc(c.Size, hugePage)
	if err != nil {
		return nil, fmt.Errorf("get %d MiB of guest memory: %w", c.Size>>20, err)
	}
	r := &ram{host: h.host, mem: mem, free: free, used: map[*vm]int{}}
	if c.File != nil {
		if _, err := io.ReadFull(io.NewSectionReader(c.File, c.Offset, int64(c.Size)), mem); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			_ = r.Close()
			return nil, fmt.Errorf("read %s as guest memory: %w", c.File.Name(), err)
		}
	}
	return r, nil
}

// mapped counts slots of a machine.
func (r *ram) mapped(m *vm, more int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.used[m] += more; r.used[m] == 0 {
		delete(r.used, m)
	}
}

func (r *ram) Bytes() []byte { return r.mem }

// Discard takes the pages out of the machines while they are exchanged, as the
// platform may hold on to the old ones. A processor that comes along meanwhile
// is sent back to try again (vcpu.serveMemory).
func (r *ram) Discard(off, n uint64) error {
	if off%page != 0 || n%page != 0 || off > uint64(len(r.mem)) || n > uint64(len(r.mem))-off {
		return fmt.Errorf("discard %#x bytes at %#x of guest memory: not whole pages of its %#x", n, off, len(r.mem))
	}
	if n == 0 {
		return nil
	}
	r.mu.Lock()
	used := slices.Collect(maps.Keys(r.used))
	r.mu.Unlock()
	renew := func() error { return r.host.Renew(r.mem[off : off+n]) }
	for _, m := range used {
		inner := renew
		renew = func() error { return m.without(r, off, n, inner) }
	}
	if err := renew(); err != nil {
		return fmt.Errorf("discard guest memory: %w", err)
	}
	return nil
}

func (r *ram) Close() error {
	if r.free == nil {
		return nil
	}
	err := r.free()
	r.mem, r.free = nil, nil
	return err
}
