package native

import (
	"context"
	"errors"
	"fmt"
	gonet "net"
	"slices"

	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/backend/blk"
	"github.com/hxen-project/hxen/hv/backend/net"
)

var _ hv.Plugger = (*Guest)(nil)

// AttachDisk plugs a disk into the running guest.
func (g *Guest) AttachDisk(ctx context.Context, d hv.Disk) error {
	if d.IsCD() {
		return fmt.Errorf("attach a CD drive to a running guest: %w", hv.ErrUnsupported)
	}
	m, err := g.now("attach a disk")
	if err != nil {
		return err
	}
	if d.Format == hv.QCOW2 && g.isolation != "" { // it can start no programs any more
		return fmt.Errorf("attach the disk: an isolated guest that runs can use raw images only: convert it with qemu-img convert -O raw, or attach it before the start: %w", hv.ErrUnavailable)
	}
	place, err := g.reserve(d.UUID, func(s *hv.Spec) []string {
		var all []string
		for _, d := range s.Disks {
			all = append(all, d.UUID)
		}
		return all
	}, hv.MaxDisks, hv.MaxDisks)
	if err != nil {
		return fmt.Errorf("attach a disk: %w", err)
	}
	file, err := g.openImage(ctx, place, d)
	if err != nil {
		g.unreserve(d.UUID)
		return fmt.Errorf("attach the disk: %w", err)
	}
	disk := g.newDisk(place, d, file)
	if err := m.plug(disk); err != nil {
		g.unreserve(d.UUID)
		return errors.Join(fmt.Errorf("attach the disk: %w", err), disk.Close())
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.disks[d.UUID] = disk
	g.config.Devices = append(slices.Clone(g.config.Devices), disk)
	g.spec.Disks = append(slices.Clone(g.spec.Disks), d)
	return nil
}

func (g *Guest) newDisk(place int, d hv.Disk, file hv.DiskFile) *blk.Disk {
	return blk.New(blk.Config{
		Index: place, UUID: d.UUID, ReadOnly: d.Mode == hv.ReadOnly, CD: d.IsCD(),
		Log: g.host.Log, Event: g.events.Put, Full: func() { go g.pauseFull(d.UUID) },
	}, file)
}

// DetachDisk has the guest let go of a disk.
func (g *Guest) DetachDisk(ctx context.Context, uuid string) error {
	g.mu.Lock()
	disk := g.disks[uuid]
	g.mu.Unlock()
	if disk == nil {
		return fmt.Errorf("detach a disk: the guest has no disk %s: %w", uuid, hv.ErrUnavailable)
	}
	if err := g.detach(ctx, uuid, disk); err != nil {
		return fmt.Errorf("detach the disk: %w", err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.disks, uuid)
	g.spec.Disks = slices.DeleteFunc(slices.Clone(g.spec.Disks), func(d hv.Disk) bool { return d.UUID == uuid })
	return nil
}

// AttachNIC plugs a network card into the running guest.
func (g *Guest) AttachNIC(_ context.Context, n hv.NIC, socket string) error {
	m, err := g.now("attach a network card")
	if err != nil {
		return err
	}
	if g.host.Dial == nil {
		return fmt.Errorf("attach a network card: there are no networks here: %w", hv.ErrUnsupported)
	}
	place, err := g.reserve(n.UUID, func(s *hv.Spec) []string {
		var all []string
		for _, n := range s.NICs {
			all = append(all, n.UUID)
		}
		return all
	}, hv.MaxNICs, 2*hv.MaxNICs)
	if err != nil {
		return fmt.Errorf("attach a network card: %w", err)
	}
	card := g.newCard(place, n, socket)
	if err := m.plug(card); err != nil {
		g.unreserve(n.UUID)
		return errors.Join(fmt.Errorf("attach the network card: %w", err), card.Close())
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.config.Devices = append(slices.Clone(g.config.Devices), card)
	g.spec.NICs = append(slices.Clone(g.spec.NICs), n)
	g.cards[n.UUID] = card
	return nil
}

func (g *Guest) newCard(place int, n hv.NIC, socket string) *net.Card {
	return net.New(net.Config{
		ID: place, NIC: n, Log: g.host.Log,
		Dial: func(ctx context.Context) (gonet.Conn, error) { return g.host.Dial(ctx, socket) },
	})
}

// DetachNIC has the guest let go of a network card.
func (g *Guest) DetachNIC(ctx context.Context, uuid string) error {
	g.mu.Lock()
	card := g.cards[uuid]
	g.mu.Unlock()
	if card == nil {
		return fmt.Errorf("detach a network card: the guest has no card %s: %w", uuid, hv.ErrUnavailable)
	}
	if err := g.detach(ctx, uuid, card); err != nil {
		return fmt.Errorf("detach the network card: %w", err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.cards, uuid)
	g.spec.NICs = slices.DeleteFunc(slices.Clone(g.spec.NICs), func(n hv.NIC) bool { return n.UUID == uuid })
	return nil
}

// detach takes a device out of the machine, and forgets it.
func (g *Guest) detach(ctx context.Context, uuid string, dev Device) error {
	m, err := g.now("detach a device")
	if err != nil {
		return err
	}
	if err := m.unplug(ctx, dev); err != nil {
		return err
	}
	g.mu.Lock()
	g.config.Devices = slices.DeleteFunc(slices.Clone(g.config.Devices), func(d Device) bool { return d == dev })
	delete(g.places, uuid)
	g.mu.Unlock()
	return dev.Close()
}

// reserve gives a device the lowest number below limit that none of its kind has,
// of which there may be most.
func (g *Guest) reserve(uuid string, kind func(*hv.Spec) []string, most, limit int) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, there := g.places[uuid]; there {
		return 0, fmt.Errorf("the guest has it already: %w", hv.ErrUnavailable)
	}
	all := kind(&g.spec)
	if len(all) >= most {
		return 0, fmt.Errorf("the guest has %d already, and can have no more: %w", len(all), hv.ErrUnavailable)
	}
	taken := map[int]bool{}
	for _, other := range all {
		taken[g.places[other]] = true
	}
	for place := range limit {
		if !taken[place] {
			g.places[uuid] = place
			return place, nil
		}
	}
	return 0, fmt.Errorf("there is no number left for it: %w", hv.ErrUnavailable)
}

func (g *Guest) unreserve(uuid string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.places, uuid)
}
