// Package rfb speaks RFB 3.8, the protocol that carries a guest's screen and
// input for both engines. The client half turns a byte stream into a Frame and
// callbacks, and keys, pointer and clipboard into bytes; the server half shows a
// Picture to viewers and takes their input. Neither knows a window, a guest or a
// transport, and neither trusts the other end: every size is checked before
// memory is asked for.
//
// Sources: "The RFB Protocol" (RFC 6143), the community specification
// rfbproto.rst for what came later, and QEMU's ui/vnc.c for its extensions.
//
// rfb.go is the client's life; handshake.go its first bytes; decode.go what the
// server says; input.go what the client says; clipboard.go the extended
// clipboard; frame.go the picture; wire.go the constants and the output queue.
// server.go is the server's picture; viewer.go one viewer's life; tiles.go what
// has changed; format.go other orders of pixels; keys.go numbers of keys.
package rfb

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"image"
	"io"
	"sync"
	"time"
)

// Options are what a client may choose.
type Options struct {
	Handler Handler
	// Audio asks for the guest's sound (signed 16-bit stereo, 44.1 kHz).
	Audio bool
}

// Handler holds what is called when the server says something. A nil function
// is not called. All run on the goroutine of Run, which waits for them; none
// may call a method of Client that waits (none does at present).
type Handler struct {
	// Resized tells the new size of the frame, whose content is black until the
	// next Updated.
	Resized func(size image.Point)
	// Updated tells that pixels inside r have changed: the joined damage of one
	// message.
	Updated func(r image.Rectangle)
	// Cursor is the guest's pointer shape (premultiplied alpha) and its hot
	// spot; nil hides it.
	Cursor func(shape *image.RGBA, hot image.Point)
	// PointerMode tells whether the guest takes absolute positions.
	PointerMode func(absolute bool)
	// LEDs are the lock lights of the guest's keyboard.
	LEDs func(LEDs)
	// Bell is the guest's bell.
	Bell func()
	// Clipboard is text the guest put on its clipboard.
	Clipboard func(text string)
	// Audio is sound: whole frames of two signed 16-bit little-endian samples.
	// pcm is only good until the function returns. Begin and end come as nil.
	Audio func(pcm []byte)
}

// LEDs are lock lights (QEMU LED state pseudo-encoding).
type LEDs uint8

// The lights.
const (
	ScrollLock LEDs = 1 << iota
	NumLock
	CapsLock
)

// maxUnpainted is how many updates may wait for a paint before no more are
// asked for: one being painted, one that waits for the next paint, which takes
// all that is there, and one on its way keep the stream busy.
const maxUnpainted = 3

// Client is one connection. Its methods are safe for concurrent use and never
// wait for the network.
type Client struct {
	handler Handler
	rwc     io.ReadWriteCloser
	r       *bufio.Reader
	out     *output
	frame   Frame
	name    string
	audio   bool

	sound []byte // scratch of the Run goroutine

	mu       sync.Mutex
	err      error     // guarded by mu: why the connection ended, the first reason
	flow     flow      // guarded by mu
	resize   resize    // guarded by mu
	input    input     // guarded by mu
	clip     clipboard // guarded by mu
	closed   chan struct{}
	closing  sync.Once
	poked    chan struct{} // input happened: the nudge goroutine resends the pointer
	maxArea  int           // pixels; the tests lower it
	features features      // guarded by mu: what the server confirmed
}

// flow decides when the next update is asked for.
type flow struct {
	active    bool
	unpainted int  // updates since the last Painted
	reading   bool // another one is being read
	asked     bool // a request is out and not answered
	full      bool // the next request is for everything
}

type features struct {
	extKey bool
	audio  bool
}

// Connect shakes hands on rwc and asks for the first picture. The client owns
// rwc from here on, also when Connect fails. ctx ends the handshake only.
func Connect(ctx context.Context, rwc io.ReadWriteCloser, o Options) (*Client, error) {
	c := newClient(rwc, o)
	stop := context.AfterFunc(ctx, func() { rwc.Close() })
	err := c.handshake()
	if !stop() && ctx.Err() != nil {
		err = ctx.Err()
	}
	if err != nil {
		rwc.Close()
		return nil, fmt.Errorf("connect to the guest's screen: %w", err)
	}
	c.start()
	return c, nil
}

func newClient(rwc io.ReadWriteCloser, o Options) *Client {
	return &Client{
		handler: o.Handler,
		audio:   o.Audio,
		rwc:     rwc,
		r:       bufio.NewReaderSize(rwc, readBuffer),
		out:     newOutput(),
		flow:    flow{active: true, full: true},
		input:   input{absolute: true},
		closed:  make(chan struct{}),
		poked:   make(chan struct{}, 1),
		maxArea: maxArea,
	}
}

