// Package xenstore is XenStore: the tree through which a guest's front ends and
// our back ends find each other, with permissions, quotas, isolated
// transactions and watches, after docs/misc/xenstore.txt and xenstore-ring.txt.
// A guest reaches it through a ring page (Ring), back ends in this process
// through Client.
//
// It does not know what the nodes mean, except for those that every domain has
// from its start (Introduce). It knows nothing of event channels: a Ring is
// kicked, and kicks by a function.
package xenstore

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/hxen-project/hxen/hv/xenabi"
)

// Errno is an error of XenStore's protocol, as it is on the wire.
type Errno string

func (e Errno) Error() string { return "XenStore: " + string(e) }

// The errors of xs_wire.h that occur.
const (
	EINVAL Errno = "EINVAL"
	EACCES Errno = "EACCES"
	EEXIST Errno = "EEXIST"
	ENOENT Errno = "ENOENT"
	ENOSPC Errno = "ENOSPC"
	ENOSYS Errno = "ENOSYS"
	EBUSY  Errno = "EBUSY"
	EAGAIN Errno = "EAGAIN"
	E2BIG  Errno = "E2BIG"
	EPERM  Errno = "EPERM"
)

// Quota bounds what an unprivileged domain can make us hold. The defaults are
// xenstored's.
type Quota struct {
	Nodes, ValueSize, Perms, Watches, Transactions, Events int
}

// DefaultQuota is xenstored's, and a bound for events that a guest does not read.
var DefaultQuota = Quota{Nodes: 1000, ValueSize: 2048, Perms: 5, Watches: 128, Transactions: 10, Events: 1024}

// Perm is one entry of a node's permissions; the first names the owner and
// what those who are not listed may do.
type Perm struct {
	Domid       int
	Read, Write bool
}

