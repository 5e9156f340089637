package qemu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"time"

	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/savefile"
)

const stageSaved = "saved state"

// restoreRate is what a slow disk still reads, in bytes per second: it stretches
// the time that a launch may take.
const restoreRate = 8 << 20

// restoreTime is how much longer than a boot going on from path may take.
func restoreTime(path string) time.Duration {
	if fi, err := os.Stat(path); err == nil {
		return time.Duration(fi.Size()/restoreRate) * time.Second
	}
	return 0
}

// openSaved opens the state that h.Restore names, if any, and checks that it is
// of this guest as it is now.
func openSaved(s hv.Spec, h hv.Host) (_ *saved, closer func(), err error) {
	if h.Restore == "" {
		return nil, func() {}, nil
	}
	f, err := savefile.Open(h.Restore, saveEngine)
	if err != nil {
		return nil, nil, staged(stageSaved, err, savefile.DiscardCure)
	}
	sv, err := readSaved(f)
	if err != nil {
		err = fmt.Errorf("the saved state %s cannot be used: %w", h.Restore, err)
	} else {
		err = sv.differs(s, h.Dir, h.Force)
	}
	if err != nil {
		_ = f.Close()
		return nil, nil, staged(stageSaved, err, savefile.DiscardCure)
	}
	return sv, func() { _ = f.Close() }, nil
}

// only narrows the accelerators to the one that a state was saved with: a guest
// cannot go on with another processor.
func (s *saved) only(usable []string) ([]string, error) {
	if s == nil || slices.Contains(usable, s.head.Accel) {
		if s != nil {
			usable = []string{s.head.Accel}
		}
		return usable, nil
	}
	return nil, staged(stageSaved, fmt.Errorf("the guest was saved while it ran with the accelerator %s, which cannot be used here now", s.head.Accel),
		"make that accelerator work again (hxen doctor says how), or discard the saved state")
}

// machine is the machine type that a state needs.
func (s *saved) machine(c caps) error {
	if s == nil || slices.Contains(c.Machines, s.head.Machine) {
		return nil
	}
	return staged(stageSaved, fmt.Errorf("the guest was saved on QEMU's machine %s, which the installed QEMU %s does not have", s.head.Machine, c.Version),
		"install the QEMU that it was saved with ("+s.head.QEMU+"), or discard the saved state")
}

// load has QEMU, which waits for it, take the state in. The guest stands still then.
func (m *Machine) load(ctx context.Context, sv *saved) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the event stream
	events, err := m.migrationEvents(ctx)
	if err != nil {
		return err
	}
	if err := m.mon.Do(ctx, "migrate-incoming", map[string]any{"uri": "unix:" + m.names.Migration}, nil); err != nil {
		return err
	}
	if err := m.send(ctx, sv); err != nil {
		return err
	}
	if err := awaitMigration(ctx, events); err != nil {
		if why := m.migrationError(ctx); why != nil {
			err = why
		}
		return err
	}
	m.agent.setOpen(sv.head.AgentOpen)
	return nil
}

// send writes the state to QEMU's socket and checks that it is what was saved.
func (m *Machine) send(ctx context.Context, sv *saved) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", m.names.Migration)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	w := &streamWriter{w: conn, total: sv.stream.Size(), progress: func(done, total int64) {
		if m.host.Progress != nil {
			m.host.Progress("restoring", done, total)
		}
	}}
	if _, err := io.CopyBuffer(w, struct{ io.Reader }{sv.stream}, make([]byte, 1<<20)); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if why := m.migrationError(ctx); why != nil {
			return why
		}
		return err
	}
	if w.sum != sv.file.Parts[savefile.Data].Sum {
		return errors.New("the saved state is damaged: its checksum is wrong")
	}
	return nil
}
