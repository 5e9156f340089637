package xenstore

import (
	"context"
	"encoding/binary"
	"errors"
	"sync"

	"github.com/hxen-project/hxen/hv/guestmem"
	"github.com/hxen-project/hxen/hv/xenabi"
)

const (
	headerSize = 16 // struct xsd_sockmsg
	ringMask   = xenabi.XENSTORE_RING_SIZE - 1
	maxOut     = 4 * (headerSize + xenabi.XENSTORE_PAYLOAD_MAX) // answers that wait before requests do
)

// ErrProtocol is why a Ring stopped listening to its guest: what it sent is no
// message. The guest's own ring page says so too.
var ErrProtocol = errors.New("the guest broke XenStore's protocol")

// parse takes one message off in. n is 0 when it has not come whole yet.
func parse(in []byte) (h xenabi.XSDSockmsg, payload []byte, n int, err error) {
	if len(in) < headerSize {
		return h, nil, 0, nil
	}
	h.Type = binary.LittleEndian.Uint32(in)
	h.ReqID = binary.LittleEndian.Uint32(in[4:])
	h.TxID = binary.LittleEndian.Uint32(in[8:])
	h.Len = binary.LittleEndian.Uint32(in[12:])
	if h.Len > xenabi.XENSTORE_PAYLOAD_MAX {
		return h, nil, 0, ErrProtocol
	}
	n = headerSize + int(h.Len)
	if len(in) < n {
		return h, nil, 0, nil
	}
	return h, in[headerSize:n:n], n, nil
}

func appendMessage(out []byte, typ, req, tx uint32, payload []byte) []byte {
	for _, w := range []uint32{typ, req, tx, uint32(len(payload))} {
		out = binary.LittleEndian.AppendUint32(out, w)
	}
	return append(out, payload...)
}

// Ring serves one guest's ring page (struct xenstore_domain_interface,
// io/xs_wire.h). One goroutine serves it; Kick may come from anywhere.
type Ring struct {
	page   guestmem.Page
	notify func()
	conn   *conn
	wake   chan struct{}

	mu      sync.Mutex // held during a step
	in, out []byte     // guarded by mu
	failed  bool       // guarded by mu; until the guest asks for a new connection
}

// NewRing makes the server's end of domid's ring; notify raises the guest's port.
func (s *Store) NewRing(domid int, page guestmem.Page, notify func()) (*Ring, error) {
	r := &Ring{page: page, notify: notify, wake: make(chan struct{}, 1)}
	if err := page.Store32(xenabi.XenstoreServerFeatures, xenabi.XENSTORE_SERVER_FEATURE_RECONNECTION); err != nil {
		return nil, err
	}
	r.conn = s.connect(domid, r.Kick)
	return r, nil
}

// Kick says that there may be something to do. It does not wait.
func (r *Ring) Kick() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Serve answers until ctx ends. A guest that breaks the protocol is no longer
// listened to, and hears nothing, until it reconnects.
func (r *Ring) Serve(ctx context.Context) {
	defer r.conn.close()
	for {
		for ctx.Err() == nil && r.step() {
		}
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
		}
	}
}

// step does what can be done now and reports whether it did anything.
func (r *Ring) step() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c, _ := r.page.Load32(xenabi.XenstoreConnection); c == xenabi.XENSTORE_RECONNECT {
		r.reconnect()
		return true
	}
	if r.failed {
		return false
	}
	got, err := r.receive()
	if err == nil {
		err = r.answer()
	}
	sent, sendErr := r.send()
	if err = errors.Join(err, sendErr); err != nil {
		r.fail(err)
		return true
	}
	if got || sent {
		r.notify()
	}
	return got || sent
}

// errIndex is a ring whose indices are more than its size apart.
var errIndex = errors.New("ring indices out of range")

func (r *Ring) fail(err error) {
	code := uint32(xenabi.XENSTORE_ERROR_PROTO)
	if errors.Is(err, errIndex) {
		code = xenabi.XENSTORE_ERROR_RINGIDX
	}
	r.failed, r.in, r.out = true, nil, nil
	_ = r.page.Store32(xenabi.XenstoreError, code)
	r.notify()
}

