package xen

import (
	"encoding/binary"

	"github.com/hxen-project/hxen/hv/guestmem"
	"github.com/hxen-project/hxen/hv/xenabi"
)

const (
	maxOrder   = 9    // of an extent, CONFIG_DOMU_MAX_ORDER
	maxExtents = 4096 // served per call; the rest is left undone and said so
	e820Size   = 20   // struct e820entry: u64 addr, u64 size, u32 type, packed
)

// memoryOp is memory_op(cmd, ptr), memory.h. The bits above
// MEMOP_EXTENT_SHIFT are Xen's own continuations.
func (d *Domain) memoryOp(c *Call) int64 {
	switch c.Args[0] & (1<<xenabi.MEMOP_EXTENT_SHIFT - 1) {
	case xenabi.XENMEM_add_to_physmap:
		return d.addToPhysmap(c)
	case xenabi.XENMEM_remove_from_physmap:
		return d.removeFromPhysmap(c)
	case xenabi.XENMEM_memory_map:
		return d.memoryMap(c)
	case xenabi.XENMEM_decrease_reservation:
		return d.reservation(c, func(gfn uint64, order uint) bool {
			return d.discard(gfn, order) && d.account(1<<order)
		})
	case xenabi.XENMEM_populate_physmap:
		return d.reservation(c, func(gfn uint64, order uint) bool {
			return d.populate(gfn, order) && d.account(-1<<order)
		})
	case xenabi.XENMEM_increase_reservation:
		return d.reservation(c, func(uint64, uint) bool { return false }) // PVH guests populate
	case xenabi.XENMEM_maximum_ram_page:
		return int64(d.cfg.Memory.End()>>guestmem.PageShift) - 1
	case xenabi.XENMEM_current_reservation:
		return d.forSelf(c, int64(d.cfg.RAMPages)-d.returned.Load())
	case xenabi.XENMEM_maximum_reservation:
		return d.forSelf(c, int64(d.cfg.RAMPages))
	case xenabi.XENMEM_maximum_gpfn:
		return d.forSelf(c, int64(d.cfg.Memory.End()>>guestmem.PageShift)-1)
	}
	return -xenabi.XEN_ENOSYS
}

// forSelf answers n if the domid at ptr is the caller's.
func (d *Domain) forSelf(c *Call, n int64) int64 {
	var domid uint16
	if !get(c, c.Args[1], &domid) {
		return -xenabi.XEN_EFAULT
	}
	if !d.self(domid) {
		return wrongDomain(domid)
	}
	return n
}

