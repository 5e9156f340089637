package xenstore

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/hxen-project/hxen/hv/xenabi"
)

// conn is one user of the store: a domain's ring or a Client. Store.mu guards it.
type conn struct {
	store   *Store
	domid   int
	watches []*watch
	txs     map[uint32]*transaction
	lastTx  uint32
	events  []event
	queued  map[event]struct{} // what is in events
	signal  func()             // events has become non-empty; must not wait
}

// watch is a registered watch; relative says that its domain named the path
// relative to its home and wants to hear it so.
type watch struct {
	path, token string
	relative    bool
	sink        func(path string) // Client only
}

type event struct{ path, token string }

func (s *Store) connect(domid int, signal func()) *conn {
	c := &conn{store: s, domid: domid, txs: map[uint32]*transaction{}, queued: map[event]struct{}{}, signal: signal}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[c] = struct{}{}
	return c
}

func (c *conn) close() {
	c.store.mu.Lock()
	defer c.store.mu.Unlock()
	delete(c.store.conns, c)
	c.resetLocked()
}

// resetLocked forgets watches, transactions and events (XS_RESET_WATCHES, and
// a ring that starts over).
func (c *conn) resetLocked() {
	c.watches, c.events = nil, nil
	clear(c.txs)
	clear(c.queued)
}

// eventLocked queues an event. The same event twice in the queue says nothing
// more, and who does not read loses what is beyond the quota.
func (c *conn) eventLocked(w *watch, path string) {
	if w.relative {
		if rest, ok := strings.CutPrefix(path, Home(c.domid)+"/"); ok {
			path = rest
		}
	}
	if w.sink != nil {
		w.sink(path)
		return
	}
	e := event{path, w.token}
	if _, dup := c.queued[e]; dup {
		return
	}
	if c.domid != 0 && len(c.events) >= c.store.quota.Events {
		return
	}
	c.events = append(c.events, e)
	c.queued[e] = struct{}{}
	c.signal()
}

// takeEvent is the next event, as the payload of a XS_WATCH_EVENT.
func (c *conn) takeEvent() (payload []byte, ok bool) {
	c.store.mu.Lock()
	defer c.store.mu.Unlock()
	if len(c.events) == 0 {
		return nil, false
	}
	e := c.events[0]
	c.events = c.events[1:]
	delete(c.queued, e)
	return []byte(e.path + "\x00" + e.token + "\x00"), true
}

// handle answers one request of the wire protocol.
func (c *conn) handle(typ, tx uint32, payload []byte) (reply []byte, err error) {
	c.store.mu.Lock()
	defer c.store.mu.Unlock()
	switch typ {
	case xenabi.XS_TRANSACTION_START, xenabi.XS_TRANSACTION_END:
		return c.transactionLocked(typ, tx, payload)
	case xenabi.XS_WATCH, xenabi.XS_UNWATCH:
		return c.watchLocked(typ, payload)
	case xenabi.XS_RESET_WATCHES:
		c.resetLocked()
		return ok, nil
	case xenabi.XS_GET_DOMAIN_PATH:
		s, err := one(payload)
		if err != nil {
			return nil, err
		}
		id, err := strconv.ParseUint(s, 10, 16)
		if err != nil {
			return nil, EINVAL
		}
		return []byte(Home(int(id)) + "\x00"), nil
	case xenabi.XS_CONTROL, xenabi.XS_INTRODUCE, xenabi.XS_RELEASE, xenabi.XS_IS_DOMAIN_INTRODUCED, xenabi.XS_RESUME, xenabi.XS_SET_TARGET:
		return nil, EACCES // a toolstack's, not a guest's
	}
	return c.nodeLocked(typ, tx, payload)
}

var ok = []byte("OK\x00")

// one is a payload of exactly one string.
func one(payload []byte) (string, error) {
	s, rest, found := bytes.Cut(payload, []byte{0})
	if !found || len(rest) != 0 {
		return "", EINVAL
	}
	return string(s), nil
}

// nodeLocked serves what concerns one node, in the tree or in a transaction.
func (c *conn) nodeLocked(typ, tx uint32, payload []byte) ([]byte, error) {
	v := &view{root: c.store.root}
	t := c.txs[tx]
	switch {
	case t != nil:
		v = &t.view
	case tx != 0:
		return nil, ENOENT
	}
	if t != nil && c.domid != 0 && len(t.changes)+len(t.seen) >= 2*c.store.quota.Nodes {
		return nil, ENOSPC // neither may grow without bound
	}
	name, rest, found := bytes.Cut(payload, []byte{0})
	if !found {
		return nil, EINVAL
	}
	path, err := absolute(c.domid, string(name))
	if err != nil {
		return nil, err
	}
	change := change{domid: c.domid, path: path}
	switch typ {
	case xenabi.XS_WRITE:
		change.op, change.value = opWrite, bytes.Clone(rest)
	case xenabi.XS_MKDIR, xenabi.XS_RM:
		if len(rest) != 0 {
			return nil, EINVAL
		}
		change.op = opMkdir
		if typ == xenabi.XS_RM {
			change.op = opRemove
		}
	case xenabi.XS_SET_PERMS:
		change.op = opPerms
		if change.perms, err = parsePerms(rest); err != nil {
			return nil, err
		}
	default:
		return c.lookLocked(v, typ, path, rest)
	}
	if t != nil {
		err = t.do(change)
	} else {
		err = c.store.doLocked(change)
	}
	return ok, err
}

