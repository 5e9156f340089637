package service

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/app/control"
	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/savefile"
	"github.com/hxen-project/hxen/platform/localsock"
	"github.com/hxen-project/hxen/platform/paths"
	"github.com/hxen-project/hxen/platform/proc"
)

// The test binary is also the programs that a service deals with: linked under
// their names it plays them.
func TestMain(m *testing.M) {
	switch strings.TrimSuffix(filepath.Base(os.Args[0]), exe) {
	case "hxen-worker":
		playWorker()
	case "hxen-netd":
		playNetd()
	case "qemu-img":
		playImg()
	case "hxen-model":
		stay() // a device model: holds the lock that it has inherited
	case "hxen-service":
		playService()
	default:
		var err error
		if bin, err = programs(); err != nil {
			panic(err)
		}
		code := m.Run()
		_ = os.RemoveAll(bin) // Windows keeps the program of what was left running
		os.Exit(code)
	}
}

// stay waits to be killed. An empty select would not do: with nothing else to
// run, Go calls that a deadlock and ends the program.
func stay() {
	for {
		time.Sleep(time.Hour)
	}
}

// bin is the folder of the programs, and exe ends their names.
var (
	bin string
	exe = map[string]string{"windows": ".exe"}[runtime.GOOS]
)

// programs makes bin: the test binary under the names of the programs.
func programs() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "hxen-programs-*")
	for _, name := range []string{"hxen-worker", "hxen-netd", "qemu-img", "hxen-model", "hxen-service"} {
		to := filepath.Join(dir, name+exe)
		switch {
		case err != nil:
		case exe == "":
			err = os.Symlink(self, to)
		default: // not everybody may make symbolic links there
			var b []byte
			if b, err = os.ReadFile(self); err == nil {
				err = os.WriteFile(to, b, 0o700)
			}
		}
	}
	return dir, err
}

// fakeHost is a computer with QEMU and a given memory.
func fakeHost(bin string) Host {
	return Host{
		CPUs: 4, CPUModel: "test",
		Memory:      func() (uint64, uint64, error) { return 16 * hv.GiB, 12 * hv.GiB, nil },
		MemoryShort: func() (bool, uint64, error) { return false, 12 * hv.GiB, nil },
		DiskFree:    func(string) (uint64, error) { return 100 * hv.GiB, nil },
		QEMU: func(context.Context) hv.QEMUInfo {
			return hv.QEMUInfo{Path: "/qemu", Img: filepath.Join(bin, "qemu-img"+exe)}
		},
		QEMUVersion: func(context.Context) string { return "7.2" },
		Accel: func(context.Context) []hv.AccelInfo {
			return []hv.AccelInfo{{Name: "kvm", Reason: "it is a test", Cure: "none"}, {Name: "tcg", Usable: true}}
		},
	}
}

