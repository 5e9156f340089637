package worker

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hxen-project/hxen/app/control"
	"github.com/hxen-project/hxen/hv/hvtest"
)

const hang = 5 * time.Minute // a guard against hanging, not a measurement

func frame(payload []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(payload))), payload...)
}

func readFrame(t *testing.T, r io.Reader) []byte {
	t.Helper()
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		t.Fatalf("read a frame's length: %v", err)
	}
	b := make([]byte, binary.BigEndian.Uint32(head[:]))
	if _, err := io.ReadFull(r, b); err != nil {
		t.Fatalf("read a frame: %v", err)
	}
	return b
}

// network is the frames socket of a network that the test plays.
type network struct {
	t  *testing.T
	ln net.Listener
}

func (n network) accept(answer control.FramesAnswer) (net.Conn, *bufio.Reader) {
	n.t.Helper()
	c, err := n.ln.Accept()
	if err != nil {
		n.t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(hang))
	n.t.Cleanup(func() { c.Close() })
	r := bufio.NewReader(c)
	line, err := r.ReadBytes('\n')
	if err != nil {
		n.t.Fatal(err)
	}
	var hello control.FramesHello
	if err := json.Unmarshal(line, &hello); err != nil || hello.NIC != "nic-1" || hello.MAC != "52:54:00:00:00:01" {
		n.t.Fatalf("hello %s (%v)", line, err)
	}
	json.NewEncoder(c).Encode(answer)
	return c, r
}

// start returns a running relay, the guest's end of its card and the network.
func start(t *testing.T) (*Relay, net.Conn, network) {
	t.Helper()
	nic, frames := hvtest.Listen(t), hvtest.Listen(t)
	hello := control.FramesHello{Protocol: control.Protocol, NIC: "nic-1", MAC: "52:54:00:00:00:01"}
	r := NewRelay(nic, func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, frames.Addr().Network(), frames.Addr().String())
	}, hello, slog.New(slog.DiscardHandler))
	t.Cleanup(func() { r.Close() })
	guest, err := dial(nic)
	if err != nil {
		t.Fatal(err)
	}
	guest.SetDeadline(time.Now().Add(hang))
	t.Cleanup(func() { guest.Close() })
	return r, guest, network{t, frames}
}

func TestRelayCarriesFramesBothWays(t *testing.T) {
	r, guest, n := start(t)
	c, rd := n.accept(control.FramesAnswer{Protocol: 1})
	if _, err := c.Write(frame([]byte("to the guest"))); err != nil {
		t.Fatal(err)
	}
	if got := readFrame(t, guest); string(got) != "to the guest" {
		t.Fatalf("guest got %q", got)
	}
	// Cut at every place: the relay must put frames together again.
	big := bytes.Repeat([]byte{7}, control.MaxFrame)
	for _, part := range [][]byte{frame([]byte("a"))[:2], frame([]byte("a"))[2:], append(frame(nil), frame(big)[:60000]...), frame(big)[60000:]} {
		if _, err := guest.Write(part); err != nil {
			t.Fatal(err)
		}
	}
	for i, want := range [][]byte{[]byte("a"), {}, big} {
		if got := readFrame(t, rd); !bytes.Equal(got, want) {
			t.Fatalf("frame %d: network got %d bytes, want %d", i, len(got), len(want))
		}
	}
	s := r.Stats()
	if s.RxFrames != 1 || s.RxBytes != 12 || s.TxFrames != 3 || s.TxBytes != 1+control.MaxFrame {
		t.Fatalf("stats %+v", s)
	}
}

// TestRelaySurvivesTheNetwork ends the network's connection in the middle of a
// frame, both ways, under traffic: whole frames in order follow on the next one.
func TestRelaySurvivesTheNetwork(t *testing.T) {
	_, guest, n := start(t)
	var sent atomic.Uint64
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() { // the guest sends numbered frames of many sizes without pause
		defer close(done)
		rnd := rand.New(rand.NewPCG(1, 2))
		for i := uint64(1); ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			b := make([]byte, 8+rnd.IntN(9000))
			binary.BigEndian.PutUint64(b, i)
			if _, err := guest.Write(frame(b)); err != nil {
				return
			}
			sent.Store(i)
		}
	}()
	var last uint64
	for round := range 5 {
		c, rd := n.accept(control.FramesAnswer{Protocol: 1})
		for range 200 {
			b := readFrame(t, rd)
			if len(b) < 8 {
				t.Fatalf("round %d: a frame of %d bytes: alignment is lost", round, len(b))
			}
			if now := binary.BigEndian.Uint64(b); now <= last || now > sent.Load()+1 {
				t.Fatalf("round %d: frame %d after %d: alignment is lost", round, now, last)
			} else {
				last = now
			}
		}
		// Leave the guest half a frame: it must never see it.
		c.Write(append(frame(fmt.Appendf(nil, "round %d", round)), 0, 0, 1, 0, 'x'))
		if got := readFrame(t, guest); string(got) != fmt.Sprintf("round %d", round) {
			t.Fatalf("guest got %q in round %d", got, round)
		}
		c.Close()
	}
	n.accept(control.FramesAnswer{Protocol: 1})
	guest.SetWriteDeadline(time.Now()) // nobody reads any more
	close(stop)
	<-done
}

