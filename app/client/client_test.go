package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/app/service/rpc"
	"github.com/hxen-project/hxen/platform/localsock"
	"github.com/hxen-project/hxen/platform/paths"
	"github.com/hxen-project/hxen/platform/proc"
)

// hang is how long a test waits for what must come.
const hang = 5 * time.Minute

// serviceVar makes this test binary a service, so that real processes are
// started, raced for and killed: "serve", "fail" or "silent".
const serviceVar = "HXEN_TEST_SERVICE"

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "service" {
		os.Exit(beService(os.Getenv(serviceVar)))
	}
	os.Exit(m.Run())
}

// beService does what `hxen service` does, as far as a client can tell.
func beService(how string) int {
	fail := func(err error) int {
		fmt.Println(err)
		return 1
	}
	switch how {
	case "fail":
		return fail(errors.New("the store is on fire: put it out"))
	case "silent":
		return 1
	}
	store, err := paths.Default()
	if err != nil {
		return fail(err)
	}
	lock, err := proc.TryLock(store.Lock())
	if err != nil {
		return fail(fmt.Errorf("the store is served already: %w", err))
	}
	defer lock.Close()
	run, err := store.ClaimRunDir()
	if err != nil {
		return fail(err)
	}
	l, err := localsock.Listen(paths.Socket(run))
	if err != nil {
		return fail(err)
	}
	s := newServer()
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, os.Interrupt)
	go func() {
		<-stop
		_ = s.Shutdown(context.Background())
	}()
	fmt.Println("ready")
	os.Stdout.Close()
	if err := s.Serve(l); err != nil {
		return 1
	}
	return 0
}

const (
	hostUUID = "00000000-0000-4000-8000-000000000001"
	vmUUID   = "11111111-1111-4111-8111-000000000001"
)

var vmRef = api.RefOf(vmUUID)

