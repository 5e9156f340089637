package service

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"time"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/app/control"
	"github.com/hxen-project/hxen/app/service/rpc"
	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/savefile"
	"github.com/hxen-project/hxen/platform/proc"
)

const (
	// saveSlack is what a saved state needs beside the guest's memory.
	saveSlack = 64 * hv.MiB
	// restoreRate is what a slow disk still reads, in bytes per second.
	restoreRate = 8 << 20
)

// registerSuspend adds the verbs that save guests and let them go on.
func (s *Service) registerSuspend(srv *rpc.Server) {
	srv.Register("VM.suspend", func(c *rpc.Call, ref api.Ref) error {
		g, end, err := s.begin(ref, hv.OpSuspend, c.Task.Ref())
		if err != nil {
			return err
		}
		defer end()
		return s.suspend(c.Context(), g, progressOf(c.Task))
	})
	resume := func(c *rpc.Call, ref api.Ref, paused, force bool) error {
		g, end, err := s.begin(ref, hv.OpResume, c.Task.Ref())
		if err != nil {
			return err
		}
		defer end()
		return s.start(c.Context(), g, launchHow{paused: paused, restore: true, force: force}, progressOf(c.Task))
	}
	srv.Register("VM.resume", func(c *rpc.Call, ref api.Ref, paused, force bool) error { return resume(c, ref, paused, force) })
	srv.Register("VM.resume_on", func(c *rpc.Call, ref, host api.Ref, paused, force bool) error {
		if host != s.hostRef() {
			return api.NewError(api.ErrHandleInvalid, "host", string(host))
		}
		return resume(c, ref, paused, force)
	})
}

// suspend saves a running guest that the caller has claimed, and returns when it
// is Suspended. A save that fails or is cancelled leaves the guest as it was.
func (s *Service) suspend(ctx context.Context, g *guest, progress progressFunc) error {
	s.mu.Lock()
	l := g.link
	s.mu.Unlock()
	if l == nil {
		return api.NewError(api.ErrVMBadPowerState, string(g.ref()), "running", "halted")
	}
	if err := s.roomToSave(ctx, g); err != nil {
		return err
	}
	s.keepScreen(ctx, g)
	s.mu.Lock()
	l.progress = progress
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		l.progress = nil
		s.mu.Unlock()
	}()
	err := s.callSave(ctx, g, l)
	if err == nil || errors.Is(err, control.ErrClosed) {
		if s.awaitEnd(l.run) && s.suspended(g) {
			return nil
		}
		if err == nil {
			err = refuse("save", fmt.Sprintf("guest %q ended while it was saved", g.name), "see the guest's worker.log")
		}
	}
	if rerr := os.Remove(g.files.SavedScreen()); rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
		s.log.Warn("delete a picture", "guest", g.name, "err", rerr)
	}
	return err
}

// callSave has the worker save, and waits for its last word also when ctx ends.
func (s *Service) callSave(ctx context.Context, g *guest, l *link) error {
	answer := make(chan error, 1)
	s.tasks.Go(func() { answer <- l.conn.Call(s.ctx, control.VerbSave, nil, nil) })
	var err error
	select {
	case err = <-answer:
	case <-ctx.Done():
		quick, cancel := context.WithTimeout(s.ctx, callWait)
		defer cancel()
		if cerr := l.conn.Call(quick, control.VerbSaveCancel, nil, nil); cerr != nil {
			s.log.Warn("cancel a save", "guest", g.name, "err", cerr)
		}
		select {
		case err = <-answer:
		case <-quick.Done():
			err = context.Cause(ctx)
		}
		if err != nil && !errors.Is(err, control.ErrClosed) {
			return context.Cause(ctx)
		}
	}
	if e, ok := errors.AsType[*control.Error](err); ok {
		return refuse("save", orElse(e.Text, e.Error()), e.Cure)
	}
	return err
}

