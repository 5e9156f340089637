package qemu

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hxen-project/hxen/hv"
)

// image is what the host knows of one disk's image. The format is the recorded
// one, never probed.
type image struct {
	path    string // absolute
	device  bool   // a block device of the host, not a file
	backing bool   // has a backing file that was checked
}

// resolve makes a path of the Spec absolute.
func resolve(dir, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// blockNode describes an image to QEMU with explicit drivers. Without a checked
// backing file "backing" is null, so one that appears in the header later is
// never opened.
func blockNode(d hv.Disk, im image, node string) map[string]any {
	ro := d.Mode == hv.ReadOnly
	file := map[string]any{"driver": "file", "filename": im.path, "discard": "unmap"}
	switch {
	case im.device && d.IsCD():
		file["driver"] = "host_cdrom"
	case im.device:
		file["driver"] = "host_device"
	default:
		file["locking"] = "auto"
	}
	if ro {
		file["read-only"] = true
	}
	v := map[string]any{
		"driver": d.Format, "node-name": node, "read-only": ro, "discard": "unmap", "file": file,
		"cache": map[string]any{"direct": false, "no-flush": false},
	}
	if d.Format == hv.QCOW2 && !im.backing {
		v["backing"] = nil
	}
	return v
}

// inspect checks that a disk's image is there, readable (and writable where it
// is to be), of its recorded format, and drags in no file from elsewhere but base,
// the folder of the guest's template, if it is not "".
func inspect(dir, base string, d hv.Disk) (image, error) {
	im := image{path: resolve(dir, d.Path)}
	if d.Path == "" {
		return im, nil
	}
	what := "disk image"
	if d.IsCD() {
		what = "CD image"
	}
	flag := os.O_RDWR
	if d.Mode == hv.ReadOnly {
		flag = os.O_RDONLY
	}
	// Stat first: opening a FIFO would hang.
	fi, err := os.Stat(im.path)
	if err != nil {
		return im, mediaError(what, im.path, err)
	}
	im.device = fi.Mode()&fs.ModeDevice != 0 && fi.Mode()&fs.ModeCharDevice == 0
	if !fi.Mode().IsRegular() && !im.device {
		return im, fmt.Errorf("the %s %s is not a file", what, im.path)
	}
	f, err := os.OpenFile(im.path, flag, 0)
	if err != nil {
		return im, mediaError(what, im.path, err)
	}
	defer f.Close()
	if d.Format != hv.QCOW2 {
		return im, nil
	}
	im.backing, err = checkChain(im.path, f, dir, base)
	return im, err
}

// CheckImage is what a launch checks of a disk's image, for guests that QEMU does
// not run.
func CheckImage(dir, base string, d hv.Disk) error {
	_, err := inspect(dir, base, d)
	return err
}

// mediaError says why an image cannot be used, with the cure, and names it once.
func mediaError(what, path string, err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		err = p.Err
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("the %s %s does not exist (%w): put it back, or choose another", what, path, err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("the %s %s may not be opened by this user (%w): change its permissions, or choose another", what, path, err)
	}
	return fmt.Errorf("the %s %s cannot be opened: %w", what, path, err)
}

// maxChain bounds how many backing files may lie behind an image.
const maxChain = 16

// checkChain follows an image's backing files and refuses one outside of the
// folders, one whose format is not written down (QEMU would guess it), and data files.
func checkChain(path string, f io.ReaderAt, folders ...string) (backed bool, err error) {
	for depth := 0; ; depth++ {
		h, err := readQCOW2(f)
		if err != nil {
			return backed, fmt.Errorf("the disk image %s: %w", path, err)
		}
		if h.dataFile {
			return backed, fmt.Errorf("the disk image %s keeps its data in another file, which is refused: convert it with qemu-img convert", path)
		}
		if h.backing == "" {
			return backed, nil
		}
		backed = true
		next := resolve(filepath.Dir(path), h.backing)
		if os.IsPathSeparator(h.backing[0]) {
			next = h.backing // on Windows, where it lacks a drive, QEMU does not look for it beside the image
		}
		if !slices.ContainsFunc(folders, func(dir string) bool { return dir != "" && within(dir, next) }) {
			return backed, fmt.Errorf("the disk image %s builds on %s outside the guest's folder, and not on its template, which is refused: flatten it with qemu-img convert", path, next)
		}
		if depth == maxChain {
			return backed, fmt.Errorf("the disk image %s builds on more than %d others", path, maxChain)
		}
		if h.backingFormat == hv.Raw {
			return backed, nil
		}
		if h.backingFormat != hv.QCOW2 {
			return backed, fmt.Errorf("the disk image %s does not say which format %s has: repair it with qemu-img rebase -u -F", path, next)
		}
		below, err := os.Open(next)
		if err != nil {
			return backed, mediaError("disk image", next, err)
		}
		defer below.Close() // at most maxChain
		path, f = next, below
	}
}

// within reports whether path, links followed, lies in dir.
func within(dir, path string) bool {
	if strings.HasPrefix(path, "json:") {
		return false
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return false
	}
	root, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return false
	}
	rel, err := filepath.Rel(root, real)
	return err == nil && filepath.IsLocal(rel)
}

// qcow2 is the part of an image's header that says which other files it needs:
// docs/interop/qcow2.txt.
type qcow2 struct {
	backing       string
	backingFormat string
	dataFile      bool
}

const (
	qcow2Magic      = "QFI\xfb"
	qcow2DataFile   = 1 << 2     // incompatible feature: external data file
	extEnd          = 0x00000000 // header extensions
	extBackingFmt   = 0xe2792aca
	maxBackingName  = 1023
	qcow2HeaderRead = 64 << 10 // extensions end within the first cluster
)

// readQCOW2 reads a header. Everything in it is hostile.
func readQCOW2(f io.ReaderAt) (qcow2, error) {
	var q qcow2
	b := make([]byte, qcow2HeaderRead)
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return q, err
	}
	b = b[:n]
	if len(b) < 72 || string(b[:4]) != qcow2Magic {
		return q, errors.New("is not a qcow2 image, although it was one when it was added: choose another")
	}
	version := binary.BigEndian.Uint32(b[4:])
	length := uint64(72)
	switch {
	case version == 3 && len(b) >= 104:
		q.dataFile = binary.BigEndian.Uint64(b[72:])&qcow2DataFile != 0
		length = uint64(binary.BigEndian.Uint32(b[100:]))
	case version != 2:
		return q, fmt.Errorf("is a qcow2 image of version %d, which is not known", version)
	}
	off, size := binary.BigEndian.Uint64(b[8:]), uint64(binary.BigEndian.Uint32(b[16:]))
	if off != 0 {
		if size == 0 || size > maxBackingName || off > uint64(len(b)) || size > uint64(len(b))-off {
			return q, errors.New("has a broken header")
		}
		q.backing = string(b[off : off+size])
	}
	for at := length; at+8 <= uint64(len(b)); {
		kind, size := binary.BigEndian.Uint32(b[at:]), uint64(binary.BigEndian.Uint32(b[at+4:]))
		at += 8
		if kind == extEnd {
			break
		}
		if size > uint64(len(b))-at {
			return q, errors.New("has a broken header")
		}
		if kind == extBackingFmt {
			q.backingFormat = string(b[at : at+size])
		}
		at += (size + 7) &^ 7
	}
	return q, nil
}