func (p Perm) String() string {
	return string("nwrb"[b2i(p.Write)|b2i(p.Read)<<1]) + strconv.Itoa(p.Domid)
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

func parsePerm(s string) (Perm, error) {
	if len(s) < 2 || s[1] < '0' || s[1] > '9' {
		return Perm{}, EINVAL
	}
	id, err := strconv.ParseUint(s[1:], 10, 16)
	if err != nil || id >= xenabi.DOMID_FIRST_RESERVED {
		return Perm{}, EINVAL
	}
	p := Perm{Domid: int(id)}
	switch s[0] {
	case 'n':
	case 'r':
		p.Read = true
	case 'w':
		p.Write = true
	case 'b':
		p.Read, p.Write = true, true
	default:
		return Perm{}, EINVAL
	}
	return p, nil
}

// node is a node of a tree. Nodes that a root has been published with are
// never changed: a writer clones the path from the root down, so a snapshot is
// one pointer.
type node struct {
	value    []byte
	perms    []Perm
	children map[string]*node
	gen      uint64 // when value or perms changed last
	kids     uint64 // when a child came or went
}

func (n *node) clone() *node {
	c := *n
	c.children = maps.Clone(n.children)
	return &c
}

func (n *node) may(domid int, write bool) bool {
	if domid == 0 || n.perms[0].Domid == domid {
		return true
	}
	p := n.perms[0]
	for _, q := range n.perms[1:] {
		if q.Domid == domid {
			p = q
			break
		}
	}
	if write {
		return p.Write
	}
	return p.Read
}

func (n *node) count(owners map[int]int, delta int) {
	owners[n.perms[0].Domid] += delta
	for _, c := range n.children {
		c.count(owners, delta)
	}
}

// Store is one tree and who uses it.
type Store struct {
	quota Quota

	mu    sync.Mutex
	root  *node       // guarded by mu; replaced, never changed
	gen   uint64      // guarded by mu
	owned map[int]int // guarded by mu; nodes by owner
	conns map[*conn]struct{}
}

// New makes a store with the root alone.
func New(quota Quota) *Store {
	s := &Store{quota: quota, gen: 1, owned: map[int]int{0: 1}, conns: map[*conn]struct{}{}}
	s.root = &node{perms: []Perm{{Domid: 0}}, gen: 1, kids: 1}
	return s
}

// split checks an absolute path and cuts it into names.
func split(path string) ([]string, error) {
	if path == "/" {
		return nil, nil
	}
	if len(path) == 0 || len(path) > xenabi.XENSTORE_ABS_PATH_MAX || path[0] != '/' || path[len(path)-1] == '/' || strings.Contains(path, "//") {
		return nil, EINVAL
	}
	for i := range len(path) {
		switch c := path[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte("-/_@", c) >= 0:
		default:
			return nil, EINVAL
		}
	}
	return strings.Split(path[1:], "/"), nil
}

// Home is a domain's own part of the tree.
func Home(domid int) string { return "/local/domain/" + strconv.Itoa(domid) }

// absolute makes a path absolute as a domain means it.
func absolute(domid int, path string) (string, error) {
	if !strings.HasPrefix(path, "/") {
		if len(path) == 0 || len(path) > xenabi.XENSTORE_REL_PATH_MAX {
			return "", EINVAL
		}
		path = Home(domid) + "/" + path
	}
	_, err := split(path)
	return path, err
}

// view is a tree as one reader or writer sees it: the store's own or a
// transaction's.
type view struct {
	root    *node
	gen     uint64 // stamps what is changed
	owned   map[int]int
	quota   *Quota
	changes []change
	base    *node            // transactions only: the tree at the start
	seen    map[string]stamp // transactions only: what was relied on, by path
}

// change is a write that has been made, for watches and for a commit to repeat.
type change struct {
	domid   int
	path    string
	op      uint8 // opWrite ...
	value   []byte
	perms   []Perm
	readers *node // of a removed node: what it was
}

const (
	opWrite = iota
	opMkdir
	opRemove
	opPerms
)

type stamp struct{ gen, kids uint64 }

// find returns the node at path, or nil and the nearest node above it.
func (v *view) find(path string) (n, above *node, err error) {
	names, err := split(path)
	if err != nil {
		return nil, nil, err
	}
	n = v.root
	for i, name := range names {
		next := n.children[name]
		if next == nil {
			v.note("/"+strings.Join(names[:i+1], "/"), false)
			return nil, n, nil
		}
		n = next
	}
	return n, n, nil
}

// note records for a commit what a transaction has relied on, as it was at the
// transaction's start.
func (v *view) note(path string, kids bool) {
	if v.seen == nil {
		return
	}
	s, known := v.seen[path]
	if known && (!kids || s.kids != 0) {
		return
	}
	if n, _, _ := (&view{root: v.base}).find(path); n != nil {
		s.gen = n.gen
		if kids {
			s.kids = n.kids
		}
	}
	v.seen[path] = s
}

// get finds a node that domid may read or write. What it may not know about
// is refused, not denied to be.
func (v *view) get(domid int, path string, write bool) (*node, error) {
	n, above, err := v.find(path)
	if err != nil {
		return nil, err
	}
	if n == nil {
		if !above.may(domid, write) {
			return nil, EACCES
		}
		return nil, ENOENT
	}
	v.note(path, false)
	if !n.may(domid, write) {
		return nil, EACCES
	}
	return n, nil
}

func (v *view) read(domid int, path string) ([]byte, error) {
	n, err := v.get(domid, path, false)
	if err != nil {
		return nil, err
	}
	return n.value, nil
}

func (v *view) directory(domid int, path string) (names []string, kids uint64, err error) {
	n, err := v.get(domid, path, false)
	if err != nil {
		return nil, 0, err
	}
	v.note(path, true)
	return slices.Sorted(maps.Keys(n.children)), n.kids, nil
}

func (v *view) permissions(domid int, path string) ([]Perm, error) {
	n, err := v.get(domid, path, false)
	if err != nil {
		return nil, err
	}
	return n.perms, nil
}

// do makes a change, or says why not and leaves the view as it was.
func (v *view) do(c change) error {
	var err error
	switch c.op {
	case opWrite:
		err = v.write(&c)
	case opMkdir:
		var n *node
		if n, err = v.get(c.domid, c.path, true); n != nil {
			return nil // is there already
		}
		if err == ENOENT {
			err = v.create(&c)
		}
	case opRemove:
		err = v.remove(&c)
		if err == nil && c.readers == nil {
			return nil // was not there
		}
	case opPerms:
		err = v.setPerms(&c)
	}
	if err == nil {
		v.changes = append(v.changes, c)
	}
	return err
}

func (v *view) write(c *change) error {
	if c.domid != 0 && len(c.value) > v.quota.ValueSize {
		return ENOSPC
	}
	_, err := v.get(c.domid, c.path, true)
	if err == ENOENT {
		return v.create(c)
	}
	if err != nil {
		return err
	}
	n := v.own(c.path)
	n.value, n.gen = c.value, v.gen
	return nil
}

// create makes the node and those missing above it. Children get their
// parent's permissions, and a guest owns what it makes.
func (v *view) create(c *change) error {
	names, err := split(c.path)
	if err != nil {
		return err
	}
	depth, n := 0, v.root
	for depth < len(names) && n.children[names[depth]] != nil {
		n, depth = n.children[names[depth]], depth+1
	}
	perms := slices.Clone(n.perms)
	if c.domid != 0 {
		perms[0].Domid = c.domid
		if v.owned[c.domid]+len(names)-depth > v.quota.Nodes {
			return ENOSPC
		}
	}
	v.owned[perms[0].Domid] += len(names) - depth
	n = v.own("/" + strings.Join(names[:depth], "/"))
	for ; depth < len(names); depth++ {
		child := &node{perms: perms, gen: v.gen, kids: v.gen}
		if n.children == nil {
			n.children = map[string]*node{}
		}
		n.children[names[depth]], n.kids = child, v.gen
		n = child
	}
	n.value = c.value
	return nil
}

func (v *view) remove(c *change) error {
	n, err := v.get(c.domid, c.path, true)
	if err == ENOENT {
		// Removing what is not there is fine if its parent is.
		if parent, _, _ := v.find(c.path[:max(1, strings.LastIndexByte(c.path, '/'))]); parent == nil {
			return ENOENT
		}
		return nil
	}
	if err != nil {
		return err
	}
	cut := strings.LastIndexByte(c.path, '/')
	if c.path == "/" {
		return EINVAL
	}
	c.readers = n
	n.count(v.owned, -1)
	parent := v.own(c.path[:max(1, cut)])
	delete(parent.children, c.path[cut+1:])
	parent.kids = v.gen
	return nil
}

func (v *view) setPerms(c *change) error {
	n, err := v.get(c.domid, c.path, true)
	switch {
	case err != nil:
		return err
	case len(c.perms) == 0:
		return EINVAL
	case c.domid != 0 && len(c.perms) > v.quota.Perms:
		return ENOSPC
	case c.domid != 0 && n.perms[0].Domid != c.domid:
		return EACCES
	case c.domid != 0 && c.perms[0].Domid != c.domid:
		return EPERM
	}
	v.owned[n.perms[0].Domid]--
	v.owned[c.perms[0].Domid]++
	n = v.own(c.path)
	n.perms, n.gen = slices.Clone(c.perms), v.gen
	return nil
}

// own clones the way to an existing node and returns its clone, to be changed.
func (v *view) own(path string) *node {
	v.root = v.root.clone()
	n := v.root
	names, _ := split(path)
	for _, name := range names {
		child := n.children[name].clone()
		n.children[name] = child
		n = child
	}
	return n
}
