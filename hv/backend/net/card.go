package net

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/backend"
)

const (
	redialMin = 50 * time.Millisecond
	redialMax = 2 * time.Second
	healthy   = 5 * time.Second // a connection that lived this long resets the back-off

	maxFrame  = 65550 // of an Ethernet frame, with a VLAN's tag
	readAhead = 128 << 10
)

// Config is one network card.
type Config struct {
	ID  int // the guest's number for it: eth0 is the first
	NIC hv.NIC
	// Dial connects to the card's network: frames, each after its length as a
	// 32-bit big-endian number. It is called again when the connection ends.
	Dial func(context.Context) (net.Conn, error)
	Log  *slog.Logger
}

// Card is a network card from its guest's launch to its end. While no front end
// takes frames they are dropped, as with a cable into a machine that is off;
// while there is no network, what the guest sends is.
type Card struct {
	config Config
	log    *slog.Logger
	cancel context.CancelFunc
	done   chan struct{} // closed when the network is let go of

	rxBytes, txBytes, rxFrames, txFrames atomic.Uint64

	mu    sync.Mutex
	conn  net.Conn // guarded by mu; nil: no network
	front *front   // guarded by mu; nil: no front end is connected
}

// New makes a card and connects it to its network, now or when that is there.
func New(c Config) *Card {
	ctx, cancel := context.WithCancel(context.Background())
	k := &Card{config: c, log: c.Log.With("nic", c.NIC.UUID), cancel: cancel, done: make(chan struct{})}
	go k.keep(ctx)
	return k
}

// Attach gives a machine the card.
func (k *Card) Attach(g *backend.Guest) (*backend.Device, error) {
	id := strconv.Itoa(k.config.ID)
	return g.Add(backend.Config{
		Type: "vif", ID: k.config.ID,
		Front: map[string]string{"mac": k.config.NIC.MAC, "handle": id},
		Back: map[string]string{
			"mac": k.config.NIC.MAC, "handle": id,
			"feature-rx-copy":              "1",
			"feature-sg":                   "1",
			"feature-gso-tcpv4":            "1",
			"feature-gso-tcpv6":            "1",
			"feature-ipv6-csum-offload":    "1",
			"feature-split-event-channels": "1",
		},
	}, &driver{card: k})
}

// Count adds the card's counters, as the guest sees the direction.
func (k *Card) Count(s *hv.Stats) {
	s.NICs[k.config.NIC.UUID] = hv.NICStats{
		RxBytes: k.rxBytes.Load(), RxFrames: k.rxFrames.Load(),
		TxBytes: k.txBytes.Load(), TxFrames: k.txFrames.Load(),
	}
}

// Close lets go of the network, and waits.
func (k *Card) Close() error {
	k.cancel()
	<-k.done
	return nil
}

// keep holds a connection to the network.
func (k *Card) keep(ctx context.Context) {
	defer close(k.done)
	wait, reported := redialMin, ""
	for ctx.Err() == nil {
		began := time.Now()
		err := k.use(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) >= healthy {
			wait, reported = redialMin, ""
		}
		if text := err.Error(); text != reported { // not every two seconds for hours
			k.log.Warn("a network card has no network; its frames are dropped until it is back", "err", err)
			reported = text
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		wait = min(2*wait, redialMax)
	}
}

// use connects once, and gives the guest what comes until the connection ends.
func (k *Card) use(ctx context.Context) error {
	conn, err := k.config.Dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	k.setConn(nil, conn)
	defer k.setConn(conn, nil)
	return k.receive(conn)
}

// setConn replaces old by now, if old still is the connection.
func (k *Card) setConn(old, now net.Conn) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.conn == old {
		k.conn = now
	}
}

// receive hands on runs of whole frames, as many as one read brings.
func (k *Card) receive(conn net.Conn) error {
	buf := make([]byte, readAhead)
	for have := 0; ; {
		n, err := conn.Read(buf[have:])
		have += n
		whole, ferr := wholeFrames(buf[:have])
		if whole > 0 {
			k.mu.Lock()
			f := k.front
			k.mu.Unlock()
			if f != nil {
				f.deliver(buf[:whole])
			}
			have = copy(buf, buf[whole:have])
		}
		switch {
		case ferr != nil:
			return ferr
		case err == io.EOF:
			return fmt.Errorf("the network closed the connection")
		case err != nil:
			return fmt.Errorf("read from the network: %w", err)
		}
	}
}

// wholeFrames returns how many bytes of b are whole frames with their lengths.
func wholeFrames(b []byte) (int, error) {
	whole := 0
	for len(b)-whole >= frameHeader {
		size := binary.BigEndian.Uint32(b[whole:])
		if size > maxFrame {
			return whole, fmt.Errorf("the network sent a frame of %d bytes", size)
		}
		end := whole + frameHeader + int(size)
		if end > len(b) {
			break
		}
		whole = end
	}
	return whole, nil
}

// send writes whole frames with their lengths to the network, or drops them
// while there is none. It waits while the network is slow.
func (k *Card) send(b []byte) {
	k.mu.Lock()
	conn := k.conn
	k.mu.Unlock()
	if conn == nil {
		return
	}
	if _, err := conn.Write(b); err != nil {
		// A part of a frame may have gone out: nothing more may follow it. The
		// reader sees the end and dials again.
		k.setConn(conn, nil)
		conn.Close()
	}
}

// interrupt ends a send that waits. It costs the connection.
func (k *Card) interrupt() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.conn != nil {
		_ = k.conn.SetWriteDeadline(time.Now()) // of a connection that is closed, which ends the send as well
	}
}