// newServer is a service with one guest, of which nothing runs.
func newServer() *rpc.Server {
	s := rpc.New(rpc.NewDB(), rpc.Options{Host: api.RefOf(hostUUID), Log: slog.New(slog.DiscardHandler)})
	db := s.DB()
	db.Put(api.RefOf(hostUUID), api.Host{UUID: hostUUID})
	db.Put(vmRef, api.VM{UUID: vmUUID, NameLabel: "guest", PowerState: "Halted", DomID: -1,
		Consoles: []api.Ref{api.RefOf("console")}, VBDs: []api.Ref{api.RefOf("disk"), api.RefOf("cd")}})
	db.Put(api.RefOf("console"), api.Console{UUID: "console", Protocol: api.ProtocolRFB, VM: vmRef})
	db.Put(api.RefOf("disk"), api.VBD{UUID: "disk", Type: "Disk", VM: vmRef})
	db.Put(api.RefOf("cd"), api.VBD{UUID: "cd", Type: "CD", VM: vmRef, Empty: true})
	state := func(want, next string) func(*rpc.Call, api.Ref) error {
		return func(c *rpc.Call, ref api.Ref) (err error) {
			rpc.Modify(db, ref, func(v *api.VM) {
				if v.PowerState != want {
					err = api.NewError(api.ErrVMBadPowerState, string(ref), want, v.PowerState)
					return
				}
				v.PowerState = next
			})
			return err
		}
	}
	s.Register("VM.start", func(c *rpc.Call, ref api.Ref, paused, _ bool) error {
		next := "Running"
		if paused {
			next = "Paused"
		}
		return state("Halted", next)(c, ref)
	})
	s.Register("VM.pause", state("Running", "Paused"))
	s.Register("VM.unpause", state("Paused", "Running"))
	s.Register("VM.hard_shutdown", state("Running", "Halted"))
	s.Register("VM.hard_reboot", state("Running", "Running"))
	s.Register("VM.clean_reboot", state("Running", "Running"))
	s.Register("VM.clean_shutdown", func(c *rpc.Call, ref api.Ref) error { // a guest that does not listen
		rpc.Modify(db, ref, func(v *api.VM) { v.PowerState = "Asked" })
		<-c.Context().Done()
		rpc.Modify(db, ref, func(v *api.VM) { v.PowerState = "Undone" })
		return context.Cause(c.Context())
	})
	s.RegisterSetter("VM", "name_label", func(_ *rpc.Call, ref api.Ref, name string) error {
		rpc.Modify(db, ref, func(v *api.VM) { v.NameLabel = name })
		return nil
	})
	s.Register("VM.get_data_sources", func(*rpc.Call, api.Ref) ([]api.DataSource, error) {
		return []api.DataSource{{Name: "cpu_usage", Value: 0.5}}, nil
	})
	db.Put(api.RefOf("pool"), api.Pool{UUID: "pool", DefaultSR: api.RefOf("store")})
	db.Put(api.RefOf("store"), api.SR{UUID: "store"})
	db.Put(api.RefOf("outside"), api.SR{UUID: "outside"})
	s.Register("VDI.introduce", func(_ *rpc.Call, _, _, _ string, sr api.Ref, _ string, _, _ bool, _ map[string]string, location string, _, _ map[string]string) (api.Ref, error) {
		db.Put(api.RefOf(location), api.VDI{UUID: location, Location: location, SR: sr})
		return api.RefOf(location), nil
	})
	s.Register("VBD.insert", func(_ *rpc.Call, vbd, vdi api.Ref) (err error) {
		rpc.Modify(db, vbd, func(v *api.VBD) {
			if !v.Empty {
				err = api.NewError(api.ErrVBDNotEmpty, string(vbd))
				return
			}
			v.Empty, v.VDI = false, vdi
		})
		return err
	})
	s.Register("VBD.eject", func(_ *rpc.Call, vbd api.Ref) error {
		rpc.Modify(db, vbd, func(v *api.VBD) { v.Empty, v.VDI = true, api.NullRef })
		return nil
	})
	s.RegisterPlugin(api.Plugin, api.FnVersion, func(*rpc.Call) (api.Version, error) { return api.Version{PID: os.Getpid()}, nil })
	s.RegisterPlugin(api.Plugin, api.FnList, func(*rpc.Call) ([]api.ListRow, error) {
		var rows []api.ListRow
		for _, v := range rpc.All[api.VM](db) {
			rows = append(rows, api.ListRow{Name: v.NameLabel, UUID: v.UUID, DomID: int(v.DomID), Power: v.PowerState})
		}
		return rows, nil
	})
	s.RegisterPlugin(api.Plugin, api.FnCreate, func(c *rpc.Call, g api.NewGuest) (api.Created, error) {
		c.Task.Stage("copying " + g.Disk)
		c.Task.Progress(0.5)
		if g.Name == "" {
			return api.Created{}, api.NewError(api.ErrRefused, "name", "a guest needs a name", "give it one")
		}
		return api.Created{UUID: "new", VM: api.RefOf("new")}, nil
	})
	s.RegisterPlugin(api.Plugin, api.FnKeys, func(_ *rpc.Call, k api.Keys) error {
		return api.NewError(api.ErrRefused, "keys", fmt.Sprint(k.VM, k.Codes), "")
	})
	s.RegisterPlugin(api.Plugin, api.FnPaths, func(_ *rpc.Call, v api.VMArg) (api.Deleted, error) {
		return api.Deleted{Trash: []string{string(v.VM)}}, nil
	})
	s.RegisterPlugin(api.Plugin, api.FnDelete, func(_ *rpc.Call, d api.Delete) (api.Deleted, error) {
		return api.Deleted{Kept: []string{fmt.Sprint(d.VM, d.KeepDisks)}}, nil
	})
	s.RegisterPlugin(api.Plugin, api.FnGet, func(_ *rpc.Call, v api.VMArg) (api.GuestConfig, error) {
		return api.GuestConfig{VM: v.VM, Memory: 7}, nil
	})
	s.RegisterPlugin(api.Plugin, api.FnConfig, func(_ *rpc.Call, g api.GuestConfig) error {
		rpc.Modify(db, g.VM, func(v *api.VM) { v.NameLabel = g.Name })
		return nil
	})
	s.RegisterPlugin(api.Plugin, api.FnProbe, func(_ *rpc.Call, p api.Probe) (api.ProbeResult, error) {
		return api.ProbeResult{Label: p.Path}, nil
	})
	s.RegisterPlugin(api.Plugin, api.FnDefault, func(*rpc.Call) (api.HostInfo, error) { return api.HostInfo{CPUs: 2}, nil })
	s.HandleStream(api.PathConsole, func(_ *rpc.Call, r *http.Request) (io.ReadWriteCloser, error) {
		if ref := api.Ref(r.URL.Query().Get("ref")); ref != api.RefOf("console") {
			return nil, api.NewError(api.ErrHandleInvalid, "console", string(ref))
		}
		near, far := net.Pipe()
		go func() { _, _ = io.Copy(far, far) }()
		return near, nil
	})
	s.HandleFunc(api.PathSnapshot, func(_ *rpc.Call, w http.ResponseWriter, r *http.Request) error {
		if r.URL.Query().Get("uuid") != vmUUID {
			return api.NewError(api.ErrUUIDInvalid, "VM", r.URL.Query().Get("uuid"))
		}
		_, err := io.WriteString(w, "png")
		return err
	})
	return s
}

