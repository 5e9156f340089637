package disk

import (
	"encoding/binary"
	"fmt"
	"io"
	"strings"
)

// The header of a qcow2 image: QEMU's docs/interop/qcow2.txt.
var qcow2Magic = []byte("QFI\xfb")

const (
	qcow2V2Header   = 72
	qcow2V3Header   = 104
	qcow2MaxBacking = 1023
	qcow2MaxSize    = 1 << 56 // what the largest L1 table can address, generously

	featureCorrupt  = 1 << 1
	featureDataFile = 1 << 2
	featuresKnown   = 1<<5 - 1 // dirty, corrupt, data file, compression type, extended L2
)

// inspectQCOW2 reads the header at the start of head. It fills in and, when the
// image cannot be used, in.Problem.
func inspectQCOW2(r io.ReaderAt, head []byte, size int64, in *Info) {
	in.Kind, in.Format, in.Size = Disk, "qcow2", 0
	if len(head) < qcow2V2Header {
		in.Problem = "the qcow2 image is cut off within its header"
		return
	}
	u32, u64 := binary.BigEndian.Uint32, binary.BigEndian.Uint64
	version, virtual := u32(head[4:]), u64(head[24:])
	switch bits := u32(head[20:]); {
	case version != 2 && version != 3:
		in.Problem = fmt.Sprintf("it is a qcow2 image of version %d; versions 2 and 3 can be used", version)
		return
	case bits < 9 || bits > 21:
		in.Problem = "the qcow2 header is damaged: impossible cluster size"
		return
	case virtual > qcow2MaxSize:
		in.Problem = "the qcow2 header is damaged: impossible disk size"
		return
	}
	in.Size = int64(virtual)
	if u32(head[32:]) != 0 {
		in.Problem = "the qcow2 image is encrypted, which is not supported; decrypt it with qemu-img convert"
		return
	}
	if table := u64(head[40:]); u32(head[36:]) > 0 && (table == 0 || table >= uint64(size)) {
		in.Problem = "the qcow2 image is cut off: its table lies behind its end"
		return
	}
	if version == 3 && !features(head, in) {
		return
	}
	backing(r, u64(head[8:]), u32(head[16:]), in)
}

// features checks version 3's incompatible feature bits: whoever does not know
// one must not open the image.
func features(head []byte, in *Info) bool {
	if len(head) < qcow2V3Header {
		in.Problem = "the qcow2 image is cut off within its header"
		return false
	}
	bits := binary.BigEndian.Uint64(head[72:])
	switch {
	case bits&^featuresKnown != 0:
		in.Problem = fmt.Sprintf("the qcow2 image needs features that are not known here (bits %#x)", bits&^featuresKnown)
	case bits&featureDataFile != 0:
		in.Problem = "the qcow2 image keeps its data in another file, which is not supported; join them with: qemu-img convert -O qcow2 OLD NEW.qcow2"
	case bits&featureCorrupt != 0:
		in.Problem = "the qcow2 image is marked as damaged; repair a copy of it with: qemu-img check -r all COPY"
	default:
		return true
	}
	return false
}

func backing(r io.ReaderAt, off uint64, n uint32, in *Info) {
	if off == 0 || n == 0 {
		return
	}
	if n > qcow2MaxBacking || off > 1<<32 {
		in.Problem = "the qcow2 header is damaged: impossible name of a backing file"
		return
	}
	name, err := readAt(r, int64(off), int(n))
	if err != nil || len(name) < int(n) {
		in.Problem = "the qcow2 image is cut off within the name of its backing file"
		return
	}
	in.Backing = printable(string(name))
	in.Problem = fmt.Sprintf("the qcow2 image is only the difference to another file (%s), which it could name freely; make it whole with: qemu-img convert -O qcow2 OLD NEW.qcow2", in.Backing)
}

// printable keeps what can be shown safely.
func printable(s string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '�' || (r >= 0x80 && r < 0xa0) {
			return -1
		}
		return r
	}, s))
}
