package native

import (
	"slices"

	"github.com/hxen-project/hxen/hv/savefile"
)

// disksNow looks at the images that a saved guest depends on.
func (g *Guest) disksNow() ([]savefile.Disk, error) {
	g.mu.Lock()
	disks := slices.Clone(g.spec.Disks)
	for i, d := range disks {
		if now, changed := g.media[d.UUID]; changed {
			disks[i].Path = now
		}
	}
	g.mu.Unlock()
	return savefile.Disks(g.host.Dir, disks)
}
