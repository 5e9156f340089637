package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/hxen-project/hxen/app/control"
	"github.com/hxen-project/hxen/hv"
)

// attach plugs a disk or a card into the running guest, and keeps the Spec that the
// service reads true.
func (w *Worker) attach(ctx context.Context, m hv.Machine, params json.RawMessage) error {
	var p control.Attach
	if err := json.Unmarshal(params, &p); err != nil {
		return err
	}
	to, ok := m.(hv.Plugger)
	switch {
	case !ok:
		return lacking("take new devices while it runs")
	case p.Disk != nil:
		if err := to.AttachDisk(ctx, *p.Disk); err != nil {
			return err
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.status.Spec.Disks = append(w.status.Spec.Disks, *p.Disk)
		return nil
	case p.NIC != nil:
		return w.attachNIC(ctx, to, *p.NIC, p.Frames)
	}
	return fmt.Errorf("attach nothing: %w", hv.ErrUnsupported)
}

func (w *Worker) attachNIC(ctx context.Context, to hv.Plugger, n hv.NIC, frames string) error {
	w.mu.Lock()
	if w.relays[n.UUID] != nil {
		w.mu.Unlock()
		return fmt.Errorf("attach card %s: the guest has it already: %w", n.UUID, hv.ErrUnavailable)
	}
	w.cards++
	socket := w.opt.NICSocket(w.cards) // one that no card has had
	w.mu.Unlock()
	relay, err := w.opt.Relay(n, socket, frames)
	if err != nil {
		return err
	}
	if err := to.AttachNIC(ctx, n, socket); err != nil {
		relay.Close()
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.relays[n.UUID] = relay
	w.status.Spec.NICs = append(w.status.Spec.NICs, n)
	return nil
}

// detach has the guest let go of a disk or a card.
func (w *Worker) detach(ctx context.Context, m hv.Machine, params json.RawMessage) error {
	var p control.Detach
	if err := json.Unmarshal(params, &p); err != nil {
		return err
	}
	from, ok := m.(hv.Plugger)
	if !ok {
		return lacking("give devices back while it runs")
	}
	ctx, cancel := context.WithTimeout(ctx, p.Wait)
	defer cancel()
	do := from.DetachDisk
	if p.NIC {
		do = from.DetachNIC
	}
	if err := do(ctx, p.UUID); err != nil {
		return err
	}
	w.mu.Lock()
	relay := w.relays[p.UUID]
	delete(w.relays, p.UUID)
	s := w.status.Spec
	s.Disks = slices.DeleteFunc(s.Disks, func(d hv.Disk) bool { return d.UUID == p.UUID })
	s.NICs = slices.DeleteFunc(s.NICs, func(n hv.NIC) bool { return n.UUID == p.UUID })
	w.mu.Unlock()
	if relay != nil {
		return relay.Close()
	}
	return nil
}
