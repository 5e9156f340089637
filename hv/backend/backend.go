// Package backend is what the back ends of all Xen devices do alike: the
// handshake with a front end over XenStore (io/xenbus.h), the rings that both
// share (io/ring.h), and the front end's event channel.
//
// It does not know what any device does: that is a Driver, in a package below
// this one. It knows nothing of hypervisors, files or networks. Front ends are
// hostile: one that breaks a rule loses its device, and the guest goes on.
package backend

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/hxen-project/hxen/hv/xen"
	"github.com/hxen-project/hxen/hv/xenabi"
	"github.com/hxen-project/hxen/hv/xenstore"
)

// ErrFrontEnd is a front end that broke a rule of its device.
var ErrFrontEnd = errors.New("the guest's driver broke the rules")

// Guest is what back ends see of one machine.
type Guest struct {
	Domid  int
	Domain *xen.Domain
	Store  *xenstore.Client
	Log    *slog.Logger
}

// Driver is what one device does. One caller at a time calls it.
type Driver interface {
	// Connect begins to serve a front end that has published its rings. What it
	// returns is published with the state Connected.
	Connect(*Link) (nodes map[string]string, err error)
	// Work does what there is to do: it is called after Connect, and after events
	// of the front end and calls of Wake, of which several may be one. An error
	// ends the connection.
	Work() error
	// Disconnect ends what Connect began, also a Connect that failed. When it
	// returns nobody uses the front end's memory any more.
	Disconnect()
}

// Prompt is a Driver that can do some work where its front end's event arrives, on
// the processor's own thread: that saves waking another, which costs more than
// short work itself.
type Prompt interface {
	// WorkNow is Work as far as it waits for nothing, not even for a disk. It reports
	// whether that was all there is to do.
	WorkNow() (done bool, err error)
}

// Drainer is a Driver that may have requests in work which a Disconnect would
// leave without an answer.
type Drainer interface {
	// Drain answers all requests that were taken, pushes the answers and has what
	// they wrote on the disk. The error says why that cannot be now.
	Drain() error
}

// Config is a device's place and what its directories hold from the start,
// beside what every device's do.
type Config struct {
	Type        string // vbd, vif, vfb, vkbd
	ID          int
	Front, Back map[string]string
}

// Device is one device of a guest. Its own goroutine and its event channels' take
// turns at it; its methods may be called from any other.
type Device struct {
	guest  *Guest
	node   xenstore.Device
	driver Driver
	watch  *xenstore.Watch
	wake   chan struct{} // of one element
	leave  chan struct{} // closed by Unplug
	calls  chan func()   // for Do
	once   sync.Once
	stop   context.CancelFunc
	ended  <-chan struct{} // closed by stop
	done   chan struct{}   // closed when nobody serves the device any more

	turn    sync.Mutex // held by whoever does something for the device
	link    *Link      // guarded by turn; nil: no front end is connected
	fault   error      // guarded by turn; what a processor's thread found wrong
	state   int        // guarded by turn; what the back end's node says
	broken  bool       // guarded by turn; the front end has to start over
	leaving bool       // guarded by turn
	logged  time.Time  // guarded by turn
}

// Add makes a device for the guest to find, and serves it. A guest that was
// restored has the device in its XenStore, and goes on with it.
func (g *Guest) Add(c Config, driver Driver) (*Device, error) { return g.add(c, driver, false) }

func (g *Guest) add(c Config, driver Driver, leaving bool) (*Device, error) {
	d := &Device{
		guest: g, driver: driver, leaving: leaving, state: xenabi.XenbusStateInitWait,
		node: xenstore.Device{Domid: g.Domid, Type: c.Type, ID: c.ID, Front: c.Front, Back: c.Back},
		wake: make(chan struct{}, 1), leave: make(chan struct{}), calls: make(chan func()), done: make(chan struct{}),
	}
	was, err := g.Store.Read(d.node.BackPath() + "/state")
	if err != nil {
		err = g.Store.AddDevice(d.node)
	} else {
		err = d.resume(was)
	}
	if err != nil {
		return nil, err
	}
	if d.watch, err = g.Store.Watch(d.node.FrontPath() + "/state"); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	d.stop, d.ended = cancel, ctx.Done()
	go d.serve(ctx)
	return d, nil
}

// Retire is Add for a device that the guest had when it was saved and shall let go
// of, to nothing: its front end is never served.
func (g *Guest) Retire(typ string, id int) (*Device, error) {
	return g.add(Config{Type: typ, ID: id}, nil, true)
}

