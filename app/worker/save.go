package worker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/hxen-project/hxen/app/control"
	"github.com/hxen-project/hxen/hv"
)

// saveGuest writes the guest's state into its file and ends it; events tell of
// both. Losing the service that asked ends the save, not the guest.
func (w *Worker) saveGuest(ctx context.Context, m hv.Machine) error {
	s, ok := m.(hv.Saver)
	if !ok {
		return lacking("save the guest's state")
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	w.mu.Lock()
	if w.saving != nil {
		w.mu.Unlock()
		return fmt.Errorf("the guest is being saved already: %w", hv.ErrUnavailable)
	}
	w.saving = func() { cancel(errors.New("the save was cancelled")) }
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		w.saving = nil
		w.mu.Unlock()
	}()
	return s.Save(ctx, w.opt.SavedFile, func(done, total int64) {
		w.events.Add(control.Event{Progress: &control.Progress{Stage: "saving", Done: done, Total: total}})
	})
}

func (w *Worker) cancelSave() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.saving != nil {
		w.saving()
	}
}

// ran is told each state. A state that the guest went on from is history as soon
// as it runs: going on from it again would damage its disks.
func (w *Worker) ran(state hv.PowerState) {
	if state == hv.Running {
		w.forgetSaved()
	}
}

func (w *Worker) forgetSaved() {
	w.mu.Lock()
	there := w.unsave
	w.unsave = false
	w.mu.Unlock()
	if !there {
		return
	}
	for _, f := range w.opt.SavedFiles {
		if err := os.Remove(f); err != nil && !errors.Is(err, fs.ErrNotExist) {
			w.log.Error("delete the saved state that the guest has gone on from", "err", err)
		}
	}
}
