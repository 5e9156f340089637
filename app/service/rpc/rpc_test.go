package rpc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/platform/localsock"
	"github.com/hxen-project/hxen/platform/paths"
)

// hang is how long a test waits for what must come.
const hang = 5 * time.Minute

// harness is a server on a real socket and a caller of it.
type harness struct {
	t       *testing.T
	s       *Server
	path    string
	http    *http.Client
	session api.Ref
	log     *syncBuffer
}

type syncBuffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

const hostUUID = "00000000-0000-4000-8000-000000000001"

// serve starts a server with the methods that register adds.
func serve(t *testing.T, o Options, register func(*Server)) *harness {
	t.Helper()
	h := &harness{t: t, path: socket(t), log: &syncBuffer{}}
	o.Log = slog.New(slog.NewTextHandler(h.log, nil))
	o.Host = api.RefOf(hostUUID)
	h.s = New(NewDB(), o)
	h.s.DB().Put(o.Host, api.Host{UUID: hostUUID, NameLabel: "host"})
	if register != nil {
		register(h.s)
	}
	l, err := localsock.Listen(h.path)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- h.s.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), hang)
		defer cancel()
		if err := h.s.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return localsock.Dial(ctx, h.path) }}
	t.Cleanup(tr.CloseIdleConnections)
	h.http = &http.Client{Transport: tr, Timeout: hang}
	h.must(&h.session, "session.login_with_password", "root", "", "1.0", "test")
	return h
}

// socket is a path for a socket (on Windows, a name for a pipe) of this test's own.
func socket(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hx") // short: sockets' paths are
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	t.Setenv("XDG_RUNTIME_DIR", dir)
	store, err := paths.At(dir)
	if err != nil {
		t.Fatal(err)
	}
	run, err := store.ClaimRunDir()
	if err != nil {
		t.Fatal(err)
	}
	return paths.Socket(run)
}

// post sends a body and returns the status and the answer.
func (h *harness) post(body string) (int, http.Header, []byte) {
	h.t.Helper()
	resp, err := h.http.Post("http://x/jsonrpc", "application/json; charset=utf-8", strings.NewReader(body))
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, raw
}

// raw calls a method with exactly these parameters.
func (h *harness) raw(result any, method string, params ...any) error {
	h.t.Helper()
	body, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "method": method, "params": params, "id": 7})
	if err != nil {
		h.t.Fatal(err)
	}
	status, _, answer := h.post(string(body))
	if status != http.StatusOK {
		h.t.Fatalf("%s: status %d: %s", method, status, answer)
	}
	var a api.Response
	if err := json.Unmarshal(answer, &a); err != nil {
		h.t.Fatalf("%s: %v: %s", method, err, answer)
	}
	if string(a.ID) != "7" || a.Version != "2.0" || (a.Error == nil) == (a.Result == nil) {
		h.t.Fatalf("%s: bad envelope: %s", method, answer)
	}
	if a.Error != nil {
		return &api.Error{Code: a.Error.Message, Params: a.Error.Data}
	}
	if result != nil {
		if err := json.Unmarshal(a.Result, result); err != nil {
			h.t.Fatalf("%s: %v: %s", method, err, a.Result)
		}
	}
	return nil
}

// call is raw with the session first.
func (h *harness) call(result any, method string, params ...any) error {
	h.t.Helper()
	return h.raw(result, method, append([]any{h.session}, params...)...)
}

// must is raw for a login and call for all else, that has to work.
func (h *harness) must(result any, method string, params ...any) {
	h.t.Helper()
	do := h.call
	if strings.HasPrefix(method, "session.login") {
		do = h.raw
	}
	if err := do(result, method, params...); err != nil {
		h.t.Fatalf("%s: %v", method, err)
	}
}

// refused fails the test unless err is the API's error with this code; it
// returns the parameters.
func refused(t *testing.T, err error, code string) []string {
	t.Helper()
	var e *api.Error
	if !errors.As(err, &e) || e.Code != code {
		t.Fatalf("got %#v, want %s", err, code)
	}
	return e.Params
}

