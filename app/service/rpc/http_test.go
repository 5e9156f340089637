package rpc

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/platform/localsock"
)

func TestTheWire(t *testing.T) {
	h := serve(t, Options{}, nil)
	get := func(version string) string {
		return fmt.Sprintf(`{%s"method":"VM.get_all","params":[%q],"id":"a"}`, version, h.session)
	}
	invalid := `{%s"method":"VM.get_all","params":["x"],"id":1}`
	for body, want := range map[string]string{
		get(`"jsonrpc":"2.0",`): `{"jsonrpc":"2.0","result":[],"id":"a"}`,
		get(``):                 `{"result":[],"error":null,"id":"a"}`,
		get(`"jsonrpc":"1.0",`): `{"result":[],"error":null,"id":"a"}`,
		get(`"extra":{"a":[1]},"jsonrpc":"2.0",`):                                 `{"jsonrpc":"2.0","result":[],"id":"a"}`,
		fmt.Sprintf(invalid, `"jsonrpc":"2.0",`):                                  `{"jsonrpc":"2.0","error":{"code":1,"message":"SESSION_INVALID","data":["x"]},"id":1}`,
		fmt.Sprintf(invalid, ``):                                                  `{"result":null,"error":["SESSION_INVALID","x"],"id":1}`,
		`{"jsonrpc":"2.0","method":"x"}`:                                          `{"jsonrpc":"2.0","error":{"code":1,"message":"MESSAGE_METHOD_UNKNOWN","data":["x"]},"id":null}`,
		`{"jsonrpc":"2.0","id":2}`:                                                `{"jsonrpc":"2.0","error":{"code":-32600,"message":"the call names no method","data":[]},"id":2}`,
		`[` + get(`"jsonrpc":"2.0",`) + `]`:                                       `{"result":null,"error":["a call is one object with method, params and id (batches are not served)"],"id":null}`,
		`{"jsonrpc":"2.0","method":1,"id":3}`:                                     `{"jsonrpc":"2.0","error":{"code":-32600,"message":"a call is one object with method, params and id (batches are not served)","data":[]},"id":3}`,
		`{"jsonrpc":"2.0","method":"VM.get_all","params":{"session":"x"},"id":4}`: `{"jsonrpc":"2.0","error":{"code":1,"message":"FIELD_TYPE_ERROR","data":["params: XenAPI's parameters are positional, an array; named ones are not served"]},"id":4}`,
	} {
		status, header, answer := h.post(body)
		if status != http.StatusOK || string(answer) != want || header.Get("Content-Type") != "application/json" {
			t.Errorf("%s\n got %d %s: %s\nwant %s", body, status, header.Get("Content-Type"), answer, want)
		}
	}
	for _, bad := range []string{"", "{", "nonsense", "{}x", `{"method":"a"`, "\x00"} {
		if status, _, answer := h.post(bad); status != http.StatusOK || !bytes.Contains(answer, []byte(`"error":["the call is no JSON`)) {
			t.Errorf("%q: %d %s", bad, status, answer)
		}
	}
	if status, _, answer := h.post(`"` + strings.Repeat("x", maxBody)); status != http.StatusRequestEntityTooLarge {
		t.Errorf("a body that is too large: %d %s", status, answer)
	}
	for _, path := range []string{"/", "/json", "/jsonrpc"} {
		resp, err := h.http.Get("http://x" + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("GET %s: %s", path, resp.Status)
		}
		resp, err = h.http.Post("http://x"+path, "", strings.NewReader(get(``)))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("POST %s: %s", path, resp.Status)
		}
	}
}

// garbage is what no method expects.
var garbage = []string{`null`, `""`, `0`, `-1`, `1e999`, `true`, `[]`, `{}`, `[[]]`, `{"a":{}}`, `"OpaqueRef:NULL"`, `"\u0000"`, `[null]`, `{"args":"{"}`, `9223372036854775808`}

