package worker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/hxen-project/hxen/app/control"
	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/savefile"
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
	if state != hv.Running {
		return
	}
	if w.forgetSaved() {
		go w.resync() // its clock stood still
	}
}

// resyncTime is how long a guest may take to set its clock.
const resyncTime = 10 * time.Second

func (w *Worker) resync() {
	m, err := w.running()
	if err != nil {
		return
	}
	r, ok := m.(hv.Resyncer)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), resyncTime)
	defer cancel()
	if err := r.Resync(ctx); err != nil {
		w.log.Info("the guest's clock was not set", "err", err)
	}
}

// forgetSaved deletes the saved state that the guest went on from, and reports
// whether there was one.
func (w *Worker) forgetSaved() bool {
	w.mu.Lock()
	there := w.unsave
	w.unsave = false
	w.mu.Unlock()
	if !there {
		return false
	}
	w.log.Info("the guest has gone on from its saved state")
	folders := map[string]bool{}
	for _, f := range w.opt.SavedFiles {
		err := os.Remove(f)
		if err == nil {
			folders[filepath.Dir(f)] = true
		} else if !errors.Is(err, fs.ErrNotExist) {
			w.log.Error("delete the saved state that the guest has gone on from", "err", err)
		}
	}
	for dir := range folders { // or it would be back after a power cut
		savefile.SyncDir(dir)
	}
	return true
}
