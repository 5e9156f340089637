package xen

import (
	"fmt"
	"sync/atomic"

	"github.com/hxen-project/hxen/hv/guestmem"
	"github.com/hxen-project/hxen/hv/xenabi"
)

const (
	maxGrantFrames = 64
	grantsPerFrame = guestmem.PageSize / 8 // struct grant_entry_v1
)

// mapGrantFrame puts frame i of the table at page: a new frame is zero, a
// known one moves with its entries.
func (d *Domain) mapGrantFrame(i int, page guestmem.Page) {
	for len(d.grants) <= i {
		d.grants = append(d.grants, guestmem.Page{})
	}
	if old := d.grants[i]; !old.Valid() {
		_ = page.Write(0, make([]byte, guestmem.PageSize))
	} else if old.GFN() != page.GFN() {
		copyPage(page, old)
	}
	d.grants[i] = page
}

// grantTableOp is grant_table_op(cmd, ptr, count), grant_table.h. Errors of one
// element are in its status; the call fails only as a whole.
func (d *Domain) grantTableOp(c *Call) int64 {
	ptr := c.Args[1]
	switch c.Args[0] {
	case xenabi.GNTTABOP_query_size, xenabi.GNTTABOP_set_version, xenabi.GNTTABOP_get_version, xenabi.GNTTABOP_setup_table:
		if c.Args[2] != 1 {
			return -xenabi.XEN_EINVAL // these take one structure only
		}
	}
	switch c.Args[0] {
	case xenabi.GNTTABOP_query_size:
		var a xenabi.GnttabQuerySize
		if !get(c, ptr, &a) {
			return -xenabi.XEN_EFAULT
		}
		a.NrFrames, a.MaxNrFrames, a.Status = max(1, uint32(len(d.grants))), maxGrantFrames, xenabi.GNTST_okay
		if !d.self(a.Dom) {
			a.Status = xenabi.GNTST_bad_domain
		}
		if !put(c, ptr, &a) {
			return -xenabi.XEN_EFAULT
		}
		return 0
	case xenabi.GNTTABOP_set_version:
		return d.setGrantVersion(c, ptr)
	case xenabi.GNTTABOP_get_version:
		var a xenabi.GnttabGetVersion
		if !get(c, ptr, &a) {
			return -xenabi.XEN_EFAULT
		}
		if !d.self(a.Dom) {
			return wrongDomain(a.Dom)
		}
		a.Version = 1
		if !put(c, ptr, &a) {
			return -xenabi.XEN_EFAULT
		}
		return 0
	case xenabi.GNTTABOP_setup_table:
		return d.setupGrantTable(c, ptr)
	}
	return -xenabi.XEN_ENOSYS
}

func (d *Domain) setGrantVersion(c *Call, ptr uint64) int64 {
	var a xenabi.GnttabSetVersion
	if !get(c, ptr, &a) {
		return -xenabi.XEN_EFAULT
	}
	switch a.Version {
	case 1:
	case 2:
		return -xenabi.XEN_ENOSYS
	default:
		return -xenabi.XEN_EINVAL
	}
	if !put(c, ptr, &a) {
		return -xenabi.XEN_EFAULT
	}
	return 0
}

// setupGrantTable lists the frames' gfns; those that the guest has not mapped
// by add_to_physmap are 0, as translated guests do not look.
func (d *Domain) setupGrantTable(c *Call, ptr uint64) int64 {
	var a xenabi.GnttabSetupTable
	var a32 xenabi.GnttabSetupTable32
	if c.Long {
		if !get(c, ptr, &a) {
			return -xenabi.XEN_EFAULT
		}
	} else {
		if !get(c, ptr, &a32) {
			return -xenabi.XEN_EFAULT
		}
		a.Dom, a.NrFrames, a.FrameList = a32.Dom, a32.NrFrames, uint64(a32.FrameList)
	}
	a.Status = xenabi.GNTST_okay
	switch {
	case !d.self(a.Dom):
		a.Status = xenabi.GNTST_bad_domain
	case a.NrFrames > maxGrantFrames:
		a.Status = xenabi.GNTST_general_error
	case !d.writeFrames(c, a.FrameList, int(a.NrFrames)):
		return -xenabi.XEN_EFAULT
	}
	a32.Status = a.Status
	if c.Long && !put(c, ptr, &a) || !c.Long && !put(c, ptr, &a32) {
		return -xenabi.XEN_EFAULT
	}
	return 0
}