// awaitEnd waits until a run is over, which its worker has announced.
func (s *Service) awaitEnd(r *run) bool {
	timer := time.NewTimer(2 * endWait)
	defer timer.Stop()
	select {
	case <-r.ended:
		return true
	case <-s.ctx.Done():
	case <-timer.C:
	}
	return false
}

func (s *Service) suspended(g *guest) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return g.power == hv.Suspended
}

// roomToSave refuses a save that the disk has no room for.
func (s *Service) roomToSave(ctx context.Context, g *guest) error {
	s.mu.Lock()
	need := hv.GiB
	if g.spec != nil {
		need = g.spec.Memory
	}
	s.mu.Unlock()
	if st := s.figures(ctx, g).last.stats; st.RSS > 0 {
		need = min(need, st.RSS)
	}
	free, err := s.opt.Host.DiskFree(g.dir)
	if err != nil {
		s.log.Warn("tell how much room a disk has", "path", g.dir, "err", err)
		return nil
	}
	if free < need+saveSlack {
		return refuse("save", fmt.Sprintf("the state of guest %q takes up to %s, and only %s are free in %s",
			g.name, sizeText(int64(need)), sizeText(int64(free)), g.dir), "free some space there")
	}
	return nil
}

// keepScreen keeps a picture of what the guest shows, for its thumbnail.
func (s *Service) keepScreen(ctx context.Context, g *guest) {
	var shot control.Screenshot
	if err := s.call(ctx, g, control.VerbScreenshot, nil, &shot); err != nil {
		return // it has no screen
	}
	if err := writeFile(g.files.SavedScreen(), shot.PNG); err != nil {
		s.log.Warn("keep a picture of a guest's screen", "guest", g.name, "err", err)
	}
}

// rest is the state of a guest that does not run: Suspended if its state was
// saved. s.mu is held.
func (g *guest) rest() hv.PowerState {
	g.savedAt, g.savedSize = time.Time{}, 0
	fi, err := g.saved()
	if err != nil || !g.sound() {
		return hv.Halted
	}
	g.savedAt, g.savedSize = fi.ModTime(), fi.Size()
	return hv.Suspended
}

// savedFile is what the guest goes on from, if it is there: its own saved state, or
// that of the template which it is a clone of.
func (g *guest) savedFile() string {
	if _, err := os.Stat(g.files.Saved()); err == nil {
		return g.files.Saved()
	}
	return g.files.Clone()
}

func (g *guest) saved() (os.FileInfo, error) { return os.Stat(g.savedFile()) }

// savedNotes shows what is saved.
func savedNotes(vm *api.VM, g *guest) {
	if g.power != hv.Suspended {
		return
	}
	vm.OtherConfig[api.KeySavedAt] = g.savedAt.UTC().Format(time.RFC3339)
	vm.OtherConfig[api.KeySavedSize] = strconv.FormatInt(g.savedSize, 10)
}

// discard deletes the saved state of a guest that the caller has claimed, and so
// does what pulling the plug does to a running one.
func (s *Service) discard(g *guest) error {
	lock, err := proc.TryLock(g.files.Lock())
	if err != nil {
		return refuse("discard", fmt.Sprintf("the saved state of guest %q is in use: %v", g.name, err), "wait until the guest has ended")
	}
	defer lock.Close()
	for _, f := range []string{g.files.Saved(), g.files.SavedScreen(), g.files.GoesOn(), g.files.Clone()} {
		if err := os.Remove(f); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("discard the saved state of guest %q: %w", g.name, err)
		}
	}
	savefile.SyncDir(g.files.Worker())
	savefile.SyncDir(g.dir)
	s.mu.Lock()
	defer s.mu.Unlock()
	g.power = g.rest()
	s.publish(g)
	s.log.Info("discarded a saved state", "guest", g.name)
	return nil
}

// restoreWait is how much longer than a boot going on from a saved state may take.
func restoreWait(g *guest) time.Duration {
	fi, err := g.saved()
	if err != nil {
		return 0
	}
	return time.Duration(fi.Size()/restoreRate) * time.Second
}
