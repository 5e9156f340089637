package rpc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/platform/localsock"
)

// Limits of the wire. A call's body holds one call; the largest are guests'
// settings, which are a few KiB.
const (
	maxBody       = 4 << 20
	maxHeader     = 64 << 10
	headerTimeout = 10 * time.Second
	bodyTimeout   = 30 * time.Second
	writeTimeout  = 60 * time.Second
	idleTimeout   = 10 * time.Minute
)

// JSON-RPC 2.0's own error codes; XenAPI's errors have code 1.
const (
	codeParse   = -32700
	codeInvalid = -32600
)

type peerKey struct{}

// peer is who the kernel says is at the other end, or why that may not be here.
type peer struct {
	info localsock.PeerInfo
	err  error
}

// route is a path that is not the API's.
type route struct {
	open   func(*Call, *http.Request) (io.ReadWriteCloser, error)
	handle func(*Call, http.ResponseWriter, *http.Request) error
}

// HandleStream serves CONNECT on path: when open succeeds the answer is 200, and
// from then on bytes go both ways until either side closes.
func (s *Server) HandleStream(path string, open func(*Call, *http.Request) (io.ReadWriteCloser, error)) {
	s.routes[path] = route{open: open}
}

// HandleFunc serves GET on path for callers with a session. An error is written
// as an api.WireError, if handle has not written anything.
func (s *Server) HandleFunc(path string, handle func(*Call, http.ResponseWriter, *http.Request) error) {
	s.routes[path] = route{handle: handle}
}

func (s *Server) newHTTP() *http.Server {
	return &http.Server{
		Handler:           http.HandlerFunc(s.serveHTTP),
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		// Permissions are decided here, once per connection.
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			if l, ok := c.(*limitedConn); ok {
				c = l.Conn
			}
			info, err := localsock.Peer(c)
			if err == nil {
				err = localsock.Allowed(info, s.opt.Owner)
			}
			return context.WithValue(ctx, peerKey{}, peer{info, err})
		},
	}
}

func (s *Server) serveHTTP(w http.ResponseWriter, r *http.Request) {
	p, _ := r.Context().Value(peerKey{}).(peer)
	if p.err != nil {
		s.log.Warn("caller refused", "uid", p.info.UID, "sid", p.info.SID, "error", p.err)
		refuse(w, http.StatusForbidden, api.NewError(api.ErrPermissionDenied, p.err.Error()))
		return
	}
	switch r.URL.Path {
	case "/", api.PathRPC, "/json":
		s.serveRPC(w, r, p.info)
		return
	}
	rt, ok := s.routes[r.URL.Path]
	want := http.MethodGet
	if rt.open != nil {
		want = http.MethodConnect
	}
	switch {
	case !ok:
		http.NotFound(w, r)
	case r.Method != want:
		w.Header().Set("Allow", want)
		http.Error(w, "use "+want, http.StatusMethodNotAllowed)
	default:
		s.serveRoute(rt, w, r, p.info)
	}
}

// refuse answers an HTTP handler's caller with an error as in JSON-RPC.
func refuse(w http.ResponseWriter, status int, err *api.Error) {
	body, _ := json.Marshal(wireError(err)) // strings cannot fail
	w.Header().Set("Content-Type", api.ContentType)
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

func wireError(err *api.Error) api.WireError {
	e := api.WireError{Code: 1, Message: err.Code, Data: err.Params}
	if e.Data == nil {
		e.Data = []string{}
	}
	return e
}

// request is api.Request as it may come: with anything for the version and the
// parameters.
type request struct {
	Version json.RawMessage `json:"jsonrpc"`
	Method  string          `json:"method"`
	Params  json.RawMessage `json:"params"`
	ID      json.RawMessage `json:"id"`
}

func (s *Server) serveRPC(w http.ResponseWriter, r *http.Request, who localsock.PeerInfo) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "this is XenAPI over JSON-RPC: POST a call", http.StatusMethodNotAllowed)
		return
	}
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Now().Add(bodyTimeout)) // a connection without deadlines is no worse than before
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		http.Error(w, "read the call: "+err.Error(), http.StatusRequestEntityTooLarge)
		return
	}
	_ = rc.SetReadDeadline(time.Time{})
	answer := s.answer(r.Context(), who, body)
	_ = rc.SetWriteDeadline(time.Now().Add(writeTimeout))
	defer func() { _ = rc.SetWriteDeadline(time.Time{}) }()
	w.Header().Set("Content-Type", api.ContentType)
	_, _ = w.Write(answer) // who has hung up reads no error either
}

