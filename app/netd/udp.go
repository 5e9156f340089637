package netd

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	udpIdle   = 2 * time.Minute // RFC 4787 REQ-5: a mapping lives at least this long
	udpBuffer = 65535
)

// udpTable holds a bounded number of UDP flows.
type udpTable struct {
	max int

	mu     sync.Mutex // guards the fields below
	flows  map[any]*udpFlow
	closed bool
}

// udpFlow is one guest port talking with one outside port.
type udpFlow struct {
	ways []udpWay
	last atomic.Int64 // when a datagram last passed, nanoseconds of the Unix epoch
}

// udpWay is one direction; from is connected to its peer and owned by the flow.
type udpWay struct {
	to   io.Writer
	from net.Conn
}

func newUDPTable(max int) *udpTable { return &udpTable{max: max, flows: map[any]*udpFlow{}} }

// find returns the flow key, nil if there is none.
func (t *udpTable) find(key any) *udpFlow {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.flows[key]
}

// run starts the flow key and returns at once. The flow that has been silent
// longest makes room if need be.
func (t *udpTable) run(key any, ways ...udpWay) *udpFlow {
	f := &udpFlow{ways: ways}
	f.touch()
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		f.close()
		return f
	}
	victim := t.oldest()
	t.flows[key] = f
	t.mu.Unlock()
	if victim != nil {
		victim.close()
	}
	for _, w := range ways {
		go func() {
			f.copy(w)
			f.close()
			t.remove(key, f)
		}()
	}
	return f
}

// oldest takes the flow that has been silent longest out of a full table. The
// caller holds t.mu.
func (t *udpTable) oldest() *udpFlow {
	if len(t.flows) < t.max {
		return nil
	}
	var key any
	for k, f := range t.flows {
		if key == nil || f.last.Load() < t.flows[key].last.Load() {
			key = k
		}
	}
	f := t.flows[key]
	delete(t.flows, key)
	return f
}

func (t *udpTable) remove(key any, f *udpFlow) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.flows[key] == f {
		delete(t.flows, key)
	}
}

func (t *udpTable) close() {
	t.mu.Lock()
	t.closed = true
	flows := t.flows
	t.flows = nil
	t.mu.Unlock()
	for _, f := range flows {
		f.close()
	}
}

func (f *udpFlow) touch() { f.last.Store(time.Now().UnixNano()) }

func (f *udpFlow) close() {
	for _, w := range f.ways {
		w.from.Close()
	}
}

// copy moves datagrams one way until the flow has been silent for udpIdle.
func (f *udpFlow) copy(w udpWay) {
	buf := make([]byte, udpBuffer)
	for {
		w.from.SetReadDeadline(time.Unix(0, f.last.Load()).Add(udpIdle))
		n, err := w.from.Read(buf)
		switch {
		case err == nil:
			f.touch()
			if _, err := w.to.Write(buf[:n]); err != nil && !refused(err) {
				return
			}
		case isTimeout(err):
			// The other way may have been busy meanwhile.
			if time.Since(time.Unix(0, f.last.Load())) >= udpIdle {
				return
			}
		case !refused(err):
			return
		}
	}
}

// refused: nobody listens there now; somebody may later.
func refused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }

func isTimeout(err error) bool {
	ne, ok := errors.AsType[net.Error](err)
	return ok && ne.Timeout()
}
