package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hxen-project/hxen/app/control"
	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/hvtest"
)

const guestID = "11111111-2222-4333-8444-555555555555"

// fakeEngine runs a machine that does as it is told; it can refuse to launch.
type fakeEngine struct {
	refuse error
	m      *fakeMachine
}

func (e *fakeEngine) Name() string        { return "fake" }
func (e *fakeEngine) Check(hv.Spec) error { return nil }
func (e *fakeEngine) Launch(context.Context, hv.Spec, hv.Host) (hv.Machine, error) {
	if e.refuse != nil {
		return nil, e.refuse
	}
	return e.m, nil
}

type fakeMachine struct {
	events chan hv.Event
	once   sync.Once
	reason hv.ExitReason
	err    error
	line   net.Conn // the worker's end of the serial line
	media  hv.Disk
	saving chan struct{} // holds a token when a save has begun
	ended  chan error    // why a save has ended
}

// Save never ends by itself.
func (m *fakeMachine) Save(ctx context.Context, _ string, progress func(done, total int64)) error {
	progress(1, 2)
	m.saving <- struct{}{}
	<-ctx.Done()
	m.ended <- context.Cause(ctx)
	return context.Cause(ctx)
}

func (m *fakeMachine) end(r hv.ExitReason, err error) {
	m.once.Do(func() { m.reason, m.err = r, err; m.line.Close(); close(m.events) })
}
func (m *fakeMachine) state(s hv.PowerState)        { m.events <- hv.Event{Kind: hv.EventState, State: s} }
func (m *fakeMachine) Pause(context.Context) error  { m.state(hv.Paused); return nil }
func (m *fakeMachine) Resume(context.Context) error { m.state(hv.Running); return nil }
func (m *fakeMachine) Reset(context.Context) error  { return nil }
func (m *fakeMachine) Stop(_ context.Context, how hv.StopHow) error {
	if how == hv.PowerOff {
		m.end(hv.ExitDestroyed, nil)
	}
	return nil
}
func (m *fakeMachine) Stats(context.Context) (hv.Stats, error) {
	return hv.Stats{CPU: time.Second}, nil
}
func (m *fakeMachine) Events() <-chan hv.Event      { return m.events }
func (m *fakeMachine) Wait() (hv.ExitReason, error) { return m.reason, m.err }
func (m *fakeMachine) Close() error                 { return nil }
func (m *fakeMachine) Info() hv.MachineInfo         { return hv.MachineInfo{Engine: "fake", PID: 4242} }
func (m *fakeMachine) Console() io.ReadWriter       { return m.line }
func (m *fakeMachine) ChangeMedia(_ context.Context, _ string, d hv.Disk) error {
	m.media = d
	return nil
}

type fakeRelay struct{ closed chan struct{} }

func (r fakeRelay) Stats() hv.NICStats { return hv.NICStats{RxBytes: 7} }
func (r fakeRelay) Close() error       { close(r.closed); return nil }

// rig is a worker on real sockets with a fake machine.
type rig struct {
	t      *testing.T
	dir    string
	socket net.Listener
	guest  net.Conn // the guest's end of the serial line
	relay  fakeRelay
	engine *fakeEngine
	done   chan error
}

func newRig(t *testing.T) *rig {
	t.Helper()
	dir := t.TempDir()
	a, b := net.Pipe()
	r := &rig{t: t, dir: dir, socket: hvtest.Listen(t), guest: a, relay: fakeRelay{make(chan struct{})}, done: make(chan error, 1)}
	r.engine = &fakeEngine{m: &fakeMachine{events: make(chan hv.Event, 8), line: b, saving: make(chan struct{}, 1), ended: make(chan error, 1)}}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		r.done <- Run(ctx, Options{
			UUID: guestID, Version: "test", Engines: map[hv.GuestType]hv.Engine{hv.HVM: r.engine},
			Host:      hv.Host{Dir: dir, Log: slog.New(slog.DiscardHandler)},
			SavedFile: filepath.Join(dir, "saved"), SavedFiles: []string{filepath.Join(dir, "saved"), filepath.Join(dir, "saved.png")},
			StateFile: filepath.Join(dir, "state.json"), ConsoleLog: filepath.Join(dir, "console.log"),
			Listener: r.socket, Allowed: func(net.Conn) error { return nil },
			Self:       control.Process{PID: 1, Start: "x"},
			ModelStart: func(int) string { return "model" },
			NICSocket:  func(int) string { return "/card" },
			Relay:      func(hv.NIC, string, string) (NetRelay, error) { return r.relay, nil },
		})
	}()
	t.Cleanup(func() { cancel(); <-r.done })
	return r
}

