package netd

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hxen-project/hxen/app/control"
)

// cardConn is one card's connection as the switch sees it: a stream of frames,
// each after its 32-bit big-endian length. Read gives the switch only frames
// that pass the filter. Write never waits: the switch writes under a lock that
// all cards share, and a paused guest reads nothing.
type cardConn struct {
	net.Conn
	nic    string
	filter filter
	dhcp   func()             // the guest takes or renews its address
	echo   func(frame []byte) // an echo request to the outside; the frame is valid during the call
	log    *slog.Logger

	// Only the switch's reading goroutine uses these.
	in      *bufio.Reader
	current []byte // the rest of the frame being read, a slice of in's buffer or prime
	skip    int    // bytes of in to discard once current is read
	dropped [verdicts]uint64
	told    time.Time // when the last line about dropped frames was logged

	lost atomic.Uint64 // frames that a guest did not take in time

	mu     sync.Mutex // guards the fields below
	out    []byte     // whole frames that wait for the writer
	closed bool
	wake   *sync.Cond
	ended  chan struct{} // closed when the writer has ended
}

const (
	frameHeader = 4
	// queueBytes is how much may wait for one guest: a full TCP window, and no
	// more memory than that for a guest that is paused.
	queueBytes = 2 << 20
	// dropLog is the least time between two log lines about one card's frames.
	dropLog = 30 * time.Second
)

// newCardConn owns nc, on which the hello has been answered; r may hold what
// was read ahead.
func newCardConn(nc net.Conn, r io.Reader, nic string, f filter, log *slog.Logger) *cardConn {
	c := &cardConn{Conn: nc, nic: nic, filter: f, log: log.With("nic", nic), ended: make(chan struct{})}
	c.in = bufio.NewReaderSize(r, 128<<10) // must hold one whole frame: see next
	c.wake = sync.NewCond(&c.mu)
	c.current = c.prime()
	go c.write()
	return c
}

// prime is a frame that the gateway ignores. The switch learns from it where
// the card is, so that a guest which is silent after a reconnect is reached.
func (c *cardConn) prime() []byte {
	b := binary.BigEndian.AppendUint32(nil, 60)
	b = append(b, c.filter.gatewayMAC[:]...)
	b = append(b, c.filter.mac[:]...)
	b = binary.BigEndian.AppendUint16(b, etherLocal)
	return append(b, make([]byte, 60-etherHeader)...)
}

// Read is called by the switch alone.
func (c *cardConn) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		if len(c.current) == 0 {
			if n > 0 && c.in.Buffered() < frameHeader+etherHeader {
				break // give what is there rather than wait
			}
			if err := c.next(n == 0); err != nil {
				return n, err
			}
			if len(c.current) == 0 {
				break
			}
		}
		m := copy(p[n:], c.current)
		c.current = c.current[m:]
		n += m
	}
	return n, nil
}

// next makes current the next frame that passes. Without wait it stops at the
// end of what is buffered.
func (c *cardConn) next(wait bool) error {
	for {
		c.in.Discard(c.skip)
		c.skip = 0
		if !wait && c.in.Buffered() < frameHeader {
			return nil
		}
		head, err := c.in.Peek(frameHeader)
		if err != nil {
			return err
		}
		size := int(binary.BigEndian.Uint32(head))
		if size > control.MaxFrame {
			return fmt.Errorf("a frame of %d bytes is longer than any card sends", size)
		}
		if !wait && c.in.Buffered() < frameHeader+size {
			return nil
		}
		b, err := c.in.Peek(frameHeader + size)
		if err != nil {
			return err
		}
		c.skip = len(b)
		switch v := c.filter.check(b[frameHeader:]); v {
		case pass:
			c.current = b
			return nil
		case passDHCP:
			c.dhcp()
			c.current = b
			return nil
		case echo:
			c.echo(b[frameHeader:])
		default:
			c.drop(v)
		}
	}
}

// drop counts a frame and tells of it now and then.
func (c *cardConn) drop(v verdict) {
	c.dropped[v]++
	if v == foreign || time.Since(c.told) < dropLog {
		return
	}
	c.told = time.Now()
	c.log.Warn("frames from a guest are dropped", "why", strings.ReplaceAll(verdictNames[v], "_", " "), "counts", c.counts())
}

// counts names the counters that are not zero.
func (c *cardConn) counts() string {
	var parts []string
	for v, n := range c.dropped {
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%s=%d", verdictNames[v], n))
		}
	}
	if n := c.lost.Load(); n > 0 {
		parts = append(parts, fmt.Sprintf("not_taken=%d", n))
	}
	return strings.Join(parts, " ")
}

// Write queues one frame with its length, or drops it when the guest does not
// keep up. It never fails: the switch would take that for its own affair.
func (c *cardConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || len(c.out)+len(p) > queueBytes {
		c.lost.Add(1)
		return len(p), nil
	}
	c.out = append(c.out, p...)
	if len(c.out) == len(p) {
		c.wake.Signal()
	}
	return len(p), nil
}

// send queues a frame that has no length yet.
func (c *cardConn) send(frame []byte) {
	c.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(frame))), frame...))
}

// write sends what is queued, all of it in one system call.
func (c *cardConn) write() {
	defer close(c.ended)
	var batch []byte
	for {
		c.mu.Lock()
		for len(c.out) == 0 && !c.closed {
			c.wake.Wait()
		}
		if c.closed {
			c.mu.Unlock()
			return
		}
		batch, c.out = c.out, batch[:0]
		c.mu.Unlock()
		if _, err := c.Conn.Write(batch); err != nil {
			c.Close()
			return
		}
	}
}

// Close ends the connection; the switch then lets go of it.
func (c *cardConn) Close() error {
	c.mu.Lock()
	c.closed = true
	c.wake.Signal()
	c.mu.Unlock()
	return c.Conn.Close()
}
