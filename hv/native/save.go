package native

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/accel"
	"github.com/hxen-project/hxen/hv/savefile"
	"github.com/hxen-project/hxen/hv/xenstore"
)

// settleTime is how long a guest that says it can has for bringing itself to
// rest before it is saved without.
const settleTime = 20 * time.Second

// Save writes the machine's whole state to path, under another name beside it
// first, and then ends the machine with hv.ExitSaved. On an error, or when ctx
// ends, the guest goes on as it was, and path is untouched.
//
// Nothing in the guest has to help. A guest that says it can (Linux does) is
// asked to suspend itself first, as Xen's tools do; it then sets its clock when
// it goes on. All others go on with the time of day that they were saved at.
func (m *Machine) Save(ctx context.Context, path string, progress func(done, total int64)) error {
	if err := m.use(); err != nil {
		return fmt.Errorf("save the guest: %w", err)
	}
	defer m.servers.Done()
	m.plugs.Lock() // what is plugged in stays so
	defer m.plugs.Unlock()
	m.still.Lock()
	defer m.still.Unlock()
	ran := m.settle(ctx)
	devices, rest, err := m.hold()
	if err == nil {
		err = m.save(ctx, path, rest.store, progress)
	}
	if err == nil {
		m.end(hv.ExitSaved, nil) // the devices stay as they are: what they do now is undone
	} else {
		devices()
	}
	rest.release()
	if err != nil {
		if ran {
			m.open()
		}
		return fmt.Errorf("save the guest: %w", err)
	}
	return nil
}

// use keeps the machine from being taken apart until servers.Done.
func (m *Machine) use() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.reason != "" {
		return errEnded
	}
	m.servers.Add(1)
	return nil
}

// settle has the processors stand still, at the guest's own suspend if it can.
// It reports whether they ran.
func (m *Machine) settle(ctx context.Context) (ran bool) {
	if m.gate.held() {
		m.shut()
		return false
	}
	control := xenstore.Home(domid) + "/control/"
	if can, _ := m.client.Read(control + "feature-suspend"); can == "1" {
		m.askSuspend(ctx, control+"shutdown")
	}
	m.shut()
	return true
}

// askSuspend writes the request and waits for the call that the guest answers
// with, which shuts the gate; or takes the request back.
func (m *Machine) askSuspend(ctx context.Context, node string) {
	m.asked.Store(true)
	timer := time.NewTimer(settleTime)
	defer timer.Stop()
	if err := m.client.Write(node, "suspend"); err != nil {
		m.log.Warn("ask the guest to suspend itself", "err", err)
		timer.Reset(0)
	}
	select {
	case <-m.suspended:
		return
	case <-timer.C:
	case <-ctx.Done():
	case <-m.ended:
	}
	if !m.asked.CompareAndSwap(true, false) {
		<-m.suspended // it came just now
		return
	}
	m.log.Info("the guest did not suspend itself, and is saved as it is")
	err := m.client.Do(func(t *xenstore.Tx) error {
		if now, err := t.Read(node); err != nil || now != "suspend" {
			return err
		}
		return t.Write(node, "")
	})
	if err != nil {
		m.log.Warn("take back the request to suspend", "err", err)
	}
}

// onSuspend is the guest's SCHEDOP_shutdown for suspending itself.
func (m *Machine) onSuspend() {
	if m.asked.CompareAndSwap(true, false) {
		m.gate.close()
		m.suspended <- struct{}{}
	}
}

// heldStore is XenStore's state, with it and the console standing still.
type heldStore struct {
	store   xenstore.State
	release func()
}

// hold has the back ends stand still. What they do last they may still tell the
// processors of, and what those are told is in their own state.
func (m *Machine) hold() (devices func(), rest heldStore, err error) {
	var held []func()
	devices = func() {
		for _, free := range held {
			free()
		}
	}
	rest.release = func() {}
	for _, d := range m.devices {
		free, err := d.back.Hold()
		if err != nil {
			return devices, rest, err
		}
		held = append(held, free)
	}
	console := m.console.Hold()
	store, ring := m.ring.Hold()
	return devices, heldStore{store, func() { ring(); console() }}, nil
}

// save writes the file while everything stands still.
func (m *Machine) save(ctx context.Context, path string, store xenstore.State, progress func(done, total int64)) error {
	s, err := m.state()
	if err != nil {
		return err
	}
	s.Store = store
	ctx, done := m.alive(ctx)
	defer done()
	err = savefile.Write(ctx, path, saveEngine, func(f *os.File) (savefile.Parts, error) {
		return writeSave(ctx, f, s, m.memories(), progress)
	})
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return err
}

// alive is ctx until the machine ends, or done.
func (m *Machine) alive(ctx context.Context) (_ context.Context, done func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-m.ended:
			cancel(errEnded)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}

// state is all but XenStore's and the memory. The processors stand still.
func (m *Machine) state() (saved, error) {
	s := saved{
		UUID: m.config.UUID, Name: m.config.Name, VCPUs: m.config.VCPUs, Memory: m.config.Memory,
		Backend: m.hyp.Name(), Patched: m.caps.Patched, CPUID: m.cpuid, TSCHz: m.caps.TSCHz, Incarnation: m.incarnation,
	}
	if m.config.Outside != nil {
		var err error
		if s.Outside, err = m.config.Outside(); err != nil {
			return s, err
		}
	}
	m.patch.Lock()
	s.KernelFound = m.patched
	m.patch.Unlock()
	m.mu.Lock()
	for _, g := range m.grown {
		s.Grown = append(s.Grown, g.gpa)
	}
	m.mu.Unlock()
	for _, p := range m.cpus {
		st, err := p.state()
		if err != nil {
			return s, err
		}
		s.Processors = append(s.Processors, st)
	}
	s.Domain = m.domain.Save()
	return s, nil
}

var errEnded = fmt.Errorf("the guest has ended: %w", hv.ErrUnavailable)

// state asks the processor's thread for its state.
func (p *processor) state() (accel.State, error) {
	var st accel.State
	err := p.ask(func() (err error) {
		st, err = p.cpu.State()
		return err
	})
	if err != nil { // st may still be written
		return accel.State{}, err
	}
	return st, nil
}

// memories are the guest's, in the order of the file.
func (m *Machine) memories() [][]byte {
	out := [][]byte{m.ram.Bytes(), m.special.Bytes()}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, g := range m.grown {
		out = append(out, g.ram.Bytes())
	}
	return out
}
