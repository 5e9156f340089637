package native

import (
	"errors"
	"slices"

	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/savefile"
)

// outside looks at what a saved guest depends on.
func (g *Guest) outside() (out outside, err error) {
	g.mu.Lock()
	disks := slices.Clone(g.spec.Disks)
	for i, d := range disks {
		if now, changed := g.media[d.UUID]; changed {
			disks[i].Path = now
		}
		out.Places.Disks = append(out.Places.Disks, g.places[d.UUID])
	}
	for _, n := range g.spec.NICs {
		out.Places.NICs = append(out.Places.NICs, g.places[n.UUID])
	}
	g.mu.Unlock()
	out.Disks, err = savefile.Disks(g.host.Dir, disks)
	return out, err
}

// place gives every disk and card its number: its place in the Spec, or the one
// that the saved guest knows it by. A clone's cards get others than its template's,
// so that its guest sees the old ones go and new ones come.
func (g *Guest) place(s *Saved) error {
	disks, nics := g.spec.Disks, g.spec.NICs
	var was places
	if s != nil {
		was = s.state.Outside.Places
		if len(was.Disks) != len(disks) || len(was.NICs) != len(nics) {
			return errors.New("the guest was saved with another number of disks or network cards than its settings have")
		}
		if !distinct(was.Disks, hv.MaxDisks) || !distinct(was.NICs, 2*hv.MaxNICs) {
			return errDamaged
		}
	}
	for i, d := range disks {
		g.places[d.UUID] = i
		if s != nil {
			g.places[d.UUID] = was.Disks[i]
		}
	}
	for i, n := range nics {
		g.places[n.UUID] = i
		if s != nil {
			g.places[n.UUID] = was.NICs[i]
			if s.clones(g.config.UUID) {
				g.places[n.UUID] = (was.NICs[i] + hv.MaxNICs) % (2 * hv.MaxNICs)
			}
		}
	}
	return nil
}

// distinct reports whether all are different and below limit.
func distinct(all []int, limit int) bool {
	seen := map[int]bool{}
	for _, n := range all {
		if n < 0 || n >= limit || seen[n] {
			return false
		}
		seen[n] = true
	}
	return true
}