func vm(i int) (api.Ref, api.VM) {
	uuid := fmt.Sprintf("11111111-1111-4111-8111-%012d", i)
	return api.RefOf(uuid), api.VM{UUID: uuid, NameLabel: fmt.Sprintf("guest %d", i), PowerState: "Halted", DomID: -1, MemoryStaticMax: 1 << 33}
}

func TestRecordsAreServedByReflection(t *testing.T) {
	h := serve(t, Options{}, nil)
	a, ra := vm(1)
	b, rb := vm(2)
	rb.NameLabel = ra.NameLabel
	rb.OtherConfig = map[string]string{"k": "<&>"}
	h.s.DB().Put(a, ra)
	h.s.DB().Put(b, &rb)

	var all []api.Ref
	h.must(&all, "VM.get_all")
	if !slices.Equal(all, []api.Ref{a, b}) {
		t.Errorf("get_all: %v", all)
	}
	var records map[api.Ref]api.VM
	h.must(&records, "VM.get_all_records")
	if len(records) != 2 || records[b].OtherConfig["k"] != "<&>" || records[a].UUID != ra.UUID {
		t.Errorf("get_all_records: %+v", records)
	}
	var one map[string]any
	h.must(&one, "VM.get_record", a)
	if one["memory_static_max"] != float64(1<<33) || one["VBDs"] == nil || one["affinity"] != "OpaqueRef:NULL" {
		t.Errorf("get_record: %v", one)
	}
	var state string
	h.must(&state, "VM.get_power_state", a)
	var domid int
	h.must(&domid, "VM.get_domid", a)
	var tags []string
	h.must(&tags, "VM.get_tags", a)
	if state != "Halted" || domid != -1 || tags == nil {
		t.Errorf("fields: %q %d %v", state, domid, tags)
	}
	var ref api.Ref
	h.must(&ref, "VM.get_by_uuid", rb.UUID)
	var named, none []api.Ref
	h.must(&named, "VM.get_by_name_label", ra.NameLabel)
	h.must(&none, "VM.get_by_name_label", "nobody")
	if ref != b || !slices.Equal(named, []api.Ref{a, b}) || none == nil || len(none) != 0 {
		t.Errorf("found %v, %v, %v", ref, named, none)
	}
	if p := refused(t, h.call(nil, "VM.get_record", "OpaqueRef:x"), api.ErrHandleInvalid); !slices.Equal(p, []string{"VM", "OpaqueRef:x"}) {
		t.Errorf("parameters %q", p)
	}
	refused(t, h.call(nil, "host.get_record", a), api.ErrHandleInvalid)
	if p := refused(t, h.call(nil, "VM.get_by_uuid", "y"), api.ErrUUIDInvalid); !slices.Equal(p, []string{"VM", "y"}) {
		t.Errorf("parameters %q", p)
	}
	for _, m := range []string{"VM.get_nothing", "VM.set_name_label", "Nobody.get_all", "VM", "", "VM.", "Async.VM.get_all", "PBD.get_by_name_label", "session.get_all"} {
		if m == "" {
			continue
		}
		if p := refused(t, h.call(nil, m), api.ErrMethodUnknown); p[0] != m {
			t.Errorf("%s: parameters %q", m, p)
		}
	}
	var me api.Session
	h.must(&me, "session.get_record", h.session)
	if me.Originator != "test" || !me.IsLocalSuperuser || me.ThisHost != h.s.opt.Host {
		t.Errorf("session %+v", me)
	}
}