// newStore is an empty store whose sockets lie in a folder of its own.
func newStore(t *testing.T) paths.Store {
	t.Helper()
	dir, err := os.MkdirTemp("", "hx") // short: sockets' paths are
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("XDG_RUNTIME_DIR", dir)
	store, err := paths.At(filepath.Join(dir, "store"))
	if err == nil {
		err = os.Mkdir(store.Root, 0o700)
	}
	if err != nil {
		t.Fatal(err)
	}
	return store
}

func timed(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), hang)
	t.Cleanup(cancel)
	return ctx
}

// open opens a client that may start this binary as a service, and ends whatever
// service is there when the test does.
func open(t *testing.T, store paths.Store) *Client {
	t.Helper()
	t.Setenv(serviceVar, "serve")
	c, err := Open(timed(t), Options{Store: store, Program: "test", Service: os.Args[0]})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), hang)
		defer cancel()
		if v, err := c.Version(ctx); err == nil {
			kill(t, store, v.PID)
		}
		c.Close()
	})
	return c
}

// kill ends a service and waits until it has let its store go.
func kill(t *testing.T, store paths.Store, pid int) {
	t.Helper()
	p, err := os.FindProcess(pid)
	if err == nil {
		err = p.Kill()
	}
	if err == nil {
		err = proc.WaitFree(timed(t), store.Lock())
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestServiceIsStartedOnce(t *testing.T) {
	store := newStore(t)
	if _, err := Open(timed(t), Options{Store: store, NoStart: true}); !errors.Is(err, ErrNotRunning) || !strings.Contains(err.Error(), store.Root) || !strings.Contains(err.Error(), "hxen service") {
		t.Fatalf("without a service: %v", err)
	}
	t.Setenv(serviceVar, "serve")
	var mu sync.Mutex
	pids := map[int]bool{}
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), hang)
			defer cancel()
			c, err := Open(ctx, Options{Store: store, Service: os.Args[0]})
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			v, err := c.Version(ctx)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			pids[v.PID] = true
			mu.Unlock()
		})
	}
	wg.Wait()
	open(t, store) // ends it
	if len(pids) != 1 || pids[os.Getpid()] {
		t.Errorf("the services have the ids %v", pids)
	}
}

