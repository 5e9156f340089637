// Package disk looks at image files and makes them. Images are hostile: Inspect
// reads a few bounded pieces of a file with a parser of its own and believes
// nothing; Tool has qemu-img make and copy images, always with an explicit
// format, so that nothing is probed after Inspect has decided.
//
// It knows nothing of guests, stores or processes; the caller hands it the
// runner that starts qemu-img.
package disk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// Kind says what an image file is good for.
type Kind string

const (
	ISO     Kind = "iso"
	Disk    Kind = "disk"
	Kernel  Kind = "kernel"
	Unknown Kind = "unknown"
)

// Info is what Inspect found in a file. Its strings come from the file and are
// hostile, but bounded and printable.
type Info struct {
	Kind     Kind
	Format   string // raw, qcow2, iso9660, udf, bzimage, elf, vmdk, vhd, vhdx, vdi; empty if unknown
	Size     int64  // bytes that a guest would see
	FileSize int64  // bytes of the file
	Label    string // volume id of an ISO
	OS       string // a guess from the label; may be empty
	BIOS     bool   // the ISO boots on a BIOS
	UEFI     bool   // the ISO boots on UEFI
	Backing  string // the file that a qcow2 image depends on
	Problem  string // why the file cannot be used, with a cure; empty if it can
}

// sector is the unit of raw disks and of ISO 9660's system area.
const sector = 512

// Inspect says what the file at path is. The error is about reading it; a file
// that can be read but not used is no error but has a Problem.
func Inspect(path string) (Info, error) {
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Info{}, fmt.Errorf("there is no file %s", path)
	}
	if err != nil {
		return Info{}, fmt.Errorf("look at image: %w", err)
	}
	// Opening a FIFO would wait for a writer, so the kind comes before the open.
	switch m := st.Mode(); {
	case m.IsDir():
		return Info{}, fmt.Errorf("look at image: %s is a folder; choose a file in it", path)
	case !m.IsRegular() && m&os.ModeDevice == 0, m&os.ModeCharDevice != 0:
		return Info{}, fmt.Errorf("look at image: %s is neither a file nor a disk", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return Info{}, fmt.Errorf("look at image: %w", err)
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd) // a block device has no size in Stat
	if err != nil {
		return Info{}, fmt.Errorf("look at image: %w", err)
	}
	return inspect(f, size)
}

// inspect tries the formats whose marks are certain first. A kernel image and a
// hybrid ISO also carry a boot sector's mark, so the raw disk comes last.
func inspect(r io.ReaderAt, size int64) (Info, error) {
	head, err := readAt(r, 0, 4096)
	if err != nil {
		return Info{}, fmt.Errorf("read image: %w", err)
	}
	in := Info{Kind: Unknown, FileSize: size, Size: size}
	if size == 0 {
		in.Problem = "the file is empty"
		return in, nil
	}
	if bytes.HasPrefix(head, qcow2Magic) {
		inspectQCOW2(r, head, size, &in)
		return in, nil
	}
	if foreign(r, head, size, &in) {
		return in, nil
	}
	if kernel(head, &in) {
		return in, nil
	}
	if iso, err := inspectISO(r, &in); err != nil || iso {
		return in, err
	}
	if size%sector == 0 {
		in.Kind, in.Format = Disk, "raw"
		return in, nil
	}
	in.Problem = fmt.Sprintf("it is no disk or CD image: its size, %d bytes, is not a multiple of %d, and nothing in it is known", size, sector)
	return in, nil
}

// readAt reads up to n bytes at off; a short file gives what there is.
func readAt(r io.ReaderAt, off int64, n int) ([]byte, error) {
	b := make([]byte, n)
	got, err := r.ReadAt(b, off)
	if err == io.EOF {
		err = nil
	}
	return b[:got], err
}

// kernel knows Linux's boot protocol (Documentation/arch/x86/boot.rst: "HdrS" at
// 0x202) and ELF images (vmlinux, other systems' kernels).
func kernel(head []byte, in *Info) bool {
	switch {
	case len(head) >= 0x206 && string(head[0x202:0x206]) == "HdrS":
		in.Kind, in.Format = Kernel, "bzimage"
	case bytes.HasPrefix(head, []byte("\x7fELF")):
		in.Kind, in.Format = Kernel, "elf"
	default:
		return false
	}
	return true
}

// foreign knows other programs' formats by their marks: VMware's VMDK (sparse
// extent header, or a text descriptor), Microsoft's VHDX and VHD (whose footer is
// the file's last sector), VirtualBox's VDI (signature at 0x40).
func foreign(r io.ReaderAt, head []byte, size int64, in *Info) bool {
	name := ""
	switch {
	case bytes.HasPrefix(head, []byte("KDMV")), bytes.HasPrefix(head, []byte("# Disk DescriptorFile")):
		in.Format, name = "vmdk", "VMware"
	case bytes.HasPrefix(head, []byte("vhdxfile")):
		in.Format, name = "vhdx", "Hyper-V"
	case bytes.HasPrefix(head, []byte("conectix")), vhdFooter(r, size):
		in.Format, name = "vhd", "Virtual PC"
	case len(head) >= 0x44 && binary.LittleEndian.Uint32(head[0x40:]) == 0xbeda107f:
		in.Format, name = "vdi", "VirtualBox"
	default:
		return false
	}
	in.Kind, in.Size = Disk, 0
	in.Problem = fmt.Sprintf("it is a %s disk (%s), which cannot be used as it is; convert it with: qemu-img convert -O qcow2 OLD NEW.qcow2", name, in.Format)
	return true
}

func vhdFooter(r io.ReaderAt, size int64) bool {
	if size < sector {
		return false
	}
	foot, err := readAt(r, size-sector, 8)
	return err == nil && string(foot) == "conectix"
}