func TestParametersAreChecked(t *testing.T) {
	type deep struct {
		N int64 `json:"n"`
	}
	var mu sync.Mutex
	var seen string
	h := serve(t, Options{}, func(s *Server) {
		s.Register("VM.start", func(c *Call, vm api.Ref, paused, force bool) error {
			mu.Lock()
			defer mu.Unlock()
			seen = fmt.Sprint(c.Method, vm, paused, force, c.Session != api.NullRef, c.Task.Ref() != "")
			return nil
		})
		s.Register("VM.many", func(_ *Call, n int64, f float64, m map[string]string, l []string, d deep) (string, error) {
			return fmt.Sprint(n, f, m, l, d), nil
		})
		s.Register("VM.nothing", func(*Call) ([]api.Ref, error) { return nil, nil })
	})
	ref, rec := vm(1)
	h.s.DB().Put(ref, rec)

	var void string
	h.must(&void, "VM.start", ref, true, false)
	mu.Lock()
	if want := fmt.Sprint("VM.start", ref, true, false, true, true); void != "" || seen != want {
		t.Errorf("seen %q (answer %q), want %q", seen, void, want)
	}
	mu.Unlock()
	for _, params := range [][]any{{}, {ref}, {ref, true}, {ref, true, true, true}} {
		p := refused(t, h.call(nil, "VM.start", params...), api.ErrParameterCount)
		if want := []string{"VM.start", "4", fmt.Sprint(len(params) + 1)}; !slices.Equal(p, want) {
			t.Errorf("%v: %q, want %q", params, p, want)
		}
	}
	refused(t, h.raw(nil, "VM.start"), api.ErrParameterCount)
	for _, params := range [][]any{{1, true, true}, {ref, "true", true}, {ref, nil, true}, {nil, true, true}, {ref, 1, true}, {[]int{}, true, true}} {
		refused(t, h.call(nil, "VM.start", params...), api.ErrFieldType)
	}
	refused(t, h.call(nil, "VM.start", "OpaqueRef:gone", true, true), api.ErrHandleInvalid)
	refused(t, h.call(nil, "Async.VM.start", "OpaqueRef:gone", true, true), api.ErrHandleInvalid)

	ok := []any{"-12", 1, map[string]string{"a": "b"}, []string{"x"}, map[string]any{"n": 3}}
	var out string
	h.must(&out, "VM.many", ok...)
	if out != fmt.Sprint(int64(-12), 1.0, map[string]string{"a": "b"}, []string{"x"}, deep{3}) {
		t.Errorf("decoded %q", out)
	}
	for i, bad := range []any{"1x", "1.5", []string{"1"}, map[string]int{"a": 1}, map[string]any{"n": "3"}} {
		params := slices.Clone(ok)
		params[i] = bad
		p := refused(t, h.call(nil, "VM.many", params...), api.ErrFieldType)
		if !strings.Contains(p[0], fmt.Sprintf("parameter %d of VM.many", i+2)) {
			t.Errorf("the error does not say where: %q", p)
		}
	}
	var none []api.Ref
	h.must(&none, "VM.nothing")
	if none == nil {
		t.Error("an empty set came as null")
	}
	// A session that cannot be one.
	for _, s := range []any{"", nil, 1, "OpaqueRef:x", map[string]int{}} {
		refused(t, h.raw(nil, "VM.get_all", s), api.ErrSessionInvalid)
	}
}

func TestMethodsFailInWords(t *testing.T) {
	h := serve(t, Options{}, func(s *Server) {
		s.Register("VM.refuse", func(*Call) error {
			return fmt.Errorf("refuse: %w", api.NewError(api.ErrVMBadPowerState, "r", "halted", "running"))
		})
		s.Register("VM.fail", func(*Call) error { return errors.New("the disk is on fire") })
		s.Register("VM.panic", func(*Call) (string, error) { panic("ouch") })
		s.Register("VM.nan", func(*Call) (any, error) { return func() {}, nil })
	})
	if p := refused(t, h.call(nil, "VM.refuse"), api.ErrVMBadPowerState); !slices.Equal(p, []string{"r", "halted", "running"}) {
		t.Errorf("parameters %q", p)
	}
	if p := refused(t, h.call(nil, "VM.fail"), api.ErrInternal); p[0] != "the disk is on fire" {
		t.Errorf("parameters %q", p)
	}
	refused(t, h.call(nil, "VM.nan"), api.ErrInternal)
	for range 3 {
		refused(t, h.call(nil, "VM.panic"), api.ErrInternal)
	}
	if log := h.log.String(); !strings.Contains(log, "ouch") || !strings.Contains(log, "rpc_test.go") {
		t.Errorf("the log does not show the panic: %s", log)
	}
	h.must(nil, "VM.get_all") // the server lives on
}