func TestRelayRedialsAfterARefusal(t *testing.T) {
	_, guest, n := start(t)
	c, rd := n.accept(control.FramesAnswer{Protocol: 1, Refused: "no such card"})
	if _, err := rd.ReadByte(); err != io.EOF {
		t.Fatalf("a refused relay must hang up, got %v", err)
	}
	c.Close()
	c, _ = n.accept(control.FramesAnswer{Protocol: 1})
	c.Write(frame([]byte("now")))
	if got := readFrame(t, guest); string(got) != "now" {
		t.Fatalf("guest got %q", got)
	}
}

// TestRelayBoundsHostileLengths: a network that sends nonsense is left and
// dialled again; an engine that does is disconnected.
func TestRelayBoundsHostileLengths(t *testing.T) {
	_, guest, n := start(t)
	c, rd := n.accept(control.FramesAnswer{Protocol: 1})
	c.Write([]byte{0xff, 0xff, 0xff, 0xff})
	if _, err := rd.ReadByte(); err != io.EOF {
		t.Fatalf("the relay must leave a network that sends nonsense, got %v", err)
	}
	n.accept(control.FramesAnswer{Protocol: 1})
	guest.Write(binary.BigEndian.AppendUint32(nil, control.MaxFrame+1))
	if _, err := guest.Read(make([]byte, 1)); err != io.EOF {
		t.Fatalf("an engine that sends nonsense must be disconnected, got %v", err)
	}
}

// TestRelayCloseWithAStuckGuest: a paused guest reads nothing; Close must not wait for it.
func TestRelayCloseWithAStuckGuest(t *testing.T) {
	r, _, n := start(t)
	c, _ := n.accept(control.FramesAnswer{Protocol: 1})
	full := make(chan struct{})
	go func() {
		defer close(full)
		f := frame(make([]byte, 60000))
		for range 1000 {
			if _, err := c.Write(f); err != nil {
				return
			}
		}
		t.Error("60 MB went into a guest that does not read")
	}()
	closed := make(chan struct{})
	for r.Stats().RxFrames == 0 {
		select {
		case <-full:
			t.Fatal("the network's writer ended early")
		default:
		}
	}
	go func() { r.Close(); close(closed) }()
	select {
	case <-closed:
	case <-time.After(hang):
		t.Fatal("Close hangs")
	}
	<-full
}

func TestCopyFramesAllocatesNothingPerFrame(t *testing.T) {
	stream := bytes.Repeat(frame(make([]byte, 1500)), 10000)
	var b, f atomic.Uint64
	per := testing.AllocsPerRun(3, func() {
		copyFrames(bytes.NewReader(stream), func([]byte) error { return nil }, &b, &f)
	})
	if f.Load() != 40000 || per > 10 {
		t.Fatalf("%d frames, %v allocations for 10000 frames", f.Load(), per)
	}
}

func FuzzWholeFrames(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 9, 0, 0})
	f.Add([]byte{0xff, 0, 0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		whole, count, err := wholeFrames(b)
		if whole < 0 || whole > len(b) || count*frameHeader > whole {
			t.Fatalf("%d bytes, %d frames of %d", whole, count, len(b))
		}
		if err == nil && len(b)-whole >= frameHeader+control.MaxFrame {
			t.Fatalf("%d bytes are left of %d", len(b)-whole, len(b))
		}
	})
}

// TestDoor: an engine in this process and one outside come in, one at a time.
func TestDoor(t *testing.T) {
	ln := hvtest.Listen(t)
	d := NewDoor(ln)
	for _, enter := range []func() (net.Conn, error){
		func() (net.Conn, error) { return dial(ln) },
		func() (net.Conn, error) { return d.Dial(t.Context()) },
	} {
		go func() {
			c, err := d.Accept()
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			io.Copy(c, c)
		}()
		c, err := enter()
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(hang))
		if _, err := c.Write(frame([]byte("hello"))); err != nil {
			t.Fatal(err)
		}
		if got := readFrame(t, c); string(got) != "hello" {
			t.Errorf("it echoed %q", got)
		}
		c.Close()
	}
	waiting, cancel := context.WithCancel(t.Context())
	time.AfterFunc(time.Millisecond, cancel)
	if _, err := d.Dial(waiting); err == nil {
		t.Error("a dial that nobody took succeeded")
	}
	d.Close()
	if _, err := d.Dial(t.Context()); err == nil {
		t.Error("a dial through a closed door succeeded")
	}
	if _, err := d.Accept(); err == nil {
		t.Error("a closed door was entered")
	}
}

// tired is a socket that takes its time to close.
type tired struct {
	net.Listener
	closed atomic.Bool
}

func (l *tired) Close() error {
	time.Sleep(10 * time.Millisecond)
	l.closed.Store(true)
	return l.Listener.Close()
}

// TestRelayLeavesItsSocket: where a relay was closed, the next one can listen at once.
func TestRelayLeavesItsSocket(t *testing.T) {
	l := &tired{Listener: hvtest.Listen(t)}
	none := func(context.Context) (net.Conn, error) { return nil, io.EOF }
	NewRelay(NewDoor(l), none, control.FramesHello{}, slog.New(slog.DiscardHandler)).Close()
	if !l.closed.Load() {
		t.Error("the relay was closed before its socket")
	}
}