// resume takes up a device where it was saved. Its rings say how far they were
// served: see newRing.
func (d *Device) resume(state string) error {
	var err error
	if d.state, err = strconv.Atoi(state); err != nil {
		return fmt.Errorf("restore %s %d: its state is %q", d.node.Type, d.node.ID, state)
	}
	d.broken = d.state == xenabi.XenbusStateClosing && d.front() == xenabi.XenbusStateConnected
	return d.guest.Store.Do(func(t *xenstore.Tx) error { // what may differ now, such as a disk's size
		return write(t, d.node.BackPath(), d.node.Back)
	})
}

// Hold has the device stand still, with no request in work, until release or
// Close is called: the front end's memory does not change then. On an error
// nothing is held; the device goes on.
func (d *Device) Hold() (release func(), err error) {
	still, over := make(chan error, 1), make(chan struct{})
	go func() {
		ran := d.Do(func() {
			err := d.drain()
			still <- err
			if err == nil {
				select {
				case <-over:
				case <-d.ended:
					return
				}
			}
			d.follow() // connects again what was disconnected
			d.Wake()
		})
		if !ran {
			still <- nil
		}
	}()
	if err := <-still; err != nil {
		return nil, fmt.Errorf("finish what %s %d has begun: %w", d.node.Type, d.node.ID, err)
	}
	return func() { close(over) }, nil
}

// Wake has Work called soon, if a front end is connected. It does not wait.
func (d *Device) Wake() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// eventNow is for an event of the front end, on the processor's thread, and reports
// whether it is done with.
func (d *Device) eventNow(p Prompt) (done bool) {
	if !d.turn.TryLock() {
		return false
	}
	defer d.turn.Unlock()
	if d.link != nil && d.fault == nil {
		done, d.fault = p.WorkNow()
	}
	return done
}

// event is for an event of the front end, on the channel's goroutine, and for a
// timer's.
func (d *Device) event() {
	d.turn.Lock()
	d.work()
	lost := d.link == nil
	d.turn.Unlock()
	if lost {
		d.Wake() // Unplug may have waited for that
	}
}

// Do runs f on the device's goroutine, between calls of the Driver, and waits for
// it. It reports whether f has run: nobody runs it after the device's end.
func (d *Device) Do(f func()) bool {
	ran := make(chan struct{})
	select {
	case d.calls <- func() { f(); close(ran) }:
		<-ran
		return true
	case <-d.done:
		return false
	}
}

// Publish changes what the back end's directory says, and has a connected front
// end look at it again.
func (d *Device) Publish(nodes map[string]string) error {
	state := d.node.BackPath() + "/state"
	return d.guest.Store.Do(func(t *xenstore.Tx) error {
		now, err := t.Read(state)
		if err != nil {
			return err
		}
		if err := write(t, d.node.BackPath(), nodes); err != nil {
			return err
		}
		if now != strconv.Itoa(xenabi.XenbusStateConnected) {
			return nil
		}
		return t.Write(state, now)
	})
}

// Unplug takes the device from the guest: it asks the front end to let go, waits
// until it has, and removes the device. When ctx ends before, the guest is still
// asked.
func (d *Device) Unplug(ctx context.Context) error {
	d.once.Do(func() { close(d.leave) })
	select {
	case <-d.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("unplug %s %d: the guest does not let go of it: %w", d.node.Type, d.node.ID, ctx.Err())
	}
}

// Close ends the back end, for a machine whose processors have stopped, and
// waits until nobody uses the guest's memory any more.
func (d *Device) Close() {
	d.stop()
	<-d.done
}

func (d *Device) serve(ctx context.Context) {
	defer close(d.done)
	defer d.watch.Close()
	defer d.stop()
	defer d.end()
	leave := d.leave
	for ctx.Err() == nil {
		var act func()
		select {
		case <-ctx.Done():
			return
		case <-leave:
			leave = nil
			act = d.letGo
		case act = <-d.calls:
		case <-d.watch.C:
			d.watch.Paths()
			act = d.follow
		case <-d.wake:
			act = d.work
		}
		if d.act(act) {
			return
		}
	}
}

// end leaves nobody who uses the front end's memory.
func (d *Device) end() {
	d.turn.Lock()
	defer d.turn.Unlock()
	d.disconnect()
}

// act does something in turn, and reports whether the device is gone.
func (d *Device) act(f func()) (gone bool) {
	d.turn.Lock()
	defer d.turn.Unlock()
	f()
	return d.leaving && d.link == nil && d.gone()
}