func fakeOptions(bin, home string) Options {
	st, err := paths.At(home)
	if err != nil {
		panic(err)
	}
	return Options{
		Store: st, Version: "test", Worker: filepath.Join(bin, "hxen-worker"+exe), Netd: filepath.Join(bin, "hxen-netd"+exe),
		Host: fakeHost(bin), Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
}

// playService is a whole service in a process that a test can kill.
func playService() {
	opt := fakeOptions(os.Args[1], os.Args[2])
	opt.Ready = func() { fmt.Println("ready"); os.Stdout.Close() }
	if err := Run(context.Background(), opt); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// playImg makes images with nothing but a header.
func playImg() {
	at := 0
	for i, a := range os.Args {
		if a == "--" {
			at = i
		}
	}
	header := make([]byte, 1024)
	copy(header, "QFI\xfb")
	binary.BigEndian.PutUint32(header[4:], 3)
	binary.BigEndian.PutUint32(header[20:], 16)
	binary.BigEndian.PutUint32(header[96:], 4)
	binary.BigEndian.PutUint32(header[100:], 104)
	name := os.Args[at+1]
	size := int64(1 << 20)
	if os.Args[1] == "create" {
		size, _ = strconv.ParseInt(os.Args[at+2], 10, 64)
	} else {
		name = os.Args[at+2]
		if strings.Contains(os.Args[at+1], "endless") {
			fmt.Print("    (1.00/100%)\r")
			stay()
		}
		fmt.Print("    (50.00/100%)\r    (100.00/100%)\n")
	}
	binary.BigEndian.PutUint64(header[24:], uint64(size))
	if err := os.WriteFile(name, header, 0o600); err != nil {
		fmt.Fprintln(os.Stderr, "qemu-img:", err)
		os.Exit(1)
	}
}

// fakeWorker plays a worker. What it does follows the guest's name.
type fakeWorker struct {
	files  paths.Guest
	lock   *proc.Lock
	events *control.EventLog
	end    chan struct{}
	cancel chan struct{} // of a save

	mu     sync.Mutex // guards the fields below
	status control.Status
	cpu    time.Duration
	asked  bool // the power button was pressed
}

func flags() (dir, run string) { return os.Args[2], os.Args[4] }

func fatal(err error) {
	fmt.Println(err)
	os.Exit(1)
}

func playWorker() {
	dir, run := flags()
	w := &fakeWorker{files: paths.GuestDir(dir, run), events: control.NewEventLog(), end: make(chan struct{}), cancel: make(chan struct{}, 1)}
	var err error
	if w.lock, err = proc.TryLock(w.files.Lock()); err != nil {
		fatal(err)
	}
	l, err := localsock.Listen(w.files.Ctl())
	if err != nil {
		fatal(err)
	}
	pid, start, _ := proc.Self()
	w.status = control.Status{Version: 1, State: hv.Halted, Worker: control.Process{PID: pid, Start: start}}
	fmt.Println("ready")
	os.Stdout.Close()
	srv := &control.Server{Hello: control.Hello{Protocol: 1, Min: 1, Program: "hxen-worker", UUID: filepath.Base(dir), PID: pid}, Handler: w, Log: w.events}
	go serveFake(l, srv)
	<-w.end
}

func serveFake(l net.Listener, srv *control.Server) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go srv.ServeConn(context.Background(), c)
	}
}

func (w *fakeWorker) save() {
	st := w.status
	st.Spec = nil
	err := os.MkdirAll(w.files.Worker(), 0o700)
	if err == nil {
		err = writeJSON(w.files.State(), st)
	}
	if err != nil {
		fatal(err)
	}
}

func (w *fakeWorker) state(p hv.PowerState) {
	w.status.State = p
	w.save()
	w.events.Add(control.Event{Event: &hv.Event{Kind: hv.EventState, State: p}})
}

func (w *fakeWorker) exit(reason hv.ExitReason, text string) {
	e := &control.Exit{Reason: reason, Text: text, At: time.Now()}
	w.status.State, w.status.Exit = hv.Halted, e
	w.save()
	w.events.Add(control.Event{Exit: e})
	if m, ok := proc.Find(w.status.Model.PID, w.status.Model.Start); ok {
		m.Kill()
	}
	time.AfterFunc(20*time.Millisecond, func() { close(w.end) })
}

