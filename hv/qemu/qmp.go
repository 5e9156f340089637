package qemu

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/digitalocean/go-qemu/qmp"
)

// maxMessage bounds one QMP message. The largest known, the reply to
// query-qmp-schema, has some 200 KiB.
const maxMessage = 32 << 20

// greetTime is how long Connect waits for QEMU's greeting.
const greetTime = 30 * time.Second

// errClosed says that the connection to QEMU has ended.
var errClosed = errors.New("the connection to QEMU has ended")

// QMPError is a command that QEMU refused: docs/interop/qmp-spec, section 2.4.2.
type QMPError struct {
	Command string // what was refused
	Class   string // GenericError, CommandNotFound, DeviceNotFound, ...
	Desc    string // QEMU's words
}

func (e *QMPError) Error() string { return "QEMU refused " + e.Command + ": " + e.Desc }

// Monitor speaks QMP over one connection. It implements go-qemu's qmp.Monitor,
// so that package's types work on it; unlike that package's own transport it has
// ids, contexts, replies of any size, and events that need no reader. Methods
// are safe for concurrent use.
type Monitor struct {
	conn net.Conn
	sink func(qmp.Event) // called by the reading goroutine, in order; must not block

	wmu sync.Mutex // one command at a time on the wire

	mu      sync.Mutex
	nextID  uint64                     // guarded by mu
	pending map[string]chan message    // guarded by mu; nil once the connection has ended
	subs    map[*subscription]struct{} // guarded by mu; nil once the connection has ended
	err     error                      // guarded by mu; why it ended

	greeting chan message
	done     chan struct{} // closed when the reading goroutine ends
	start    sync.Once
}

var _ qmp.Monitor = (*Monitor)(nil)

// NewMonitor takes over conn. sink, if not nil, sees every event.
func NewMonitor(conn net.Conn, sink func(qmp.Event)) *Monitor {
	return &Monitor{
		conn: conn, sink: sink,
		pending: map[string]chan message{}, subs: map[*subscription]struct{}{},
		greeting: make(chan message, 1), done: make(chan struct{}),
	}
}

// message is any line from QEMU.
type message struct {
	Greeting *struct {
		Version qmp.Version `json:"version"`
	} `json:"QMP"`
	ID     json.RawMessage `json:"id"`
	Return json.RawMessage `json:"return"`
	Error  *struct {
		Class string `json:"class"`
		Desc  string `json:"desc"`
	} `json:"error"`
	Event string `json:"event"`

	line []byte
}

// decode parses one line.
func decode(line []byte) (message, error) {
	var m message
	if err := json.Unmarshal(line, &m); err != nil {
		return m, fmt.Errorf("decode what QEMU said: %w", err)
	}
	m.line = line
	return m, nil
}

// event parses the line of an event.
func (m message) event() (qmp.Event, error) {
	var e qmp.Event
	err := json.Unmarshal(m.line, &e)
	return e, err
}

// readLine reads one line of at most max bytes into memory of its own.
func readLine(r *bufio.Reader, max int) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		if len(line)+len(part) > max {
			return nil, fmt.Errorf("QEMU sent a message of more than %d bytes", max)
		}
		line = append(line, part...)
		if err == nil {
			return line, nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return nil, err
		}
	}
}

// read is the reading goroutine. It owns the receiving half of conn.
func (m *Monitor) read() {
	r := bufio.NewReaderSize(m.conn, 16<<10)
	for {
		line, err := readLine(r, maxMessage)
		if err != nil {
			m.end(err)
			return
		}
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		msg, err := decode(line)
		if err != nil {
			m.end(err)
			return
		}
		m.dispatch(msg)
	}
}

func (m *Monitor) dispatch(msg message) {
	switch {
	case msg.Greeting != nil:
		select {
		case m.greeting <- msg:
		default:
		}
	case msg.Event != "":
		e, err := msg.event()
		if err != nil {
			return
		}
		if m.sink != nil {
			m.sink(e)
		}
		m.mu.Lock()
		for s := range m.subs {
			s.put(e)
		}
		m.mu.Unlock()
	default:
		var id string
		_ = json.Unmarshal(msg.ID, &id)
		m.mu.Lock()
		ch := m.pending[id]
		delete(m.pending, id)
		m.mu.Unlock()
		if ch != nil {
			ch <- msg // has room for one
		}
	}
}

// end ends the connection once: every waiting command fails, event streams end.
func (m *Monitor) end(cause error) {
	_ = m.conn.Close()
	m.mu.Lock()
	if errors.Is(cause, io.EOF) || errors.Is(cause, net.ErrClosed) {
		m.err = errClosed
	} else {
		m.err = fmt.Errorf("%w: %w", errClosed, cause)
	}
	m.pending = nil
	for s := range m.subs {
		close(s.ch)
	}
	m.subs = nil
	m.mu.Unlock()
	close(m.done)
}

// Done is closed when the connection has ended and the last event was handed on.
func (m *Monitor) Done() <-chan struct{} { return m.done }

func (m *Monitor) cause() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err
}

// Connect waits for the greeting and leaves negotiation mode.
func (m *Monitor) Connect() error {
	ctx, cancel := context.WithTimeout(context.Background(), greetTime)
	defer cancel()
	_, err := m.Open(ctx)
	return err
}