// letGo begins what Unplug asks for.
func (d *Device) letGo() {
	d.leaving = true
	d.publish(xenabi.XenbusStateClosing, map[string]string{"online": "0"})
	d.follow()
}

func (d *Device) work() {
	if d.link == nil {
		return
	}
	err := d.fault
	if err == nil {
		err = d.driver.Work()
	}
	if err != nil {
		d.fail(err)
	}
}

// drain has the driver finish what it has begun. One that cannot loses its
// connection, of which the front end hears nothing.
func (d *Device) drain() error {
	if drainer, ok := d.driver.(Drainer); ok && d.link != nil {
		return drainer.Drain()
	}
	d.disconnect()
	return nil
}

// follow does what the front end's state asks for (XenBus's two state machines,
// as Linux's back ends have them). Front ends that end up where they began have
// forgotten their rings: a boot loader's, a kernel's before kexec.
func (d *Device) follow() {
	switch d.front() {
	case xenabi.XenbusStateInitialised, xenabi.XenbusStateConnected:
		if d.link == nil && !d.broken && !d.leaving {
			d.connect()
		}
	case xenabi.XenbusStateClosing:
		d.disconnect()
		d.enter(xenabi.XenbusStateClosing)
	case xenabi.XenbusStateInitialising:
		d.disconnect()
		if d.broken = false; !d.leaving {
			d.enter(xenabi.XenbusStateInitWait)
		}
	case xenabi.XenbusStateUnknown, xenabi.XenbusStateClosed:
		d.disconnect()
		d.broken = false
		d.enter(xenabi.XenbusStateClosed)
	}
}

// front is the front end's state as it is committed; Unknown if there is none.
func (d *Device) front() int {
	v, err := d.guest.Store.Read(d.node.FrontPath() + "/state")
	if err != nil {
		return xenabi.XenbusStateUnknown
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		return xenabi.XenbusStateUnknown
	}
	return n
}

func (d *Device) connect() {
	l, err := d.newLink()
	if err == nil {
		d.link = l
		var nodes map[string]string
		if nodes, err = d.driver.Connect(l); err == nil {
			d.publish(xenabi.XenbusStateConnected, nodes)
			d.Wake() // requests may be older than the event channel
			return
		}
	}
	d.fail(err)
}

func (d *Device) disconnect() {
	if d.link == nil {
		return
	}
	d.driver.Disconnect()
	d.link.close()
	d.link, d.fault = nil, nil
}

// fail ends the connection for what the front end did, until it starts over.
func (d *Device) fail(err error) {
	if now := time.Now(); now.Sub(d.logged) > 10*time.Second { // a guest must not fill the log
		d.logged = now
		d.guest.Log.Warn("a device of the guest has failed", "device", d.node.FrontPath(), "err", err)
	}
	d.disconnect()
	d.broken = true
	d.enter(xenabi.XenbusStateClosing)
}

// enter tells the front end a state, unless it is the one that it knows.
func (d *Device) enter(state int) {
	if d.state != state {
		d.publish(state, nil)
	}
}

// publish writes nodes of the back end's directory and its state at once.
func (d *Device) publish(state int, nodes map[string]string) {
	err := d.guest.Store.Do(func(t *xenstore.Tx) error {
		if err := write(t, d.node.BackPath(), nodes); err != nil {
			return err
		}
		return t.Write(d.node.BackPath()+"/state", strconv.Itoa(state))
	})
	if err != nil {
		d.guest.Log.Warn("tell the guest of its device", "device", d.node.FrontPath(), "err", err)
		return
	}
	d.state = state
}

// gone removes a device that is to leave once its front end has let go of it, or
// never took it.
func (d *Device) gone() bool {
	switch d.front() {
	case xenabi.XenbusStateUnknown, xenabi.XenbusStateInitialising, xenabi.XenbusStateClosed:
	default:
		return false
	}
	err := d.guest.Store.Do(func(t *xenstore.Tx) error {
		for _, path := range []string{d.node.FrontPath(), d.node.BackPath()} {
			if _, err := t.Read(path); err != nil {
				continue
			}
			if err := t.Remove(path); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		d.guest.Log.Warn("remove a device of the guest", "device", d.node.FrontPath(), "err", err)
	}
	return true
}

func write(t *xenstore.Tx, dir string, nodes map[string]string) error {
	for name, value := range nodes {
		if err := t.Write(dir+"/"+name, value); err != nil {
			return err
		}
	}
	return nil
}
