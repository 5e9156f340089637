package qemu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/digitalocean/go-qemu/qmp"

	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/savefile"
)

// noLimit is a bandwidth in bytes per second that no host reaches.
const noLimit = 1 << 40

// errUnsaved: others could give QEMU a state, or take it, where it listens on a port.
var errUnsaved = fmt.Errorf("guests of type hvm cannot be saved on this computer, where Unix sockets do not work: %w", hv.ErrUnsupported)

// Save stops the guest, has QEMU migrate it into a file and ends QEMU. Until the
// file has its final name the guest can go on, and does if anything fails.
func (m *Machine) Save(ctx context.Context, path string, progress func(done, total int64)) error {
	if !m.saving.TryLock() {
		return fmt.Errorf("save the guest: it is being saved already: %w", hv.ErrUnavailable)
	}
	defer m.saving.Unlock()
	m.media.Lock() // what is in its drives stays there
	defer m.media.Unlock()
	if m.names.Migration == "" {
		return fmt.Errorf("save the guest: %w", errUnsaved)
	}
	if len(m.hot) > 0 {
		return fmt.Errorf("save the guest: it has disks or network cards that were plugged in while it ran, which a saved guest of type hvm cannot have: detach them, or restart it: %w", hv.ErrUnavailable)
	}
	m.mu.Lock()
	ran := m.state == hv.Running
	m.mu.Unlock()
	if err := m.Pause(ctx); err != nil {
		return fmt.Errorf("save the guest: %w", err)
	}
	err := m.saveTo(ctx, path, progress)
	if err == nil {
		// What can go on from the file may not go on here too, whatever ctx says.
		m.mu.Lock()
		m.saved = true
		m.mu.Unlock()
		end, cancel := context.WithTimeout(context.Background(), 2*quitTime)
		defer cancel()
		return m.verb("end the saved guest", m.endQEMU(end))
	}
	if ran {
		back, cancel := context.WithTimeout(context.Background(), 2*quitTime)
		defer cancel()
		if rerr := m.Resume(back); rerr != nil && !errors.Is(rerr, hv.ErrUnavailable) {
			err = errors.Join(err, rerr)
		}
	}
	return m.verb("save the guest", err)
}

func (m *Machine) saveTo(ctx context.Context, path string, progress func(done, total int64)) error {
	state, err := m.savedState(ctx)
	if err != nil {
		return err
	}
	return savefile.Write(ctx, path, saveEngine, func(f *os.File) (where savefile.Parts, err error) {
		w := &streamWriter{w: io.NewOffsetWriter(f, savefile.Begin), progress: progress, total: m.stateSize()}
		if err := m.migrateOut(ctx, w); err != nil {
			return where, err
		}
		// QEMU has let go of the images: nothing writes to them from here on.
		if state.Disks, err = savefile.Disks(m.host.Dir, state.Spec.Disks); err != nil {
			return where, err
		}
		where[savefile.Data] = savefile.Part{Off: savefile.Begin, N: uint64(w.done), Sum: w.sum}
		where[savefile.State], err = savefile.WriteState(f, savefile.Begin+uint64(w.done), state)
		return where, err
	})
}

func (m *Machine) savedState(ctx context.Context) (savedState, error) {
	var id struct {
		GUID string `json:"guid"`
	}
	if err := m.mon.Do(ctx, "query-vm-generation-id", nil, &id); err != nil {
		return savedState{}, err
	}
	h := savedState{
		At: time.Now().UTC(), QEMU: m.info.Version, Machine: m.info.Machine, Accel: m.info.Accelerator,
		Spec: m.spec, GenID: id.GUID, AgentOpen: m.agent.open.Load(),
	}
	h.Spec.Disks = slices.Clone(h.Spec.Disks)
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, now := range m.inserted {
		d := &h.Spec.Disks[i]
		d.VDI, d.Path, d.Format = now.VDI, now.Path, now.Format
	}
	return h, nil
}

// stateSize guesses how long the state gets: pages that the guest never touched
// take no room.
func (m *Machine) stateSize() int64 {
	if m.host.Usage != nil {
		if _, rss, err := m.host.Usage(m.info.PID); err == nil && rss > 0 && rss < m.spec.Memory {
			return int64(rss)
		}
	}
	return int64(m.spec.Memory)
}

