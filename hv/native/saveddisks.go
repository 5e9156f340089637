package native

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"time"
)

// savedDisk is how an image was when nothing wrote to it any more.
type savedDisk struct {
	UUID, Path string
	Size       int64
	Changed    time.Time
}

// disksNow looks at the images that a saved guest depends on. Devices of the host
// have no time of change that means anything.
func (g *Guest) disksNow() (out []savedDisk, err error) {
	g.mu.Lock()
	media := maps.Clone(g.media)
	g.mu.Unlock()
	for _, d := range g.spec.Disks {
		if now, changed := media[d.UUID]; changed {
			d.Path = now
		}
		if d.Path == "" {
			continue
		}
		path := d.Path
		if !filepath.IsAbs(path) {
			path = filepath.Join(g.host.Dir, path)
		}
		fi, err := os.Stat(path)
		if err != nil {
			return nil, fmt.Errorf("look at a disk of the guest: %w", err)
		}
		if fi.Mode().IsRegular() {
			out = append(out, savedDisk{d.UUID, d.Path, fi.Size(), fi.ModTime().UTC()})
		}
	}
	return out, nil
}

// sameDisks says what has changed since the guest was saved: its memory and an
// image that somebody else wrote to would destroy each other.
func (s *Saved) sameDisks(now []savedDisk) error {
	const cure = "put it back as it was, or discard the saved state and start the guest anew"
	was := map[string]savedDisk{}
	for _, d := range s.state.Disks {
		was[d.UUID] = d
	}
	for _, d := range now {
		old, known := was[d.UUID]
		if !known {
			return fmt.Errorf("the disk %s was not there when the guest was saved: %s", d.Path, cure)
		}
		if d.Path != old.Path || d.Size != old.Size || !d.Changed.Equal(old.Changed) {
			return fmt.Errorf("the disk %s was changed after the guest was saved: %s", d.Path, cure)
		}
		delete(was, d.UUID)
	}
	for _, d := range was {
		return fmt.Errorf("the disk %s is missing, which the guest had when it was saved: %s", d.Path, cure)
	}
	return nil
}