// start begins writing and asks for the first picture.
func (c *Client) start() {
	go c.write()
	go c.nudge()
	c.mu.Lock()
	c.askLocked()
	c.mu.Unlock()
}

// Run reads until the connection ends and says why; after Close it returns nil.
// Call it once.
func (c *Client) Run() error {
	defer c.Close()
	for {
		if err := c.message(); err != nil {
			return c.fail(err)
		}
	}
}

// Close ends the connection and with it Run.
func (c *Client) Close() error {
	c.fail(errClosed)
	return nil
}

var errClosed = errors.New("closed")

// fail ends the connection, remembering the first reason, and returns what Run
// is to say.
func (c *Client) fail(err error) error {
	c.mu.Lock()
	if c.err == nil {
		c.err = err
	}
	err = c.err
	c.mu.Unlock()
	c.closing.Do(func() {
		close(c.closed)
		c.rwc.Close()
	})
	if errors.Is(err, errClosed) {
		return nil
	}
	return fmt.Errorf("read the guest's screen: %w", err)
}

// Frame is the guest's picture, live.
func (c *Client) Frame() *Frame { return &c.frame }

// Name is what the server calls itself.
func (c *Client) Name() string { return c.name }

// SetActive(false) asks for no more updates (nobody looks); SetActive(true)
// asks for what has changed since.
func (c *Client) SetActive(active bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.flow.active = active
	c.askLocked()
}

// Painted tells that all updates so far are on the screen (or are not wanted
// there). Without it the client stops asking after a few updates, so a window
// that is not painted costs nothing.
func (c *Client) Painted() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.flow.unpainted = 0
	c.askLocked()
}

// RequestUpdate asks again for the whole picture, or with incremental only for
// what has changed.
func (c *Client) RequestUpdate(incremental bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.flow.full = c.flow.full || !incremental
	c.flow.asked = false
	c.askLocked()
}

// askLocked sends an update request unless one is out or nobody would look.
func (c *Client) askLocked() {
	f := &c.flow
	underway := f.unpainted
	if f.reading {
		underway++
	}
	if f.asked || !f.active || underway >= maxUnpainted {
		return
	}
	f.asked = true
	incremental := byte(1)
	if f.full {
		incremental, f.full = 0, false
	}
	size := c.frame.Size()
	c.out.send(msgUpdateRequest, incremental, u16(0), u16(0), u16(size.X), u16(size.Y))
}

// began notes that an update has begun and asks for the next one already: QEMU
// looks for changes every 30 ms and must not find nobody asking.
func (c *Client) began() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.flow.asked, c.flow.reading = false, true
	c.askLocked()
}

// updated notes that an update message has arrived whole.
func (c *Client) updated(r image.Rectangle) {
	c.mu.Lock()
	c.flow.reading = false
	if !r.Empty() {
		c.flow.unpainted++
	}
	if c.flow.full { // resized meanwhile: what was asked for is not enough
		c.flow.asked = false
	}
	c.askLocked()
	c.mu.Unlock()
	if !r.Empty() && c.handler.Updated != nil {
		c.handler.Updated(r)
	}
}

// nudge keeps QEMU's refresh timer short after input: it backs off when the
// screen is still, and any client message beyond type 3 resets it. A pointer
// message that repeats where the pointer is already does so unseen by the guest.
func (c *Client) nudge() {
	tick := time.NewTicker(nudgeEvery)
	defer tick.Stop()
	for {
		select {
		case <-c.closed:
			return
		case <-c.poked:
		}
		for left := nudgeFor / nudgeEvery; left > 0; left-- {
			tick.Reset(nudgeEvery)
			select {
			case <-c.closed:
				return
			case <-c.poked:
				left = nudgeFor/nudgeEvery + 1
			case <-tick.C:
				c.nudgeOnce()
			}
		}
	}
}

func (c *Client) nudgeOnce() {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.input.told || !c.input.absolute:
		c.repeatPointerLocked()
	case c.clip.extended:
		// Nobody has moved the pointer yet, so there is nothing to repeat; our
		// clipboard abilities do as well.
		c.sendCapsLocked()
	}
}

const (
	nudgeEvery = 12 * time.Millisecond
	nudgeFor   = 150 * time.Millisecond
)

// poke starts or prolongs the nudge.
func (c *Client) poke() {
	select {
	case c.poked <- struct{}{}:
	default:
	}
}

// write moves the output queue to the connection.
func (c *Client) write() {
	for {
		b, err := c.out.take(c.closed)
		if err != nil {
			c.fail(err)
			return
		}
		if b == nil {
			return
		}
		if _, err := c.rwc.Write(b); err != nil {
			c.fail(fmt.Errorf("write: %w", err))
			return
		}
	}
}
