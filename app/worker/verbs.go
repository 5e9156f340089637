package worker

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	"github.com/hxen-project/hxen/app/control"
	"github.com/hxen-project/hxen/hv"
)

// lacking is the answer to a verb that this guest's engine does not have.
func lacking(what string) error {
	return fmt.Errorf("this guest's engine cannot %s: %w", what, hv.ErrUnsupported)
}

// stats adds the relays' counters to the machine's.
func (w *Worker) stats(ctx context.Context, m hv.Machine) (hv.Stats, error) {
	s, err := m.Stats(ctx)
	if err != nil {
		return s, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if s.NICs == nil {
		s.NICs = map[string]hv.NICStats{}
	}
	for id, r := range w.relays {
		s.NICs[id] = r.Stats()
	}
	return s, nil
}

// changeMedia changes a CD and keeps the Spec that the service reads true.
func (w *Worker) changeMedia(ctx context.Context, m hv.Machine, params json.RawMessage) error {
	var p control.Media
	if err := json.Unmarshal(params, &p); err != nil {
		return err
	}
	c, ok := m.(hv.MediaChanger)
	if !ok {
		return lacking("change media")
	}
	if err := c.ChangeMedia(ctx, p.Drive, p.Disk); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.status.Spec.Disks {
		if d := &w.status.Spec.Disks[i]; d.UUID == p.Drive {
			d.VDI, d.Path, d.Format = p.Disk.VDI, p.Disk.Path, p.Disk.Format
		}
	}
	return nil
}

func sendKeys(ctx context.Context, m hv.Machine, params json.RawMessage) error {
	var p control.Keys
	if err := json.Unmarshal(params, &p); err != nil {
		return err
	}
	k, ok := m.(hv.Keyer)
	if !ok {
		return lacking("press keys")
	}
	return k.SendKeys(ctx, p.Codes)
}

func resize(ctx context.Context, m hv.Machine, params json.RawMessage) error {
	var p control.Resize
	if err := json.Unmarshal(params, &p); err != nil {
		return err
	}
	r, ok := m.(hv.Resizer)
	if !ok {
		return lacking("change the memory or the processors of a running guest")
	}
	if p.Memory > 0 {
		if err := r.SetMemory(ctx, p.Memory); err != nil {
			return err
		}
	}
	if p.VCPUs > 0 {
		return r.SetVCPUs(ctx, p.VCPUs)
	}
	return nil
}

func screenshot(ctx context.Context, m hv.Machine) (any, error) {
	s, ok := m.(hv.Screenshotter)
	if !ok {
		return nil, lacking("take a picture of the screen")
	}
	var b bytes.Buffer
	if err := s.Screenshot(ctx, &b); err != nil {
		return nil, err
	}
	return control.Screenshot{PNG: b.Bytes()}, nil
}

func guestInfo(ctx context.Context, m hv.Machine) (any, error) {
	a, ok := m.(hv.Agent)
	if !ok {
		return nil, lacking("ask an agent in the guest")
	}
	return a.GuestInfo(ctx)
}
