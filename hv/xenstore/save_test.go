package xenstore

import (
	"encoding/json"
	"reflect"
	"slices"
	"testing"

	"github.com/hxen-project/hxen/hv/xenabi"
)

// through is a state's way through a file.
func through(t testing.TB, s State) (out State) {
	t.Helper()
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// carry saves a ring's store and restores both over the same page.
func (g *ringGuest) carry(t testing.TB) (*Store, *Ring) {
	t.Helper()
	s, release := g.ring.Hold()
	defer release()
	s = through(t, s)
	store, err := Restore(DefaultQuota, s)
	if err != nil {
		t.Fatal(err)
	}
	ring, err := store.RestoreRing(1, g.page, func() {}, s.Ring)
	if err != nil {
		t.Fatal(err)
	}
	return store, ring
}

// TestSave has a guest go on in another store: its nodes, watches, unread
// events, open transactions and half a request.
func TestSave(t *testing.T) {
	s, c := newStore(t)
	g := newRing(t, s)
	old := guest{t, g.ring.conn}
	old.ask(xenabi.XS_WATCH, 0, "data|tok\xff|")
	old.ask(xenabi.XS_WRITE, 0, "data/x|1\xfe")
	good, bad := old.begin(), old.begin()
	for tx, name := range map[uint32]string{good: "good", bad: "bad"} {
		old.ask(xenabi.XS_READ, tx, "data/"+name+"|")
		old.ask(xenabi.XS_WRITE, tx, "data/"+name+"|new")
	}
	if err := c.Write(Home(1)+"/data/bad", "other"); err != nil {
		t.Fatal(err)
	}
	request := appendMessage(nil, xenabi.XS_READ, 7, 0, []byte("domid\x00"))
	g.put(request[:20])
	for g.ring.step() {
	}

	store, ring := g.carry(t)
	g.take() // what the old one had sent
	fresh := guest{t, ring.conn}
	if got := fresh.ask(xenabi.XS_READ, 0, "data/x|"); got != "1\xfe" {
		t.Errorf("data/x is %q", got)
	}
	if got := fresh.ask(xenabi.XS_READ, good, "data/good|"); got != "new" {
		t.Errorf("inside its transaction data/good is %q", got)
	}
	if got := fresh.ask(xenabi.XS_TRANSACTION_END, good, "T|"); got != "OK|" {
		t.Errorf("the transaction without conflict ended with %q", got)
	}
	if got := fresh.ask(xenabi.XS_TRANSACTION_END, bad, "T|"); got != "EAGAIN" {
		t.Errorf("the transaction in conflict ended with %q", got)
	}
	if events := fresh.takeEvents(); !slices.Equal(events, []string{"data/good|tok\xff|"}) {
		t.Errorf("events %q", events)
	}
	g.put(request[20:])
	for ring.step() {
	}
	if got, want := g.take(), appendMessage(nil, xenabi.XS_READ, 7, 0, []byte("1")); !slices.Equal(got, want) {
		t.Errorf("half a request was answered %q, want %q", got, want)
	}
	if !reflect.DeepEqual(store.owned, count(store)) {
		t.Errorf("owners %v, nodes %v", store.owned, count(store))
	}
}

func count(s *Store) map[int]int {
	owned := map[int]int{}
	s.root.count(owned, 1)
	return owned
}

// TestRestoreRefuses: a damaged state is an error, not a panic.
func TestRestoreRefuses(t *testing.T) {
	s, _ := newStore(t)
	g := newRing(t, s)
	old := guest{t, g.ring.conn}
	tx := old.begin()
	old.ask(xenabi.XS_WRITE, tx, "data/x|1")
	whole, release := g.ring.Hold()
	release()
	for what, damage := range map[string]func(*State){
		"no root":         func(s *State) { s.Nodes = s.Nodes[1:] },
		"two roots":       func(s *State) { s.Nodes[1].Path = "/" },
		"no permissions":  func(s *State) { s.Nodes[2].Perms = nil },
		"no parent":       func(s *State) { s.Nodes[1].Path = "/a/b/c" },
		"twice":           func(s *State) { s.Nodes[2].Path = s.Nodes[1].Path },
		"no path":         func(s *State) { s.Nodes[2].Path = "x" },
		"a wild watch":    func(s *State) { s.Ring.Watches = []WatchState{{Path: []byte("//")}} },
		"many watches":    func(s *State) { s.Ring.Watches = make([]WatchState, 1000) },
		"transaction 0":   func(s *State) { s.Ring.Transactions[0].ID = 0 },
		"a wild change":   func(s *State) { s.Ring.Transactions[0].Changes[0].Op = 9 },
		"a wild sighting": func(s *State) { s.Ring.Transactions[0].Seen["x"] = SeenState{} },
	} {
		bad := through(t, whole)
		damage(&bad)
		store, err := Restore(DefaultQuota, bad)
		if err == nil {
			_, err = store.RestoreRing(1, g.page, func() {}, bad.Ring)
		}
		if err == nil {
			t.Errorf("%s: restored", what)
		}
	}
}
