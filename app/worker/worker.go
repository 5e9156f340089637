// Package worker runs one guest: it picks the engine, launches the machine,
// serves the control socket that the service dials, keeps the serial line's
// scroll-back, and writes state.json. It outlives the service.
//
// It knows no operating system: what it needs of one comes in through Options
// and hv.Host, filled in by the main program.
package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hxen-project/hxen/app/control"
	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/savefile"
)

// StateVersion is the version of state.json.
const StateVersion = 1

// launchWait is how long a worker waits for its launch before it gives up: the
// service that started it has died.
const launchWait = 30 * time.Second

// farewell is how long a worker whose launch failed waits to be told to quit.
const farewell = 5 * time.Second

// Options are what main hands in.
type Options struct {
	UUID    string
	Version string
	Engines map[hv.GuestType]hv.Engine
	// Host is the port to the outside without the parts that a launch brings
	// (QEMU, Accel) and without Progress.
	Host hv.Host
	// StateFile and ConsoleLog are files in the guest's folder.
	StateFile, ConsoleLog string
	// SavedFile is where the guest's state is saved; SavedFiles are all that
	// belong to a saved state, deleted when the guest has gone on from it.
	SavedFile  string
	SavedFiles []string
	CloneFile  string // the saved state of another guest that this one, its clone, goes on from once
	Listener   net.Listener
	Allowed    func(net.Conn) error // who may connect
	Self       control.Process
	// ModelStart returns the start token of the device model's process.
	ModelStart func(pid int) string
	// NICSocket names the socket of the guest's n-th network card.
	NICSocket func(n int) string
	// Relay listens on a card's socket and carries its frames to its network's.
	Relay func(nic hv.NIC, socket, frames string) (NetRelay, error)
	// Confine gives up what a worker of this guest does not need while the guest
	// runs, and names the walls that then stand.
	Confine func(hv.Spec) (string, error)
	// Woken tells after the host has slept, or its date was set; nil: never.
	Woken <-chan struct{}
}

// NetRelay carries the frames of one network card.
type NetRelay interface {
	Stats() hv.NICStats
	Close() error
}

// Worker is the one guest.
type Worker struct {
	opt    Options
	log    *slog.Logger
	events *control.EventLog
	end    context.CancelFunc // ends Run

	mu       sync.Mutex // guards the fields below
	status   control.Status
	machine  hv.Machine
	console  *console
	relays   map[string]NetRelay // by NIC uuid
	cards    int                 // the highest number of a card's socket
	launched bool                // a launch was asked for, at most once
	unsave   bool                // the saved state that the guest went on from is still there
	saving   context.CancelFunc  // ends the save under way; nil if there is none
}

// Run serves until the guest has ended, or no launch came. Cancelling ctx pulls
// the guest's plug in an orderly way.
func Run(ctx context.Context, opt Options) error {
	ctx, end := context.WithCancel(ctx)
	defer end()
	w := &Worker{opt: opt, log: opt.Host.Log, events: control.NewEventLog(), end: end, relays: map[string]NetRelay{}}
	w.status = control.Status{Version: StateVersion, State: hv.Halted, Worker: opt.Self}
	unlaunched := time.AfterFunc(launchWait, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if !w.launched {
			w.log.Warn("nobody asked for a launch; ending")
			end()
		}
	})
	defer unlaunched.Stop()

	var conns sync.WaitGroup
	conns.Go(func() { w.accept(ctx, &conns) })
	go func() {
		for range opt.Woken {
			w.resync()
		}
	}()
	<-ctx.Done()
	w.powerOff()
	opt.Listener.Close()
	conns.Wait()
	return nil
}

func (w *Worker) accept(ctx context.Context, conns *sync.WaitGroup) {
	srv := &control.Server{
		Hello: control.Hello{
			Protocol: control.Protocol, Min: control.MinProtocol,
			Program: "hxen-worker", Version: w.opt.Version, UUID: w.opt.UUID, PID: w.opt.Self.PID,
		},
		Handler: w, Log: w.events,
	}
	for {
		nc, err := w.opt.Listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			w.log.Error("accept a control connection", "err", err)
			w.end()
			return
		}
		if err := w.opt.Allowed(nc); err != nil {
			w.log.Warn("refused a control connection", "err", err)
			nc.Close()
			continue
		}
		conns.Go(func() {
			if err := srv.ServeConn(ctx, nc); err != nil && ctx.Err() == nil {
				w.log.Debug("control connection ended", "err", err)
			}
		})
	}
}

