package qemu

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/hxen-project/hxen/hv"
)

// dumpTime is how long writing a crashed guest's memory may take, beside a time
// that grows with it.
const dumpTime = time.Minute

// ended begins what a policy asks for when the guest's system is at an end, and
// says what happens. stopped: nobody else ends QEMU.
func (m *Machine) ended(what, field, policy string, stopped bool) string {
	switch {
	case policy == hv.EndPreserve:
		return hv.Preserved(what, field)
	case hv.Dumps(policy):
		path := filepath.Join(m.host.Dir, hv.CoreName(time.Now()))
		go m.dump(path)
		return hv.Dumping(what, path)
	case stopped:
		go m.endCrashed()
	}
	return what
}

// watchdog is called when the guest has let its watchdog run out. Without a policy
// QEMU has reset it, as real computers do.
func (m *Machine) watchdog() {
	const what = "the guest's watchdog saw it hang"
	if m.spec.OnWatchdog == "" {
		m.events.Put(hv.Event{Kind: hv.EventNotice, Text: what + ", and restarted it"})
		return
	}
	m.mu.Lock()
	m.hung = true
	m.mu.Unlock()
	m.events.Put(hv.Event{Kind: hv.EventNotice, Text: m.ended(what, "on_watchdog", m.spec.OnWatchdog, true)})
}

// dump writes the guest's memory as an ELF core, for crash(8) and gdb, and ends
// the guest. A dump that fails leaves nothing but the word of it.
func (m *Machine) dump(path string) {
	limit := dumpTime + time.Duration(m.spec.Memory/restoreRate)*time.Second
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	part := path + ".part"
	err := m.mon.Do(ctx, "dump-guest-memory", map[string]any{"paging": false, "protocol": "file:" + part}, nil)
	if err == nil {
		err = os.Rename(part, path)
	}
	if err != nil {
		_ = os.Remove(part)
		m.host.Log.Error("write the memory of a crashed guest", "err", err)
		m.events.Put(hv.Event{Kind: hv.EventNotice, Text: hv.NotDumped(err)})
	}
	m.endCrashed()
}

func (m *Machine) endCrashed() {
	end, done := context.WithTimeout(context.Background(), 2*quitTime)
	defer done()
	if err := m.endQEMU(end); err != nil {
		m.host.Log.Error("end a crashed guest", "err", err)
	}
}
