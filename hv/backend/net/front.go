package net

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hxen-project/hxen/hv/backend"
	"github.com/hxen-project/hxen/hv/xen"
)

// driver is a card as a machine's device.
type driver struct {
	card  *Card
	front *front
}

// Connect is backend.Driver's.
func (d *driver) Connect(l *backend.Link) (map[string]string, error) {
	f, err := newFront(d.card, l)
	if err != nil {
		return nil, err
	}
	d.front = f
	f.pump.Go(f.transmit)
	d.card.mu.Lock()
	d.card.front = f
	d.card.mu.Unlock()
	return nil, nil
}

// Work has nothing to do but to tell what went wrong, and to go on after Drain:
// the rings' own goroutines are woken by the front end's events.
func (d *driver) Work() error {
	d.front.release()
	d.front.mu.Lock()
	defer d.front.mu.Unlock()
	return d.front.err
}

// Drain is backend.Drainer's: it keeps both rings' goroutines from the guest's
// memory until Work. Requests without an answer are left to who comes next.
func (d *driver) Drain() error {
	d.front.txMem.Lock()
	d.front.rxMem.Lock()
	d.front.held = true
	return nil
}

// Disconnect is backend.Driver's. A network that takes nothing must not keep a
// guest from its end.
func (d *driver) Disconnect() {
	f := d.front
	if f == nil {
		return
	}
	d.front = nil
	f.release()
	d.card.mu.Lock()
	d.card.front = nil
	d.card.mu.Unlock()
	close(f.closing)
	slow := time.AfterFunc(time.Second, d.card.interrupt)
	defer slow.Stop()
	f.pump.Wait()
	f.receiving.Lock() // nobody delivers any more
	defer f.receiving.Unlock()
}

// front is a connected front end: two rings and what tells of them.
type front struct {
	card    *Card
	link    *backend.Link
	closing chan struct{} // closed: nobody shall wait any more
	pump    sync.WaitGroup
	held    bool // the device's own; it holds txMem and rxMem

	txMem sync.Mutex // who uses the guest's memory to transmit holds it
	// The transmitter's own.
	tx        *backend.Ring
	txChannel *xen.Channel
	txKick    chan struct{} // of one element
	packet    txPacket
	first     slot
	reply     [4]byte
	gathered  []byte // the packet's bytes
	out       []byte // frames for the network

	receiving sync.Mutex // whoever delivers holds it, and owns the rest
	rxMem     sync.Mutex // and holds this while it uses the guest's memory
	rx        *backend.Ring
	rxChannel *xen.Channel
	rxKick    chan struct{} // of one element
	scatter   bool          // a frame may take more than one page
	slots     []rxSlot
	entry     [rxEntry]byte

	mu  sync.Mutex
	err error // guarded by mu; what the front end did
}

// newFront takes what the front end has published (io/netif.h).
func newFront(k *Card, l *backend.Link) (*front, error) {
	f := &front{
		card: k, link: l, closing: make(chan struct{}),
		txKick: make(chan struct{}, 1), rxKick: make(chan struct{}, 1),
		scatter: l.Nodes["feature-sg"] == "1",
	}
	if l.Nodes["request-rx-copy"] != "1" {
		return nil, fmt.Errorf("%w: it wants pages to be given to it, not copies", backend.ErrFrontEnd)
	}
	for _, r := range []struct {
		name  string
		entry int
		ring  **backend.Ring
	}{{"tx-ring-ref", slotSize, &f.tx}, {"rx-ring-ref", rxEntry, &f.rx}} {
		ref, err := l.Uint32(r.name)
		if err != nil {
			return nil, err
		}
		if *r.ring, err = l.Ring(r.entry, ref); err != nil {
			return nil, err
		}
	}
	f.kickTx() // requests may be older than the channel
	return f, f.connectChannels(l)
}

// connectChannels takes the one event channel, or one for each ring.
func (f *front) connectChannels(l *backend.Link) error {
	if _, split := l.Nodes["event-channel-tx"]; !split {
		port, err := l.Uint32("event-channel")
		if err != nil {
			return err
		}
		f.txChannel, err = l.Channel(port, func() { f.kickTx(); f.kickRx() })
		f.rxChannel = f.txChannel
		return err
	}
	tx, err := l.Uint32("event-channel-tx")
	if err != nil {
		return err
	}
	rx, err := l.Uint32("event-channel-rx")
	if err != nil {
		return err
	}
	if f.txChannel, err = l.Channel(tx, f.kickTx); err != nil {
		return err
	}
	f.rxChannel, err = l.Channel(rx, f.kickRx)
	return err
}

func (f *front) kickTx() {
	select {
	case f.txKick <- struct{}{}:
	default:
	}
}

func (f *front) kickRx() {
	select {
	case f.rxKick <- struct{}{}:
	default:
	}
}

// wait waits for a kick, or reports that the connection is to end.
func (f *front) wait(kick <-chan struct{}) bool {
	select {
	case <-f.closing:
		return false
	default:
	}
	select {
	case <-kick:
		return true
	case <-f.closing:
		return false
	}
}

// release lets the rings' goroutines go on after Drain.
func (f *front) release() {
	if f.held {
		f.held = false
		f.rxMem.Unlock()
		f.txMem.Unlock()
	}
}

// errClosing ends what a connection's goroutines do, without a fault.
var errClosing = errors.New("the connection ends")

// fail has the device tell of an error. The connection goes on to be closed.
func (f *front) fail(err error) {
	if errors.Is(err, errClosing) {
		return
	}
	f.mu.Lock()
	if f.err == nil {
		f.err = err
	}
	f.mu.Unlock()
	f.link.Wake()
}
