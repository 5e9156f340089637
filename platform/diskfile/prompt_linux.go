package diskfile

import (
	"errors"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// prompt remembers what the file's file system cannot do without waiting: ext4
// reads so, and does not write; tmpfs does neither.
type prompt struct{ noRead, noWrite atomic.Bool }

// ReadVNow is ReadV if all is in the host's page cache; else it reports false.
func (d *File) ReadVNow(bufs [][]byte, off int64) bool {
	return moveVNow(d, &d.now.noRead, unix.Preadv2, bufs, off)
}

// WriteVNow is WriteV if the page cache takes all at once; else it reports false,
// and a part may have been written.
func (d *File) WriteVNow(bufs [][]byte, off int64) bool {
	return moveVNow(d, &d.now.noWrite, unix.Pwritev2, bufs, off)
}

func moveVNow(d *File, cannot *atomic.Bool, call func(int, [][]byte, int64, int) (int, error), bufs [][]byte, off int64) bool {
	if cannot.Load() || len(bufs) > maxIOV {
		return false
	}
	want := 0
	for _, b := range bufs {
		want += len(b)
	}
	n, err := call(int(d.f.Fd()), bufs, off, unix.RWF_NOWAIT)
	if errors.Is(err, unix.EOPNOTSUPP) {
		cannot.Store(true)
	}
	return err == nil && n == want
}