// TestServiceThatDiesAtTheDoor: a killed service's socket takes connections for
// a moment longer, and then drops them.
func TestServiceThatDiesAtTheDoor(t *testing.T) {
	store := newStore(t)
	run, err := store.ClaimRunDir()
	if err != nil {
		t.Fatal(err)
	}
	l, err := localsock.Listen(paths.Socket(run))
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		if nc, err := l.Accept(); err == nil {
			l.Close()
			nc.Close()
		}
	}()
	t.Setenv(serviceVar, "serve")
	c, err := Open(timed(t), Options{Store: store, Service: os.Args[0]})
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	open(t, store) // ends it
}

func TestServiceThatFailsSaysWhy(t *testing.T) {
	store := newStore(t)
	t.Setenv(serviceVar, "fail")
	if _, err := Open(timed(t), Options{Store: store, Service: os.Args[0]}); err == nil || !strings.Contains(err.Error(), "the store is on fire: put it out") {
		t.Errorf("it says %v", err)
	}
	t.Setenv(serviceVar, "silent")
	if _, err := Open(timed(t), Options{Store: store, Service: os.Args[0]}); err == nil || !strings.Contains(err.Error(), store.Log()) {
		t.Errorf("it says %v", err)
	}
	if _, err := Open(timed(t), Options{Store: store, Service: filepath.Join(store.Root, "nowhere")}); err == nil || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("it says %v", err)
	}
	// Somebody holds the store, but never answers.
	lock, err := proc.TryLock(store.Lock())
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	t.Setenv(serviceVar, "serve")
	// It is waited for as long as the client has patience; on a busy machine the
	// service that was started may need more of it to say so.
	for wait := time.Second; ; wait *= 4 {
		_, err := Open(timed(t), Options{Store: store, Service: os.Args[0], Wait: wait})
		if err != nil && strings.Contains(err.Error(), "served already") {
			break
		}
		if err == nil || wait > hang {
			t.Fatalf("it says %v", err)
		}
	}
}

// next waits for a batch that a test is about.
func next(t *testing.T, batches <-chan Batch, what string, is func(Batch) bool) Batch {
	t.Helper()
	guard := time.After(hang)
	for {
		select {
		case b := <-batches:
			if is(b) {
				return b
			}
			t.Logf("before %s: %+v", what, b)
		case <-guard:
			t.Fatalf("no %s came", what)
		}
	}
}

