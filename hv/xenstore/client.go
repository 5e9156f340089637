package xenstore

import (
	"errors"
	"fmt"
	"slices"
	"sync"
)

// Client is domain 0 in this process: the back ends and who sets devices up.
type Client struct{ conn *conn }

// NewClient connects as domain 0. Close it to end its watches.
func (s *Store) NewClient() *Client {
	return &Client{s.connect(0, func() {})}
}

// Close ends the client's watches.
func (c *Client) Close() { c.conn.close() }

// Tx is the tree as one transaction, or one operation, sees it.
type Tx struct {
	domid int
	view  *view
}

func named(verb, path string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s: %w", verb, path, err)
}

// Read is a node's value.
func (t *Tx) Read(path string) (string, error) {
	b, err := t.view.read(t.domid, path)
	return string(b), named("read", path, err)
}

// Directory lists a node's children.
func (t *Tx) Directory(path string) ([]string, error) {
	names, _, err := t.view.directory(t.domid, path)
	return names, named("list", path, err)
}

// Permissions are a node's permissions.
func (t *Tx) Permissions(path string) ([]Perm, error) {
	p, err := t.view.permissions(t.domid, path)
	return slices.Clone(p), named("read the permissions of", path, err)
}

// Write sets a node's value and makes it and its parents where they are missing.
func (t *Tx) Write(path, value string) error {
	return named("write", path, t.view.do(change{domid: t.domid, path: path, op: opWrite, value: []byte(value)}))
}

// Remove removes a node with all below it; it need not be there, but its parent.
func (t *Tx) Remove(path string) error {
	return named("remove", path, t.view.do(change{domid: t.domid, path: path, op: opRemove}))
}

// SetPermissions replaces a node's permissions.
func (t *Tx) SetPermissions(path string, perms ...Perm) error {
	return named("set the permissions of", path, t.view.do(change{domid: t.domid, path: path, op: opPerms, perms: perms}))
}

// maxTries bounds how often a transaction is begun anew; guests that write
// without end could otherwise hold a back end for ever.
const maxTries = 100

// Do runs f in a transaction, again if it came into conflict, and makes its
// changes real at once. If f fails nothing changes.
func (c *Client) Do(f func(*Tx) error) error {
	s := c.conn.store
	for range maxTries {
		s.mu.Lock()
		t := s.beginLocked()
		s.mu.Unlock()
		if err := f(&Tx{0, &t.view}); err != nil {
			return err
		}
		s.mu.Lock()
		err := s.endLocked(t)
		s.mu.Unlock()
		if !errors.Is(err, EAGAIN) {
			return named("commit", "a transaction", err)
		}
	}
	return fmt.Errorf("commit a transaction: %d times in conflict: %w", maxTries, EAGAIN)
}

// Read is a node's committed value.
func (c *Client) Read(path string) (string, error) {
	s := c.conn.store
	s.mu.Lock()
	defer s.mu.Unlock()
	return (&Tx{0, &view{root: s.root}}).Read(path)
}

// Directory lists a node's children.
func (c *Client) Directory(path string) ([]string, error) {
	s := c.conn.store
	s.mu.Lock()
	defer s.mu.Unlock()
	return (&Tx{0, &view{root: s.root}}).Directory(path)
}

// Write sets one node.
func (c *Client) Write(path, value string) error {
	return c.Do(func(t *Tx) error { return t.Write(path, value) })
}

// Remove removes a node with all below it.
func (c *Client) Remove(path string) error {
	return c.Do(func(t *Tx) error { return t.Remove(path) })
}

// Watch tells of changes at a node and below it, and of the node's removal
// with one above. It fires once at first. C has an element when Paths has
// something new; changes are committed before.
type Watch struct {
	C <-chan struct{}

	client *Client
	w      *watch

	mu    sync.Mutex
	paths []string // guarded by mu; each once
}

// maxPaths bounds a Watch's memory: beyond it only the watched path itself is
// told, which says that anything below may have changed.
const maxPaths = 256

// Watch begins to watch path, which may also be @introduceDomain or @releaseDomain.
func (c *Client) Watch(path string) (*Watch, error) {
	if path == "" || path[0] != '@' {
		if _, err := split(path); err != nil {
			return nil, named("watch", path, err)
		}
	}
	signal := make(chan struct{}, 1)
	w := &Watch{C: signal, client: c}
	w.w = &watch{path: path, sink: func(changed string) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if len(w.paths) >= maxPaths {
			w.paths = append(w.paths[:0], path)
		}
		if !slices.Contains(w.paths, changed) {
			w.paths = append(w.paths, changed)
		}
		select {
		case signal <- struct{}{}:
		default:
		}
	}}
	c.conn.store.mu.Lock()
	defer c.conn.store.mu.Unlock()
	return w, c.conn.addWatchLocked(w.w)
}

// Paths takes the paths that have changed since the last call.
func (w *Watch) Paths() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.paths
	w.paths = nil
	return p
}

// Close ends the watch; C stays silent.
func (w *Watch) Close() {
	s := w.client.conn.store
	s.mu.Lock()
	defer s.mu.Unlock()
	c := w.client.conn
	c.watches = slices.DeleteFunc(slices.Clone(c.watches), func(x *watch) bool { return x == w.w })
}