// Handle answers one request of the service.
func (w *Worker) Handle(ctx context.Context, verb string, params json.RawMessage) (any, error) {
	switch verb {
	case control.VerbLaunch:
		var l control.Launch
		if err := json.Unmarshal(params, &l); err != nil {
			return nil, fmt.Errorf("read the launch: %w", err)
		}
		return w.launch(ctx, l)
	case control.VerbStatus:
		return w.snapshot(), nil
	case control.VerbStop:
		return nil, w.quit()
	}
	m, err := w.running()
	if err != nil {
		return nil, err
	}
	switch verb {
	case control.VerbPause:
		return nil, m.Pause(ctx)
	case control.VerbResume:
		return nil, m.Resume(ctx)
	case control.VerbSave:
		return nil, w.saveGuest(ctx, m)
	case control.VerbResync:
		r, ok := m.(hv.Resyncer)
		if !ok {
			return nil, lacking("set the guest's clock")
		}
		return nil, r.Resync(ctx)
	case control.VerbSaveCancel:
		w.cancelSave()
		return nil, nil
	case control.VerbReset:
		return nil, m.Reset(ctx)
	case control.VerbPower:
		var p control.Power
		if err := json.Unmarshal(params, &p); err != nil {
			return nil, err
		}
		return nil, m.Stop(ctx, p.How)
	case control.VerbStats:
		return w.stats(ctx, m)
	case control.VerbMedia:
		return nil, w.changeMedia(ctx, m, params)
	case control.VerbKeys:
		return nil, sendKeys(ctx, m, params)
	case control.VerbScreenshot:
		return screenshot(ctx, m)
	case control.VerbResize:
		return nil, resize(ctx, m, params)
	case control.VerbAttach:
		return nil, w.attach(ctx, m, params)
	case control.VerbDetach:
		return nil, w.detach(ctx, m, params)
	case control.VerbGuestInfo:
		return guestInfo(ctx, m)
	}
	return nil, fmt.Errorf("verb %q: %w by this version", verb, hv.ErrUnsupported)
}

// OpenStream opens the screen or the serial line for one client.
func (w *Worker) OpenStream(ctx context.Context, kind string) (io.ReadWriteCloser, error) {
	m, err := w.running()
	if err != nil {
		return nil, err
	}
	switch kind {
	case control.StreamRFB:
		d, ok := m.(hv.Displayer)
		if !ok {
			return nil, fmt.Errorf("this guest has no screen: %w", hv.ErrUnavailable)
		}
		return d.OpenDisplay(ctx)
	case control.StreamVT100:
		w.mu.Lock()
		c := w.console
		w.mu.Unlock()
		if c == nil {
			return nil, fmt.Errorf("this guest has no serial line: %w", hv.ErrUnavailable)
		}
		return c.attach(), nil
	}
	return nil, fmt.Errorf("stream %q: %w", kind, hv.ErrUnsupported)
}

// launch runs once in a worker's life.
func (w *Worker) launch(ctx context.Context, l control.Launch) (control.Status, error) {
	w.mu.Lock()
	if w.launched {
		w.mu.Unlock()
		return control.Status{}, fmt.Errorf("this worker has launched its guest already")
	}
	w.launched = true
	w.status.Launching, w.status.DomID, w.status.Started = true, l.DomID, time.Now().UTC()
	w.status.Spec = l.Spec.Clone()
	w.mu.Unlock()

	m, err := w.start(ctx, l)
	if err != nil {
		w.finish(&control.Exit{Reason: hv.ExitFailed, Stage: stageOf(err), Text: textOf(err), Cure: cureOf(err)})
		time.AfterFunc(farewell, w.end)
		return control.Status{}, err
	}
	return m, nil
}

func (w *Worker) start(ctx context.Context, l control.Launch) (control.Status, error) {
	engine := w.opt.Engines[l.Spec.Type]
	if engine == nil {
		return control.Status{}, &hv.StageError{Stage: "engine", Err: fmt.Errorf("no engine runs guests of type %s: %w", l.Spec.Type, hv.ErrUnsupported)}
	}
	if err := engine.Check(l.Spec); err != nil {
		return control.Status{}, err
	}
	host := w.opt.Host
	host.QEMU, host.Accel, host.Hold = l.QEMU, l.Accel, l.Paused
	if l.Spec.Base != "" {
		host.Base = filepath.Join(filepath.Dir(host.Dir), l.Spec.Base)
	}
	if l.Restore {
		host.Restore, host.Force = w.opt.SavedFile, l.Force
		if _, err := os.Stat(w.opt.CloneFile); err == nil {
			host.Restore = w.opt.CloneFile
		}
	}
	state := hv.Running
	if l.Paused {
		state = hv.Paused
	}
	host.Progress = func(stage string, done, total int64) {
		w.events.Add(control.Event{Progress: &control.Progress{Stage: stage, Done: done, Total: total}})
	}
	if w.opt.Confine != nil {
		host.Confine = func() (string, error) {
			// Clones share the file: a worker that somebody has taken over must not have it.
			if err := os.Remove(w.opt.CloneFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return "", fmt.Errorf("let go of the template's memory: %w", err)
			}
			return w.opt.Confine(l.Spec)
		}
	}
	for i := range l.Spec.NICs {
		host.NICs = append(host.NICs, w.opt.NICSocket(i))
	}
	w.mu.Lock()
	w.cards = len(l.Spec.NICs) - 1
	w.mu.Unlock()
	if err := w.startRelays(l, host.NICs); err != nil {
		return control.Status{}, err
	}
	m, err := engine.Launch(ctx, l.Spec, host)
	if err != nil {
		w.closeRelays()
		return control.Status{}, err
	}
	info := m.Info()
	w.mu.Lock()
	w.machine, w.unsave = m, l.Restore
	w.status.Launching, w.status.State, w.status.Info = false, state, info
	if info.PID != 0 {
		w.status.Model = control.Process{PID: info.PID, Start: w.opt.ModelStart(info.PID)}
	}
	if c, ok := m.(hv.Consoler); ok {
		w.console = newConsole(c.Console(), w.opt.ConsoleLog, w.log)
	}
	w.mu.Unlock()
	w.ran(state)
	w.save()
	w.events.Add(control.Event{Event: &hv.Event{Kind: hv.EventState, State: state}})
	go w.follow(m)
	return w.snapshot(), nil
}

