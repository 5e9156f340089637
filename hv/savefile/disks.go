package savefile

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/hxen-project/hxen/hv"
)

// Disk is how an image was when nothing wrote to it any more.
type Disk struct {
	UUID, Path string
	Size       int64
	Changed    time.Time
}

// Disks looks at the images that a guest with the folder dir depends on. Devices
// of the host have no time of change that means anything.
func Disks(dir string, disks []hv.Disk) (out []Disk, err error) {
	for _, d := range disks {
		if d.Path == "" {
			continue
		}
		path := d.Path
		if !filepath.IsAbs(path) {
			path = filepath.Join(dir, path)
		}
		fi, err := os.Stat(path)
		if err != nil {
			return nil, fmt.Errorf("look at a disk of the guest: %w", err)
		}
		if fi.Mode().IsRegular() {
			out = append(out, Disk{d.UUID, d.Path, fi.Size(), fi.ModTime().UTC()})
		}
	}
	return out, nil
}

// DiscardCure is the way out of every state that cannot be used.
const DiscardCure = "put back what was changed, or discard the saved state: the guest then boots as after a power cut"

// Same says what has changed since a guest was saved: its memory and an image that
// somebody else wrote to would destroy each other. An image's time of change tells
// of any write, and also of a copy or a backup put back, which change nothing: who
// knows that it was one says so, and then dates do not count. Only the content
// could tell them apart, and reading whole disks would make every save a long one.
func Same(was, now []Disk, anyDate bool) error {
	old := map[string]Disk{}
	for _, d := range was {
		old[d.UUID] = d
	}
	for _, d := range now {
		o, known := old[d.UUID]
		if !known {
			return fmt.Errorf("the disk %s was not there when the guest was saved", d.Path)
		}
		if d.Path != o.Path || d.Size != o.Size {
			return fmt.Errorf("the disk %s is not what it was when the guest was saved", d.Path)
		}
		if !d.Changed.Equal(o.Changed) && !anyDate {
			return fmt.Errorf("the disk %s was changed after the guest was saved (at %s), and would be damaged by a guest that does not know; if only its date was changed, as by a copy, let the guest go on with --force",
				d.Path, d.Changed.Local().Format(time.DateTime))
		}
		delete(old, d.UUID)
	}
	for _, d := range old {
		return fmt.Errorf("the disk %s is missing, which the guest had when it was saved", d.Path)
	}
	return nil
}
