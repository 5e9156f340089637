// Package diskfile opens raw disk images, and whole disks of the host, for
// guests: vectored reads and writes, flushes that a power cut survives, holes
// given back to the host, and locks that other programs honour.
//
// It does not know what lies in them or who reads.
package diskfile

import (
	"fmt"
	"io"
	"os"
)

// File is an open image or disk. Its methods may be called from any goroutine.
type File struct {
	f    *os.File
	size int64
	now  prompt
}

// Open opens path, to be written unless readonly. One that another program
// writes, or reads while this one would write, is refused where the system has
// locks that programs agree on.
func Open(path string, readonly bool) (*File, error) {
	flag := os.O_RDWR
	if readonly {
		flag = os.O_RDONLY
	}
	f, err := os.OpenFile(path, flag, 0)
	if err != nil {
		return nil, err
	}
	return Use(f, readonly)
}

// Use is Open for a file that somebody else has opened, which it takes over.
func Use(f *os.File, readonly bool) (_ *File, err error) {
	d := &File{f: f}
	if d.size, err = f.Seek(0, io.SeekEnd); err == nil { // a disk has no size in Stat
		err = lock(f, !readonly)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("open %s: %w", f.Name(), err)
	}
	return d, nil
}

// Size is the size in bytes, as of Open.
func (d *File) Size() int64 { return d.size }

// ReadV fills the buffers, one after the other, from the offset off on.
func (d *File) ReadV(bufs [][]byte, off int64) error { return readV(d.f, bufs, off) }

// WriteV writes the buffers, one after the other, from the offset off on.
func (d *File) WriteV(bufs [][]byte, off int64) error { return writeV(d.f, bufs, off) }

// Flush returns when what was written is safe from a power cut. Errors are the
// last that will be heard of what is lost.
func (d *File) Flush() error { return flush(d.f) }

// Discard gives the room of n bytes at off back; they read as zeros then. The
// error wraps errors.ErrUnsupported where the file system or the system cannot.
func (d *File) Discard(off, n int64) error { return discard(d.f, off, n) }

// Close closes the file, and with it the locks.
func (d *File) Close() error { return d.f.Close() }
