package xenstore

import (
	"maps"
	"strings"
)

// transaction is a conn's isolated view: it sees the tree as it was at its
// start plus its own changes, which become real all at once or not at all.
type transaction struct {
	view
	doomed bool // in conflict, whatever it has seen
}

// viewLocked is the store itself as a view; publishLocked makes its changes real.
func (s *Store) viewLocked() *view {
	s.gen++
	return &view{root: s.root, gen: s.gen, owned: s.owned, quota: &s.quota}
}

func (s *Store) beginLocked() *transaction {
	// Stamps made inside are never compared with others: a commit repeats the
	// changes with a stamp of its own.
	return &transaction{view: view{root: s.root, base: s.root, gen: s.gen, owned: maps.Clone(s.owned), quota: &s.quota, seen: map[string]stamp{}}}
}

// doLocked makes one change outside any transaction.
func (s *Store) doLocked(c change) error {
	v := s.viewLocked()
	if err := v.do(c); err != nil {
		return err
	}
	s.publishLocked(v)
	return nil
}

// endLocked makes a transaction's changes real, or EAGAIN: something that it
// has looked at is not as it was.
func (s *Store) endLocked(t *transaction) error {
	if t.doomed {
		return EAGAIN
	}
	now := &view{root: s.root}
	for path, then := range t.seen {
		n, _, err := now.find(path)
		switch {
		case err != nil:
			return err
		case n == nil && then.gen != 0, n != nil && then.gen != n.gen, n != nil && then.kids != 0 && then.kids != n.kids:
			return EAGAIN
		}
	}
	v := s.viewLocked()
	v.owned = maps.Clone(s.owned)
	for _, c := range t.changes {
		c.readers = nil
		if err := v.do(c); err != nil {
			return err // the quota, used up meanwhile
		}
	}
	s.owned = v.owned
	s.publishLocked(v)
	return nil
}

// publishLocked makes v the tree and fires the watches of its changes, in
// their order, from the state that is now committed.
func (s *Store) publishLocked(v *view) {
	s.root = v.root
	for _, c := range v.changes {
		for conn := range s.conns {
			for _, w := range conn.watches {
				s.fireLocked(conn, w, c)
			}
		}
	}
}

// fireLocked tells a watch of a change at its node or below, and of the
// removal of a node above. A guest is told only of what it may read, or might
// have read (XSA-115).
func (s *Store) fireLocked(conn *conn, w *watch, c change) {
	switch {
	case within(c.path, w.path):
		n := c.readers
		if n == nil {
			var above *node
			if n, above, _ = (&view{root: s.root}).find(c.path); n == nil {
				n = above // removed again by a later change of the same transaction
			}
		}
		if n != nil && n.may(conn.domid, false) {
			conn.eventLocked(w, c.path)
		}
	case c.op == opRemove && within(w.path, c.path):
		n := c.readers
		for _, name := range strings.Split(w.path[len(c.path)+1:], "/") {
			if n = n.children[name]; n == nil {
				return
			}
		}
		if n.may(conn.domid, false) {
			conn.eventLocked(w, w.path)
		}
	}
}

// within reports whether path is root or below it.
func within(path, root string) bool {
	return root == "/" || strings.HasPrefix(path, root) && (len(path) == len(root) || path[len(root)] == '/')
}