func (w *fakeWorker) Handle(_ context.Context, verb string, params json.RawMessage) (any, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch verb {
	case control.VerbLaunch:
		return w.launch(params)
	case control.VerbStatus:
		return w.status, nil
	case control.VerbPause:
		w.state(hv.Paused)
	case control.VerbResume:
		w.state(hv.Running)
	case control.VerbReset:
		if strings.Contains(w.status.Spec.Name, "hanging") {
			w.exit(hv.ExitWatchdog, "")
			break
		}
		w.events.Add(control.Event{Event: &hv.Event{Kind: hv.EventReboot}})
	case control.VerbPower:
		var p control.Power
		json.Unmarshal(params, &p)
		name := w.status.Spec.Name
		switch {
		case p.How == hv.PowerOff:
			w.exit(hv.ExitDestroyed, "")
		case strings.Contains(name, "deaf"):
		case strings.Contains(name, "drowsy") && !w.asked:
			w.asked = true
		case p.How == hv.AskReboot:
			w.events.Add(control.Event{Event: &hv.Event{Kind: hv.EventReboot}})
		default:
			w.exit(hv.ExitPoweroff, "")
		}
	case control.VerbSave:
		if strings.Contains(w.status.Spec.Name, "unsavable") {
			return nil, errors.New("no space left on device")
		}
		w.events.Add(control.Event{Progress: &control.Progress{Stage: "saving", Done: 1, Total: 2}})
		if strings.Contains(w.status.Spec.Name, "long") {
			w.mu.Unlock()
			<-w.cancel
			w.mu.Lock()
			return nil, errors.New("cancelled")
		}
		engine, disks := "qemu", []savefile.Disk(nil)
		if w.status.Spec.Type == hv.PVH {
			engine = "native"
			disks, _ = savefile.Disks(w.files.Dir, w.status.Spec.Disks)
		}
		err := savefile.Write(context.Background(), w.files.Saved(), engine, func(f *os.File) (p savefile.Parts, err error) {
			p[savefile.State], err = savefile.WriteState(f, savefile.Begin, map[string]any{"Outside": map[string]any{"Disks": disks}})
			return p, err
		})
		if err != nil {
			return nil, err
		}
		w.exit(hv.ExitSaved, "")
	case control.VerbSaveCancel:
		w.cancel <- struct{}{}
	case control.VerbStats:
		for mute := strings.Contains(w.status.Spec.Name, "mute"); mute; time.Sleep(10 * time.Millisecond) {
			_, err := os.Stat(filepath.Join(w.files.Dir, "answer"))
			mute = err != nil
		}
		w.cpu += time.Second
		return hv.Stats{CPU: w.cpu, Memory: w.status.Spec.Memory, RSS: w.status.Spec.Memory / 2}, nil
	case control.VerbMedia:
		var m control.Media
		json.Unmarshal(params, &m)
		for i := range w.status.Spec.Disks {
			if d := &w.status.Spec.Disks[i]; d.UUID == m.Drive {
				d.VDI, d.Path, d.Format = m.Disk.VDI, m.Disk.Path, m.Disk.Format
			}
		}
	case control.VerbAttach:
		var a control.Attach
		json.Unmarshal(params, &a)
		if a.Disk != nil {
			b, _ := os.ReadFile(w.files.Grant())
			var grant control.Grant
			if json.Unmarshal(b, &grant) != nil || grant.Path != a.Disk.Path {
				return nil, fmt.Errorf("the disk %s is not granted: %s", a.Disk.Path, b)
			}
			w.status.Spec.Disks = append(w.status.Spec.Disks, *a.Disk)
		} else {
			w.status.Spec.NICs = append(w.status.Spec.NICs, *a.NIC)
		}
	case control.VerbDetach:
		if strings.Contains(w.status.Spec.Name, "clinging") {
			return nil, errors.New("the guest does not let go of it")
		}
	case control.VerbScreenshot:
		return control.Screenshot{PNG: []byte("\x89PNG picture")}, nil
	case control.VerbGuestInfo:
		return hv.GuestInfo{Hostname: "inside", OS: map[string]string{"name": "Debian"}, Addresses: []string{"10.0.0.9/24"}}, nil
	case control.VerbKeys:
		var k control.Keys
		json.Unmarshal(params, &k)
		w.events.Add(control.Event{Event: &hv.Event{Kind: hv.EventNotice, Text: fmt.Sprint("keys ", k.Codes)}})
	case control.VerbStop:
		time.AfterFunc(10*time.Millisecond, func() { close(w.end) })
	default:
		return nil, fmt.Errorf("%s: %w", verb, hv.ErrUnsupported)
	}
	return nil, nil
}

func (w *fakeWorker) launch(params json.RawMessage) (any, error) {
	var l control.Launch
	if err := json.Unmarshal(params, &l); err != nil {
		return nil, err
	}
	if strings.Contains(l.Spec.Name, "refused") {
		return nil, &hv.StageError{Stage: "qemu", Err: errors.New("it is refused"), Cure: "name it otherwise"}
	}
	w.events.Add(control.Event{Progress: &control.Progress{Stage: "firmware", Done: 1, Total: 2}})
	if strings.Contains(l.Spec.Name, "slow") {
		w.mu.Unlock()
		stay()
	}
	m, err := proc.Start(proc.Command{Path: filepath.Join(filepath.Dir(os.Args[0]), "hxen-model"+exe), DieWithParent: true, ExtraFiles: []*os.File{w.lock.File()}})
	if err != nil {
		return nil, err
	}
	w.status.DomID, w.status.Started, w.status.Spec = l.DomID, time.Now(), &l.Spec
	w.status.Model = control.Process{PID: m.PID(), Start: m.StartTime()}
	w.status.Info = hv.MachineInfo{Engine: "qemu", Accelerator: "tcg", AccelReason: "it is a test", Machine: "pc-q35-7.2", PID: m.PID()}
	go func() {
		m.Wait()
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.status.Exit == nil {
			w.exit(hv.ExitFailed, "QEMU ended unexpectedly")
		}
	}()
	_, err = os.Stat(w.files.Saved())
	if _, cerr := os.Stat(w.files.Clone()); cerr == nil {
		err = nil
	}
	if (err == nil) != l.Restore {
		return nil, fmt.Errorf("restore is %v, but the saved state: %v", l.Restore, err)
	}
	if strings.Contains(l.Spec.Name, "stale") && l.Restore {
		return nil, &hv.StageError{Stage: "saved state", Err: errors.New("the disk was changed"), Cure: "discard it"}
	}
	os.Remove(w.files.Saved())
	os.Remove(w.files.Clone())
	if l.Paused {
		w.state(hv.Paused)
	} else {
		w.state(hv.Running)
	}
	return w.status, nil
}