// answer turns one JSON-RPC request into its response, whatever the request is.
func (s *Server) answer(ctx context.Context, who localsock.PeerInfo, body []byte) []byte {
	var q request
	if err := json.Unmarshal(body, &q); err != nil {
		code, text := codeParse, "the call is no JSON: "+err.Error()
		var te *json.UnmarshalTypeError
		if errors.As(err, &te) {
			code, text = codeInvalid, "a call is one object with method, params and id (batches are not served)"
		}
		return writeError(q, api.WireError{Code: code, Message: text, Data: []string{}})
	}
	if q.Method == "" {
		return writeError(q, api.WireError{Code: codeInvalid, Message: "the call names no method", Data: []string{}})
	}
	params, err := positional(q.Params)
	if err != nil {
		return writeError(q, wireError(err))
	}
	result, failed := s.call(ctx, who, q.Method, params)
	if failed != nil {
		var e *api.Error
		if !errors.As(failed, &e) {
			e = api.NewError(api.ErrInternal, failed.Error())
		}
		return writeError(q, wireError(e))
	}
	return writeResult(q, result)
}

// positional takes the parameters apart; XenAPI knows no named ones.
func positional(raw json.RawMessage) ([]json.RawMessage, *api.Error) {
	if len(raw) == 0 || string(raw) == "null" {
		return nil, nil
	}
	var params []json.RawMessage
	if err := json.Unmarshal(raw, &params); err != nil {
		return nil, api.NewError(api.ErrFieldType, "params: XenAPI's parameters are positional, an array; named ones are not served")
	}
	return params, nil
}

// v1 reports a JSON-RPC 1.0 call, which has no version.
func (q request) v1() bool { return len(q.Version) == 0 || string(q.Version) == `"1.0"` }

func (q request) id() json.RawMessage {
	if len(q.ID) == 0 {
		return json.RawMessage("null")
	}
	return q.ID
}

// writeResult puts the envelope round a result, which is JSON already: checking
// megabytes of records again would be most of the work.
func writeResult(q request, result json.RawMessage) []byte {
	var b bytes.Buffer
	b.Grow(len(result) + len(q.ID) + 64)
	if q.v1() {
		b.WriteString(`{"result":`)
		b.Write(result)
		b.WriteString(`,"error":null,"id":`)
	} else {
		b.WriteString(`{"jsonrpc":"2.0","result":`)
		b.Write(result)
		b.WriteString(`,"id":`)
	}
	b.Write(q.id())
	b.WriteByte('}')
	return b.Bytes()
}

// writeError answers with an error: in version 1 an array of code and parameters.
func writeError(q request, e api.WireError) []byte {
	var answer any
	if q.v1() {
		answer = struct {
			Result *int            `json:"result"`
			Error  []string        `json:"error"`
			ID     json.RawMessage `json:"id"`
		}{nil, append([]string{e.Message}, e.Data...), q.id()}
	} else {
		answer = api.Response{Version: "2.0", Error: &e, ID: q.id()}
	}
	b, _ := json.Marshal(answer) // the id is JSON that has been read
	return b
}

// sessionOf finds the session that an HTTP handler's caller names.
func sessionOf(r *http.Request) api.Ref {
	if v := r.Header.Get(api.SessionHeader); v != "" {
		return api.Ref(v)
	}
	if v := r.URL.Query().Get("session_id"); v != "" {
		return api.Ref(v)
	}
	if c, err := r.Cookie("session_id"); err == nil {
		return api.Ref(c.Value)
	}
	return api.NullRef
}