// TestGarbageIsAnswered: whatever a client sends, it is told something, at once,
// and the server lives on.
func TestGarbageIsAnswered(t *testing.T) {
	h := serve(t, Options{}, func(s *Server) {
		s.Register("VM.start", func(_ *Call, _ api.Ref, _, _ bool) error { return nil })
		s.Register("VM.odd", func(_ *Call, _ int64, _ []string, _ map[string]string) (any, error) { return nil, nil })
		s.RegisterSetter("VM", "other_config", func(*Call, api.Ref, map[string]string) error { return nil })
		s.RegisterPlugin("p", "f", func(_ *Call, _ api.NewGuest) (api.Created, error) { return api.Created{}, nil })
	})
	ref, rec := vm(1)
	h.s.DB().Put(ref, rec)
	var methods []string
	h.must(&methods, "system.listMethods")
	if err := h.raw(nil, "system.listMethods"); err != nil {
		t.Error(err)
	}
	for _, want := range []string{"VM.get_record", "VM.get_name_label", "Async.VM.start", "event.from", "session.logout", "VM.add_to_other_config", "host.call_plugin"} {
		if !slices.Contains(methods, want) {
			t.Errorf("%s is not listed", want)
		}
	}
	if !slices.IsSorted(methods) || len(methods) < 400 {
		t.Errorf("%d methods", len(methods))
	}
	for i, m := range methods {
		if m == "session.logout" {
			continue
		}
		for n := range 5 {
			params := []string{fmt.Sprintf("%q", h.session)}
			for k := range n {
				params = append(params, garbage[(i+k*7+n)%len(garbage)])
			}
			bodies := []string{
				fmt.Sprintf(`{"jsonrpc":"2.0","method":%q,"params":[%s],"id":1}`, m, strings.Join(params, ",")),
				fmt.Sprintf(`{"method":%q,"params":[%s],"id":[]}`, m, strings.Join(params[1:], ",")),
			}
			for _, body := range bodies {
				status, header, answer := h.post(body)
				if status != http.StatusOK || header.Get("Content-Type") != api.ContentType || !json.Valid(answer) {
					t.Fatalf("%s: %d %s", body, status, answer)
				}
			}
		}
	}
	h.must(nil, "VM.get_all")
	if log := h.log.String(); strings.Contains(log, "panic") {
		t.Error(log)
	}
}

func FuzzAnswer(f *testing.F) {
	s := New(NewDB(), Options{Log: slog.New(slog.DiscardHandler)})
	s.Register("VM.odd", func(_ *Call, _ int64, _ []string, _ map[string]string, _ api.NewGuest) (any, error) { return nil, nil })
	session := s.login(localsock.PeerInfo{}, "fuzz")
	const stands = "SESSION"
	f.Add(`{"jsonrpc":"2.0","method":"VM.odd","params":["SESSION","1",[],{},{}],"id":1}`)
	f.Add(`{"method":"event.from","params":["SESSION",["*"],"",0],"id":"x"}`)
	f.Add(`{"method":"session.get_record","params":["SESSION","SESSION"]}`)
	for _, g := range garbage {
		f.Add(g)
	}
	// Nothing may wait: everybody has hung up.
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	f.Fuzz(func(t *testing.T, body string) {
		body = strings.ReplaceAll(body, stands, string(session))
		answer := s.answer(gone, localsock.PeerInfo{}, []byte(body))
		if !json.Valid(answer) {
			t.Fatalf("%q is answered with %q", body, answer)
		}
	})
}

// connect opens a stream and returns the answer's status.
func (h *harness) connect(request string) (net.Conn, *bufio.Reader, *http.Response) {
	h.t.Helper()
	c, err := localsock.Dial(context.Background(), h.path)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(hang)); err != nil {
		h.t.Fatal(err)
	}
	_, sent := io.WriteString(c, request) // who is one too many may be answered, and closed, before
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, &http.Request{Method: http.MethodConnect})
	if err != nil {
		h.t.Fatal(errors.Join(sent, err))
	}
	return c, r, resp
}

