package backend

import (
	"fmt"
	"strconv"

	"github.com/hxen-project/hxen/hv/accel"
	"github.com/hxen-project/hxen/hv/guestmem"
	"github.com/hxen-project/hxen/hv/xen"
	"github.com/hxen-project/hxen/hv/xenstore"
)

// Link is the connection to one front end. What it hands out is given back when
// the connection ends, after the driver's Disconnect.
type Link struct {
	// Nodes are what the front end has published: its directory's nodes by name,
	// and those one level below as "queue-0/ring-ref".
	Nodes map[string]string

	device   *Device
	mappings []*xen.Mapping
	channels []*xen.Channel
	timers   []accel.Timer
}

// newLink takes what the front end has published, as of one moment.
func (d *Device) newLink() (*Link, error) {
	l := &Link{device: d}
	err := d.guest.Store.Do(func(t *xenstore.Tx) error {
		l.Nodes = map[string]string{}
		return l.read(t, "", 2)
	})
	if err != nil {
		return nil, fmt.Errorf("read what the guest's driver has published: %w", err)
	}
	return l, nil
}

// read takes the nodes below dir, which ends with a slash or is empty. The store
// bounds how many there are.
func (l *Link) read(t *xenstore.Tx, dir string, depth int) error {
	path := l.device.node.FrontPath() + "/" + dir
	names, err := t.Directory(path[:len(path)-1])
	if err != nil {
		return err
	}
	for _, name := range names {
		v, err := t.Read(path + name)
		if err != nil {
			return err
		}
		l.Nodes[dir+name] = v
		if depth > 1 {
			if err := l.read(t, dir+name+"/", depth-1); err != nil {
				return err
			}
		}
	}
	return nil
}

// Uint32 is a node that must hold a number: a grant, a port.
func (l *Link) Uint32(name string) (uint32, error) {
	v, ok := l.Nodes[name]
	if !ok {
		return 0, fmt.Errorf("%w: it did not publish %s", ErrFrontEnd, name)
	}
	n, err := strconv.ParseUint(v, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%w: %s is %q, which is no number", ErrFrontEnd, name, v)
	}
	return uint32(n), nil
}

// Ring maps a ring of entries of the given size, header included, that lies in
// the granted pages.
func (l *Link) Ring(entry int, refs ...uint32) (*Ring, error) {
	m, err := l.device.guest.Domain.Map(refs...)
	if err != nil {
		return nil, fmt.Errorf("%w: its ring: %w", ErrFrontEnd, err)
	}
	l.mappings = append(l.mappings, m)
	return newRing(m, len(refs), entry)
}

// Pages maps pages that the front end names by their frame numbers.
func (l *Link) Pages(gfns ...uint64) (*xen.Mapping, error) {
	m, err := l.device.guest.Domain.MapGFN(gfns...)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFrontEnd, err)
	}
	l.mappings = append(l.mappings, m)
	return m, nil
}

// Channel binds the front end's event channel: notify is called for its events, on a
// goroutine of its own. With nil the driver works then.
func (l *Link) Channel(port uint32, notify func()) (*xen.Channel, error) {
	d, now := l.device, (func() bool)(nil)
	if notify == nil {
		notify = d.event
		if p, ok := d.driver.(Prompt); ok {
			now = func() bool { return d.eventNow(p) }
		}
	}
	ch, err := d.guest.Domain.Connect(port, now, notify)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFrontEnd, err)
	}
	l.channels = append(l.channels, ch)
	return ch, nil
}

// Timer has the driver work when it is due.
func (l *Link) Timer() accel.Timer {
	t := l.device.guest.Domain.NewTimer(l.device.event)
	l.timers = append(l.timers, t)
	return t
}

// Grant is the page behind a grant, for one request.
func (l *Link) Grant(ref uint32, write bool) (guestmem.Page, error) {
	return l.device.guest.Domain.Grant(ref, write)
}

// AppendBuffers adds the memory behind grants to bufs, for one read or write that the
// host's kernel does.
func (l *Link) AppendBuffers(bufs [][]byte, pieces []xen.Piece, write bool) ([][]byte, error) {
	return l.device.guest.Domain.AppendBuffers(bufs, pieces, write)
}

// Wake is the device's.
func (l *Link) Wake() { l.device.Wake() }

// close gives back what the link has handed out: the front end frees its pages
// as soon as it hears that the back end has closed.
func (l *Link) close() {
	for _, m := range l.mappings {
		m.Close()
	}
	for _, ch := range l.channels {
		ch.Close()
	}
	for _, t := range l.timers {
		t.Close()
	}
}
