package qemu

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/digitalocean/go-qemu/qmp"

	"github.com/hxen-project/hxen/hv"
)

// trayTime is how long a guest that has locked its CD drive gets to let go after
// it was asked to; then the tray is opened by force, as with a paper clip.
const trayTime = 3 * time.Second

// ChangeMedia puts media into the drive, or empties it. What cannot be opened
// leaves the old medium in place.
func (m *Machine) ChangeMedia(ctx context.Context, drive string, media hv.Disk) error {
	m.media.Lock()
	defer m.media.Unlock()
	i := -1
	for k, d := range m.spec.Disks {
		if d.UUID == drive && d.IsCD() {
			i = k
		}
	}
	if i < 0 {
		return fmt.Errorf("change the medium: the guest has no CD drive %s: %w", drive, hv.ErrUnavailable)
	}
	m.mu.Lock()
	old := m.generation[i]
	m.mu.Unlock()
	if media.Path != "" {
		if err := m.addMedium(ctx, media, nodeName(i, old+1)); err != nil {
			return m.verb("insert the medium", err)
		}
	}
	if err := m.eject(ctx, i, nodeName(i, old)); err != nil {
		if media.Path != "" {
			m.dropNode(ctx, nodeName(i, old+1))
		}
		return m.verb("eject the medium", err)
	}
	m.mu.Lock()
	m.generation[i] = old + 1
	m.inserted[i] = hv.Disk{} // until the new one is in
	m.mu.Unlock()
	id := map[string]any{"id": diskID(i)}
	if media.Path != "" {
		insert := map[string]any{"id": diskID(i), "node-name": nodeName(i, old+1)}
		if err := m.mon.Do(ctx, "blockdev-insert-medium", insert, nil); err != nil {
			m.dropNode(ctx, nodeName(i, old+1))
			return m.verb("insert the medium", err)
		}
		m.mu.Lock()
		m.inserted[i] = media
		m.mu.Unlock()
	}
	return m.verb("close the drive", m.mon.Do(ctx, "blockdev-close-tray", id, nil))
}

func (m *Machine) addMedium(ctx context.Context, media hv.Disk, node string) error {
	media.Kind, media.Mode = hv.KindCDROM, hv.ReadOnly
	if media.Format == "" {
		media.Format = hv.Raw
	}
	if media.Format != hv.Raw && media.Format != hv.QCOW2 {
		return fmt.Errorf("format %q: must be raw or qcow2", media.Format)
	}
	im, err := inspect(m.host.Dir, "", media)
	if err != nil {
		return err
	}
	return m.mon.Do(ctx, "blockdev-add", blockNode(media, im, node), nil)
}

// eject opens the tray and takes out what is in it.
func (m *Machine) eject(ctx context.Context, i int, node string) error {
	if err := m.openTray(ctx, diskID(i)); err != nil {
		return err
	}
	if err := m.mon.Do(ctx, "blockdev-remove-medium", map[string]any{"id": diskID(i)}, nil); err != nil {
		return err
	}
	m.dropNode(ctx, node)
	return nil
}

// dropNode forgets an image that no drive holds. An empty drive has none.
func (m *Machine) dropNode(ctx context.Context, node string) {
	var refused *QMPError
	if err := m.mon.Do(ctx, "blockdev-del", map[string]any{"node-name": node}, nil); err != nil && !errors.As(err, &refused) {
		m.host.Log.Debug("forget an image", "node", node, "err", err)
	}
}

// openTray asks first: a guest that has locked the drive gets the chance to
// write back and unmount. QEMU then refuses and sends it the request.
func (m *Machine) openTray(ctx context.Context, id string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the event stream
	events, err := m.mon.Events(ctx)
	if err != nil {
		return err
	}
	err = m.mon.Do(ctx, "blockdev-open-tray", map[string]any{"id": id, "force": false}, nil)
	var refused *QMPError
	if !errors.As(err, &refused) {
		return err
	}
	if waitTray(ctx, events, id) {
		return nil
	}
	return m.mon.Do(ctx, "blockdev-open-tray", map[string]any{"id": id, "force": true}, nil)
}

func waitTray(ctx context.Context, events <-chan qmp.Event, id string) bool {
	t := time.NewTimer(trayTime)
	defer t.Stop()
	for {
		select {
		case e, ok := <-events:
			if !ok {
				return false
			}
			if open, _ := e.Data["tray-open"].(bool); e.Event == "DEVICE_TRAY_MOVED" && open && text(e, "id") == id {
				return true
			}
		case <-t.C:
			return false
		case <-ctx.Done():
			return false
		}
	}
}
