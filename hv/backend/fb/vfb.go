package fb

import (
	"encoding/binary"
	"fmt"
	"image"
	"strconv"

	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/backend"
	"github.com/hxen-project/hxen/hv/guestmem"
	"github.com/hxen-project/hxen/hv/rfb"
	"github.com/hxen-project/hxen/hv/xen"
	"github.com/hxen-project/hxen/hv/xenabi"
)

// Framebuffer is the Screen's vfb: a device of each of the guest's machines.
type Framebuffer struct{ *Screen }

// maxMiB is how much memory for pictures a guest may name.
const maxMiB = 64

// Attach gives a machine the screen.
func (f Framebuffer) Attach(g *backend.Guest) (*backend.Device, error) {
	return g.Add(backend.Config{Type: "vfb", Back: map[string]string{
		"videoram": strconv.Itoa(maxMiB), "feature-resize": "1",
	}}, &vfb{screen: f.Screen})
}

// Count has nothing to count.
func (Framebuffer) Count(*hv.Stats) {}

// Close ends the screen's viewers.
func (f Framebuffer) Close() error {
	f.Screen.Close()
	return nil
}

// vfb serves one front end after the other.
type vfb struct {
	screen  *Screen
	link    *backend.Link
	page    *xen.Mapping
	channel *xen.Channel
	memory  *xen.Mapping // the frames of the picture, nil before they are known
	length  uint64       // bytes of the picture's memory
	cons    uint32       // the next event
}

// Connect finds the picture and shows it.
func (f *vfb) Connect(l *backend.Link) (map[string]string, error) {
	f.link = l
	page, err := sharedPage(l)
	if err != nil {
		return nil, err
	}
	f.page = page
	port, err := l.Uint32("event-channel")
	if err != nil {
		return nil, err
	}
	if f.channel, err = l.Channel(port, nil); err != nil {
		return nil, err
	}
	var head xenabi.XenfbPage
	if err := page.Page(0).Read(0, xenabi.Bytes(&head)); err != nil {
		return nil, err
	}
	f.cons = head.OutCons
	if err := f.findMemory(head); err != nil {
		return nil, err
	}
	if err := f.show(int64(head.Width), int64(head.Height), int64(head.LineLength), int64(head.Depth), 0); err != nil {
		return nil, err
	}
	f.screen.has(func(d *Drivers) { d.Screen = true })
	return map[string]string{"request-update": "1"}, nil
}

// sharedPage maps the page that a front end names by its frame number.
func sharedPage(l *backend.Link) (*xen.Mapping, error) {
	gfn, err := strconv.ParseUint(l.Nodes["page-ref"], 10, 64)
	if err != nil {
		return nil, fmt.Errorf("%w: page-ref is %q, which is no number", backend.ErrFrontEnd, l.Nodes["page-ref"])
	}
	return l.Pages(gfn)
}

// findMemory maps the picture's memory: the shared page names pages that name
// its frames.
func (f *vfb) findMemory(head xenabi.XenfbPage) error {
	f.length = uint64(head.MemLength)
	if f.length == 0 || f.length > maxMiB*hv.MiB {
		return fmt.Errorf("%w: a picture in %d bytes of memory; at most %d MiB are possible", backend.ErrFrontEnd, f.length, maxMiB)
	}
	width, at := 8, xenabi.XenfbPD64
	if f.link.Nodes["protocol"] == "x86_32-abi" {
		width, at = 4, xenabi.XenfbPD32
	}
	frames := make([]uint64, (f.length+guestmem.PageSize-1)/guestmem.PageSize)
	perPage := guestmem.PageSize / width
	pages := (len(frames) + perPage - 1) / perPage
	if pages > xenabi.XenfbPDs {
		return fmt.Errorf("%w: its directory is too short for %d bytes", backend.ErrFrontEnd, f.length)
	}
	directory := make([]uint64, pages)
	if err := readLongs(f.page.Page(0), at, width, directory); err != nil {
		return err
	}
	for i, gfn := range directory {
		m, err := f.link.Pages(gfn)
		if err != nil {
			return fmt.Errorf("the directory of its picture: %w", err)
		}
		part := frames[i*perPage : min((i+1)*perPage, len(frames))]
		if err := readLongs(m.Page(0), 0, width, part); err != nil {
			return err
		}
	}
	m, err := f.link.Pages(frames...)
	if err != nil {
		return fmt.Errorf("the memory of its picture: %w", err)
	}
	f.memory = m
	return nil
}

// readLongs copies a guest's unsigned longs, of some bytes each.
func readLongs(p guestmem.Page, at, width int, to []uint64) error {
	b := make([]byte, len(to)*width)
	if err := p.Read(at, b); err != nil {
		return err
	}
	for i := range to {
		if width == 4 {
			to[i] = uint64(binary.LittleEndian.Uint32(b[4*i:]))
		} else {
			to[i] = binary.LittleEndian.Uint64(b[8*i:])
		}
	}
	return nil
}

