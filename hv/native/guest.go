package native

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/accel"
	"github.com/hxen-project/hxen/hv/backend/blk"
	"github.com/hxen-project/hxen/hv/backend/fb"
	"github.com/hxen-project/hxen/hv/backend/net"
	"github.com/hxen-project/hxen/hv/bootdisk"
	"github.com/hxen-project/hxen/hv/xen"
)

// Guest is one guest from its start to its end: a Machine, and after each restart
// another one in its place.
type Guest struct {
	spec      hv.Spec
	host      hv.Host
	config    Config
	hyp       accel.Hypervisor
	files     []*os.File
	events    *hv.EventQueue
	line      *line
	screen    *fb.Screen // nil: the guest has none
	isolation string     // fixed before the guest begins
	gone      chan struct{}
	reason    hv.ExitReason // valid after gone
	fault     error         // valid after gone

	// What loading from the guest's own disks takes: the disks, a context that ends
	// with the guest's power, and what is open until the machine has started.
	bootDisks []bootdisk.Disk // fixed once the devices are open
	ctx       context.Context
	cancel    context.CancelFunc
	boot      []io.Closer

	mu        sync.Mutex
	disks     map[string]*blk.Disk // guarded by mu; by uuid
	cards     map[string]*net.Card // guarded by mu; by uuid
	places    map[string]int       // guarded by mu; the guest's numbers of its disks and cards, by uuid
	media     map[string]string    // guarded by mu; paths that are in CD drives now instead of the Spec's, by the disk's uuid
	machine   *Machine             // guarded by mu; the present one
	resets    bool                 // guarded by mu; its end is our reset
	destroyed bool                 // guarded by mu; there shall be no other
	finished  bool                 // guarded by mu; there will be no other
}

var (
	_ hv.Machine      = (*Guest)(nil)
	_ hv.Consoler     = (*Guest)(nil)
	_ hv.MediaChanger = (*Guest)(nil)
	_ hv.Saver        = (*Guest)(nil)
)

func newGuest(s hv.Spec, h hv.Host) *Guest {
	g := &Guest{
		spec: s, host: h, events: hv.NewEventQueue(), line: newLine(),
		disks: map[string]*blk.Disk{}, cards: map[string]*net.Card{}, gone: make(chan struct{}), media: map[string]string{}, places: map[string]int{},
	}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	return g
}

// confine takes from this process what only a launch needs; a restart of the
// guest gets on without.
func (g *Guest) confine() error {
	g.closeSaved() // the host may delete it, which Windows does not do with what is open
	if g.host.Confine == nil {
		return nil
	}
	walls, err := g.host.Confine()
	if err != nil {
		return staged(stageIsolation, err, "")
	}
	g.isolation = walls
	return nil
}

// closeSaved closes the file that the guest goes on from, if there is one.
func (g *Guest) closeSaved() {
	if g.config.Saved == nil {
		return
	}
	if err := g.config.Saved.Close(); err != nil {
		g.host.Log.Warn("close the saved guest", "err", err)
	}
	g.config.Saved = nil
}

// free gives back what prepare has opened.
func (g *Guest) free() {
	g.cancel()
	g.closeBoot()
	for _, d := range g.config.Devices {
		if err := d.Close(); err != nil {
			g.host.Log.Warn("close a device of the guest", "err", err)
		}
	}
	for _, f := range g.files {
		if err := f.Close(); err != nil {
			g.host.Log.Warn("close a file of the guest", "err", err)
		}
	}
	g.closeSaved()
	if g.hyp != nil {
		if err := g.hyp.Close(); err != nil {
			g.host.Log.Warn("close the accelerator", "err", err)
		}
	}
}

// abandon is free for a launch that failed.
func (g *Guest) abandon() {
	g.events.Abandon()
	g.free()
}

// begin follows the guest's first machine.
func (g *Guest) begin(m *Machine) {
	g.closeBoot()
	g.machine = m
	g.line.plug(m.console)
	go g.follow()
}

// follow is the guest's life after its launch.
func (g *Guest) follow() {
	for {
		g.mu.Lock()
		m := g.machine
		g.mu.Unlock()
		if g.reason, g.fault = m.Wait(); g.reason == hv.ExitReboot {
			g.reason, g.fault = g.restart(m)
		}
		if g.reason != "" {
			break
		}
	}
	g.mu.Lock()
	g.finished = true
	g.mu.Unlock()
	g.line.cut()
	g.events.Put(hv.Event{Kind: hv.EventState, State: hv.Halted})
	g.free()
	g.events.Close()
	close(g.gone)
}