// follow turns the machine's events into status, then says how it ended.
func (w *Worker) follow(m hv.Machine) {
	for e := range m.Events() {
		if e.Kind == hv.EventState {
			w.mu.Lock()
			changed := w.status.State != e.State
			w.status.State = e.State
			w.mu.Unlock()
			if !changed {
				continue
			}
			w.ran(e.State)
			w.save()
		}
		if e.Kind == hv.EventDisplay {
			w.mu.Lock()
			w.status.Display = e.Display
			w.mu.Unlock()
		}
		w.events.Add(control.Event{Event: &e})
	}
	reason, err := m.Wait()
	exit := &control.Exit{Reason: reason}
	if err != nil {
		w.log.Error("the guest's machine failed", "err", err)
		exit.Stage, exit.Text, exit.Cure = stageOf(err), textOf(err), cureOf(err)
	}
	if err := m.Close(); err != nil {
		w.log.Warn("close the machine", "err", err)
	}
	w.closeRelays()
	if reason == hv.ExitDestroyed {
		w.forgetSaved() // whoever pulls the plug of a guest that was held means it
	}
	w.finish(exit)
	w.end()
}

// finish records how the guest ended; the file is what the service believes.
func (w *Worker) finish(exit *control.Exit) {
	exit.At = time.Now().UTC()
	w.mu.Lock()
	w.status.State, w.status.Launching, w.status.Exit = hv.Halted, false, exit
	w.machine = nil
	c := w.console
	w.mu.Unlock()
	if c != nil {
		c.close()
	}
	w.save()
	w.events.Add(control.Event{Exit: exit})
}

func (w *Worker) snapshot() control.Status {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.status
	if s.Spec != nil {
		s.Spec = s.Spec.Clone()
	}
	return s
}

// save writes state.json: temporary file, fsync, rename.
func (w *Worker) save() {
	w.mu.Lock()
	s := w.status
	w.mu.Unlock()
	s.Spec = nil
	if err := writeFile(w.opt.StateFile, s); err != nil {
		w.log.Error("write the guest's state", "err", err)
	}
}

func writeFile(path string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".state-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	return savefile.Rename(f.Name(), path)
}

func (w *Worker) running() (hv.Machine, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.machine == nil {
		return nil, fmt.Errorf("the guest is not running: %w", hv.ErrUnavailable)
	}
	return w.machine, nil
}

func (w *Worker) quit() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.machine != nil || w.status.Launching {
		return fmt.Errorf("the guest is running: power it off first")
	}
	// The answer leaves before the sockets close.
	time.AfterFunc(50*time.Millisecond, w.end)
	return nil
}

// powerOff ends a guest that still runs when the worker is told to end.
func (w *Worker) powerOff() {
	m, err := w.running()
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := m.Stop(ctx, hv.PowerOff); err != nil {
		w.log.Error("power the guest off", "err", err)
	}
	m.Wait()
}

func (w *Worker) startRelays(l control.Launch, sockets []string) error {
	for i, nic := range l.Spec.NICs {
		frames := l.Networks[nic.Network]
		if frames == "" {
			w.closeRelays()
			return &hv.StageError{Stage: "network", Err: fmt.Errorf("network %s of card %s is not there", nic.Network, nic.MAC)}
		}
		r, err := w.opt.Relay(nic, sockets[i], frames)
		if err != nil {
			w.closeRelays()
			return &hv.StageError{Stage: "network", Err: err}
		}
		w.mu.Lock()
		w.relays[nic.UUID] = r
		w.mu.Unlock()
	}
	return nil
}

func (w *Worker) closeRelays() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, r := range w.relays {
		r.Close()
		delete(w.relays, id)
	}
}

func stageOf(err error) string {
	if s, ok := errors.AsType[*hv.StageError](err); ok {
		return s.Stage
	}
	return ""
}

func textOf(err error) string {
	if s, ok := errors.AsType[*hv.StageError](err); ok {
		return s.Err.Error()
	}
	return err.Error()
}

func cureOf(err error) string {
	if s, ok := errors.AsType[*hv.StageError](err); ok {
		return s.Cure
	}
	return ""
}
