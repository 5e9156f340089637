package cli

import (
	"compress/gzip"
	"fmt"
	"io"
)

// archive writes an initramfs: files in cpio's "newc" form, gzipped. The format
// is in the kernel's Documentation/driver-api/early-userspace/buffer-format.rst.
type archive struct {
	zip  *gzip.Writer
	ino  int
	err  error
	left int // bytes to fill up to a multiple of four
}

// File types of mode in a cpio header, as in stat(2).
const (
	typeDir  = 0o040000
	typeChar = 0o020000
	typeFile = 0o100000
	typeLink = 0o120000
)

func newArchive(w io.Writer) *archive { return &archive{zip: gzip.NewWriter(w)} }

func (a *archive) dir(name string)                      { a.entry(name, typeDir|0o755, 0, 0, nil) }
func (a *archive) file(name string, mode int, b []byte) { a.entry(name, typeFile|mode, 0, 0, b) }
func (a *archive) link(name, target string)             { a.entry(name, typeLink|0o777, 0, 0, []byte(target)) }
func (a *archive) char(name string, mode, major, minor int) {
	a.entry(name, typeChar|mode, major, minor, nil)
}

func (a *archive) entry(name string, mode, major, minor int, body []byte) {
	a.ino++
	a.write([]byte(fmt.Sprintf("070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
		a.ino, mode, 0, 0, 1, 0, len(body), 0, 0, major, minor, len(name)+1, 0)))
	a.write([]byte(name + "\x00"))
	a.pad()
	a.write(body)
	a.pad()
}

func (a *archive) write(b []byte) {
	if a.err == nil {
		_, a.err = a.zip.Write(b)
		a.left = (a.left + 4 - len(b)%4) % 4
	}
}

func (a *archive) pad() { a.write(make([]byte, a.left)) }

// close ends the archive; its error is the first that any write met.
func (a *archive) close() error {
	a.entry("TRAILER!!!", 0, 0, 0, nil)
	if a.err != nil {
		return a.err
	}
	return a.zip.Close()
}
