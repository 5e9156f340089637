package qemu

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/hxen-project/hxen/hv"
)

var (
	_ hv.Plugger = (*Machine)(nil)
	_ hv.Resizer = (*Machine)(nil)
)

// SetMemory has the guest's balloon driver leave it so much memory.
func (m *Machine) SetMemory(ctx context.Context, bytes uint64) error {
	const least = hv.MinMemory
	if bytes < least || bytes > m.spec.Memory {
		return fmt.Errorf("change the guest's memory: %d MiB is not from %d to the %d MiB that it was started with", bytes/hv.MiB, least/hv.MiB, m.spec.Memory/hv.MiB)
	}
	return m.verb("change the guest's memory", m.mon.Do(ctx, "balloon", map[string]any{"value": bytes}, nil))
}

// SetVCPUs cannot be: the processors of QEMU's machine are there from its start.
func (m *Machine) SetVCPUs(context.Context, int) error {
	return fmt.Errorf("change the processors of a running guest of type hvm: %w", hv.ErrUnsupported)
}

// hotPorts are the ports of the machine that take a device while the guest runs.
const hotPorts = 6

func portName(i int) string { return fmt.Sprintf("port%d", i) }

// hotID names the device in a port, and hotNode its image or network.
func hotID(port int) string   { return fmt.Sprintf("hot%d", port) }
func hotNode(port int) string { return fmt.Sprintf("h%d", port) }

// AttachDisk plugs a disk into the running guest.
func (m *Machine) AttachDisk(ctx context.Context, d hv.Disk) error {
	if d.IsCD() || d.Bus == hv.BusSATA {
		return fmt.Errorf("attach a CD drive or a SATA disk to a running guest: %w", hv.ErrUnsupported)
	}
	return m.attach(ctx, d.UUID, "attach the disk", func(port int) error {
		im, err := inspect(m.host.Dir, m.host.Base, d)
		if err != nil {
			return err
		}
		if err := m.mon.Do(ctx, "blockdev-add", blockNode(d, im, hotNode(port)), nil); err != nil {
			return err
		}
		err = m.mon.Do(ctx, "device_add", map[string]any{
			"driver": "virtio-blk-pci", "id": hotID(port), "bus": portName(port), "drive": hotNode(port),
			"werror": "stop", "rerror": "stop", "serial": strings.ReplaceAll(d.UUID, "-", "")[12:],
		}, nil)
		if err != nil {
			m.dropNode(ctx, hotNode(port))
		}
		return err
	})
}

// AttachNIC plugs a network card into the running guest.
func (m *Machine) AttachNIC(ctx context.Context, n hv.NIC, socket string) error {
	return m.attach(ctx, n.UUID, "attach the network card", func(port int) error {
		shut := func() {}
		if m.names.doors {
			d, address, err := m.names.door(socket, hotNode(port))
			if err != nil {
				return err
			}
			d.serve(m.child, m.host)
			socket, shut = address, func() { _ = d.l.Close() }
		}
		err := m.mon.Do(ctx, "netdev_add", map[string]any{
			"type": "stream", "id": hotNode(port), "server": false, "addr": socketAddress(socket),
		}, nil)
		if err != nil {
			shut()
			return err
		}
		err = m.mon.Do(ctx, "device_add", map[string]any{
			"driver": "virtio-net-pci", "id": hotID(port), "bus": portName(port), "netdev": hotNode(port), "mac": n.MAC, "romfile": "",
		}, nil)
		if err != nil {
			_ = m.mon.Do(ctx, "netdev_del", map[string]any{"id": hotNode(port)}, nil) // the error that counts is told
		}
		return err
	})
}

// attach takes a port and has add fill it.
func (m *Machine) attach(ctx context.Context, uuid, what string, add func(port int) error) error {
	m.media.Lock()
	defer m.media.Unlock()
	if _, there := m.hot[uuid]; there {
		return fmt.Errorf("%s: the guest has it already: %w", what, hv.ErrUnavailable)
	}
	taken := map[int]bool{}
	for _, port := range m.hot {
		taken[port] = true
	}
	for port := range hotPorts {
		if taken[port] {
			continue
		}
		if err := add(port); err != nil {
			return m.verb(what, err)
		}
		m.hot[uuid] = port
		return nil
	}
	return fmt.Errorf("%s: %d devices were plugged in since the guest's start, and there is no port left: restart it: %w", what, hotPorts, hv.ErrUnavailable)
}

// DetachDisk and DetachNIC have the guest let go of what was plugged in.
func (m *Machine) DetachDisk(ctx context.Context, uuid string) error {
	return m.detach(ctx, uuid, "detach the disk", func(port int) { m.dropNode(ctx, hotNode(port)) })
}

func (m *Machine) DetachNIC(ctx context.Context, uuid string) error {
	return m.detach(ctx, uuid, "detach the network card", func(port int) {
		if err := m.mon.Do(ctx, "netdev_del", map[string]any{"id": hotNode(port)}, nil); err != nil {
			m.host.Log.Debug("forget a card's network", "err", err)
		}
	})
}

func (m *Machine) detach(ctx context.Context, uuid, what string, forget func(port int)) error {
	m.media.Lock()
	defer m.media.Unlock()
	port, there := m.hot[uuid]
	if !there {
		return fmt.Errorf("%s: only what was plugged in while the guest ran can be taken from it: shut it down first: %w", what, hv.ErrUnavailable)
	}
	watch, cancel := context.WithCancel(ctx)
	defer cancel() // ends the event stream
	events, err := m.mon.Events(watch)
	if err != nil {
		return m.verb(what, err)
	}
	var refused *QMPError
	err = m.mon.Do(ctx, "device_del", map[string]any{"id": hotID(port)}, nil)
	if err != nil && !errors.As(err, &refused) { // QEMU refuses while it has asked already, or the device is gone
		return m.verb(what, err)
	}
	for refused == nil || strings.Contains(refused.Error(), "unplug") {
		select {
		case e, ok := <-events:
			if !ok {
				return m.verb(what, errClosed)
			}
			if e.Event != "DEVICE_DELETED" || text(e, "device") != hotID(port) {
				continue
			}
		case <-ctx.Done():
			return fmt.Errorf("%s: the guest does not let go of it; it may be in use there (mounted, or up)", what)
		}
		break
	}
	forget(port)
	delete(m.hot, uuid)
	return nil
}
