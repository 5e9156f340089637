package fb

import (
	"fmt"
	"strconv"

	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/backend"
	"github.com/hxen-project/hxen/hv/xen"
	"github.com/hxen-project/hxen/hv/xenabi"
)

// Keyboard is the Screen's vkbd: keyboard and pointer, a device of each of the
// guest's machines.
type Keyboard struct{ *Screen }

// Attach gives a machine the keyboard and the pointer.
func (k Keyboard) Attach(g *backend.Guest) (*backend.Device, error) {
	return g.Add(backend.Config{Type: "vkbd", Back: map[string]string{
		"feature-abs-pointer": "1", "width": strconv.Itoa(axis), "height": strconv.Itoa(axis),
	}}, &vkbd{screen: k.Screen})
}

// Count has nothing to count.
func (Keyboard) Count(*hv.Stats) {}

// Close has nothing to close: the Screen is the Framebuffer's to close.
func (Keyboard) Close() error { return nil }

// vkbd serves one front end after the other.
type vkbd struct {
	screen  *Screen
	page    *xen.Mapping
	channel *xen.Channel
	prod    uint32 // the next event
}

// Connect begins to bring input into the guest.
func (k *vkbd) Connect(l *backend.Link) (map[string]string, error) {
	page, err := sharedPage(l)
	if err != nil {
		return nil, err
	}
	k.page = page
	port, err := l.Uint32("event-channel")
	if err != nil {
		return nil, err
	}
	if k.channel, err = l.Channel(port, nil); err != nil {
		return nil, err
	}
	if k.prod, err = page.Page(0).Load32(xenabi.XenfbInProd); err != nil {
		return nil, err
	}
	k.screen.server.SetAbsolute(l.Nodes["request-abs-pointer"] == "1")
	k.screen.input.begin(l.Wake)
	k.screen.has(func(d *Drivers) { d.Keyboard = true })
	return nil, nil
}

// Work moves what waits into the ring, as far as there is room. The guest raises
// an event when it has taken something.
func (k *vkbd) Work() error {
	page := k.page.Page(0)
	cons, err := page.Load32(xenabi.XenfbInCons)
	if err != nil {
		return err
	}
	n := k.prod - cons
	if n > xenabi.XENKBD_IN_RING_LEN {
		return fmt.Errorf("%w: %d events in a ring of %d", backend.ErrFrontEnd, n, xenabi.XENKBD_IN_RING_LEN)
	}
	events := k.screen.input.take(int(xenabi.XENKBD_IN_RING_LEN-n), n == 0)
	if len(events) == 0 {
		return nil
	}
	for _, e := range events {
		at := xenabi.XENKBD_IN_RING_OFFS + int(k.prod%xenabi.XENKBD_IN_RING_LEN)*xenabi.XENKBD_IN_EVENT_SIZE
		if err := page.Write(at, e.encode()); err != nil {
			return err
		}
		k.prod++
	}
	if err := page.Store32(xenabi.XenfbInProd, k.prod); err != nil {
		return err
	}
	k.channel.Notify()
	return nil
}

// encode is the event as the guest reads it.
func (e event) encode() []byte {
	b := make([]byte, xenabi.XENKBD_IN_EVENT_SIZE)
	x, y, z := int32(e.at.X), int32(e.at.Y), int32(e.wheel)
	switch e.kind {
	case xenabi.XENKBD_TYPE_KEY:
		k := xenabi.XenkbdKey{Type: e.kind, Keycode: uint32(e.code)}
		if e.down {
			k.Pressed = 1
		}
		copy(b, xenabi.Bytes(&k))
	case xenabi.XENKBD_TYPE_POS:
		copy(b, xenabi.Bytes(&xenabi.XenkbdPosition{Type: e.kind, AbsX: x, AbsY: y, RelZ: z}))
	default:
		copy(b, xenabi.Bytes(&xenabi.XenkbdMotion{Type: e.kind, RelX: x, RelY: y, RelZ: z}))
	}
	return b
}

// Disconnect ends the input.
func (k *vkbd) Disconnect() {
	k.screen.input.end()
	k.screen.has(func(d *Drivers) { d.Keyboard = false })
}