// migrateOut has QEMU write its state to a socket of ours, and copies it to w.
func (m *Machine) migrateOut(ctx context.Context, w io.Writer) error {
	l, _, err := listen(m.names.Migration)
	if err != nil {
		return err
	}
	defer l.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the event stream
	events, err := m.migrationEvents(ctx)
	if err != nil {
		return err
	}
	for _, c := range []struct {
		command string
		args    map[string]any
	}{
		{"migrate-set-parameters", map[string]any{"max-bandwidth": noLimit}},
		{"migrate", map[string]any{"uri": "unix:" + m.names.Migration}},
	} {
		if err := m.mon.Do(ctx, c.command, c.args, nil); err != nil {
			return err
		}
	}
	err = m.receive(ctx, l, w)
	if err == nil {
		err = awaitMigration(ctx, events)
	}
	if err == nil {
		return nil
	}
	// The migration must be over before the guest may go on.
	undo, done := context.WithTimeout(context.Background(), 2*quitTime)
	defer done()
	if why := m.migrationError(undo); why != nil && !errors.Is(err, errDisk) && ctx.Err() == nil {
		err = why
	}
	if cerr := m.mon.Do(undo, "migrate_cancel", nil, nil); cerr != nil {
		m.host.Log.Warn("cancel the save", "err", cerr)
	}
	m.awaitIdle(undo)
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return err
}

// errDisk marks what went wrong on our side of the stream.
var errDisk = errors.New("write the file")

// receive copies the stream, to its end.
func (m *Machine) receive(ctx context.Context, l plug, w io.Writer) error {
	conn, err := m.child.accept(ctx, l)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	_, err = io.CopyBuffer(w, struct{ io.Reader }{conn}, make([]byte, 1<<20))
	return err
}

// migrationEvents asks QEMU to tell how a migration goes.
func (m *Machine) migrationEvents(ctx context.Context) (<-chan qmp.Event, error) {
	caps := map[string]any{"capabilities": []any{map[string]any{"capability": "events", "state": true}}}
	if err := m.mon.Do(ctx, "migrate-set-capabilities", caps, nil); err != nil {
		return nil, err
	}
	return m.mon.Events(ctx)
}

// awaitMigration waits for QEMU's word that a migration is over.
func awaitMigration(ctx context.Context, events <-chan qmp.Event) error {
	for {
		select {
		case e, ok := <-events:
			if !ok {
				if err := ctx.Err(); err != nil {
					return context.Cause(ctx)
				}
				return errClosed
			}
			if e.Event != "MIGRATION" {
				continue
			}
			switch status := text(e, "status"); status {
			case "completed":
				return nil
			case "failed", "cancelled":
				return errors.New("QEMU says that it has " + status)
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

type migrationInfo struct {
	Status string `json:"status"`
	Error  string `json:"error-desc"`
}

// migrationError is QEMU's own reason for a failed migration, if it has one.
func (m *Machine) migrationError(ctx context.Context) error {
	var v migrationInfo
	if err := m.mon.Do(ctx, "query-migrate", nil, &v); err != nil || v.Error == "" {
		return nil
	}
	return errors.New(printable(v.Error))
}

// awaitIdle waits until no migration is under way. Only a save that failed comes
// here, and QEMU tells its events to who listened before.
func (m *Machine) awaitIdle(ctx context.Context) {
	for ctx.Err() == nil {
		var v migrationInfo
		if err := m.mon.Do(ctx, "query-migrate", nil, &v); err != nil {
			return
		}
		switch v.Status {
		case "", "none", "completed", "failed", "cancelled":
			return
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// streamWriter counts and sums what passes, and tells how far it is.
type streamWriter struct {
	w        io.Writer
	sum      uint32
	done     int64
	total    int64
	told     int64
	progress func(done, total int64)
}

func (s *streamWriter) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	s.sum = savefile.Sum(s.sum, p[:n])
	s.done += int64(n)
	if err != nil {
		return n, fmt.Errorf("%w: %w", errDisk, err)
	}
	s.tell()
	return n, nil
}

func (s *streamWriter) tell() {
	if s.progress == nil || s.done < s.told {
		return
	}
	s.told = s.done + max(s.total/200, 1<<20)
	s.progress(s.done, max(s.total, s.done))
}