func TestWatchOutlivesTheService(t *testing.T) {
	store := newStore(t)
	c := open(t, store)
	ctx, cancel := context.WithCancel(timed(t))
	batches, ended := make(chan Batch, 100), make(chan error, 1)
	go func() { ended <- c.Watch(ctx, []string{api.ClassVM}, func(b Batch) { batches <- b }) }()
	first := next(t, batches, "snapshot", func(b Batch) bool { return true })
	if !first.Connected || !first.Reset || len(first.Events) != 1 || !first.Events[0].Is(api.ClassVM) {
		t.Fatalf("it begins with %+v", first)
	}
	vm, err := Decode[api.VM](first.Events[0])
	if err != nil || vm.NameLabel != "guest" {
		t.Fatalf("%+v %v", vm, err)
	}
	changed := func(name string) func(Batch) bool {
		return func(b Batch) bool {
			if !b.Connected || len(b.Events) != 1 {
				return false
			}
			v, err := Decode[api.VM](b.Events[0])
			return err == nil && v.NameLabel == name
		}
	}
	for i := range 3 { // killed and started again, again and again
		name := fmt.Sprint("name ", i)
		if err := c.Rename(ctx, vmRef, name); err != nil {
			t.Fatal(err)
		}
		if b := next(t, batches, name, changed(name)); b.Reset || b.Events[0].Operation != api.EventMod {
			t.Errorf("a change came as %+v", b)
		}
		v, err := c.Version(ctx)
		if err != nil {
			t.Fatal(err)
		}
		kill(t, store, v.PID)
		if b := next(t, batches, "loss", func(b Batch) bool { return !b.Connected }); b.Err == nil {
			t.Error("the loss has no reason")
		}
		if _, err := c.Version(ctx); !errors.Is(err, ErrNotRunning) {
			t.Errorf("without a service a call says %v", err)
		}
		if err := c.StartService(ctx); err != nil {
			t.Fatal(err)
		}
		if err := c.StartService(ctx); err != nil { // runs already
			t.Fatal(err)
		}
		if b := next(t, batches, "reset", func(b Batch) bool { return b.Connected }); !b.Reset || !changed("guest")(b) {
			t.Errorf("after the restart came %+v", b)
		}
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
	if len(batches) > 0 {
		t.Errorf("more came: %+v", <-batches)
	}
}

// inProcess serves a store from this process.
func inProcess(t *testing.T) (*Client, *rpc.Server) {
	t.Helper()
	store := newStore(t)
	run, err := store.ClaimRunDir()
	if err != nil {
		t.Fatal(err)
	}
	l, err := localsock.Listen(paths.Socket(run))
	if err != nil {
		t.Fatal(err)
	}
	s := newServer()
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	c, err := Open(timed(t), Options{Store: store, NoStart: true, Program: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		if err := s.Shutdown(timed(t)); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return c, s
}

func TestVerbs(t *testing.T) {
	c, s := inProcess(t)
	ctx := timed(t)
	power := func(want string, err error) {
		t.Helper()
		v, ok := rpc.Get[api.VM](s.DB(), vmRef)
		if err != nil || !ok || v.PowerState != want {
			t.Errorf("power state %s (%v), want %s", v.PowerState, err, want)
		}
	}
	power("Paused", c.Start(ctx, vmRef, true))
	power("Running", c.Unpause(ctx, vmRef))
	power("Paused", c.Pause(ctx, vmRef))
	var e *api.Error
	if err := c.Start(ctx, vmRef, false); !errors.As(err, &e) || e.Code != api.ErrVMBadPowerState || !slices.Equal(e.Params, []string{string(vmRef), "Halted", "Paused"}) {
		t.Errorf("a guest that runs was started: %v", err)
	}
	power("Running", c.Unpause(ctx, vmRef))
	power("Running", c.HardReboot(ctx, vmRef))
	power("Running", c.CleanReboot(ctx, vmRef))
	power("Halted", c.HardShutdown(ctx, vmRef))

	// A call that is given up is cancelled, and may undo what it began.
	gone, cancel := context.WithCancelCause(ctx)
	enough := errors.New("enough")
	done := make(chan error, 1)
	go func() { done <- c.CleanShutdown(gone, vmRef) }()
	for asked := false; !asked; {
		v, _ := rpc.Get[api.VM](s.DB(), vmRef)
		asked = v.PowerState == "Asked"
	}
	cancel(enough)
	if err := <-done; !errors.Is(err, enough) {
		t.Errorf("cancelled with %v", err)
	}
	power("Undone", nil)
	var left []api.Ref
	if err := c.Call(ctx, "task.get_all", &left); err != nil || len(left) != 0 {
		t.Errorf("tasks are left: %v %v", left, err)
	}

	if err := c.Rename(ctx, vmRef, "new"); err != nil {
		t.Error(err)
	}
	if vms, err := c.VMs(ctx); err != nil || len(vms) != 1 || vms[vmRef].NameLabel != "new" {
		t.Errorf("%+v %v", vms, err)
	}
	if v, err := c.VM(ctx, vmRef); err != nil || v.NameLabel != "new" {
		t.Errorf("%+v %v", v, err)
	}
	if ref, row, err := c.Find(ctx, "new"); err != nil || ref != vmRef || row.UUID != vmUUID {
		t.Errorf("%v %+v %v", ref, row, err)
	}
	if d, err := c.DataSources(ctx, vmRef); err != nil || len(d) != 1 || d[0].Value != 0.5 {
		t.Errorf("%+v %v", d, err)
	}
	if i, err := c.HostInfo(ctx); err != nil || i.CPUs != 2 {
		t.Errorf("%+v %v", i, err)
	}
	if err := c.Keys(ctx, vmRef, 29, 56); err == nil || err.Error() != fmt.Sprintf("keys: %s", fmt.Sprint(vmRef, []uint16{29, 56})) {
		t.Error(err)
	}
	if d, err := c.DeletePaths(ctx, vmRef); err != nil || d.Trash[0] != string(vmRef) {
		t.Errorf("%+v %v", d, err)
	}
	if d, err := c.Delete(ctx, vmRef, true); err != nil || d.Kept[0] != fmt.Sprint(vmRef, true) {
		t.Errorf("%+v %v", d, err)
	}
	g, err := c.Config(ctx, vmRef)
	if err != nil || g.Memory != 7 {
		t.Errorf("%+v %v", g, err)
	}
	g.Name = "by settings"
	if err := c.SetConfig(ctx, g); err != nil {
		t.Error(err)
	}
	if p, err := c.Probe(ctx, "x.iso"); err != nil || !filepath.IsAbs(p.Label) || filepath.Base(p.Label) != "x.iso" {
		t.Errorf("%+v %v", p, err)
	}
	if err := c.Ping(ctx); err != nil {
		t.Error(err)
	}
	if err := c.Call(ctx, "VM.nothing", nil); !IsCode(err, api.ErrMethodUnknown) {
		t.Error(err)
	}
	// A session that has ended is made anew.
	if err := c.post(ctx, "session.logout", nil, c.currentOrNone()); err != nil {
		t.Fatal(err)
	}
	if err := c.Ping(ctx); err != nil {
		t.Error(err)
	}
}

func TestCreateTellsItsProgress(t *testing.T) {
	c, _ := inProcess(t)
	var stages []string
	var last float64
	got, err := c.Create(timed(t), api.NewGuest{Name: "a", Disk: "rel.img"}, func(done float64, stage string) {
		if done < last {
			t.Errorf("progress goes back to %v", done)
		}
		last = done
		stages = append(stages, stage)
	})
	abs, _ := filepath.Abs("rel.img")
	if err != nil || got.UUID != "new" || last != 1 || !slices.Contains(stages, "copying "+abs) {
		t.Errorf("%+v %v; progress %v, %q", got, err, last, stages)
	}
	var e *api.Error
	if _, err := c.Create(timed(t), api.NewGuest{}, nil); !errors.As(err, &e) || e.Cure() != "give it one" {
		t.Errorf("%v", err)
	}
}

func TestMedia(t *testing.T) {
	c, s := inProcess(t)
	ctx := timed(t)
	cd := func() api.VBD {
		v, _ := rpc.Get[api.VBD](s.DB(), api.RefOf("cd"))
		return v
	}
	for _, iso := range []string{"a.iso", "b.iso", "b.iso"} {
		if err := c.InsertCD(ctx, vmRef, iso); err != nil {
			t.Fatal(err)
		}
		abs, _ := filepath.Abs(iso)
		if v := cd(); v.Empty || v.VDI != api.RefOf(abs) {
			t.Errorf("%s: the drive has %+v", iso, v)
		}
		if v, _ := rpc.Get[api.VDI](s.DB(), api.RefOf(abs)); v.SR != api.RefOf("outside") {
			t.Errorf("%s was introduced into %s", iso, v.SR)
		}
	}
	if err := c.EjectCD(ctx, vmRef); err != nil || !cd().Empty {
		t.Errorf("ejected: %v, %+v", err, cd())
	}
	rpc.Modify(s.DB(), vmRef, func(v *api.VM) { v.VBDs = v.VBDs[:1] })
	if err := c.EjectCD(ctx, vmRef); !IsCode(err, api.ErrRefused) {
		t.Errorf("without a drive: %v", err)
	}
}

func TestConsoleAndScreenshot(t *testing.T) {
	c, _ := inProcess(t)
	ctx := timed(t)
	ref, err := c.ConsoleOf(ctx, vmRef, api.ProtocolRFB)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.ConsoleOf(ctx, vmRef, api.ProtocolVT100); !IsCode(err, api.ErrRefused) {
		t.Error(err)
	}
	opening, opened := context.WithCancel(ctx)
	nc, err := c.Console(opening, ref)
	opened() // the stream does not hang on it
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if err := nc.SetDeadline(time.Now().Add(hang)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(nc, "echo"); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 4)
	if _, err := io.ReadFull(nc, got); err != nil || string(got) != "echo" {
		t.Errorf("%q %v", got, err)
	}
	if _, err := c.Console(ctx, api.RefOf("x")); !IsCode(err, api.ErrHandleInvalid) {
		t.Error(err)
	}
	dead, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := c.Console(dead, ref); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if png, err := c.Screenshot(ctx, vmRef); err != nil || string(png) != "png" {
		t.Errorf("%q %v", png, err)
	}
	if _, err := c.Screenshot(ctx, api.RefOf("x")); !IsCode(err, api.ErrUUIDInvalid) {
		t.Error(err)
	}
	// Both log in again.
	for range 2 {
		if err := c.post(ctx, "session.logout", nil, c.currentOrNone()); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Screenshot(ctx, vmRef); err != nil {
			t.Error(err)
		}
		if err := c.post(ctx, "session.logout", nil, c.currentOrNone()); err != nil {
			t.Fatal(err)
		}
		nc, err := c.Console(ctx, ref)
		if err != nil {
			t.Fatal(err)
		}
		nc.Close()
	}
}

func TestTasksThatAreLost(t *testing.T) {
	c, _ := inProcess(t)
	if err := c.Wait(timed(t), api.RefOf("x"), nil); !IsCode(err, api.ErrHandleInvalid) {
		t.Error(err)
	}
	task, err := c.Async(timed(t), "VM.start", vmRef, false, false)
	if err != nil {
		t.Fatal(err)
	}
	var seen []string
	if err := c.Wait(timed(t), task, func(t api.Task) { seen = append(seen, t.Status) }); err != nil || seen[len(seen)-1] != api.TaskSuccess {
		t.Errorf("%v %v", seen, err)
	}
	if _, err := c.Async(timed(t), "VM.start", api.RefOf("x"), false, false); !IsCode(err, api.ErrHandleInvalid) {
		t.Error(err)
	}
}

func TestFind(t *testing.T) {
	rows := []api.ListRow{
		{Name: "a", UUID: "aaaaaaaa-1111-4111-8111-000000000001", DomID: 3, Power: "Running"},
		{Name: "twin", UUID: "bbbbbbbb-1111-4111-8111-000000000002", DomID: -1, Power: "Halted"},
		{Name: "twin", UUID: "cccccccc-1111-4111-8111-000000000003", DomID: 4, Power: "Running"},
		{Name: "3", UUID: "dddddddd-1111-4111-8111-000000000004", DomID: -1, Power: "Halted"},
		{Name: "7", UUID: "eeeeeeee-1111-4111-8111-000000000005", DomID: -1, Power: "Halted"},
		{Name: "-1", UUID: "ffffffff-1111-4111-8111-000000000006", DomID: -1, Power: "Halted"},
	}
	for what, want := range map[string]string{
		"a": "aaaaaaaa", "CCCCCCCC-1111-4111-8111-000000000003": "cccccccc", "3": "aaaaaaaa", "7": "eeeeeeee", "-1": "ffffffff",
	} {
		if r, err := find(rows, what); err != nil || !strings.HasPrefix(r.UUID, want) {
			t.Errorf("%s: %+v %v", what, r, err)
		}
	}
	for _, what := range []string{"", "A", "9", "aaaaaaaa"} {
		if r, err := find(rows, what); err == nil || !strings.Contains(err.Error(), "no guest") {
			t.Errorf("%s: %+v %v", what, r, err)
		}
	}
	_, err := find(rows, "twin")
	if err == nil || !strings.Contains(err.Error(), rows[1].UUID) || !strings.Contains(err.Error(), rows[2].UUID) {
		t.Errorf("two of a name: %v", err)
	}
}
