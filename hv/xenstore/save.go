package xenstore

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hxen-project/hxen/hv/guestmem"
	"github.com/hxen-project/hxen/hv/xenabi"
)

// State is a store and its guest's connection at rest. It comes out of a file,
// and Restore checks all of it. Clients are not in it: back ends connect again.
type State struct {
	Gen   uint64
	Nodes []NodeState // parents before children, the root first
	Ring  RingState
}

// NodeState is one node. Gen and Kids are what open transactions rely on.
type NodeState struct {
	Path      string
	Value     []byte `json:",omitempty"`
	Perms     []Perm
	Gen, Kids uint64
}

// RingState is a guest's connection. What the guest has named may be any bytes.
type RingState struct {
	Watches      []WatchState
	Events       []EventState
	LastTx       uint32
	Transactions []TxState
	In, Out      []byte
	Failed       bool
}

// WatchState is a watch of the guest's.
type WatchState struct {
	Path, Token []byte
	Relative    bool
}

// EventState is an event that the guest has not been told yet.
type EventState struct{ Path, Token []byte }

// TxState is an open transaction: what it has changed, in order, and what it
// relies on, by path.
type TxState struct {
	ID      uint32
	Changes []ChangeState
	Seen    map[string]SeenState
	Doomed  bool
}

// ChangeState is one change of a transaction.
type ChangeState struct {
	Op    uint8
	Path  string
	Value []byte
	Perms []Perm
}

// SeenState is what a transaction saw of a node.
type SeenState struct{ Gen, Kids uint64 }

// Hold has the ring stand still between two steps and tells its state and the
// store's, until release is called. Clients should stand still as well.
func (r *Ring) Hold() (s State, release func()) {
	r.mu.Lock()
	store := r.conn.store
	store.mu.Lock()
	defer store.mu.Unlock()
	s.Gen = store.gen
	store.root.save("/", &s.Nodes)
	s.Ring = RingState{LastTx: r.conn.lastTx, In: slices.Clone(r.in), Out: slices.Clone(r.out), Failed: r.failed}
	for _, w := range r.conn.watches {
		s.Ring.Watches = append(s.Ring.Watches, WatchState{[]byte(w.path), []byte(w.token), w.relative})
	}
	for _, e := range r.conn.events {
		s.Ring.Events = append(s.Ring.Events, EventState{[]byte(e.path), []byte(e.token)})
	}
	for _, id := range slices.Sorted(maps.Keys(r.conn.txs)) {
		s.Ring.Transactions = append(s.Ring.Transactions, r.conn.txs[id].save(id))
	}
	return s, r.mu.Unlock
}

func (n *node) save(path string, out *[]NodeState) {
	*out = append(*out, NodeState{path, n.value, n.perms, n.gen, n.kids})
	for _, name := range slices.Sorted(maps.Keys(n.children)) {
		n.children[name].save(strings.TrimSuffix(path, "/")+"/"+name, out)
	}
}

func (t *transaction) save(id uint32) TxState {
	s := TxState{ID: id, Seen: map[string]SeenState{}, Doomed: t.doomed}
	for path, seen := range t.seen {
		s.Seen[path] = SeenState{seen.gen, seen.kids}
	}
	for _, c := range t.changes {
		s.Changes = append(s.Changes, ChangeState{c.op, c.path, c.value, c.perms})
	}
	return s
}

var errSaved = errors.New("the saved XenStore is damaged")

// Restore makes the store that s was, without its connections.
func Restore(quota Quota, s State) (*Store, error) {
	store := New(quota)
	if len(s.Nodes) == 0 || s.Nodes[0].Path != "/" {
		return nil, errSaved
	}
	store.gen, store.owned = s.Gen, map[int]int{}
	for i, n := range s.Nodes {
		names, err := split(n.Path)
		if err != nil || len(n.Perms) == 0 || (i > 0) != (len(names) > 0) || len(n.Value) > xenabi.XENSTORE_PAYLOAD_MAX {
			return nil, errSaved
		}
		made := &node{value: n.Value, perms: n.Perms, gen: n.Gen, kids: n.Kids}
		store.owned[n.Perms[0].Domid]++
		if i == 0 {
			store.root = made
			continue
		}
		parent, name := store.root, names[len(names)-1]
		for _, above := range names[:len(names)-1] {
			if parent = parent.children[above]; parent == nil {
				return nil, errSaved
			}
		}
		if parent.children[name] != nil {
			return nil, errSaved
		}
		if parent.children == nil {
			parent.children = map[string]*node{}
		}
		parent.children[name] = made
	}
	return store, nil
}

// RestoreRing makes the server's end of a guest's ring that goes on as it was
// saved. No watch fires.
func (s *Store) RestoreRing(domid int, page guestmem.Page, notify func(), st RingState) (*Ring, error) {
	q := s.quota
	if len(st.Watches) > q.Watches || len(st.Events) > q.Events || len(st.Transactions) > q.Transactions ||
		len(st.In) > 2*maxOut || len(st.Out) > 2*maxOut {
		return nil, errSaved
	}
	r := &Ring{page: page, notify: notify, wake: make(chan struct{}, 1), in: st.In, out: st.Out, failed: st.Failed}
	r.conn = s.connect(domid, r.Kick)
	s.mu.Lock()
	defer s.mu.Unlock()
	c := r.conn
	c.lastTx = st.LastTx
	for _, w := range st.Watches {
		_, err := split(string(w.Path))
		if err != nil && !bytes.HasPrefix(w.Path, []byte("@")) || len(w.Path)+len(w.Token) > xenabi.XENSTORE_PAYLOAD_MAX {
			return nil, errSaved
		}
		c.watches = append(c.watches, &watch{path: string(w.Path), token: string(w.Token), relative: w.Relative})
	}
	for _, e := range st.Events {
		ev := event{string(e.Path), string(e.Token)}
		c.events, c.queued[ev] = append(c.events, ev), struct{}{}
	}
	for _, t := range st.Transactions {
		if t.ID == 0 || len(t.Changes)+len(t.Seen) > 2*q.Nodes {
			return nil, errSaved
		}
		tx, err := s.restoreLocked(domid, t)
		if err != nil {
			return nil, fmt.Errorf("transaction %d: %w", t.ID, err)
		}
		c.txs[t.ID] = tx
	}
	r.Kick()
	return r, nil
}

// restoreLocked makes an open transaction anew: it begins now and makes its
// changes again, and what it had seen must still be so at its end. One whose
// changes cannot be made any more is in conflict.
func (s *Store) restoreLocked(domid int, st TxState) (*transaction, error) {
	t := s.beginLocked()
	t.doomed = st.Doomed
	for _, c := range st.Changes {
		if _, err := split(c.Path); err != nil || c.Op > opPerms || len(c.Value) > xenabi.XENSTORE_PAYLOAD_MAX {
			return nil, errSaved
		}
		if t.do(change{domid: domid, path: c.Path, op: c.Op, value: c.Value, perms: c.Perms}) != nil {
			t.doomed = true
		}
	}
	clear(t.seen)
	for path, seen := range st.Seen {
		if _, err := split(path); err != nil {
			return nil, errSaved
		}
		t.seen[path] = stamp{seen.Gen, seen.Kids}
	}
	return t, nil
}