func parsePerms(payload []byte) (perms []Perm, err error) {
	for len(payload) > 0 {
		s, rest, found := bytes.Cut(payload, []byte{0})
		p, err := parsePerm(string(s))
		if !found || err != nil {
			return nil, EINVAL
		}
		perms, payload = append(perms, p), rest
	}
	return perms, nil
}

func (c *conn) lookLocked(v *view, typ uint32, path string, rest []byte) ([]byte, error) {
	if typ != xenabi.XS_DIRECTORY_PART && len(rest) != 0 {
		return nil, EINVAL
	}
	switch typ {
	case xenabi.XS_READ:
		return v.read(c.domid, path)
	case xenabi.XS_GET_PERMS:
		perms, err := v.permissions(c.domid, path)
		var out []byte
		for _, p := range perms {
			out = append(append(out, p.String()...), 0)
		}
		return out, err
	case xenabi.XS_DIRECTORY, xenabi.XS_DIRECTORY_PART:
		names, kids, err := v.directory(c.domid, path)
		if err != nil {
			return nil, err
		}
		var list []byte
		for _, n := range names {
			list = append(append(list, n...), 0)
		}
		if typ == xenabi.XS_DIRECTORY_PART {
			return part(list, kids, rest)
		}
		if len(list) > xenabi.XENSTORE_PAYLOAD_MAX {
			return nil, E2BIG
		}
		return list, nil
	}
	return nil, ENOSYS
}

// part is a piece of a long directory: its generation, whole names from
// offset on, and an empty name behind the last.
func part(list []byte, kids uint64, payload []byte) ([]byte, error) {
	s, err := one(payload)
	if err != nil {
		return nil, err
	}
	offset, err := strconv.ParseUint(s, 10, 31)
	if err != nil || offset > uint64(len(list)) {
		return nil, EINVAL
	}
	out := append(strconv.AppendUint(nil, kids, 10), 0)
	list = list[offset:]
	if len(list)+1 <= xenabi.XENSTORE_PAYLOAD_MAX-len(out) {
		return append(append(out, list...), 0), nil
	}
	room := list[:xenabi.XENSTORE_PAYLOAD_MAX-len(out)]
	return append(out, room[:bytes.LastIndexByte(room, 0)+1]...), nil
}

func (c *conn) transactionLocked(typ, tx uint32, payload []byte) ([]byte, error) {
	arg, err := one(payload)
	if err != nil {
		return nil, err
	}
	if typ == xenabi.XS_TRANSACTION_START {
		switch {
		case tx != 0:
			return nil, EBUSY
		case c.domid != 0 && len(c.txs) >= c.store.quota.Transactions:
			return nil, ENOSPC
		}
		for c.lastTx++; c.lastTx == 0 || c.txs[c.lastTx] != nil; c.lastTx++ {
		}
		c.txs[c.lastTx] = c.store.beginLocked()
		return []byte(strconv.FormatUint(uint64(c.lastTx), 10) + "\x00"), nil
	}
	t := c.txs[tx]
	switch {
	case t == nil:
		return nil, ENOENT
	case arg != "T" && arg != "F":
		return nil, EINVAL
	}
	delete(c.txs, tx)
	if arg == "T" {
		err = c.store.endLocked(t)
	}
	return ok, err
}

func (c *conn) watchLocked(typ uint32, payload []byte) ([]byte, error) {
	name, rest, found := bytes.Cut(payload, []byte{0})
	if !found {
		return nil, EINVAL
	}
	token, err := one(rest)
	if err != nil {
		return nil, err
	}
	w := &watch{path: string(name), token: token, relative: !bytes.HasPrefix(name, []byte("/")) && !bytes.HasPrefix(name, []byte("@"))}
	if !strings.HasPrefix(w.path, "@") {
		if w.path, err = absolute(c.domid, w.path); err != nil {
			return nil, err
		}
	} else if len(w.path) > xenabi.XENSTORE_REL_PATH_MAX {
		return nil, EINVAL
	}
	for i, old := range c.watches {
		if old.path != w.path || old.token != w.token {
			continue
		}
		if typ == xenabi.XS_WATCH {
			return nil, EEXIST
		}
		c.watches = append(c.watches[:i:i], c.watches[i+1:]...)
		return ok, nil
	}
	if typ == xenabi.XS_UNWATCH {
		return nil, ENOENT
	}
	return ok, c.addWatchLocked(w)
}

// addWatchLocked registers a watch, which fires at once.
func (c *conn) addWatchLocked(w *watch) error {
	if c.domid != 0 && len(c.watches) >= c.store.quota.Watches {
		return E2BIG
	}
	c.watches = append(c.watches, w)
	c.eventLocked(w, w.path)
	return nil
}
