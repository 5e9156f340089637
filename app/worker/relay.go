package worker

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hxen-project/hxen/app/control"
	"github.com/hxen-project/hxen/hv"
)

// Relay carries the frames of one network card between the engine and the
// network's process. The engine's side lives as long as the guest; the network
// may go away and come back, which costs frames, not the card. On both sides a
// frame follows its length as a 32-bit big-endian number.
type Relay struct {
	hello control.FramesHello
	dial  func(context.Context) (net.Conn, error)
	log   *slog.Logger

	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup

	rxBytes, rxFrames, txBytes, txFrames atomic.Uint64

	mu    sync.Mutex // guards the fields below
	guest net.Conn   // the engine's connection, nil while there is none
	net   net.Conn   // the network's connection, nil while there is none
}

const (
	frameHeader  = 4
	relayBuffer  = 256 << 10 // several full-sized frames in one system call
	redialMin    = 100 * time.Millisecond
	redialMax    = 2 * time.Second
	helloTimeout = 5 * time.Second
	healthyAfter = 5 * time.Second // a connection that lived this long resets the backoff
)

// errFrame says that a peer's stream of frames cannot be followed any more.
var errFrame = errors.New("a frame is longer than any network card sends")

// NewRelay serves the engine on ln, one connection at a time, until Close; it
// owns ln. dial connects to the frames socket of the card's network and is
// called again whenever that connection is lost.
func NewRelay(ln net.Listener, dial func(context.Context) (net.Conn, error), hello control.FramesHello, log *slog.Logger) *Relay {
	ctx, cancel := context.WithCancel(context.Background())
	r := &Relay{hello: hello, dial: dial, log: log.With("nic", hello.NIC), ctx: ctx, cancel: cancel}
	r.work.Go(func() { // Close waits for it, too: then another may listen there
		<-ctx.Done()
		ln.Close()
	})
	r.work.Go(func() { r.accept(ln) })
	return r
}

func (r *Relay) accept(ln net.Listener) {
	for {
		guest, err := ln.Accept()
		if err != nil {
			if r.ctx.Err() == nil {
				r.log.Error("network card's socket failed; the card stays unplugged", "err", err)
			}
			return
		}
		r.run(guest)
	}
}

// Stats returns the counters, as the guest sees the direction. Frames that the
// guest sent while there was no network count as sent.
func (r *Relay) Stats() hv.NICStats {
	return hv.NICStats{
		RxBytes: r.rxBytes.Load(), RxFrames: r.rxFrames.Load(),
		TxBytes: r.txBytes.Load(), TxFrames: r.txFrames.Load(),
	}
}

// Close ends both connections and waits for the relay's goroutines.
func (r *Relay) Close() error {
	r.cancel()
	r.work.Wait()
	return nil
}

// run relays for one engine's connection until that ends.
func (r *Relay) run(guest net.Conn) {
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { guest.Close() })()
	r.mu.Lock()
	r.guest = guest
	r.mu.Unlock()
	var network sync.WaitGroup
	network.Go(func() { r.keepNetwork(ctx) })
	err := copyFrames(guest, r.toNetwork, &r.txBytes, &r.txFrames)
	if ctx.Err() == nil && !errors.Is(err, io.EOF) {
		r.log.Warn("the engine's end of a network card failed", "err", err)
	}
	cancel()
	network.Wait()
	r.mu.Lock()
	r.guest = nil
	r.mu.Unlock()
	guest.Close()
}

