package native

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/backend"
	"github.com/hxen-project/hxen/hv/backend/blk"
	"github.com/hxen-project/hxen/hv/backend/fb"
)

// Device is a disk, a network card or the like, from the guest's launch, or from
// when it is plugged in, to its end: it becomes a device of each machine that the
// guest has, one at a time.
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

// plugged is a device in a machine; of nil it is one that the guest shall let go of.
type plugged struct {
	dev  Device
	back *backend.Device
}

// openDevices opens what the Spec's disks and cards stand for. Each kind has its
// line here.
func (g *Guest) openDevices(ctx context.Context) error {
	g.openScreen()
	g.config.Cmdline = g.driverOptions(g.config.Cmdline)
	if err := g.openCards(); err != nil {
		return err
	}
	return g.openDisks(ctx)
}

// driverOptions tells the kernel's drivers what suits our back ends, where the command
// line says nothing else and has room.
func (g *Guest) driverOptions(cmdline string) string {
	options := []string{blk.KernelOption}
	if g.screen != nil {
		options = append(options, fb.KernelOption)
	}
	for _, o := range options {
		name, _, _ := strings.Cut(o, "=")
		with := strings.TrimSpace(cmdline + " " + o)
		if !strings.Contains(strings.ReplaceAll(cmdline, "-", "_"), name+"=") && len(with) <= maxLinuxCmdline {
			cmdline = with
		}
	}
	return cmdline
}

func (m *Machine) backends() *backend.Guest {
	return &backend.Guest{Domid: domid, Domain: m.domain, Store: m.client, Log: m.log}
}

// attachDevices gives a machine its devices.
func (m *Machine) attachDevices() error {
	for i, dev := range m.config.Devices {
		if err := m.attach(dev); err != nil {
			return fmt.Errorf("give the guest its device %d: %w", i, err)
		}
	}
	return nil
}

// attach refuses when the machine has ended: tearDown has closed the devices, or
// finds this one as soon as it may.
func (m *Machine) attach(dev Device) error {
	if m.over() {
		return errEnded
	}
	d, err := dev.Attach(m.backends())
	if err == nil {
		m.devices = append(m.devices, &plugged{dev, d})
	}
	return err
}

// plug gives a running machine a device, which its guest finds by itself. It waits
// for a Save that is going on.
func (m *Machine) plug(dev Device) error {
	if err := m.use(); err != nil {
		return err
	}
	defer m.servers.Done()
	m.plugs.Lock()
	defer m.plugs.Unlock()
	return m.attach(dev)
}

// errHeld is a device that the guest does not let go of.
var errHeld = errors.New("the guest does not let go of it; it may be in use there (mounted, or up)")

// unplug has the guest let go of a device, and takes it away when it has. If ctx
// ends before the guest is still asked, and what it has stays.
func (m *Machine) unplug(ctx context.Context, dev Device) error {
	if err := m.use(); err != nil {
		return err
	}
	defer m.servers.Done()
	m.plugs.Lock()
	at := slices.IndexFunc(m.devices, func(p *plugged) bool { return p.dev == dev })
	if at < 0 {
		m.plugs.Unlock()
		return hv.ErrUnavailable
	}
	p := m.devices[at]
	m.plugs.Unlock()
	if err := p.back.Unplug(ctx); err != nil {
		return errHeld
	}
	m.plugs.Lock()
	defer m.plugs.Unlock()
	m.devices = slices.DeleteFunc(slices.Clone(m.devices), func(q *plugged) bool { return q == p })
	p.back.Close()
	return nil
}