func TestSetters(t *testing.T) {
	h := serve(t, Options{}, func(s *Server) {
		s.RegisterSetter("VM", "name_label", func(_ *Call, ref api.Ref, v string) error {
			if v == "" {
				return api.NewError(api.ErrRefused, "name", "a guest needs a name", "")
			}
			Modify(s.DB(), ref, func(r *api.VM) { r.NameLabel = v })
			return nil
		})
		s.RegisterSetter("VM", "other_config", func(_ *Call, ref api.Ref, m map[string]string) error {
			Modify(s.DB(), ref, func(r *api.VM) { r.OtherConfig = m })
			return nil
		})
	})
	ref, rec := vm(1)
	h.s.DB().Put(ref, rec)
	h.must(nil, "VM.set_name_label", ref, "new")
	refused(t, h.call(nil, "VM.set_name_label", ref, ""), api.ErrRefused)
	refused(t, h.call(nil, "VM.set_name_label", "OpaqueRef:x", "a"), api.ErrHandleInvalid)
	refused(t, h.call(nil, "VM.add_to_other_config", "OpaqueRef:x", "a", "b"), api.ErrHandleInvalid)
	h.must(nil, "VM.set_other_config", ref, map[string]string{"a": "1"})
	h.must(nil, "VM.add_to_other_config", ref, "b", "2")
	if p := refused(t, h.call(nil, "VM.add_to_other_config", ref, "b", "3"), api.ErrDuplicateKey); !slices.Equal(p, []string{"VM", "other_config", string(ref), "b"}) {
		t.Errorf("parameters %q", p)
	}
	h.must(nil, "VM.remove_from_other_config", ref, "a")
	h.must(nil, "VM.remove_from_other_config", ref, "never there")
	got, _ := Get[api.VM](h.s.DB(), ref)
	if got.NameLabel != "new" || len(got.OtherConfig) != 1 || got.OtherConfig["b"] != "2" {
		t.Errorf("%q %v", got.NameLabel, got.OtherConfig)
	}
	// Changes to one map from many sides are all kept.
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() { _ = h.call(nil, "VM.add_to_other_config", ref, fmt.Sprint("k", i), "v") })
	}
	wg.Wait()
	if got, _ := Get[api.VM](h.s.DB(), ref); len(got.OtherConfig) != 21 {
		t.Errorf("%d keys, want 21", len(got.OtherConfig))
	}
	for name, bad := range map[string]func(){
		"class":  func() { h.s.RegisterSetter("Nobody", "x", func(*Call, api.Ref, string) error { return nil }) },
		"field":  func() { h.s.RegisterSetter("VM", "x", func(*Call, api.Ref, string) error { return nil }) },
		"type":   func() { h.s.RegisterSetter("VM", "name_label", func(*Call, api.Ref, int64) error { return nil }) },
		"shape":  func() { h.s.Register("VM.x", func() error { return nil }) },
		"twice":  func() { f := func(*Call) error { return nil }; h.s.Register("VM.y", f); h.s.Register("VM.y", f) },
		"record": func() { h.s.DB().Put("x", struct{}{}) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("a wrong %s is registered", name)
				}
			}()
			bad()
		}()
	}
}