func (w *fakeWorker) OpenStream(_ context.Context, kind string) (io.ReadWriteCloser, error) {
	a, b := net.Pipe()
	go func() {
		fmt.Fprintf(b, "hello from %s\n", kind)
		io.Copy(b, b)
	}()
	return a, nil
}

// fakeNetd keeps what is set and gives every port an address.
type fakeNetd struct {
	events *control.EventLog
	end    chan struct{}

	mu  sync.Mutex // guards cfg
	cfg control.NetConfig
}

func playNetd() {
	dir, run := flags()
	files := paths.NetworkDir(dir, run)
	if _, err := proc.TryLock(files.Lock()); err != nil {
		fatal(err)
	}
	l, err := localsock.Listen(files.Ctl())
	if err != nil {
		fatal(err)
	}
	n := &fakeNetd{events: control.NewEventLog(), end: make(chan struct{})}
	fmt.Println("ready")
	os.Stdout.Close()
	go func() { // cards that take their addresses again and again
		for range time.Tick(100 * time.Millisecond) {
			n.events.Add(control.Event{Event: &hv.Event{Kind: hv.EventNotice, Text: "an address was taken"}})
		}
	}()
	go serveFake(l, &control.Server{Hello: control.Hello{Protocol: 1, Min: 1, Program: "hxen-netd", UUID: filepath.Base(dir), PID: os.Getpid()}, Handler: n, Log: n.events})
	<-n.end
}

func (n *fakeNetd) Handle(_ context.Context, verb string, params json.RawMessage) (any, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch verb {
	case control.VerbSet:
		n.cfg = control.NetConfig{}
		if err := json.Unmarshal(params, &n.cfg); err != nil {
			return nil, err
		}
		dir, _ := flags()
		return nil, writeJSON(paths.NetworkDir(dir, "").Config(), n.cfg)
	case control.VerbLeases:
		var out []control.Lease
		for i, p := range n.cfg.Ports {
			l := control.Lease{NIC: p.NIC, MAC: p.MAC, IP: fmt.Sprintf("192.168.127.%d", i+2), Seen: time.Now()}
			for _, f := range p.Forwards {
				if f.From == 1 {
					l.Failed = append(l.Failed, "port 1 of the host is taken")
				}
			}
			out = append(out, l)
		}
		return out, nil
	case control.VerbStop:
		time.AfterFunc(10*time.Millisecond, func() { close(n.end) })
		return nil, nil
	}
	return nil, hv.ErrUnsupported
}

func (n *fakeNetd) OpenStream(context.Context, string) (io.ReadWriteCloser, error) {
	return nil, hv.ErrUnsupported
}

// caller is a client of the API.
type caller struct {
	t       testing.TB
	socket  string
	http    *http.Client
	session api.Ref
}

