package diskfile

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// maxIOV is how many buffers one call takes (UIO_MAXIOV).
const maxIOV = 1024

func readV(f *os.File, bufs [][]byte, off int64) error { return moveV(f, bufs, off, unix.Preadv) }
func writeV(f *os.File, bufs [][]byte, off int64) error {
	return moveV(f, bufs, off, unix.Pwritev)
}

// moveV goes on until all is done: a call may do less than it was asked to.
func moveV(f *os.File, bufs [][]byte, off int64, call func(int, [][]byte, int64) (int, error)) error {
	fd := int(f.Fd())
	for len(bufs) > 0 {
		some := bufs[:min(len(bufs), maxIOV)]
		n, err := call(fd, some, off)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return err
		case n == 0 && len(some[0]) > 0:
			return io.ErrUnexpectedEOF
		}
		off += int64(n)
		for len(bufs) > 0 && n >= len(bufs[0]) {
			n -= len(bufs[0])
			bufs = bufs[1:]
		}
		if n > 0 { // the caller's slice stays as it is
			bufs = append([][]byte{bufs[0][n:]}, bufs[1:]...)
		}
	}
	return nil
}

func flush(f *os.File) error {
	for {
		if err := unix.Fdatasync(int(f.Fd())); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func discard(f *os.File, off, n int64) error {
	for {
		err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// QEMU's image locks (block/file-posix.c): a byte at permBase plus a
// permission's number is locked, shared, by who uses the permission, one at
// shareBase by who suffers no other to use it. The numbers are those of
// BLK_PERM_CONSISTENT_READ and so on in include/block/block-common.h.
const (
	permBase, shareBase = 100, 200

	permRead, permWrite, permResize = 0, 1, 3
)

// lock takes the locks that QEMU takes for a guest's disk, and none on what has
// no such locks.
func lock(f *os.File, write bool) error {
	uses := []int64{permRead}
	if write {
		uses = append(uses, permWrite, permResize)
	}
	suffersNo := []int64{permWrite, permResize}
	var bytes []int64
	for _, p := range uses {
		bytes = append(bytes, permBase+p)
	}
	for _, p := range suffersNo {
		bytes = append(bytes, shareBase+p)
	}
	for _, b := range bytes {
		err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_RDLCK, Start: b, Len: 1})
		switch {
		case errors.Is(err, unix.EACCES), errors.Is(err, unix.EAGAIN):
			return errInUse
		case err != nil:
			return nil // a file system without locks
		}
	}
	// Who else uses what this one does not suffer, or does not suffer what it uses?
	var others []int64
	for _, p := range suffersNo {
		others = append(others, permBase+p)
	}
	for _, p := range uses {
		others = append(others, shareBase+p)
	}
	for _, b := range others {
		l := unix.Flock_t{Type: unix.F_WRLCK, Start: b, Len: 1}
		if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &l); err != nil {
			return fmt.Errorf("look for other users: %w", err)
		}
		if l.Type != unix.F_UNLCK {
			return errInUse
		}
	}
	return nil
}

var errInUse = errors.New("another program uses it, and would be in the way of this one: end that one first")