func (s *Server) serveRoute(rt route, w http.ResponseWriter, r *http.Request, who localsock.PeerInfo) {
	ss, err := s.session(sessionOf(r))
	if err != nil {
		refuse(w, http.StatusUnauthorized, asError(err))
		return
	}
	if !s.enter() {
		refuse(w, http.StatusServiceUnavailable, api.NewError(api.ErrInternal, errStopping.Error()))
		return
	}
	defer s.running.Done()
	c := &Call{Method: r.Method + " " + r.URL.Path, Session: ss.ref, Peer: who}
	var done func()
	c.request, done = joined(r.Context(), ss)
	defer done()
	c.Task, c.ctx = s.begin(c.Method, ss.ref, false)
	defer c.Task.cancel(nil)
	// Nobody but the caller wants a picture or a stream: when they go, it ends.
	stop := context.AfterFunc(c.request, func() { c.Task.cancel(context.Cause(c.request)) })
	defer stop()

	run := newMethod(c.Method, func(c *Call) error {
		if rt.open != nil {
			return s.serveStream(rt, c, w, r)
		}
		return rt.handle(c, w, r)
	})
	if _, err := s.run(run, c, callArgs(c)); err != nil {
		status := http.StatusServiceUnavailable
		switch err.Code {
		case api.ErrHandleInvalid, api.ErrUUIDInvalid:
			status = http.StatusNotFound
		case api.ErrFieldType:
			status = http.StatusBadRequest
		}
		refuse(w, status, err)
	}
}

func asError(err error) *api.Error {
	var e *api.Error
	if errors.As(err, &e) {
		return e
	}
	return api.NewError(api.ErrInternal, err.Error())
}

// stream is a connection that has become raw bytes.
type stream struct {
	near net.Conn
	far  io.Closer
	once sync.Once
}

func (st *stream) close() {
	st.once.Do(func() {
		st.near.Close()
		st.far.Close()
	})
}

func (s *Server) serveStream(rt route, c *Call, w http.ResponseWriter, r *http.Request) error {
	far, err := rt.open(c, r)
	if err != nil {
		return err
	}
	near, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		far.Close()
		return err
	}
	st := &stream{near: near, far: far}
	defer st.close()
	if !s.keep(st) {
		return nil
	}
	defer s.release(st)
	// The session's end is the stream's.
	defer context.AfterFunc(c.request, st.close)()
	if err := near.SetDeadline(time.Time{}); err != nil {
		return nil // it has gone
	}
	if _, err := io.WriteString(near, "HTTP/1.1 200 OK\r\n\r\n"); err != nil {
		return nil
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer st.close()
		_, _ = io.Copy(far, buffered) // the end of a stream is no failure
	}()
	// A buffer of the size of a Unix socket's: a moving screen is tens of megabytes
	// a second.
	_, _ = io.CopyBuffer(struct{ io.Writer }{near}, struct{ io.Reader }{far}, make([]byte, 208<<10))
	st.close()
	<-ended
	return nil
}

// keep notes a stream for Shutdown; false when that has begun.
func (s *Server) keep(st *stream) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return false
	}
	s.streams[st] = struct{}{}
	return true
}

func (s *Server) release(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.streams, st)
}

// limitListener turns away connections above a number, with an answer.
type limitListener struct {
	net.Listener
	max int
	log *slog.Logger

	mu   sync.Mutex // guards open
	open int
}

type limitedConn struct {
	net.Conn
	once  sync.Once
	leave func()
}

func (c *limitedConn) Close() error {
	defer c.once.Do(c.leave)
	return c.Conn.Close()
}

func (l *limitListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		l.mu.Lock()
		full := l.open >= l.max
		if !full {
			l.open++
		}
		l.mu.Unlock()
		if !full {
			return &limitedConn{Conn: c, leave: func() {
				l.mu.Lock()
				l.open--
				l.mu.Unlock()
			}}, nil
		}
		l.log.Warn("connection turned away: too many are open", "limit", l.max)
		_ = c.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = io.WriteString(c, "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
		c.Close()
	}
}
