package qemu

import (
	"errors"
	"fmt"
	"time"

	"github.com/hxen-project/hxen/hv"
)

// watch waits for QEMU's end, says how the guest ended and clears up. It is the
// only one that writes exit and fault.
func (m *Machine) watch() {
	<-m.child.done
	// The last events are still in the socket; its end is certain now.
	_ = m.mon.conn.SetReadDeadline(time.Now().Add(exitGrace))
	<-m.mon.Done()
	m.hangUp()
	m.names.remove()
	m.exit, m.fault = m.reason()
	m.setState(hv.Halted)
	m.events.Close()
	close(m.gone)
}

// reason maps what QEMU said last (ShutdownCause in qapi/run-state.json) and how
// its process ended.
func (m *Machine) reason() (hv.ExitReason, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.saved {
		return hv.ExitSaved, nil
	}
	switch m.shutdown {
	case "guest-shutdown":
		return hv.ExitPoweroff, nil
	case "guest-panic":
		return hv.ExitCrash, nil
	}
	switch {
	case m.rebooted:
		return hv.ExitReboot, nil
	case m.destroyed:
		return hv.ExitDestroyed, nil
	case m.hung:
		return hv.ExitWatchdog, nil
	case m.panicked:
		return hv.ExitCrash, nil
	case m.shutdown == "host-qmp-quit":
		return hv.ExitDestroyed, nil
	case m.shutdown == "host-signal":
		return hv.ExitFailed, errors.New("QEMU was told to end by another program (a signal); the guest lost its power")
	case m.shutdown != "":
		return hv.ExitFailed, fmt.Errorf("QEMU ended the guest (%s)", printable(m.shutdown))
	}
	why := m.child.failure()
	why.Err = fmt.Errorf("the guest lost its power: %w", why.Err)
	return hv.ExitFailed, why
}