// restart starts the guest's next machine after one that ended by a restart,
// unless there is to be none; the reason is then how the guest ended. A guest that
// boots from its disk has it read again: it may have put another kernel there.
func (g *Guest) restart(old *Machine) (hv.ExitReason, error) {
	if reason := g.mayRestart(); reason != "" {
		return reason, nil
	}
	g.mu.Lock()
	c := g.config
	g.mu.Unlock()
	if g.spec.Boot.Kernel == "" {
		err := g.loadFromDisk(g.ctx, &c)
		defer g.closeBoot()
		if err != nil && g.ctx.Err() == nil {
			return hv.ExitFailed, fmt.Errorf("restart the guest: %w", err)
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.destroyed {
		return hv.ExitDestroyed, nil
	}
	g.resets = false
	if c.Kernel == nil {
		return hv.ExitFailed, errors.New("restart the guest: its kernel could not be opened when it was restored")
	}
	c.Hold = old.gate.held()
	c.Devices = g.config.Devices // some may have come or gone meanwhile
	m, err := Start(g.hyp, c)
	if err != nil {
		return hv.ExitFailed, fmt.Errorf("restart the guest: %w", err)
	}
	g.machine = m
	g.line.plug(m.console)
	return "", nil
}

// mayRestart tells of a restart, and why there is to be none.
func (g *Guest) mayRestart() hv.ExitReason {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.destroyed:
		return hv.ExitDestroyed
	case g.resets:
		return ""
	}
	g.events.Put(hv.Event{Kind: hv.EventReboot, Text: "the guest restarted itself"})
	if g.spec.OnReboot == "destroy" {
		return hv.ExitReboot
	}
	return ""
}

func (g *Guest) notice(text string) { g.events.Put(hv.Event{Kind: hv.EventNotice, Text: text}) }

// now is the present machine, or why there is none.
func (g *Guest) now(verb string) (*Machine, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.finished {
		return nil, fmt.Errorf("%s: the guest has ended: %w", verb, hv.ErrUnavailable)
	}
	return g.machine, nil
}

// Info tells what the guest runs on.
func (g *Guest) Info() hv.MachineInfo {
	return hv.MachineInfo{
		Engine: "native", Accelerator: g.hyp.Name(),
		Version:   fmt.Sprintf("Xen %d.%d", xen.Version>>16, xen.Version&0xffff),
		Isolation: g.isolation,
	}
}

// Events is the stream of events.
func (g *Guest) Events() <-chan hv.Event { return g.events.Out() }

// Console is the guest's hvc0.
func (g *Guest) Console() io.ReadWriter { return g.line }

// Pause has the guest's processors stand still. The guest's clock goes on, as it
// does under Xen.
func (g *Guest) Pause(context.Context) error {
	m, err := g.now("pause the guest")
	if err == nil && m.Pause() {
		g.events.Put(hv.Event{Kind: hv.EventState, State: hv.Paused})
	}
	return err
}

// Resume lets them go on.
func (g *Guest) Resume(context.Context) error {
	m, err := g.now("resume the guest")
	if err == nil && m.Resume() {
		g.events.Put(hv.Event{Kind: hv.EventState, State: hv.Running})
		g.retryDisks()
	}
	return err
}

// Save writes the guest into a file and ends it.
func (g *Guest) Save(ctx context.Context, path string, progress func(done, total int64)) error {
	m, err := g.now("save the guest")
	if err != nil {
		return err
	}
	return m.Save(ctx, path, progress)
}

// Stop asks the guest to stop or restart, or takes its power. Only the latter
// waits for the end.
func (g *Guest) Stop(ctx context.Context, how hv.StopHow) error {
	m, err := g.now("stop the guest")
	if how != hv.PowerOff {
		if err != nil {
			return err
		}
		return m.Ask(how == hv.AskReboot)
	}
	g.destroy()
	select {
	case <-g.gone:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("power the guest off: %w", ctx.Err())
	}
}

// destroy takes the guest's power, and keeps it from a restart.
func (g *Guest) destroy() {
	g.cancel()
	g.mu.Lock()
	g.destroyed = true
	m := g.machine
	g.mu.Unlock()
	m.end(hv.ExitDestroyed, nil)
}

// Reset presses the reset button. A paused guest stays paused.
func (g *Guest) Reset(context.Context) error {
	m, err := g.now("reset the guest")
	if err != nil {
		return err
	}
	g.mu.Lock()
	g.resets = g.machine == m
	g.mu.Unlock()
	m.end(hv.ExitReboot, nil)
	return nil
}

// Stats are the worker's own use of the host, which is the guest's.
func (g *Guest) Stats(context.Context) (hv.Stats, error) {
	m, err := g.now("read the guest's counters")
	if err != nil {
		return hv.Stats{}, err
	}
	s := hv.Stats{Memory: g.spec.Memory - m.domain.Returned(), Disks: map[string]hv.DiskStats{}, NICs: map[string]hv.NICStats{}}
	g.mu.Lock()
	devices := g.config.Devices
	g.mu.Unlock()
	for _, d := range devices {
		d.Count(&s)
	}
	if g.host.Usage != nil {
		var err error
		if s.CPU, s.RSS, err = g.host.Usage(os.Getpid()); err != nil {
			return s, fmt.Errorf("read the guest's use of the host: %w", err)
		}
	}
	return s, nil
}

// Wait returns how the guest ended. Events must be read to its end meanwhile.
func (g *Guest) Wait() (hv.ExitReason, error) {
	<-g.gone
	return g.reason, g.fault
}

// Close takes the guest's power if it still runs and frees everything. Events
// that nobody read are dropped.
func (g *Guest) Close() error {
	g.destroy()
	g.events.Abandon()
	<-g.gone
	return nil
}
