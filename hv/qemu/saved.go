package qemu

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/hxen-project/hxen/hv"
)

// A saved guest is one file: a head that says what machine the state is of, QEMU's
// migration stream, and a tail that says how long the stream is and how the
// guest's disks were when it was cut.
//
//	magic | u32 length | head as JSON | stream | tail as JSON | u32 length | magic
//
// Numbers are big-endian. The tail's last bytes are written last: a file without
// them is a save that was never finished.
const (
	savedMagic   = "HXENHVM1"
	savedVersion = 1
	maxSavedPart = 1 << 20 // of head and tail
)

type savedHead struct {
	Version   int       `json:"version"`
	At        time.Time `json:"at"`
	QEMU      string    `json:"qemu"` // its version
	Machine   string    `json:"machine"`
	Accel     string    `json:"accel"`
	Spec      hv.Spec   `json:"spec"`            // as the guest ran
	GenID     string    `json:"genid"`           // the virtual machine's generation
	AgentOpen bool      `json:"agent,omitempty"` // somebody in the guest had the agent's port open
}

type savedTail struct {
	Bytes int64       `json:"bytes"` // of the stream
	CRC   uint32      `json:"crc"`   // CRC-32C of the stream
	Disks []savedDisk `json:"disks"`
}

// savedDisk is how an image was when nothing wrote to it any more.
type savedDisk struct {
	UUID    string    `json:"uuid"`
	Path    string    `json:"path"`
	Size    int64     `json:"size"`
	Changed time.Time `json:"changed"`
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// disksNow looks at the images that a saved guest depends on. Devices of the host
// have no time of change that means anything.
func disksNow(dir string, disks []hv.Disk) ([]savedDisk, error) {
	var out []savedDisk
	for _, d := range disks {
		if d.Path == "" {
			continue
		}
		path := resolve(dir, d.Path)
		fi, err := os.Stat(path)
		if err != nil {
			return nil, mediaError("disk image", path, err)
		}
		if fi.Mode().IsRegular() {
			out = append(out, savedDisk{UUID: d.UUID, Path: d.Path, Size: fi.Size(), Changed: fi.ModTime().UTC()})
		}
	}
	return out, nil
}

func writePart(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(b) > maxSavedPart {
		return fmt.Errorf("%d bytes of facts about the guest are too many", len(b))
	}
	if _, err := w.Write(binary.BigEndian.AppendUint32([]byte(savedMagic), uint32(len(b)))); err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}

func writeTail(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = w.Write(append(binary.BigEndian.AppendUint32(b, uint32(len(b))), savedMagic...))
	return err
}

// saved is a saved guest that is being read.
type saved struct {
	head   savedHead
	tail   savedTail
	stream *io.SectionReader
}

var errNotSaved = errors.New("it is not a whole saved guest")

// readSaved takes the file apart, of size bytes.
func readSaved(f io.ReaderAt, size int64) (*saved, error) {
	s := &saved{}
	begin := int64(len(savedMagic) + 4)
	if size < 2*begin {
		return nil, errNotSaved
	}
	headLen, err := frame(f, 0, func(b []byte) ([]byte, []byte) { return b[:len(savedMagic)], b[len(savedMagic):] })
	if err != nil {
		return nil, err
	}
	tailLen, err := frame(f, size-begin, func(b []byte) ([]byte, []byte) { return b[4:], b[:4] })
	if err != nil {
		return nil, err
	}
	if begin+headLen+tailLen+begin > size {
		return nil, errNotSaved
	}
	for _, p := range []struct {
		at, n int64
		v     any
	}{{begin, headLen, &s.head}, {size - begin - tailLen, tailLen, &s.tail}} {
		b := make([]byte, p.n)
		if _, err := f.ReadAt(b, p.at); err != nil {
			return nil, err
		}
		if err := json.Unmarshal(b, p.v); err != nil {
			return nil, fmt.Errorf("%w: %w", errNotSaved, err)
		}
	}
	if s.head.Version > savedVersion {
		return nil, fmt.Errorf("it was saved by a newer HXEN (version %d, this one knows %d): update HXEN", s.head.Version, savedVersion)
	}
	if n := size - 2*begin - headLen - tailLen; n != s.tail.Bytes {
		return nil, fmt.Errorf("%w: it holds %d bytes of state instead of %d", errNotSaved, n, s.tail.Bytes)
	}
	s.stream = io.NewSectionReader(f, begin+headLen, s.tail.Bytes)
	return s, nil
}

// frame reads the 12 bytes that bound a part, and returns the part's length.
func frame(f io.ReaderAt, at int64, cut func([]byte) (magic, length []byte)) (int64, error) {
	b := make([]byte, len(savedMagic)+4)
	if _, err := f.ReadAt(b, at); err != nil {
		return 0, err
	}
	magic, length := cut(b)
	n := int64(binary.BigEndian.Uint32(length))
	if !bytes.Equal(magic, []byte(savedMagic)) || n > maxSavedPart {
		return 0, errNotSaved
	}
	return n, nil
}

// differs says what keeps the state from going on in the guest as it is now; nil
// if nothing does.
func (s *saved) differs(now hv.Spec, dir string) error {
	was := machineOf(s.head.Spec)
	is := machineOf(now)
	var fields []string
	for k, v := range was {
		if !bytes.Equal(v, is[k]) {
			fields = append(fields, k)
		}
	}
	if len(fields) > 0 {
		slices.Sort(fields)
		return fmt.Errorf("the guest's settings were changed since it was saved (%s)", strings.Join(fields, ", "))
	}
	disks, err := disksNow(dir, now.Disks)
	if err != nil {
		return err
	}
	for i, d := range s.tail.Disks {
		if i >= len(disks) || disks[i].Path != d.Path {
			return fmt.Errorf("the disk image %s is not what it was when the guest was saved", d.Path)
		}
		if disks[i].Size != d.Size || !disks[i].Changed.Equal(d.Changed) {
			return fmt.Errorf("the disk image %s was changed after the guest was saved (at %s), and would be damaged by a guest that does not know",
				d.Path, disks[i].Changed.Local().Format(time.DateTime))
		}
	}
	return nil
}

// machineOf is what of the settings makes the machine that a state belongs to, by
// the setting's name.
func machineOf(s hv.Spec) map[string]json.RawMessage {
	nics := make([][2]string, len(s.NICs))
	for i, n := range s.NICs {
		nics[i] = [2]string{n.UUID, n.MAC}
	}
	firmware := s.Firmware
	if firmware == "" {
		firmware = hv.BIOS
	}
	order := s.Boot
	order.Order = ""
	out := map[string]json.RawMessage{}
	for k, v := range map[string]any{
		"memory": s.Memory, "vcpus": s.VCPUs, "firmware": firmware, "boot": order, "disks": s.Disks, "network cards": nics, "display": s.Display,
	} {
		b, err := json.Marshal(v)
		if err != nil {
			panic("qemu: settings always encode: " + err.Error())
		}
		out[k] = b
	}
	return out
}