func newCaller(t testing.TB, home string) *caller {
	t.Helper()
	st, _ := paths.At(home)
	run, err := st.RunDir()
	if err != nil {
		t.Fatal(err)
	}
	c := &caller{t: t, socket: paths.Socket(run)}
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return localsock.Dial(ctx, c.socket) }}
	c.http = &http.Client{Transport: tr, Timeout: time.Minute}
	t.Cleanup(tr.CloseIdleConnections)
	if err := c.raw(&c.session, "session.login_with_password", "", "", "1.0", "test"); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *caller) raw(result any, method string, params ...any) error {
	body, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
	if err != nil {
		return err
	}
	r, err := c.http.Post("http://localhost"+api.PathRPC, api.ContentType, bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer r.Body.Close()
	var answer api.Response
	if err := json.NewDecoder(r.Body).Decode(&answer); err != nil {
		return err
	}
	if answer.Error != nil {
		return api.NewError(answer.Error.Message, answer.Error.Data...)
	}
	if result == nil {
		return nil
	}
	return json.Unmarshal(answer.Result, result)
}

func (c *caller) call(result any, method string, params ...any) error {
	return c.raw(result, method, append([]any{c.session}, params...)...)
}

func (c *caller) must(result any, method string, params ...any) {
	c.t.Helper()
	if err := c.call(result, method, params...); err != nil {
		c.t.Fatalf("%s: %v", method, err)
	}
}

// plugin calls one of HXEN's own functions.
func (c *caller) plugin(result any, function string, arg any) error {
	args := map[string]string{}
	if arg != nil {
		b, _ := json.Marshal(arg)
		args[api.PluginArgs] = string(b)
	}
	var hosts []api.Ref
	if err := c.call(&hosts, "host.get_all"); err != nil {
		return err
	}
	var text string
	if err := c.call(&text, "host.call_plugin", hosts[0], api.Plugin, function, args); err != nil || result == nil {
		return err
	}
	return json.Unmarshal([]byte(text), result)
}

func (c *caller) create(n api.NewGuest) api.Ref {
	c.t.Helper()
	if n.DiskSize == 0 && n.ISO == "" && n.Disk == "" && n.Kernel == "" {
		n.DiskSize = 1 << 30
	}
	var made api.Created
	if err := c.plugin(&made, api.FnCreate, n); err != nil {
		c.t.Fatalf("create %s: %v", n.Name, err)
	}
	return made.VM
}

func (c *caller) vm(ref api.Ref) api.VM {
	c.t.Helper()
	var r api.VM
	c.must(&r, "VM.get_record", ref)
	return r
}

// until follows events until the guest's record is as wanted.
func (c *caller) until(ref api.Ref, what string, ok func(api.VM) bool) api.VM {
	c.t.Helper()
	deadline := time.Now().Add(5 * time.Minute)
	token := ""
	for time.Now().Before(deadline) {
		var b api.EventBatch
		c.must(&b, "event.from", []string{"VM/" + string(ref)}, token, 5.0)
		token = b.Token
		if r := c.vm(ref); ok(r) {
			return r
		}
	}
	c.t.Fatalf("guest never became %s: %+v", what, c.vm(ref))
	return api.VM{}
}

// untilAddressed follows events until a card has an address.
func (c *caller) untilAddressed(ref api.Ref) api.VIF {
	c.t.Helper()
	var vif api.VIF
	for token, deadline := "", time.Now().Add(5*time.Minute); len(vif.IPv4Addresses) == 0; {
		if time.Now().After(deadline) {
			c.t.Fatal("the card never got an address")
		}
		var b api.EventBatch
		c.must(&b, "event.from", []string{"VIF"}, token, 5.0)
		token = b.Token
		c.must(&vif, "VIF.get_record", ref)
	}
	return vif
}

func isState(p hv.PowerState) func(api.VM) bool {
	return func(r api.VM) bool { return r.PowerState == string(p) && len(r.CurrentOperations) == 0 }
}

// wantCode checks an error's XenAPI code and that it says the words.
func wantCode(t testing.TB, err error, code string, words ...string) {
	t.Helper()
	var e *api.Error
	if !errors.As(err, &e) || e.Code != code {
		t.Fatalf("got %v, want %s", err, code)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q does not say %q", err, w)
		}
	}
}

// connect turns a connection into a console's stream.
func (c *caller) console(ref api.Ref) (net.Conn, *bufio.Reader) {
	c.t.Helper()
	nc, err := localsock.Dial(c.t.Context(), c.socket)
	if err != nil {
		c.t.Fatal(err)
	}
	fmt.Fprintf(nc, "CONNECT %s?ref=%s HTTP/1.1\r\nHost: localhost\r\n%s: %s\r\n\r\n", api.PathConsole, url.QueryEscape(string(ref)), api.SessionHeader, c.session)
	r := bufio.NewReader(nc)
	line, err := r.ReadString('\n')
	if err != nil || !strings.Contains(line, "200") {
		c.t.Fatalf("%q %v", line, err)
	}
	for line != "\r\n" {
		if line, err = r.ReadString('\n'); err != nil {
			c.t.Fatal(err)
		}
	}
	return nc, r
}