// keepNetwork holds a connection to the network and relays what comes from it.
func (r *Relay) keepNetwork(ctx context.Context) {
	wait, reported := redialMin, ""
	for ctx.Err() == nil {
		began := time.Now()
		err := r.useNetwork(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) >= healthyAfter {
			wait, reported = redialMin, ""
		}
		// The same failure is told once, not every two seconds for hours.
		if text := err.Error(); text != reported {
			r.log.Warn("no network for a card; its frames are dropped until the network is back", "err", err)
			reported = text
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = min(2*wait, redialMax)
	}
}

// useNetwork connects once and relays to the guest until the connection ends.
func (r *Relay) useNetwork(ctx context.Context) error {
	dialing, cancel := context.WithTimeout(ctx, helloTimeout)
	network, err := r.dial(dialing)
	cancel()
	if err != nil {
		return err
	}
	defer network.Close()
	defer context.AfterFunc(ctx, func() { network.Close() })()
	if err := r.greet(network); err != nil {
		return fmt.Errorf("say hello to the network: %w", err)
	}
	r.setNetwork(nil, network)
	defer r.setNetwork(network, nil)
	r.log.Info("network card connected")
	err = copyFrames(network, r.toGuest, &r.rxBytes, &r.rxFrames)
	if errors.Is(err, io.EOF) {
		err = errors.New("the network closed the connection")
	}
	return err
}

// greet says which card this is and reads the answer.
func (r *Relay) greet(network net.Conn) error {
	network.SetDeadline(time.Now().Add(helloTimeout))
	defer network.SetDeadline(time.Time{})
	hello, err := json.Marshal(r.hello)
	if err != nil {
		return err
	}
	if _, err := network.Write(append(hello, '\n')); err != nil {
		return err
	}
	// Byte by byte: what follows the line is frames.
	var line []byte
	for b := [1]byte{}; ; line = append(line, b[0]) {
		if _, err := io.ReadFull(network, b[:]); err != nil {
			return fmt.Errorf("read the answer: %w", err)
		}
		if b[0] == '\n' {
			break
		}
		if len(line) == control.MaxFramesLine {
			return fmt.Errorf("the answer is longer than %d bytes", control.MaxFramesLine)
		}
	}
	var answer control.FramesAnswer
	if err := json.Unmarshal(line, &answer); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if answer.Refused != "" {
		return errors.New(answer.Refused)
	}
	return nil
}

// setNetwork replaces old by now, if old still is the network's connection.
func (r *Relay) setNetwork(old, now net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.net == old {
		r.net = now
	}
}

// toNetwork sends whole frames, or drops them while there is no network. It
// never fails: the network's loss must not cost the card.
func (r *Relay) toNetwork(frames []byte) error {
	r.mu.Lock()
	network := r.net
	r.mu.Unlock()
	if network == nil {
		return nil
	}
	if _, err := network.Write(frames); err != nil {
		// A part of a frame may have gone out: nothing more may follow it. The
		// reader of the same connection sees its end and redials.
		r.setNetwork(network, nil)
		network.Close()
	}
	return nil
}

func (r *Relay) toGuest(frames []byte) error {
	r.mu.Lock()
	guest := r.guest
	r.mu.Unlock()
	_, err := guest.Write(frames)
	if err != nil {
		// Half a frame may have gone out; the reader of guest ends the run.
		guest.Close()
	}
	return err
}

// copyFrames reads from src until it ends and gives write runs of whole frames,
// as many as one read brought, so that the other side can be replaced between
// any two writes. Only lengths are looked at; nothing is allocated per frame.
func copyFrames(src io.Reader, write func([]byte) error, bytes, frames *atomic.Uint64) error {
	buf := make([]byte, relayBuffer)
	have := 0
	for {
		n, err := src.Read(buf[have:])
		have += n
		whole, count, ferr := wholeFrames(buf[:have])
		if count > 0 {
			bytes.Add(uint64(whole - count*frameHeader))
			frames.Add(uint64(count))
			if werr := write(buf[:whole]); werr != nil {
				return werr
			}
			have = copy(buf, buf[whole:have])
		}
		if ferr != nil {
			return ferr
		}
		if err != nil {
			return err
		}
	}
}

// wholeFrames returns how many bytes of b are whole frames, and how many those
// are. The rest is always shorter than the longest frame with its length.
func wholeFrames(b []byte) (whole, count int, err error) {
	for len(b)-whole >= frameHeader {
		size := binary.BigEndian.Uint32(b[whole:])
		if size > control.MaxFrame {
			return whole, count, fmt.Errorf("%w: %d bytes", errFrame, size)
		}
		end := whole + frameHeader + int(size)
		if end > len(b) {
			break
		}
		whole = end
		count++
	}
	return whole, count, nil
}