func (d *Domain) writeFrames(c *Call, list uint64, n int) bool {
	for i := range n {
		var gfn uint64
		if i < len(d.grants) && d.grants[i].Valid() {
			gfn = d.grants[i].GFN()
		}
		b := xenabi.Bytes(&gfn)
		if !c.Long {
			b = b[:4]
		}
		if !c.write(list+uint64(i*len(b)), b) {
			return false
		}
	}
	return true
}

// Grant resolves one grant to domain 0 for one request: the page behind ref,
// if the guest permits the access.
func (d *Domain) Grant(ref uint32, write bool) (guestmem.Page, error) {
	d.mu.Lock()
	gfn, err := d.grantLocked(ref, write)
	d.mu.Unlock()
	if err != nil {
		return guestmem.Page{}, err
	}
	page, err := d.cfg.Memory.Page(gfn)
	if err != nil {
		return guestmem.Page{}, refused(ref, "there is no memory at its frame")
	}
	return page, nil
}

// Piece is a part of a granted page: N bytes from Off on.
type Piece struct {
	Ref    uint32
	Off, N uint16
}

// AppendBuffers resolves grants for one read or write that the host's kernel does, and
// adds their memory to bufs (guestmem.Memory.AppendBuffers). Pieces that lie next to
// each other in the guest are one buffer.
func (d *Domain) AppendBuffers(bufs [][]byte, pieces []Piece, write bool) ([][]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var gpa, n uint64 // what is not in bufs yet
	for _, p := range pieces {
		gfn, err := d.grantLocked(p.Ref, write)
		if err != nil {
			return bufs, err
		}
		if int(p.Off)+int(p.N) > guestmem.PageSize {
			return bufs, refused(p.Ref, "a page has no such part")
		}
		at := gfn<<guestmem.PageShift + uint64(p.Off)
		if at != gpa+n {
			if bufs, err = d.cfg.Memory.AppendBuffers(bufs, gpa, n); err != nil {
				return bufs, err
			}
			gpa, n = at, 0
		}
		n += uint64(p.N)
	}
	return d.cfg.Memory.AppendBuffers(bufs, gpa, n)
}

// grantLocked is the frame behind a grant, as the guest's table says.
func (d *Domain) grantLocked(ref uint32, write bool) (gfn uint64, err error) {
	if ref/grantsPerFrame >= uint32(len(d.grants)) {
		return 0, refused(ref, "it is beyond the guest's table")
	}
	// One load is one consistent entry, whatever the guest does meanwhile.
	w, err := d.grants[ref/grantsPerFrame].Load64(int(ref%grantsPerFrame) * 8)
	if err != nil {
		return 0, refused(ref, "its part of the table is not mapped")
	}
	flags, domid, frame := uint16(w), uint16(w>>16), uint32(w>>32)
	switch {
	case flags&xenabi.GTF_type_mask != xenabi.GTF_permit_access:
		return 0, refused(ref, "the guest permits no access")
	case domid != 0:
		return 0, refused(ref, "it is for another domain")
	case write && flags&xenabi.GTF_readonly != 0:
		return 0, refused(ref, "it may only be read")
	}
	return uint64(frame), nil
}

func refused(ref uint32, why string) error { return fmt.Errorf("use grant %d: %s", ref, why) }

// Mapping is a set of granted pages that a back end holds for longer than a
// request: a ring. When the front end leaves, Close it; the pages are the
// guest's again at once.
type Mapping struct {
	pages  []guestmem.Page
	closed atomic.Bool
}

// Map resolves grants for a ring, to be written.
func (d *Domain) Map(refs ...uint32) (*Mapping, error) {
	m := &Mapping{}
	for _, ref := range refs {
		p, err := d.Grant(ref, true)
		if err != nil {
			return nil, err
		}
		m.pages = append(m.pages, p)
	}
	return m, nil
}

// MapGFN is Map for front ends that name their pages by frame (vfb, vkbd).
func (d *Domain) MapGFN(gfns ...uint64) (*Mapping, error) {
	m := &Mapping{}
	for _, gfn := range gfns {
		p, err := d.cfg.Memory.Page(gfn)
		if err != nil {
			return nil, fmt.Errorf("map frame %#x: %w", gfn, err)
		}
		m.pages = append(m.pages, p)
	}
	return m, nil
}

// Page is page i, or after Close one without memory, on which every access
// fails.
func (m *Mapping) Page(i int) guestmem.Page {
	if m.closed.Load() || i < 0 || i >= len(m.pages) {
		return guestmem.Page{}
	}
	return m.pages[i]
}

// Close gives the pages up. It may be called more than once.
func (m *Mapping) Close() { m.closed.Store(true) }
