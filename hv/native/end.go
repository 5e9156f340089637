package native

import "github.com/hxen-project/hxen/hv"

// end ends the machine, for the first reason that is told. It does not wait, and
// may be called anywhere.
func (m *Machine) end(reason hv.ExitReason, fault error) {
	m.mu.Lock()
	first := m.reason == ""
	if first {
		m.reason, m.fault = reason, fault
		close(m.ended)
	}
	m.mu.Unlock()
	if !first {
		return
	}
	m.gate.end()
	m.kick() // who does not run guest code now sees it before it does
}

// kick has all processors leave guest code, and waits that the guest asked for.
func (m *Machine) kick() {
	for _, p := range m.cpus {
		p.cpu.Kick()
		p.Wake()
	}
}

// Pause has the guest's processors stand still; it returns when they do. It
// reports whether they ran before. It waits for a Save that is going on.
func (m *Machine) Pause() bool {
	m.still.Lock()
	defer m.still.Unlock()
	return m.shut()
}

// Resume lets them go on. It reports whether they stood still. It waits for a
// Save that is going on.
func (m *Machine) Resume() bool {
	m.still.Lock()
	defer m.still.Unlock()
	m.fallen.Store(false)
	return m.open()
}

// shut has the processors stand still, and waits until they do; open lets them go
// on. They report whether that changed anything. still is held.
func (m *Machine) shut() bool {
	ran := m.gate.shut(m.kick)
	m.domain.Still(true)
	return ran
}

func (m *Machine) open() bool {
	m.domain.Still(false)
	return m.gate.open()
}

// over reports whether the machine has ended.
func (m *Machine) over() bool {
	select {
	case <-m.ended:
		return true
	default:
		return false
	}
}

// tearDown takes apart what has ended, of which anything may be missing. Nobody
// may use what goes: first the processors stand still, then Xen lets go of them
// and of the back ends, then the guest's memory has no users.
func (m *Machine) tearDown() {
	m.running.Wait()
	if m.domain != nil {
		m.domain.Close()
	}
	m.plugs.Lock()
	for _, d := range m.devices {
		d.back.Close()
	}
	m.plugs.Unlock()
	close(m.release)
	m.threads.Wait()
	if m.cancel != nil {
		m.cancel()
	}
	m.servers.Wait()
	if m.console != nil {
		m.console.Close()
	}
	if m.vm != nil {
		if err := m.vm.Close(); err != nil {
			m.log.Warn("close the machine", "err", err)
		}
	}
	m.mu.Lock()
	for _, r := range m.rams {
		if err := r.Close(); err != nil {
			m.log.Warn("free the guest's memory", "err", err)
		}
	}
	m.rams = nil
	m.mu.Unlock()
	if m.client != nil {
		m.client.Close()
	}
	close(m.gone)
}
