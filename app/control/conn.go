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

// Conn is the client half: the service's end of one control connection.
type Conn struct {
	nc   net.Conn
	Peer Hello // the other side's hello

	wmu sync.Mutex // guards writing to nc
	enc *json.Encoder

	mu      sync.Mutex // guards the fields below
	next    uint64
	waiting map[uint64]chan message
	events  chan Event // nil until Subscribe
	err     error      // why the connection ended

	done chan struct{} // closed when the reader has ended
}

// ErrClosed says that the connection has ended; it is wrapped with the cause.
var ErrClosed = errors.New("control connection closed")

// NewConn says hello over nc, whose deadline the caller has set if it wants one,
// and starts the reader. It owns nc.
func NewConn(nc net.Conn, program, version string) (*Conn, error) {
	c := &Conn{nc: nc, enc: json.NewEncoder(nc), waiting: map[uint64]chan message{}, done: make(chan struct{})}
	r := bufio.NewReader(nc)
	if err := c.hello(r, program, version); err != nil {
		nc.Close()
		return nil, fmt.Errorf("say hello: %w", err)
	}
	go c.read(r)
	return c, nil
}

func (c *Conn) hello(r *bufio.Reader, program, version string) error {
	params, _ := json.Marshal(Hello{Protocol: Protocol, Min: MinProtocol, Program: program, Version: version})
	if err := c.enc.Encode(message{ID: 1, Verb: VerbHello, Params: params}); err != nil {
		return err
	}
	c.next = 1
	m, err := readMessage(r)
	if err != nil {
		return err
	}
	if m.Error != nil {
		return m.Error
	}
	if err := json.Unmarshal(m.Result, &c.Peer); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	return c.Peer.Agree()
}

// Call sends one request and waits for its answer; result may be nil.
func (c *Conn) Call(ctx context.Context, verb string, params, result any) error {
	raw, err := json.Marshal(params)
	if err != nil {
		return fmt.Errorf("%s: %w", verb, err)
	}
	answer := make(chan message, 1)
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return fmt.Errorf("%s: %w", verb, c.err)
	}
	c.next++
	id := c.next
	c.waiting[id] = answer
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.waiting, id)
		c.mu.Unlock()
	}()

	c.wmu.Lock()
	err = c.enc.Encode(message{ID: id, Verb: verb, Params: raw})
	c.wmu.Unlock()
	if err != nil {
		return fmt.Errorf("%s: %w: %w", verb, ErrClosed, err)
	}
	select {
	case m := <-answer:
		if m.Error != nil {
			return m.Error
		}
		if result == nil || m.Result == nil {
			return nil
		}
		if err := json.Unmarshal(m.Result, result); err != nil {
			return fmt.Errorf("%s: read the answer: %w", verb, err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", verb, context.Cause(ctx))
	case <-c.done:
		return fmt.Errorf("%s: %w", verb, c.Err())
	}
}

// Subscribe asks for events after since. The channel is closed when the
// connection ends; it must be drained, or the connection stalls.
func (c *Conn) Subscribe(ctx context.Context, since uint64) (<-chan Event, error) {
	c.mu.Lock()
	if c.events == nil {
		c.events = make(chan Event, 64)
	}
	ch := c.events
	c.mu.Unlock()
	return ch, c.Call(ctx, VerbSubscribe, Subscribe{Since: since}, nil)
}

// Done is closed when the connection has ended.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err returns why the connection ended, nil while it lives.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Close ends the connection.
func (c *Conn) Close() error { return c.nc.Close() }

func (c *Conn) read(r *bufio.Reader) {
	defer close(c.done)
	for {
		m, err := readMessage(r)
		if err != nil {
			c.mu.Lock()
			c.err = fmt.Errorf("%w: %w", ErrClosed, err)
			if c.events != nil {
				close(c.events)
			}
			c.mu.Unlock()
			c.nc.Close()
			return
		}
		c.mu.Lock()
		answer, events := c.waiting[m.ID], c.events
		c.mu.Unlock()
		switch {
		case m.Event != nil && events != nil:
			events <- *m.Event
		case answer != nil:
			answer <- m
		}
	}
}

// DialStream turns a fresh connection into raw bytes of one kind: hello, the
// stream verb, then nothing but the stream. The caller sets deadlines.
func DialStream(nc net.Conn, program, version, kind string) (net.Conn, error) {
	c := &Conn{nc: nc, enc: json.NewEncoder(nc)}
	r := bufio.NewReader(nc)
	if err := c.hello(r, program, version); err != nil {
		nc.Close()
		return nil, fmt.Errorf("say hello: %w", err)
	}
	params, _ := json.Marshal(Stream{Kind: kind})
	err := c.enc.Encode(message{ID: 2, Verb: VerbStream, Params: params})
	if err == nil {
		var m message
		if m, err = readMessage(r); err == nil && m.Error != nil {
			err = m.Error
		}
	}
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("open the %s stream: %w", kind, err)
	}
	return &bufferedConn{Conn: nc, r: r}, nil
}

// bufferedConn reads first what the line reader had already taken.
type bufferedConn struct {
	net.Conn
	r *bufio.Reader
}

func (b *bufferedConn) Read(p []byte) (int, error) {
	if b.r.Buffered() > 0 {
		return b.r.Read(p)
	}
	return b.Conn.Read(p)
}

// readMessage reads one line of at most MaxLine bytes.
func readMessage(r *bufio.Reader) (message, error) {
	var m message
	line, err := readLine(r)
	if err != nil {
		return m, err
	}
	if err := json.Unmarshal(line, &m); err != nil {
		return m, fmt.Errorf("not a message: %w", err)
	}
	return m, nil
}

func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		if len(line) > MaxLine {
			return nil, fmt.Errorf("a message is longer than %d bytes", MaxLine)
		}
		switch {
		case err == nil:
			return line, nil
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF) && len(line) > 0:
			return nil, io.ErrUnexpectedEOF
		default:
			return nil, err
		}
	}
}