// show shows the picture of some pixels, bytes in a line, bits in a pixel, and
// bytes before its first pixel.
func (f *vfb) show(width, height, line, depth, offset int64) error {
	wrong := func(what string, v int64) error {
		return fmt.Errorf("%w: a picture with %s %d", backend.ErrFrontEnd, what, v)
	}
	const most = 1 << 14
	switch {
	case depth != 32:
		return wrong("a depth of", depth)
	case width < 1 || width > most:
		return wrong("a width of", width)
	case height < 1 || height > most:
		return wrong("a height of", height)
	case line < width*4 || line > 1<<20:
		return wrong("bytes in a line of", line)
	case offset < 0 || uint64(offset)+uint64(height-1)*uint64(line)+uint64(width)*4 > f.length:
		return wrong("an end beyond its memory, and an offset of", offset)
	}
	err := f.screen.server.Show(&picture{f.memory, image.Pt(int(width), int(height)), int(line), int(offset)})
	if err != nil {
		return fmt.Errorf("%w: %w", backend.ErrFrontEnd, err)
	}
	return nil
}

// rounds bounds how often Work looks for more before others get their turn.
const rounds = 8

// Work takes the events that say what the guest has painted.
func (f *vfb) Work() error {
	page := f.page.Page(0)
	full := false
	for range rounds {
		prod, err := page.Load32(xenabi.XenfbOutProd)
		if err != nil {
			return err
		}
		n := prod - f.cons
		if n > xenabi.XENFB_OUT_RING_LEN {
			return fmt.Errorf("%w: %d events in a ring of %d", backend.ErrFrontEnd, n, xenabi.XENFB_OUT_RING_LEN)
		}
		if n == 0 {
			return f.taken(full)
		}
		was := f.cons
		for ; f.cons != prod; f.cons++ {
			if err := f.event(page); err != nil {
				return err
			}
		}
		if err := page.Store32(xenabi.XenfbOutCons, f.cons); err != nil {
			return err
		}
		if prod, err = page.Load32(xenabi.XenfbOutProd); err != nil {
			return err
		}
		full = full || prod-was >= xenabi.XENFB_OUT_RING_LEN
	}
	f.link.Wake()
	return f.taken(full)
}

// taken tells a guest that has found the ring full that there is room: it keeps
// what it has painted to itself until it hears.
func (f *vfb) taken(full bool) error {
	if full {
		f.channel.Notify()
	}
	return nil
}

// event takes the next one.
func (f *vfb) event(page guestmem.Page) error {
	at := xenabi.XENFB_OUT_RING_OFFS + int(f.cons%xenabi.XENFB_OUT_RING_LEN)*xenabi.XENFB_OUT_EVENT_SIZE
	var b [xenabi.XENFB_OUT_EVENT_SIZE]byte
	if err := page.Read(at, b[:]); err != nil {
		return err
	}
	switch b[0] {
	case xenabi.XENFB_TYPE_UPDATE:
		var u xenabi.XenfbUpdate
		copy(xenabi.Bytes(&u), b[:])
		x, y := int(u.X), int(u.Y)
		f.screen.server.Damage(image.Rectangle{image.Pt(x, y), image.Pt(x+int(u.Width), y+int(u.Height))})
	case xenabi.XENFB_TYPE_RESIZE:
		var r xenabi.XenfbResize
		copy(xenabi.Bytes(&r), b[:])
		return f.show(int64(r.Width), int64(r.Height), int64(r.Stride), int64(r.Depth), int64(r.Offset))
	}
	return nil
}

// Disconnect takes the picture away; the screen goes black.
func (f *vfb) Disconnect() {
	if err := f.screen.server.Show(nil); err != nil {
		f.screen.log.Warn("clear the screen", "err", err)
	}
	f.memory = nil
	f.screen.has(func(d *Drivers) { d.Screen = false })
}

// picture is what a guest shows, in its own memory.
type picture struct {
	memory *xen.Mapping
	size   image.Point
	line   int // bytes
	offset int // bytes
}

var _ rfb.Picture = (*picture)(nil)

// Size is for the Server.
func (p *picture) Size() image.Point { return p.size }

// Read is for the Server.
func (p *picture) Read(dst []byte, x, y int) {
	at := p.offset + y*p.line + x*4
	for len(dst) > 0 {
		off := at % guestmem.PageSize
		n := min(len(dst), guestmem.PageSize-off)
		if p.memory.Page(at/guestmem.PageSize).Read(off, dst[:n]) != nil {
			clear(dst[:n]) // the connection is at its end
		}
		dst, at = dst[n:], at+n
	}
}