func (d *Domain) addToPhysmap(c *Call) int64 {
	var a xenabi.AddToPhysmap
	if c.Long {
		if !get(c, c.Args[1], &a) {
			return -xenabi.XEN_EFAULT
		}
	} else {
		var a32 xenabi.AddToPhysmap32
		if !get(c, c.Args[1], &a32) {
			return -xenabi.XEN_EFAULT
		}
		a.Domid, a.Space, a.Idx, a.Gpfn = a32.Domid, a32.Space, uint64(a32.Idx), uint64(a32.Gpfn)
	}
	if !d.self(a.Domid) {
		return wrongDomain(a.Domid)
	}
	switch a.Space {
	case xenabi.XENMAPSPACE_shared_info:
		if a.Idx != 0 {
			return -xenabi.XEN_EINVAL
		}
	case xenabi.XENMAPSPACE_grant_table:
		if a.Idx >= maxGrantFrames { // XENMAPIDX_grant_table_status among them: version 2 only
			return -xenabi.XEN_EINVAL
		}
	default:
		return -xenabi.XEN_EINVAL
	}
	if err := d.cfg.Memory.Ensure(a.Gpfn); err != nil {
		return -xenabi.XEN_EINVAL
	}
	page, err := d.cfg.Memory.Page(a.Gpfn)
	if err != nil {
		return -xenabi.XEN_EINVAL
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if a.Space == xenabi.XENMAPSPACE_shared_info {
		d.moveShared(page)
		d.latch(c.Long)
	} else {
		d.mapGrantFrame(int(a.Idx), page)
	}
	return 0
}

func (d *Domain) removeFromPhysmap(c *Call) int64 {
	var a xenabi.RemoveFromPhysmap
	if c.Long {
		if !get(c, c.Args[1], &a) {
			return -xenabi.XEN_EFAULT
		}
	} else {
		var a32 xenabi.RemoveFromPhysmap32
		if !get(c, c.Args[1], &a32) {
			return -xenabi.XEN_EFAULT
		}
		a.Domid, a.Gpfn = a32.Domid, uint64(a32.Gpfn)
	}
	if !d.self(a.Domid) {
		return wrongDomain(a.Domid)
	}
	if d.removeXen(a.Gpfn) || d.discard(a.Gpfn, 0) {
		return 0
	}
	return -xenabi.XEN_EINVAL
}

// removeXen takes a page of Xen's own away, if that is what lies at gfn.
func (d *Domain) removeXen(gfn uint64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.shared.Valid() && d.shared.In(d.cfg.Memory) && d.shared.GFN() == gfn {
		page, _ := d.limbo.Page(0)
		d.moveShared(page)
		return true
	}
	for i, p := range d.grants {
		if p.Valid() && p.GFN() == gfn {
			d.grants[i] = guestmem.Page{}
			return true
		}
	}
	return false
}

func (d *Domain) memoryMap(c *Call) int64 {
	var a xenabi.MemoryMap
	if c.Long {
		if !get(c, c.Args[1], &a) {
			return -xenabi.XEN_EFAULT
		}
	} else {
		var a32 xenabi.MemoryMap32
		if !get(c, c.Args[1], &a32) {
			return -xenabi.XEN_EFAULT
		}
		a.NrEntries, a.Buffer = a32.NrEntries, uint64(a32.Buffer)
	}
	if uint64(a.NrEntries) < uint64(len(d.cfg.E820)) {
		return -xenabi.XEN_EINVAL
	}
	out := make([]byte, 0, e820Size*len(d.cfg.E820))
	for _, e := range d.cfg.E820 {
		out = binary.LittleEndian.AppendUint64(out, e.Addr)
		out = binary.LittleEndian.AppendUint64(out, e.Size)
		out = binary.LittleEndian.AppendUint32(out, e.Type)
	}
	n := uint32(len(d.cfg.E820))
	if !c.write(a.Buffer, out) || !put(c, c.Args[1], &n) {
		return -xenabi.XEN_EFAULT
	}
	return 0
}

// reservation calls f for the extents that the guest lists and returns how
// many were done, as the balloon driver reads it.
func (d *Domain) reservation(c *Call, f func(gfn uint64, order uint) bool) int64 {
	var a xenabi.MemoryReservation
	size := uint64(8)
	if c.Long {
		if !get(c, c.Args[1], &a) {
			return -xenabi.XEN_EFAULT
		}
	} else {
		var a32 xenabi.MemoryReservation32
		if !get(c, c.Args[1], &a32) {
			return -xenabi.XEN_EFAULT
		}
		size = 4
		a.ExtentStart, a.NrExtents, a.ExtentOrder, a.Domid = uint64(a32.ExtentStart), uint64(a32.NrExtents), a32.ExtentOrder, a32.Domid
	}
	if !d.self(a.Domid) {
		return wrongDomain(a.Domid)
	}
	if a.ExtentOrder > maxOrder {
		return 0
	}
	done := c.Args[0] >> xenabi.MEMOP_EXTENT_SHIFT
	for ; done < min(a.NrExtents, maxExtents); done++ {
		var gfn [8]byte
		if !c.read(a.ExtentStart+done*size, gfn[:size]) || !f(binary.LittleEndian.Uint64(gfn[:]), uint(a.ExtentOrder)) {
			break
		}
	}
	return int64(min(done, a.NrExtents))
}

// account notes pages that the guest has given back, or with a negative n taken
// again. A guest that lies deceives itself.
func (d *Domain) account(n int64) bool {
	for {
		old := d.returned.Load()
		if d.returned.CompareAndSwap(old, max(0, min(int64(d.cfg.RAMPages), old+n))) {
			return true
		}
	}
}

// Returned is how many bytes of its memory the guest has given back.
func (d *Domain) Returned() uint64 { return uint64(d.returned.Load()) * guestmem.PageSize }

// discard gives an extent of RAM back. Its pages stay mapped and read as
// zeros: a guest that touches them all the same must not fault. Pages that the
// guest has given up already are no longer its own.
func (d *Domain) discard(gfn uint64, order uint) bool {
	n := uint64(guestmem.PageSize) << order
	if gfn >= 1<<40 || !d.cfg.Memory.Backed(gfn<<guestmem.PageShift, n) {
		return false
	}
	d.mu.Lock()
	gone := d.gone.any(gfn, 1<<order)
	d.gone.set(gfn, 1<<order, true)
	d.mu.Unlock()
	return !gone && (d.cfg.Discard == nil || d.cfg.Discard(gfn<<guestmem.PageShift, n) == nil)
}

func (d *Domain) populate(gfn uint64, order uint) bool {
	if gfn >= 1<<40 {
		return false
	}
	for i := range uint64(1) << order {
		if d.cfg.Memory.Ensure(gfn+i) != nil {
			return false
		}
	}
	d.mu.Lock()
	d.gone.set(gfn, 1<<order, false)
	d.mu.Unlock()
	return true
}

// gfnSet is a set of page numbers, most of which lie close together.
type gfnSet map[uint64]*[64]uint64

func (s *gfnSet) set(from, n uint64, in bool) {
	for i := from; i < from+n; i++ {
		w := (*s)[i>>12]
		switch {
		case w == nil && !in:
			continue
		case w == nil:
			if *s == nil {
				*s = gfnSet{}
			}
			w = new([64]uint64)
			(*s)[i>>12] = w
		}
		if bit := uint64(1) << (i & 63); in {
			w[i>>6&63] |= bit
		} else {
			w[i>>6&63] &^= bit
		}
	}
}

func (s gfnSet) any(from, n uint64) bool {
	for i := from; i < from+n; i++ {
		if w := s[i>>12]; w != nil && w[i>>6&63]>>(i&63)&1 != 0 {
			return true
		}
	}
	return false
}
