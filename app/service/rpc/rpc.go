// Package rpc is the machinery of a XenAPI server: objects with references,
// events, sessions, tasks, methods found by name, and JSON-RPC over HTTP on the
// local socket. It knows the API's records (app/api) but nothing of guests: what
// a method does is registered by the service.
//
//	rpc.go       Server: register, serve, shut down
//	methods.go   calls: find the method, decode its parameters, run it
//	records.go   what every class has: get_record, get_all, get_FIELD, set_FIELD, ...
//	db.go        the objects; events.go: event.from over their changes
//	sessions.go  who has logged in; tasks.go: Async. calls
//	http.go      the wire
//
// Source: the Xen project's wire protocol document and data model.
package rpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/hxen-project/hxen/app/api"
)

// Options are what a Server needs beside its objects; zero values are good.
type Options struct {
	Log  *slog.Logger // slog.Default() if nil
	Host api.Ref      // this_host of sessions, resident_on of tasks

	// Owner is the security identifier of a user who may call as well: Windows, where
	// the service is not the user.
	Owner string

	MaxConns    int           // connections at once, 256 if 0
	MaxSessions int           // logged in at once, 512 if 0; the longest idle one gives way
	SessionIdle time.Duration // after which a session ends, 24 h if 0
	TaskKeep    time.Duration // for which ended tasks are kept, 24 h if 0
	MaxTasks    int           // ended tasks kept, 1000 if 0
}

// Server answers XenAPI calls. Register everything, then Serve.
type Server struct {
	db  *DB
	log *slog.Logger
	opt Options

	methods map[string]*method // complete before Serve
	routes  map[string]route   // complete before Serve
	plugins map[string]*method // plugin and function, joined by a NUL; complete before Serve
	http    *http.Server

	sessions sessions
	tasks    tasks
	setting  sync.Mutex // makes read, change, set of a map field one step

	stopping chan struct{}  // closed when Shutdown begins
	running  sync.WaitGroup // calls and tasks under way
	base     context.Context
	abort    context.CancelCauseFunc // ends base: calls that outlast Shutdown's patience

	mu      sync.Mutex // guards the fields below
	closing bool
	streams map[*stream]struct{}
}

var errStopping = errors.New("the service is stopping")

// New makes a server over db. It panics on a registration that cannot be, like
// all Register methods: that is the program's defect.
func New(db *DB, o Options) *Server {
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	def(&o.MaxConns, 256)
	def(&o.MaxSessions, 512)
	def(&o.MaxTasks, 1000)
	if o.SessionIdle == 0 {
		o.SessionIdle = 24 * time.Hour
	}
	if o.TaskKeep == 0 {
		o.TaskKeep = 24 * time.Hour
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	s := &Server{
		db: db, log: o.Log, opt: o,
		methods: map[string]*method{}, routes: map[string]route{}, plugins: map[string]*method{},
		stopping: make(chan struct{}), streams: map[*stream]struct{}{},
	}
	s.base, s.abort = context.WithCancelCause(context.Background())
	s.http = s.newHTTP()
	s.registerRecords()
	s.registerEvents()
	s.registerSessions()
	s.registerTasks()
	s.registerPlugins()
	return s
}

// DB returns the server's objects.
func (s *Server) DB() *DB { return s.db }

// Serve answers on l, which must be of platform/localsock, until Shutdown; then
// it returns nil. It owns l.
func (s *Server) Serve(l net.Listener) error {
	err := s.http.Serve(&limitListener{Listener: l, max: s.opt.MaxConns, log: s.log})
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve the API: %w", err)
}

// Shutdown takes no more calls, ends event.from and the streams, and waits for
// calls and tasks under way. When ctx ends first it cancels them, waits a little
// longer for them to tidy up, and returns ctx's cause.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	if !s.closing {
		s.closing = true
		close(s.stopping)
	}
	for st := range s.streams {
		st.close()
	}
	s.mu.Unlock()

	ended := make(chan struct{})
	go func() {
		s.running.Wait()
		close(ended)
	}()
	var err error
	select {
	case <-ended:
	case <-ctx.Done():
		err = context.Cause(ctx)
		s.abort(errStopping)
		tidy := time.NewTimer(tidyTime)
		defer tidy.Stop()
		select {
		case <-ended:
		case <-tidy.C:
			s.log.Warn("calls under way did not end when cancelled")
		}
	}
	s.abort(errStopping)
	// Answers that are being written go out; nothing new comes in.
	out, cancel := context.WithTimeout(context.Background(), tidyTime)
	defer cancel()
	if herr := s.http.Shutdown(out); herr != nil {
		_ = s.http.Close()
	}
	return err
}

// tidyTime is what a cancelled call has to undo what it began.
const tidyTime = 5 * time.Second

// enter counts a call as under way; false when the server is stopping.
func (s *Server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return false
	}
	s.running.Add(1)
	return true
}