func TestStreams(t *testing.T) {
	var mu sync.Mutex
	var far []net.Conn
	h := serve(t, Options{}, func(s *Server) {
		s.HandleStream("/console", func(c *Call, r *http.Request) (io.ReadWriteCloser, error) {
			switch r.URL.Query().Get("ref") {
			case "gone":
				return nil, api.NewError(api.ErrHandleInvalid, "console", "gone")
			case "bad":
				return nil, errors.New("no screen")
			case "panic":
				panic("ouch")
			}
			near, other := net.Pipe()
			mu.Lock()
			far = append(far, other)
			mu.Unlock()
			return near, nil
		})
	})
	last := func() net.Conn {
		mu.Lock()
		defer mu.Unlock()
		return far[len(far)-1]
	}
	ends := func(r io.Reader) {
		t.Helper()
		if rest, err := io.ReadAll(r); err != nil || len(rest) > 0 {
			t.Errorf("the stream ends with %q, %v", rest, err)
		}
	}
	// The three ways to name the session, and bytes right behind the request.
	for _, how := range []string{
		"?ref=a HTTP/1.1\r\nHost: x\r\nSession-Id: " + string(h.session) + "\r\n\r\n",
		"?ref=a&session_id=" + string(h.session) + " HTTP/1.0\r\n\r\n",
		"?ref=a HTTP/1.1\r\nHost: x\r\nCookie: a=b; session_id=" + string(h.session) + "\r\n\r\n",
	} {
		c, r, resp := h.connect("CONNECT /console" + how + "early")
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s", how, resp.Status)
		}
		other := last()
		_ = other.SetDeadline(time.Now().Add(hang))
		got := make([]byte, 5)
		if _, err := io.ReadFull(other, got); err != nil || string(got) != "early" {
			t.Fatalf("the far side got %q, %v", got, err)
		}
		go func() { _, _ = io.WriteString(other, "RFB 003.008\n") }()
		if line, err := r.ReadString('\n'); err != nil || line != "RFB 003.008\n" {
			t.Fatalf("the near side got %q, %v", line, err)
		}
		c.Close()
		ends(other)
	}
	open := "CONNECT /console?ref=a HTTP/1.1\r\nHost: x\r\nSession-Id: " + string(h.session) + "\r\n\r\n"
	// The far side's end is the caller's.
	_, r, _ := h.connect(open)
	last().Close()
	ends(r)

	for request, status := range map[string]int{
		"CONNECT /console?ref=a HTTP/1.1\r\nHost: x\r\n\r\n":                  http.StatusUnauthorized,
		"CONNECT /console?ref=a HTTP/1.1\r\nHost: x\r\nSession-Id: x\r\n\r\n": http.StatusUnauthorized,
		strings.Replace(open, "CONNECT", "GET", 1):                            http.StatusMethodNotAllowed,
		strings.Replace(open, "/console", "/nowhere", 1):                      http.StatusNotFound,
		strings.Replace(open, "ref=a", "ref=gone", 1):                         http.StatusNotFound,
		strings.Replace(open, "ref=a", "ref=bad", 1):                          http.StatusServiceUnavailable,
		strings.Replace(open, "ref=a", "ref=panic", 1):                        http.StatusServiceUnavailable,
		"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n":                             http.StatusNotFound,
		"NONSENSE\r\n\r\n": http.StatusBadRequest,
		"GET / HTTP/1.1\r\nHost: x\r\nA: " + strings.Repeat("x", 2*maxHeader) + "\r\n\r\n": http.StatusRequestHeaderFieldsTooLarge,
	} {
		if _, _, resp := h.connect(request); resp.StatusCode != status {
			t.Errorf("%.80q: %s, want %d", request, resp.Status, status)
		}
	}
	c, r, resp := h.connect(strings.Replace(open, "ref=a", "ref=gone", 1))
	var e api.WireError
	if err := json.NewDecoder(io.LimitReader(r, resp.ContentLength)).Decode(&e); err != nil || e.Message != api.ErrHandleInvalid || e.Data[1] != "gone" {
		t.Errorf("the error is %+v, %v", e, err)
	}
	c.Close()

	// Logging out ends a stream, and so does shutting down.
	var other api.Ref
	h.must(&other, "session.login_with_password", "", "", "", "")
	_, r, _ = h.connect(strings.Replace(open, string(h.session), string(other), 1))
	if err := h.raw(nil, "session.logout", other); err != nil {
		t.Fatal(err)
	}
	ends(r)
	_, r, _ = h.connect(open)
	ctx, cancel := context.WithTimeout(context.Background(), hang)
	defer cancel()
	if err := h.s.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	ends(r)
}

