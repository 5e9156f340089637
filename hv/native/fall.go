package native

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/hxen-project/hxen/hv"
)

// crash ends the guest for what it did, in a few words.
func (m *Machine) crash(why string) {
	m.fall(hv.ExitCrash, "the guest crashed: "+why, "on_crash", m.config.OnCrash)
}

// hung ends a guest whose watchdog has said that it hangs.
func (m *Machine) hung() {
	m.fall(hv.ExitWatchdog, "the guest's watchdog saw it hang", "on_watchdog", m.config.OnWatchdog)
}

// fall does with a guest that is at its end what its policy says: it is over, it
// stands still, or its memory is written into a file first. It does not wait.
func (m *Machine) fall(reason hv.ExitReason, what, field, policy string) {
	if m.over() || !m.fallen.CompareAndSwap(false, true) {
		return
	}
	m.log.Warn(what)
	tell := func(text string) {
		if m.config.Notice != nil {
			m.config.Notice(text)
		}
	}
	switch {
	case policy == hv.EndPreserve:
		tell(hv.Preserved(what, field))
		m.stopHere()
	case hv.Dumps(policy):
		path := filepath.Join(m.config.Work, hv.CoreName(time.Now()))
		tell(hv.Dumping(what, path))
		m.stopHere()
		go func() {
			if err := m.dump(path); err != nil && !m.over() {
				m.log.Error("write the memory of a guest that is at its end", "err", err)
				tell(hv.NotDumped(err))
			}
			m.end(reason, nil)
		}()
	default:
		tell(what)
		m.end(reason, nil)
	}
}

// stopHere has the processors stand still and does not wait: the caller may be one.
// It is told first, so that the word of a Resume comes after it.
func (m *Machine) stopHere() {
	if m.config.Stopped != nil {
		m.config.Stopped()
	}
	m.gate.close()
	m.kick()
	m.domain.Still(true)
}

// dump writes the guest's memory and registers into an ELF core at path, or nothing.
func (m *Machine) dump(path string) error {
	if err := m.use(); err != nil {
		return err
	}
	defer m.servers.Done()
	m.still.Lock()
	defer m.still.Unlock()
	m.shut()
	ctx, done := m.alive(context.Background())
	defer done()
	var cpus []coreCPU
	for _, p := range m.cpus {
		err := p.ask(func() error {
			r, err := p.cpu.Regs()
			cpus = append(cpus, newCoreCPU(p.id, r))
			return err
		})
		if err != nil {
			return fmt.Errorf("read the registers of processor %d: %w", p.id, err)
		}
	}
	return writeCore(ctx, path, cpus, m.coreLoads(), m.memories())
}
