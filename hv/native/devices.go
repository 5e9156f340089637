package native

import (
	"context"
	"fmt"

	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/backend"
)

// Device is a disk, a network card or the like, from the guest's launch to its
// end: it becomes a device of each machine that the guest has, one at a time.
type Device interface {
	// Attach makes the device one of a machine's. The machine closes what it
	// returns, before the guest's memory goes.
	Attach(*backend.Guest) (*backend.Device, error)
	// Count adds what the device has done since the launch to the guest's counters.
	// It may be called from any goroutine.
	Count(*hv.Stats)
	// Close is called when no machine has the device any more.
	Close() error
}

// openDevices opens what the Spec's disks and cards stand for. Each kind has its
// line here.
func (g *Guest) openDevices(ctx context.Context) error {
	g.openScreen()
	if err := g.openCards(); err != nil {
		return err
	}
	return g.openDisks(ctx)
}

// attachDevices gives a machine its devices.
func (m *Machine) attachDevices() error {
	g := &backend.Guest{Domid: domid, Domain: m.domain, Store: m.client, Log: m.log}
	for i, dev := range m.config.Devices {
		d, err := dev.Attach(g)
		if err != nil {
			return fmt.Errorf("give the guest its device %d: %w", i, err)
		}
		m.devices = append(m.devices, d)
	}
	return nil
}