func TestHandlers(t *testing.T) {
	h := serve(t, Options{}, func(s *Server) {
		s.HandleFunc("/vncsnapshot", func(c *Call, w http.ResponseWriter, r *http.Request) error {
			if r.URL.Query().Get("uuid") != "a" {
				return api.NewError(api.ErrUUIDInvalid, "VM", r.URL.Query().Get("uuid"))
			}
			w.Header().Set("Content-Type", "image/png")
			_, err := io.WriteString(w, "png")
			return err
		})
	})
	for query, want := range map[string]struct {
		status int
		body   string
	}{
		"?uuid=a&session_id=" + string(h.session): {200, "png"},
		"?uuid=b&session_id=" + string(h.session): {404, `{"code":1,"message":"UUID_INVALID","data":["VM","b"]}`},
		"?uuid=a": {401, `{"code":1,"message":"SESSION_INVALID","data":["OpaqueRef:NULL"]}`},
	} {
		resp, err := h.http.Get("http://x/vncsnapshot" + query)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != want.status || string(body) != want.body {
			t.Errorf("%s: %s %s", query, resp.Status, body)
		}
	}
}

func TestConnectionsAreCounted(t *testing.T) {
	h := serve(t, Options{MaxConns: 2}, nil) // one is the harness's
	held, _, resp := h.connect("GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n")
	if resp.StatusCode != http.StatusNotFound {
		t.Fatal(resp.Status)
	}
	// The harness's connection may have been given up meanwhile; make sure that it counts.
	h.must(nil, "VM.get_all")
	if _, _, resp := h.connect("GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n"); resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("one too many is answered %s", resp.Status)
	}
	held.Close()
	for deadline := time.Now().Add(hang); ; time.Sleep(time.Millisecond) {
		if _, _, resp := h.connect("GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n"); resp.StatusCode == http.StatusNotFound {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("a closed connection still counts")
		}
	}
}

// TestStrangersAreRefused: a connection whose other end the kernel does not vouch
// for gets nothing.
func TestStrangersAreRefused(t *testing.T) {
	h := serve(t, Options{}, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = h.s.Serve(l) }()
	for _, path := range []string{"/jsonrpc", "/console", "/"} {
		resp, err := http.Post("http://"+l.Addr().String()+path, "", strings.NewReader(`{"method":"session.login_with_password","params":["a","b"],"id":1}`))
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusForbidden || !bytes.Contains(body, []byte(api.ErrPermissionDenied)) {
			t.Errorf("%s: %s %s", path, resp.Status, body)
		}
	}
}

// TestManyAtOnce: long polls, calls and tasks side by side.
func TestManyAtOnce(t *testing.T) {
	h := serve(t, Options{}, func(s *Server) {
		s.Register("VM.touch", func(c *Call, ref api.Ref) error {
			Modify(s.DB(), ref, func(v *api.VM) { v.Version++ })
			return nil
		})
	})
	ref, rec := vm(1)
	h.s.DB().Put(ref, rec)
	const callers, each = 8, 25
	var calls, polls sync.WaitGroup
	total := int64(callers * each)
	for range 4 {
		polls.Go(func() {
			var last int64
			for token := ""; last < total; {
				var b api.EventBatch
				if err := h.call(&b, "event.from", []string{"VM/" + string(ref)}, token, 20.0); err != nil {
					t.Error(err)
					return
				}
				token = b.Token
				for _, e := range b.Events {
					var v api.VM
					if err := json.Unmarshal(e.Snapshot, &v); err != nil || v.Version < last {
						t.Errorf("version %d after %d (%v)", v.Version, last, err)
					}
					last = v.Version
				}
			}
		})
	}
	for range callers {
		calls.Go(func() {
			for i := range each {
				m := "VM.touch"
				if i%2 == 0 {
					m = "Async.VM.touch"
				}
				if err := h.call(nil, m, ref); err != nil {
					t.Error(err)
				}
			}
		})
	}
	calls.Wait()
	polls.Wait()
}