// Open is Connect with a context; it returns QEMU's version.
func (m *Monitor) Open(ctx context.Context) (qmp.Version, error) {
	m.start.Do(func() { go m.read() })
	select {
	case msg := <-m.greeting:
		return msg.Greeting.Version, m.Do(ctx, "qmp_capabilities", nil, nil)
	case <-m.done:
		return qmp.Version{}, m.cause()
	case <-ctx.Done():
		return qmp.Version{}, fmt.Errorf("wait for QEMU's greeting: %w", ctx.Err())
	}
}

// Disconnect ends the connection and waits until its goroutine is gone.
func (m *Monitor) Disconnect() error {
	err := m.conn.Close()
	started := true
	m.start.Do(func() { started = false; m.end(net.ErrClosed) })
	if started {
		<-m.done
	}
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// Run sends a command given as JSON and returns QEMU's whole reply, as go-qemu's
// own transport does.
func (m *Monitor) Run(command []byte) ([]byte, error) {
	return m.runJSON(context.Background(), command)
}

func (m *Monitor) runJSON(ctx context.Context, command []byte) ([]byte, error) {
	var c struct {
		Execute string          `json:"execute"`
		Args    json.RawMessage `json:"arguments,omitempty"`
	}
	if err := json.Unmarshal(command, &c); err != nil {
		return nil, fmt.Errorf("read the command: %w", err)
	}
	var args any
	if len(c.Args) > 0 {
		args = c.Args
	}
	msg, err := m.roundTrip(ctx, c.Execute, args)
	if err != nil {
		return nil, err
	}
	return msg.line, nil
}

// Do runs a command. args encodes to its arguments (nil for none); the reply is
// decoded into out unless that is nil. A refusal is a *QMPError.
func (m *Monitor) Do(ctx context.Context, execute string, args, out any) error {
	msg, err := m.roundTrip(ctx, execute, args)
	if err != nil || out == nil {
		return err
	}
	if err := json.Unmarshal(msg.Return, out); err != nil {
		return fmt.Errorf("decode the reply to %s: %w", execute, err)
	}
	return nil
}

func (m *Monitor) roundTrip(ctx context.Context, execute string, args any) (message, error) {
	ch := make(chan message, 1)
	m.mu.Lock()
	if m.pending == nil {
		err := m.err
		m.mu.Unlock()
		return message{}, err
	}
	m.nextID++
	id := strconv.FormatUint(m.nextID, 10)
	m.pending[id] = ch
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		delete(m.pending, id)
		m.mu.Unlock()
	}()

	line, err := json.Marshal(struct {
		Execute string `json:"execute"`
		Args    any    `json:"arguments,omitempty"`
		ID      string `json:"id"`
	}{execute, args, id})
	if err != nil {
		return message{}, fmt.Errorf("encode %s: %w", execute, err)
	}
	if err := m.write(append(line, '\n')); err != nil {
		return message{}, err
	}
	select {
	case msg := <-ch:
		return msg, msg.refusal(execute)
	case <-ctx.Done():
		return message{}, fmt.Errorf("%s: %w", execute, ctx.Err())
	case <-m.done:
	}
	select { // the reply may have come just before the end
	case msg := <-ch:
		return msg, msg.refusal(execute)
	default:
		return message{}, m.cause()
	}
}

func (m message) refusal(command string) error {
	if m.Error == nil {
		return nil
	}
	return &QMPError{Command: command, Class: m.Error.Class, Desc: m.Error.Desc}
}

// writeTime bounds the sending of a command: QEMU stops reading while it is
// stuck, and a command cut short would spoil the next one.
const writeTime = 10 * time.Second

func (m *Monitor) write(line []byte) error {
	m.wmu.Lock()
	defer m.wmu.Unlock()
	_ = m.conn.SetWriteDeadline(time.Now().Add(writeTime))
	if _, err := m.conn.Write(line); err != nil {
		_ = m.conn.Close()
		return fmt.Errorf("%w: %w", errClosed, err)
	}
	return nil
}

// With returns a qmp.Monitor whose commands end with ctx, for go-qemu's types,
// which know no contexts.
func (m *Monitor) With(ctx context.Context) qmp.Monitor { return bound{m, ctx} }

type bound struct {
	*Monitor
	ctx context.Context
}

func (b bound) Run(command []byte) ([]byte, error) { return b.runJSON(b.ctx, command) }

// subscription is one reader of events.
type subscription struct{ ch chan qmp.Event }

// keepEvents is how many events wait for a slow reader before the oldest is dropped.
const keepEvents = 256

// put never blocks. It is called with Monitor.mu held, so there is one sender.
func (s *subscription) put(e qmp.Event) {
	for {
		select {
		case s.ch <- e:
			return
		default:
		}
		select {
		case <-s.ch:
		default:
		}
	}
}

// Events returns a stream of its own for every caller. It ends with ctx or the
// connection; a reader that falls behind loses the oldest events.
func (m *Monitor) Events(ctx context.Context) (<-chan qmp.Event, error) {
	s := &subscription{ch: make(chan qmp.Event, keepEvents)}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.subs == nil {
		return nil, m.err
	}
	m.subs[s] = struct{}{}
	context.AfterFunc(ctx, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if _, open := m.subs[s]; open {
			delete(m.subs, s)
			close(s.ch)
		}
	})
	return s.ch, nil
}