func dial(l net.Listener) (net.Conn, error) {
	return net.Dial(l.Addr().Network(), l.Addr().String())
}

func (r *rig) dial() *control.Conn {
	r.t.Helper()
	nc, err := dial(r.socket)
	if err != nil {
		r.t.Fatal(err)
	}
	c, err := control.NewConn(nc, "test", "1")
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

func (r *rig) launch(c *control.Conn) (control.Status, error) {
	var s control.Status
	err := c.Call(r.t.Context(), control.VerbLaunch, control.Launch{
		Spec: hv.Spec{
			Version: 1, UUID: guestID, Name: "g", Type: hv.HVM, VCPUs: 1, Memory: hv.GiB,
			Disks: []hv.Disk{{UUID: "d", Kind: hv.KindCDROM, Mode: hv.ReadOnly}},
			NICs:  []hv.NIC{{UUID: "n", Network: "net"}},
		},
		DomID: 3, Networks: map[string]string{"net": "/frames"},
	}, &s)
	return s, err
}

func (r *rig) stateFile() control.Status {
	r.t.Helper()
	b, err := os.ReadFile(filepath.Join(r.dir, "state.json"))
	if err != nil {
		r.t.Fatal(err)
	}
	var s control.Status
	if err := json.Unmarshal(b, &s); err != nil {
		r.t.Fatal(err)
	}
	return s
}

func waitState(t *testing.T, ch <-chan control.Event, want hv.PowerState) {
	t.Helper()
	for e := range ch {
		if e.Event != nil && e.Event.State == want {
			return
		}
	}
	t.Fatalf("the events ended before %s", want)
}

func TestLifeOfAGuest(t *testing.T) {
	r := newRig(t)
	c := r.dial()
	s, err := r.launch(c)
	if err != nil || s.State != hv.Running || s.DomID != 3 || s.Model != (control.Process{PID: 4242, Start: "model"}) {
		t.Fatalf("%+v %v", s, err)
	}
	if _, err := r.launch(c); err == nil {
		t.Error("a second launch was accepted")
	}
	ch, err := c.Subscribe(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	waitState(t, ch, hv.Running)
	if err := c.Call(t.Context(), control.VerbPause, nil, nil); err != nil {
		t.Fatal(err)
	}
	waitState(t, ch, hv.Paused)
	if got := r.stateFile(); got.State != hv.Paused || got.Exit != nil {
		t.Errorf("state.json: %+v", got)
	}
	if err := c.Call(t.Context(), control.VerbStop, nil, nil); err == nil {
		t.Error("a worker with a running guest agreed to quit")
	}

	// A service that comes back finds everything as it is.
	c.Close()
	c = r.dial()
	if err := c.Call(t.Context(), control.VerbStatus, nil, &s); err != nil || s.State != hv.Paused || c.Peer.UUID != guestID {
		t.Fatalf("after a reconnect: %+v %v", s, err)
	}
	var st hv.Stats
	if err := c.Call(t.Context(), control.VerbStats, nil, &st); err != nil || st.CPU != time.Second || st.NICs["n"].RxBytes != 7 {
		t.Errorf("stats: %+v %v", st, err)
	}
	if err := c.Call(t.Context(), control.VerbMedia, control.Media{Drive: "d", Disk: hv.Disk{Path: "/x.iso", Format: hv.Raw}}, nil); err != nil {
		t.Error(err)
	}
	if c.Call(t.Context(), control.VerbStatus, nil, &s); s.Spec.Disks[0].Path != "/x.iso" {
		t.Errorf("the spec does not show the new medium: %+v", s.Spec.Disks)
	}
	if err := c.Call(t.Context(), control.VerbScreenshot, nil, nil); !errors.Is(err, hv.ErrUnsupported) {
		t.Errorf("an ability that the engine lacks: %v", err)
	}

	r.engine.m.end(hv.ExitPoweroff, nil)
	<-r.done
	r.done <- nil
	<-r.relay.closed
	if got := r.stateFile(); got.State != hv.Halted || got.Exit == nil || got.Exit.Reason != hv.ExitPoweroff {
		t.Errorf("state.json at the end: %+v", got)
	}
}

func TestFailedLaunchTellsTheStage(t *testing.T) {
	r := newRig(t)
	r.engine.refuse = &hv.StageError{Stage: "qemu", Err: fmt.Errorf("it fell over"), Cure: "pick it up"}
	c := r.dial()
	_, err := r.launch(c)
	if e, ok := errors.AsType[*control.Error](err); !ok || e.Stage != "qemu" || e.Cure != "pick it up" {
		t.Fatalf("%v", err)
	}
	if got := r.stateFile(); got.Exit == nil || got.Exit.Stage != "qemu" || got.Exit.Reason != hv.ExitFailed {
		t.Errorf("state.json: %+v", got)
	}
	if err := c.Call(t.Context(), control.VerbStop, nil, nil); err != nil {
		t.Error(err)
	}
	<-r.done
	r.done <- nil
}

func TestConsoleIsSharedAndRemembers(t *testing.T) {
	r := newRig(t)
	c := r.dial()
	if _, err := r.launch(c); err != nil {
		t.Fatal(err)
	}
	r.guest.Write([]byte("boot\n"))
	open := func() net.Conn {
		nc, err := dial(r.socket)
		if err != nil {
			t.Fatal(err)
		}
		s, err := control.DialStream(nc, "test", "1", control.StreamVT100)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}
	first, second := open(), open()
	expect := func(s io.Reader, want string) {
		t.Helper()
		b := make([]byte, len(want))
		if _, err := io.ReadFull(s, b); err != nil || string(b) != want {
			t.Fatalf("%q %v, want %q", b, err, want)
		}
	}
	expect(first, "boot\n")
	expect(second, "boot\n")
	go first.Write([]byte("ls\n"))
	expect(r.guest, "ls\n")
	go r.guest.Write([]byte("file\n"))
	expect(first, "file\n")
	expect(second, "file\n")
	r.engine.m.end(hv.ExitPoweroff, nil)
	if _, err := second.Read(make([]byte, 1)); err == nil {
		t.Error("the stream outlives the guest")
	}
	<-r.done
	r.done <- nil
	b, err := os.ReadFile(filepath.Join(r.dir, "console.log"))
	if err != nil || string(b) != "boot\nfile\n" {
		t.Errorf("console.log: %q %v", b, err)
	}
}

func TestSlowConsoleClientIsDropped(t *testing.T) {
	a, b := net.Pipe()
	c := newConsole(b, filepath.Join(t.TempDir(), "console.log"), slog.New(slog.DiscardHandler))
	cl := c.attach()
	big := strings.Repeat("x", clientLag+scrollback)
	if _, err := a.Write([]byte(big)); err != nil {
		t.Fatal(err)
	}
	a.Close()
	got, err := io.ReadAll(cl)
	if err != nil || len(got) > clientLag {
		t.Fatalf("a client that never reads held %d bytes: %v", len(got), err)
	}
	io.ReadAll(c.attach()) // until the line has ended
	if past, _ := io.ReadAll(c.attach()); len(past) != scrollback {
		t.Errorf("scroll-back is %d bytes", len(past))
	}
}