// reconnect starts over as the guest asks (xenstore-ring.txt): everything of
// its old connection is gone and the ring is empty.
func (r *Ring) reconnect() {
	r.conn.store.mu.Lock()
	r.conn.resetLocked()
	r.conn.store.mu.Unlock()
	r.in, r.out, r.failed = nil, nil, false
	for _, off := range []int{xenabi.XenstoreReqCons, xenabi.XenstoreReqProd, xenabi.XenstoreRspCons, xenabi.XenstoreRspProd, xenabi.XenstoreError} {
		_ = r.page.Store32(off, 0)
	}
	_ = r.page.Store32(xenabi.XenstoreConnection, xenabi.XENSTORE_CONNECTED)
	r.notify()
}

// receive copies requests out of the ring, unless answers pile up unread.
func (r *Ring) receive() (got bool, err error) {
	if len(r.out) >= maxOut || len(r.in) >= headerSize+xenabi.XENSTORE_PAYLOAD_MAX {
		return false, nil
	}
	cons, _ := r.page.Load32(xenabi.XenstoreReqCons)
	prod, err := r.page.Load32(xenabi.XenstoreReqProd)
	if err != nil {
		return false, err
	}
	n := prod - cons
	if n > xenabi.XENSTORE_RING_SIZE {
		return false, errIndex
	}
	if n == 0 {
		return false, nil
	}
	at := len(r.in)
	r.in = append(r.in, make([]byte, n)...)
	r.copyRing(xenabi.XenstoreReq, cons, r.in[at:], r.page.Read)
	return true, r.page.Store32(xenabi.XenstoreReqCons, prod)
}

// copyRing moves b between the ring at base and index from, around its end.
func (r *Ring) copyRing(base int, from uint32, b []byte, move func(int, []byte) error) {
	first := min(len(b), xenabi.XENSTORE_RING_SIZE-int(from&ringMask))
	_ = move(base+int(from&ringMask), b[:first])
	_ = move(base, b[first:])
}

// answer serves the requests that have come whole, then events.
func (r *Ring) answer() error {
	for len(r.out) < maxOut {
		h, payload, n, err := parse(r.in)
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
		typ := h.Type
		reply, err := r.conn.handle(typ, h.TxID, payload)
		if err != nil {
			typ, reply = xenabi.XS_ERROR, []byte(wireError(err)+"\x00")
		}
		r.out = appendMessage(r.out, typ, h.ReqID, h.TxID, reply)
		r.in = r.in[n:]
	}
	for len(r.out) < maxOut {
		payload, ok := r.conn.takeEvent()
		if !ok {
			break
		}
		if len(payload) <= xenabi.XENSTORE_PAYLOAD_MAX {
			r.out = appendMessage(r.out, xenabi.XS_WATCH_EVENT, 0, 0, payload)
		}
	}
	return nil
}

func wireError(err error) string {
	var e Errno
	if errors.As(err, &e) {
		return string(e)
	}
	return "EIO"
}

// send copies answers into the ring as far as there is room.
func (r *Ring) send() (sent bool, err error) {
	if len(r.out) == 0 {
		return false, nil
	}
	cons, _ := r.page.Load32(xenabi.XenstoreRspCons)
	prod, err := r.page.Load32(xenabi.XenstoreRspProd)
	if err != nil {
		return false, err
	}
	used := prod - cons
	if used > xenabi.XENSTORE_RING_SIZE {
		return false, errIndex
	}
	n := min(len(r.out), int(xenabi.XENSTORE_RING_SIZE-used))
	if n == 0 {
		return false, nil
	}
	r.copyRing(xenabi.XenstoreRsp, prod, r.out[:n], r.page.Write)
	r.out = r.out[n:]
	if len(r.out) == 0 {
		r.out = nil
	}
	return true, r.page.Store32(xenabi.XenstoreRspProd, prod+uint32(n))
}
