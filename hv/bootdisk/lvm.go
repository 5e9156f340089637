package bootdisk

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// LVM's labels and metadata (lvm2: lib/format_text/layout.h, lib/label/label.c).
const (
	lvmLabel    = "LABELONE"
	lvmType     = "LVM2 001"
	lvmMagic    = " LVM2 x[5A%r0N*>"
	maxMetadata = 4 << 20
	maxStripes  = 64
)

// labelOf returns the header of a physical volume: it is in one of the first four
// sectors, behind its label.
func labelOf(s span) ([]byte, bool) {
	var b [sectorSize]byte
	for i := range uint64(4) {
		if s.read(b[:], i*sectorSize) != nil {
			return nil, false
		}
		if string(b[:8]) == lvmLabel && string(b[24:32]) == lvmType {
			if off := le32(b[20:]); off >= 32 && off < sectorSize-40 {
				return b[off:], true
			}
		}
	}
	return nil, false
}

func isPhysical(s span) bool {
	_, ok := labelOf(s)
	return ok
}

// pvHeader reads struct pv_header: the uuid, and where the areas of metadata lie.
func pvHeader(b []byte) (uuid string, areas [][2]uint64) {
	u := string(b[:32])
	b = b[40:]
	list := 0 // data areas come first, then those of metadata
	for len(b) >= 16 && list < 2 {
		off, n := le64(b), le64(b[8:])
		if b = b[16:]; off == 0 {
			list++
		} else if list == 1 {
			areas = append(areas, [2]uint64{off, n})
		}
	}
	return u, areas
}

// metadata reads the newest text of an area: its head says where in the ring
// behind the head it lies.
func metadata(s span, off, n uint64) (string, error) {
	var h [sectorSize]byte
	area := s.part(off, n)
	if err := area.read(h[:], 0); err != nil {
		return "", err
	}
	at, size := le64(h[40:]), le64(h[48:])
	if string(h[4:20]) != lvmMagic || at < sectorSize || at >= area.n || size > maxMetadata || size > area.n-sectorSize {
		return "", errDamaged
	}
	b := make([]byte, size)
	first := min(size, area.n-at)
	if err := area.read(b[:first], at); err != nil {
		return "", err
	}
	if err := area.read(b[first:], sectorSize); err != nil {
		return "", err
	}
	return strings.TrimRight(string(b), "\x00"), nil
}

type logical struct {
	names []string
	data  *extents
}

// logicalVolumes puts the volumes of all groups together from the physical ones.
func logicalVolumes(physical []span) (out []logical, err error) {
	byUUID := map[string]span{}
	groups := map[string]section{} // by uuid, the newest of each
	var order []string
	var problems []error
	for _, s := range physical {
		head, ok := labelOf(s)
		if !ok {
			continue
		}
		uuid, areas := pvHeader(head)
		byUUID[uuid] = s
		for _, a := range areas {
			text, err := metadata(s, a[0], a[1])
			if err != nil {
				problems = append(problems, err)
				continue
			}
			if text == "" { // a volume of no group yet
				continue
			}
			top, err := parseLVM(text)
			if err != nil {
				problems = append(problems, err)
				continue
			}
			for name, vg := range top.sections {
				id := vg.text("id")
				have, seen := groups[id]
				if !seen {
					order = append(order, id)
				}
				if !seen || vg.number("seqno") > have.number("seqno") {
					vg.name = name
					groups[id] = vg
				}
			}
		}
	}
	for _, id := range order {
		l, err := assemble(groups[id], byUUID)
		out = append(out, l...)
		if err != nil {
			problems = append(problems, err)
		}
	}
	return out, errors.Join(problems...)
}

// assemble makes the volumes of one group.
func assemble(vg section, physical map[string]span) (out []logical, err error) {
	extent := vg.number("extent_size") * sectorSize
	if extent == 0 || extent > 16<<30 {
		return nil, fmt.Errorf("group %s: %w", vg.name, errDamaged)
	}
	pvs := map[string]span{}
	for name, pv := range vg.sections["physical_volumes"].sections {
		s, ok := physical[strings.ReplaceAll(pv.text("id"), "-", "")]
		start := pv.number("pe_start")
		if !ok || start > s.n/sectorSize {
			continue // a volume that needs it says so
		}
		count := pv.number("pe_count")
		if count > s.n/extent {
			count = s.n / extent
		}
		pvs[name] = s.part(start*sectorSize, count*extent)
	}
	lvs := vg.sections["logical_volumes"].sections
	names := make([]string, 0, len(lvs))
	for name := range lvs {
		names = append(names, name)
	}
	slices.Sort(names)
	var problems []error
	for _, name := range names {
		lv := lvs[name]
		if !slices.Contains(lv.list("status"), "VISIBLE") {
			continue // a part of another one
		}
		data, err := lv.join(extent, pvs)
		if err != nil {
			problems = append(problems, fmt.Errorf("volume %s of group %s: %w", name, vg.name, err))
			continue
		}
		dashed := strings.ReplaceAll(vg.name, "-", "--") + "-" + strings.ReplaceAll(name, "-", "--")
		out = append(out, logical{[]string{"lvm/" + dashed, "lvmid/" + vg.text("id") + "/" + lv.text("id")}, data})
	}
	return out, errors.Join(problems...)
}

// join puts a volume's segments together.
func (lv section) join(extent uint64, pvs map[string]span) (*extents, error) {
	count := lv.number("segment_count")
	if count == 0 || count > uint64(len(lv.sections)) {
		return nil, errDamaged
	}
	data := &extents{}
	for i := range count {
		seg, ok := lv.sections[fmt.Sprintf("segment%d", i+1)]
		if !ok || seg.number("start_extent")*extent != data.size {
			return nil, errDamaged
		}
		if kind := seg.text("type"); kind != "striped" {
			return nil, fmt.Errorf("it is of type %q; linear and striped ones are read here", kind)
		}
		if err := seg.stripe(data, extent, pvs); err != nil {
			return nil, err
		}
	}
	return data, nil
}

// maxPieces bounds what stripes take: each is a piece of its own.
const maxPieces = 1 << 20

// stripe adds one segment: linear ones have one stripe.
func (seg section) stripe(data *extents, extent uint64, pvs map[string]span) error {
	count, n := seg.number("extent_count"), seg.number("stripe_count")
	stripes := seg.values["stripes"]
	if count == 0 || count > 1<<40/extent*1024 || n == 0 || n > maxStripes || uint64(len(stripes)) != 2*n || count%n != 0 {
		return errDamaged
	}
	each := count / n * extent
	var parts []span
	for i := range n {
		pv, ok := pvs[stripes[2*i].text]
		if !ok {
			return fmt.Errorf("it lies in part on %s, which is not one of the guest's disks", stripes[2*i].text)
		}
		if at := stripes[2*i+1].number; at > pv.n/extent || each > pv.n-at*extent {
			return errDamaged
		} else {
			parts = append(parts, pv.part(at*extent, each))
		}
	}
	if n == 1 {
		data.add(parts[0])
		return nil
	}
	size := seg.number("stripe_size") * sectorSize
	if size == 0 || each%size != 0 || each/size*n > maxPieces-uint64(len(data.pieces)) {
		return errDamaged
	}
	for off := uint64(0); off < each; off += size {
		for _, p := range parts {
			data.add(p.part(off, size))
		}
	}
	return nil
}