func TestPlugins(t *testing.T) {
	type arg struct {
		A string `json:"a"`
	}
	h := serve(t, Options{}, func(s *Server) {
		s.RegisterPlugin("p", "echo", func(_ *Call, a arg) (map[string]string, error) { return map[string]string{"got": a.A}, nil })
		s.RegisterPlugin("p", "none", func(*Call) error { return nil })
		s.RegisterPlugin("p", "fail", func(*Call) error { return api.NewError(api.ErrRefused, "a", "b", "c") })
		s.RegisterPlugin("p", "panic", func(*Call) error { panic("ouch") })
	})
	host := api.RefOf(hostUUID)
	var text string
	h.must(&text, "host.call_plugin", host, "p", "echo", map[string]string{"args": `{"a":"<b>"}`})
	var got map[string]string
	if err := json.Unmarshal([]byte(text), &got); err != nil || got["got"] != "<b>" {
		t.Errorf("%q %v", text, err)
	}
	h.must(&text, "host.call_plugin", host, "p", "none", map[string]string{})
	if text != "" {
		t.Errorf("nothing came as %q", text)
	}
	var task api.Ref
	h.must(&task, "Async.host.call_plugin", host, "p", "echo", map[string]string{"args": `{"a":"<b>"}`})
	if s, err := api.ResultString(h.await(task).Result); err != nil || s != `{"got":"\u003cb\u003e"}` {
		t.Errorf("the task's result is %q (%v)", s, err)
	}
	for code, params := range map[string][]any{
		api.ErrHandleInvalid: {"OpaqueRef:x", "p", "none", map[string]string{}},
		api.ErrUnknownPlugin: {host, "q", "none", map[string]string{}},
		api.ErrPluginFailure: {host, "p", "other", map[string]string{}},
		api.ErrRefused:       {host, "p", "fail", map[string]string{}},
		api.ErrInternal:      {host, "p", "panic", map[string]string{}},
		api.ErrFieldType:     {host, "p", "echo", map[string]string{"args": `{"a":1}`}},
	} {
		refused(t, h.call(nil, "host.call_plugin", params...), code)
	}
	refused(t, h.call(nil, "host.call_plugin", host, "p", "echo", map[string]string{}), api.ErrFieldType)
}

func TestSessionsEnd(t *testing.T) {
	h := serve(t, Options{MaxSessions: 3}, nil)
	var other api.Ref
	h.must(&other, "session.login_with_password", "u", "p") // as old clients do
	waiting := make(chan error, 1)
	go func() { waiting <- h.raw(nil, "event.from", other, []string{"VM/x"}, h.token(), 3600.0) }()
	inFlight(t, "(*DB).From")
	if err := h.raw(nil, "session.logout", other); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-waiting:
		refused(t, err, api.ErrSessionInvalid)
	case <-time.After(hang):
		t.Fatal("event.from outlives its session")
	}
	refused(t, h.raw(nil, "VM.get_all", other), api.ErrSessionInvalid)
	refused(t, h.raw(nil, "session.logout", other), api.ErrSessionInvalid)

	// The longest idle one gives way.
	h.must(&other, "session.login_with_password", "u", "p", "1", "t")
	for range 2 {
		h.must(nil, "VM.get_all")
		var s api.Ref
		h.must(&s, "session.login_with_password", "u", "p", "1", "t")
	}
	refused(t, h.raw(nil, "VM.get_all", other), api.ErrSessionInvalid)
	h.must(nil, "VM.get_all")
	h.s.sessions.mu.Lock()
	n, records := len(h.s.sessions.live), len(h.s.db.objects[classes[api.ClassSession]])
	// An idle session expires.
	h.s.sessions.live[h.session].seen = time.Now().Add(-25 * time.Hour)
	h.s.sessions.mu.Unlock()
	if n != 3 || records != 3 {
		t.Errorf("%d sessions, %d records, want 3", n, records)
	}
	refused(t, h.call(nil, "VM.get_all"), api.ErrSessionInvalid)
}

// token returns a token of now.
func (h *harness) token() string {
	h.t.Helper()
	var b api.EventBatch
	h.must(&b, "event.from", []string{"*"}, "", 0)
	return b.Token
}

// inFlight waits until some goroutine is inside a function.
func inFlight(t *testing.T, function string) {
	t.Helper()
	stacks := make([]byte, 1<<20)
	for deadline := time.Now().Add(hang); ; time.Sleep(time.Millisecond) {
		if strings.Contains(string(stacks[:runtime.Stack(stacks, true)]), function) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("nobody came to %s", function)
		}
	}
}
