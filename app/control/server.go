package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
)

// Handler is what a supervised process does with requests. Its methods are
// called concurrently.
type Handler interface {
	// Handle answers one request. The result is encoded as JSON.
	Handle(ctx context.Context, verb string, params json.RawMessage) (any, error)
	// OpenStream returns the raw stream of one kind.
	OpenStream(ctx context.Context, kind string) (io.ReadWriteCloser, error)
}

// Server is the supervised process's half.
type Server struct {
	Hello   Hello
	Handler Handler
	Log     *EventLog
}

// ServeConn serves one connection until it ends or ctx does. It owns nc. Only
// the caller decides who may connect.
func (s *Server) ServeConn(ctx context.Context, nc net.Conn) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	defer stop()
	defer nc.Close()
	p := &peer{enc: json.NewEncoder(nc)}
	r := bufio.NewReader(nc)
	if err := s.greet(r, p); err != nil {
		return err
	}
	var requests sync.WaitGroup
	defer requests.Wait()
	defer cancel()
	for {
		m, err := readMessage(r)
		if err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return fmt.Errorf("read a request: %w", err)
		}
		switch m.Verb {
		case VerbStream:
			return s.stream(ctx, m, p, &bufferedConn{Conn: nc, r: r})
		case VerbSubscribe:
			var sub Subscribe
			if err := json.Unmarshal(m.Params, &sub); err != nil {
				p.answer(m.ID, nil, err)
				continue
			}
			p.answer(m.ID, nil, nil)
			requests.Go(func() { s.Log.follow(ctx, sub.Since, p) })
		default:
			requests.Go(func() {
				result, err := s.Handler.Handle(ctx, m.Verb, m.Params)
				p.answer(m.ID, result, err)
			})
		}
	}
}

func (s *Server) greet(r *bufio.Reader, p *peer) error {
	m, err := readMessage(r)
	if err != nil {
		return fmt.Errorf("read hello: %w", err)
	}
	var h Hello
	if m.Verb != VerbHello || json.Unmarshal(m.Params, &h) != nil {
		err = &Error{Code: "refused", Text: "the first request must be hello"}
	} else if err = h.Agree(); err != nil {
		err = &Error{Code: "refused", Text: err.Error()}
	}
	p.answer(m.ID, s.Hello, err)
	return err
}

func (s *Server) stream(ctx context.Context, m message, p *peer, nc net.Conn) error {
	var want Stream
	if err := json.Unmarshal(m.Params, &want); err != nil {
		p.answer(m.ID, nil, err)
		return err
	}
	rwc, err := s.Handler.OpenStream(ctx, want.Kind)
	p.answer(m.ID, nil, err)
	if err != nil {
		return err
	}
	Splice(nc, rwc)
	return nil
}

// Splice copies both ways until one side ends, then closes both.
func Splice(a, b io.ReadWriteCloser) {
	var once sync.Once
	closeBoth := func() { a.Close(); b.Close() }
	var wg sync.WaitGroup
	wg.Go(func() { carry(a, b); once.Do(closeBoth) })
	wg.Go(func() { carry(b, a); once.Do(closeBoth) })
	wg.Wait()
}

// carry copies until src ends. Its buffer is of the size of a Unix socket's: a
// moving screen is tens of megabytes a second. The end of a stream is no failure.
func carry(dst io.Writer, src io.Reader) {
	io.CopyBuffer(struct{ io.Writer }{dst}, struct{ io.Reader }{src}, make([]byte, 208<<10))
}

// peer writes to one client.
type peer struct {
	mu  sync.Mutex // guards enc
	enc *json.Encoder
}

func (p *peer) answer(id uint64, result any, err error) {
	m := message{ID: id}
	if err != nil {
		m.Error = asError(err)
	} else if result != nil {
		raw, err := json.Marshal(result)
		if err != nil {
			m.Error = asError(fmt.Errorf("encode the answer: %w", err))
		}
		m.Result = raw
	}
	p.send(m)
}

// send drops write errors: the reader of the same connection sees its end.
func (p *peer) send(m message) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.enc.Encode(m)
}

// EventLog keeps the last events so that a client that comes back misses none
// of those kept. Progress is coalesced: only the newest is kept.
type EventLog struct {
	mu      sync.Mutex // guards the fields below
	last    uint64
	kept    []Event
	changed chan struct{} // closed and replaced at each Add
}

// keepEvents bounds the log; state events are far apart, so this spans hours.
const keepEvents = 256

// NewEventLog returns an empty log.
func NewEventLog() *EventLog { return &EventLog{changed: make(chan struct{})} }

// Add gives e the next sequence number and wakes the followers.
func (l *EventLog) Add(e Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last++
	e.Seq = l.last
	if n := len(l.kept); e.Progress != nil && n > 0 && l.kept[n-1].Progress != nil {
		l.kept = l.kept[:n-1]
	}
	l.kept = append(l.kept, e)
	if len(l.kept) > keepEvents {
		l.kept = append(l.kept[:0:0], l.kept[len(l.kept)-keepEvents:]...)
	}
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *EventLog) after(seq uint64) ([]Event, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []Event
	for _, e := range l.kept {
		if e.Seq > seq {
			out = append(out, e)
		}
	}
	return out, l.changed
}

func (l *EventLog) follow(ctx context.Context, since uint64, p *peer) {
	for {
		events, changed := l.after(since)
		for i := range events {
			if p.send(message{Event: &events[i]}) != nil {
				return
			}
			since = events[i].Seq
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}
