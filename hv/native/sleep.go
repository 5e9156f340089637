package native

import (
	"context"
	"fmt"
	"math/bits"
	"time"

	"github.com/hxen-project/hxen/hv"
)

var _ hv.Resyncer = (*Guest)(nil)

// Resync sets the guest's clock right after the host has slept or its date was
// set. It waits for a Save that is going on.
func (g *Guest) Resync(context.Context) error {
	m, err := g.now("set the guest's clock")
	if err != nil {
		return err
	}
	return m.Resync()
}

// moment is one instant on three clocks.
type moment struct {
	awake time.Time     // the host's, which stands still while it sleeps
	slept time.Duration // what it has slept
	tsc   uint64        // the guest's
}

func (m *Machine) moment() moment {
	at := moment{awake: time.Now(), tsc: m.cpus[0].cpu.TSC()}
	if m.config.Slept != nil {
		at.slept = m.config.Slept()
	}
	return at
}

// missing is what the guest's counter lacks at now, in ticks of hz: all of the
// host's sleep since from, or nothing if the counter went on meanwhile. Which of
// them tells its distance from the host's clock, from which it drifts.
func (from moment) missing(now moment, hz uint64) uint64 {
	slept := now.slept - from.slept
	hi, lo := bits.Mul64(now.tsc-from.tsc, uint64(time.Second))
	if slept <= 0 || hi >= hz {
		return 0
	}
	counted, _ := bits.Div64(hi, lo, hz)
	if lacks := now.awake.Sub(from.awake) + slept - time.Duration(counted); lacks < slept/2 {
		return 0
	}
	hi, lo = bits.Mul64(uint64(slept), hz)
	ticks, _ := bits.Div64(hi, lo, uint64(time.Second))
	return ticks
}

// compareEvery bounds how far the guest's counter and the host's clock have
// drifted apart when missing compares them.
const compareEvery = time.Hour

// compare begins anew, unless the host has slept and Resync is to come.
func (m *Machine) compare() {
	if !m.still.TryLock() {
		return
	}
	defer m.still.Unlock()
	if now := m.moment(); now.slept == m.since.slept {
		m.since = now
	}
}

// Resync has the guest's clock go on as if it had not stood still in the host's
// sleep, and what the guest waits for come when it is due. The guest then sees its
// processors' time pass as under a host that was busy.
func (m *Machine) Resync() error {
	if err := m.use(); err != nil {
		return err
	}
	defer m.servers.Done()
	m.still.Lock()
	defer m.still.Unlock()
	if m.shut() {
		defer m.open()
	}
	if err := m.shiftTSC(0); err != nil {
		return err
	}
	now := m.moment()
	if ticks := m.since.missing(now, m.caps.TSCHz); ticks > 0 {
		if err := m.shiftTSC(ticks); err != nil {
			return err
		}
		now.tsc += ticks
	}
	m.since = now
	m.domain.Resync()
	return nil
}

// shiftTSC has each processor's counter jump, on its thread. They stand still.
func (m *Machine) shiftTSC(ticks uint64) error {
	for _, p := range m.cpus {
		if err := p.ask(func() error { return p.cpu.ShiftTSC(ticks) }); err != nil {
			return fmt.Errorf("set the clock of processor %d: %w", p.id, err)
		}
	}
	return nil
}

// ask has the processor's thread do f while it stands still.
func (p *processor) ask(f func() error) error {
	done := make(chan error, 1)
	p.m.gate.ask(p.id, func() { done <- f() })
	select {
	case err := <-done:
		return err
	case <-p.m.ended:
		return errEnded
	}
}
