package xenstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hxen-project/hxen/hv/guestmem"
	"github.com/hxen-project/hxen/hv/xenabi"
)

func newStore(t testing.TB) (*Store, *Client) {
	t.Helper()
	s := New(DefaultQuota)
	c := s.NewClient()
	if err := c.Introduce(DomainConfig{Domid: 1, UUID: "u-1", Name: "one", MemoryKiB: 4096, VCPUs: 2, StorePort: 1, StoreGFN: 0xfc020, ConsolePort: 2, ConsoleGFN: 0xfc021}); err != nil {
		t.Fatal(err)
	}
	return s, c
}

// guest speaks the wire protocol's payloads without a ring.
type guest struct {
	testing.TB
	*conn
}

func (s *Store) guest(t testing.TB, domid int) guest {
	return guest{t, s.connect(domid, func() {})}
}

// ask sends a request, "|" standing for NUL, and returns the answer likewise.
func (g guest) ask(typ, tx uint32, payload string) string {
	g.Helper()
	reply, err := g.handle(typ, tx, []byte(strings.ReplaceAll(payload, "|", "\x00")))
	if err != nil {
		return wireError(err)
	}
	return strings.ReplaceAll(string(reply), "\x00", "|")
}

func (g guest) takeEvents() (out []string) {
	for {
		p, ok := g.takeEvent()
		if !ok {
			return out
		}
		out = append(out, strings.ReplaceAll(string(p), "\x00", "|"))
	}
}

func (g guest) begin() uint32 {
	g.Helper()
	var id uint32
	if _, err := fmt.Sscanf(g.ask(xenabi.XS_TRANSACTION_START, 0, "|"), "%d|", &id); err != nil || id == 0 {
		g.Fatal("no transaction", err)
	}
	return id
}

// TestLinuxAtBoot is what Linux asks first, and what it is answered.
func TestLinuxAtBoot(t *testing.T) {
	s, c := newStore(t)
	if err := c.AddDevice(Device{Domid: 1, Type: "vbd", ID: 51712, Front: map[string]string{"virtual-device": "51712"}, Back: map[string]string{"dev": "xvda"}}); err != nil {
		t.Fatal(err)
	}
	g := s.guest(t, 1)
	for _, q := range []struct {
		typ           uint32
		payload, want string
	}{
		{xenabi.XS_READ, "control/platform-feature-xs_reset_watches|", "1"},
		{xenabi.XS_RESET_WATCHES, "|", "OK|"},
		{xenabi.XS_WATCH, "memory/target|t1|", "OK|"},
		{xenabi.XS_READ, "memory/target|", "4096"},
		{xenabi.XS_READ, "memory/static-max|", "4096"},
		{xenabi.XS_WATCH, "control/shutdown|t2|", "OK|"},
		{xenabi.XS_READ, "control/shutdown|", ""},
		{xenabi.XS_WRITE, "control/feature-poweroff|1", "OK|"},
		{xenabi.XS_WRITE, "control/feature-suspend|1", "OK|"},
		{xenabi.XS_DIRECTORY, "backend|", "ENOENT"},
		{xenabi.XS_DIRECTORY, "device|", "vbd|"},
		{xenabi.XS_DIRECTORY, "device/vbd|", "51712|"},
		{xenabi.XS_READ, "device/vbd/51712/backend|", "/local/domain/0/backend/vbd/1/51712"},
		{xenabi.XS_READ, "/local/domain/0/backend/vbd/1/51712/state|", "2"},
		{xenabi.XS_READ, "device/vbd/51712/state|", "1"},
		{xenabi.XS_DIRECTORY, "cpu|", "0|1|"},
		{xenabi.XS_READ, "cpu/1/availability|", "online"},
		{xenabi.XS_GET_DOMAIN_PATH, "1|", "/local/domain/1|"},
		{xenabi.XS_GET_PERMS, "device/vbd/51712|", "n1|r0|"},
		{xenabi.XS_READ, "domid|", "1"},
	} {
		if got := g.ask(q.typ, 0, q.payload); got != q.want {
			t.Errorf("%d %s: %q, want %q", q.typ, q.payload, got, q.want)
		}
	}
	if got := g.takeEvents(); !slices.Equal(got, []string{"memory/target|t1|", "control/shutdown|t2|"}) {
		t.Errorf("first events: %q", got)
	}
	if err := c.Write(Home(1)+"/control/shutdown", "poweroff"); err != nil {
		t.Fatal(err)
	}
	if got := g.takeEvents(); !slices.Equal(got, []string{"control/shutdown|t2|"}) {
		t.Errorf("shutdown request: %q", got)
	}
	tx := g.begin()
	if got := g.ask(xenabi.XS_READ, tx, "control/shutdown|"); got != "poweroff" {
		t.Error(got)
	}
	g.ask(xenabi.XS_WRITE, tx, "control/shutdown|")
	if got := g.ask(xenabi.XS_TRANSACTION_END, tx, "T|"); got != "OK|" {
		t.Error(got)
	}
	if v, err := c.Read(Home(1) + "/control/shutdown"); v != "" || err != nil {
		t.Errorf("%q, %v", v, err)
	}
}

func TestPermissions(t *testing.T) {
	s, c := newStore(t)
	if err := c.Write("/secret/key", "x"); err != nil {
		t.Fatal(err)
	}
	g := s.guest(t, 1)
	for _, q := range []struct {
		typ           uint32
		payload, want string
	}{
		{xenabi.XS_READ, "/secret/key|", "EACCES"},
		{xenabi.XS_READ, "/secret/nothing|", "EACCES"}, // not ENOENT: it may not know
		{xenabi.XS_WRITE, "name|evil", "EACCES"},
		{xenabi.XS_WRITE, "new|", "EACCES"},
		{xenabi.XS_RM, "device|", "EACCES"},
		{xenabi.XS_WRITE, "/local/domain/2/x|", "EACCES"},
		{xenabi.XS_MKDIR, "data/a/b/c|", "OK|"},
		{xenabi.XS_GET_PERMS, "data/a/b|", "n1|"},
		{xenabi.XS_MKDIR, "data/a|", "OK|"},
		{xenabi.XS_SET_PERMS, "data/a|n1|r3|", "OK|"},
		{xenabi.XS_GET_PERMS, "data/a|", "n1|r3|"},
		{xenabi.XS_SET_PERMS, "data/a|n2|", "EPERM"},
		{xenabi.XS_SET_PERMS, "data/a|", "EINVAL"},
		{xenabi.XS_SET_PERMS, "data/a|x1|", "EINVAL"},
		{xenabi.XS_SET_PERMS, "data/a|n1|r2|r3|r4|r5|r6|", "ENOSPC"},
		{xenabi.XS_SET_PERMS, "name|n1|", "EACCES"},
		{xenabi.XS_RM, "data/a|", "OK|"},
		{xenabi.XS_RM, "data/a|", "OK|"},
		{xenabi.XS_RM, "data/a/b/c|", "ENOENT"},
		{xenabi.XS_RM, "/|", "EACCES"},
		{xenabi.XS_INTRODUCE, "1|2|3|", "EACCES"},
		{xenabi.XS_CONTROL, "print|", "EACCES"},
		{99, "x|", "ENOSYS"},
		{xenabi.XS_READ, "a//b|", "EINVAL"}, {xenabi.XS_READ, "a/|", "EINVAL"}, {xenabi.XS_READ, "|", "EINVAL"}, {xenabi.XS_READ, "a b|", "EINVAL"},
		{xenabi.XS_READ, "name", "EINVAL"}, {xenabi.XS_READ, "name|more|", "EINVAL"}, {xenabi.XS_READ, "", "EINVAL"},
		{xenabi.XS_READ, strings.Repeat("a", 2049) + "|", "EINVAL"}, {xenabi.XS_READ, "/" + strings.Repeat("a", 3072) + "|", "EINVAL"},
		{xenabi.XS_GET_DOMAIN_PATH, "x|", "EINVAL"},
	} {
		if got := g.ask(q.typ, 0, q.payload); got != q.want {
			t.Errorf("%d %.30s: %q, want %q", q.typ, q.payload, got, q.want)
		}
	}
	other := s.guest(t, 2)
	if got := other.ask(xenabi.XS_READ, 0, "/local/domain/1/name|"); got != "EACCES" {
		t.Errorf("another domain reads ours: %q", got)
	}
	// Watches tell only who may read.
	other.ask(xenabi.XS_WATCH, 0, "/local/domain/1|tok|")
	other.takeEvents()
	g.ask(xenabi.XS_WRITE, 0, "data/x|1")
	if got := other.takeEvents(); got != nil {
		t.Errorf("another domain hears of %q", got)
	}
}

func TestTransactions(t *testing.T) {
	s, c := newStore(t)
	g := s.guest(t, 1)
	g.ask(xenabi.XS_WRITE, 0, "data/a|1")
	w, err := c.Watch(Home(1) + "/data")
	if err != nil {
		t.Fatal(err)
	}
	<-w.C
	w.Paths()

	// Isolation: nothing is seen, and nothing fires, before the commit.
	tx := g.begin()
	g.ask(xenabi.XS_WRITE, tx, "data/a|2")
	g.ask(xenabi.XS_WRITE, tx, "data/new/deep|3")
	if got := g.ask(xenabi.XS_READ, tx, "data/new/deep|"); got != "3" {
		t.Errorf("its own write: %q", got)
	}
	if got := g.ask(xenabi.XS_DIRECTORY, tx, "data/new|"); got != "deep|" {
		t.Errorf("its own directory: %q", got)
	}
	if v, _ := c.Read(Home(1) + "/data/a"); v != "1" || w.Paths() != nil {
		t.Error("an uncommitted write is seen")
	}
	if got := g.ask(xenabi.XS_TRANSACTION_END, tx, "T|"); got != "OK|" {
		t.Fatal(got)
	}
	<-w.C
	if got := w.Paths(); !slices.Equal(got, []string{Home(1) + "/data/a", Home(1) + "/data/new/deep"}) {
		t.Errorf("fired %q", got)
	}
	if v, _ := c.Read(Home(1) + "/data/new/deep"); v != "3" {
		t.Error(v)
	}

	conflicts := []struct {
		name, inside string
		typ          uint32
		outside      func() error
		want         string
	}{
		{"a value it read", "data/a|", xenabi.XS_READ, func() error { return c.Write(Home(1)+"/data/a", "9") }, "EAGAIN"},
		{"a directory it listed", "data|", xenabi.XS_DIRECTORY, func() error { return c.Write(Home(1)+"/data/more", "9") }, "EAGAIN"},
		{"a node it missed", "data/none|", xenabi.XS_READ, func() error { return c.Write(Home(1)+"/data/none", "9") }, "EAGAIN"},
		{"a node that went", "data/none|", xenabi.XS_READ, func() error { return c.Remove(Home(1) + "/data/none") }, "EAGAIN"},
		{"a node it wrote", "data/a|5", xenabi.XS_WRITE, func() error { return c.Write(Home(1)+"/data/a", "9") }, "EAGAIN"},
		{"something else", "data/a|", xenabi.XS_READ, func() error { return c.Write("/elsewhere", "9") }, "OK|"},
	}
	for _, q := range conflicts {
		tx := g.begin()
		g.ask(q.typ, tx, q.inside)
		g.ask(xenabi.XS_WRITE, tx, "data/mark|"+q.name)
		if err := q.outside(); err != nil {
			t.Fatal(err)
		}
		if got := g.ask(xenabi.XS_TRANSACTION_END, tx, "T|"); got != q.want {
			t.Errorf("%s: %q, want %q", q.name, got, q.want)
		}
		if v, _ := c.Read(Home(1) + "/data/mark"); (v == q.name) != (q.want == "OK|") {
			t.Errorf("%s: mark is %q", q.name, v)
		}
	}

	tx = g.begin()
	g.ask(xenabi.XS_WRITE, tx, "data/a|abandoned")
	if got := g.ask(xenabi.XS_TRANSACTION_END, tx, "F|"); got != "OK|" {
		t.Error(got)
	}
	for payload, want := range map[string]string{"T|": "ENOENT", "": "EINVAL"} {
		if got := g.ask(xenabi.XS_TRANSACTION_END, tx, payload); got != want {
			t.Errorf("an ended transaction: %q", got)
		}
	}
	if got := g.ask(xenabi.XS_READ, 12345, "data/a|"); got != "ENOENT" {
		t.Errorf("no such transaction: %q", got)
	}
	if got := g.ask(xenabi.XS_TRANSACTION_START, g.begin(), "|"); got != "EBUSY" {
		t.Errorf("a transaction inside one: %q", got)
	}
	if v, _ := c.Read(Home(1) + "/data/a"); v == "abandoned" {
		t.Error("an aborted write became real")
	}
	boom := errors.New("boom")
	if err := c.Do(func(t *Tx) error { _ = t.Write("/half", "x"); return boom }); err != boom {
		t.Error(err)
	}
	if _, err := c.Read("/half"); !errors.Is(err, ENOENT) {
		t.Errorf("half a transaction is there: %v", err)
	}
}

func TestWatches(t *testing.T) {
	s, c := newStore(t)
	g := s.guest(t, 1)
	for _, w := range []string{"data|rel|", "/local/domain/1/data|abs|", "data/a/b|deep|", "data/other|other|", "@releaseDomain|special|"} {
		if got := g.ask(xenabi.XS_WATCH, 0, w); got != "OK|" {
			t.Fatal(w, got)
		}
	}
	if got := g.ask(xenabi.XS_WATCH, 0, "data|rel|"); got != "EEXIST" {
		t.Error(got)
	}
	if got := g.takeEvents(); len(got) != 5 || got[0] != "data|rel|" || got[1] != "/local/domain/1/data|abs|" {
		t.Errorf("at once: %q", got)
	}
	g.ask(xenabi.XS_WRITE, 0, "data/a/b|1")
	if got := g.takeEvents(); !slices.Equal(got, []string{"data/a/b|rel|", "/local/domain/1/data/a/b|abs|", "data/a/b|deep|"}) {
		t.Errorf("write: %q", got)
	}
	g.ask(xenabi.XS_RM, 0, "data/a|")
	if got := g.takeEvents(); !slices.Equal(got, []string{"data/a|rel|", "/local/domain/1/data/a|abs|", "data/a/b|deep|"}) {
		t.Errorf("removal of an ancestor: %q", got)
	}
	g.ask(xenabi.XS_WRITE, 0, "data/x|1")
	g.ask(xenabi.XS_WRITE, 0, "data/x|2")
	if got := g.takeEvents(); len(got) != 2 {
		t.Errorf("the same event twice is one: %q", got)
	}
	g.ask(xenabi.XS_UNWATCH, 0, "data|rel|")
	if got := g.ask(xenabi.XS_UNWATCH, 0, "data|rel|"); got != "ENOENT" {
		t.Error(got)
	}
	w, _ := c.Watch("@releaseDomain")
	<-w.C
	w.Paths()
	if err := c.Release(1, "u-1"); err != nil {
		t.Fatal(err)
	}
	<-w.C
	if got := w.Paths(); !slices.Equal(got, []string{"@releaseDomain"}) {
		t.Errorf("%q", got)
	}
	for _, e := range g.takeEvents() {
		if strings.HasPrefix(e, "@") {
			t.Error("a guest heard of a domain's release")
		}
	}
	if _, err := c.Read(Home(1) + "/name"); !errors.Is(err, ENOENT) {
		t.Errorf("after release: %v", err)
	}
	g.ask(xenabi.XS_RESET_WATCHES, 0, "|")
	if len(g.watches) != 0 {
		t.Error("watches survive a reset")
	}
	w.Close()
	if _, err := c.Watch("bad path"); err == nil {
		t.Error("watched a bad path")
	}
}

func TestQuotas(t *testing.T) {
	s, c := newStore(t)
	g := s.guest(t, 1)
	if got := g.ask(xenabi.XS_WRITE, 0, "data/big|"+strings.Repeat("x", 2049)); got != "ENOSPC" {
		t.Error(got)
	}
	n := 0
	for ; g.ask(xenabi.XS_WRITE, 0, fmt.Sprintf("data/n%d|", n)) == "OK|"; n++ {
	}
	if n < 900 || n > 1000 {
		t.Errorf("%d nodes", n)
	}
	tx := g.begin()
	if got := g.ask(xenabi.XS_MKDIR, tx, "data/inside|"); got != "ENOSPC" {
		t.Errorf("a transaction gets around the quota: %q", got)
	}
	g.ask(xenabi.XS_RM, 0, "data/n0|")
	if got := g.ask(xenabi.XS_MKDIR, 0, "data/again|"); got != "OK|" {
		t.Errorf("room was not given back: %q", got)
	}
	for i := range 200 {
		want := "OK|"
		if i >= 128 {
			want = "E2BIG"
		}
		if got := g.ask(xenabi.XS_WATCH, 0, fmt.Sprintf("data|%d|", i)); got != want {
			t.Fatalf("watch %d: %q", i, got)
		}
	}
	for i := range 9 {
		if id := g.begin(); id == 0 {
			t.Fatal(i)
		}
	}
	if got := g.ask(xenabi.XS_TRANSACTION_START, 0, "|"); got != "ENOSPC" {
		t.Errorf("an 11th transaction: %q", got)
	}
	for i := range 3000 {
		if got := g.ask(xenabi.XS_READ, 3, fmt.Sprintf("data/missing%d|", i)); got == "ENOSPC" {
			break
		} else if i == 2999 {
			t.Error("a transaction remembers without bound")
		}
	}
	for i := range 100 {
		_ = c.Write(fmt.Sprintf("%s/data/z%d", Home(1), i), "")
	}
	if len(g.events) != DefaultQuota.Events {
		t.Errorf("%d events wait", len(g.events))
	}
	if got := g.ask(xenabi.XS_DIRECTORY, 0, "data|"); got != "E2BIG" {
		t.Error("a list longer than a message")
	}
	var names []string
	for at := 0; ; {
		reply, err := g.handle(xenabi.XS_DIRECTORY_PART, 0, fmt.Appendf(nil, "data\x00%d\x00", at))
		if err != nil || len(reply) > xenabi.XENSTORE_PAYLOAD_MAX {
			t.Fatal(err, len(reply))
		}
		_, list, _ := strings.Cut(string(reply), "\x00")
		rest, last := strings.CutSuffix(list, "\x00\x00")
		if !last {
			at += len(list)
			rest = strings.TrimSuffix(list, "\x00")
		}
		names = append(names, strings.Split(rest, "\x00")...)
		if last {
			break
		}
	}
	all, _ := c.Directory(Home(1) + "/data")
	if !slices.Equal(names, all) {
		t.Errorf("in parts %d names, at once %d", len(names), len(all))
	}
}

// ringGuest is a guest's end of a ring, run step by step.
type ringGuest struct {
	testing.TB
	page  guestmem.Page
	ring  *Ring
	kicks int
}

func newRing(t testing.TB, s *Store) *ringGuest {
	t.Helper()
	m := guestmem.New(guestmem.Config{})
	if err := m.Add(0, guestmem.Host(1)); err != nil {
		t.Fatal(err)
	}
	g := &ringGuest{TB: t}
	g.page, _ = m.Page(0)
	var err error
	if g.ring, err = s.NewRing(1, g.page, func() { g.kicks++ }); err != nil {
		t.Fatal(err)
	}
	return g
}

func (g *ringGuest) get(off int) uint32    { v, _ := g.page.Load32(off); return v }
func (g *ringGuest) set(off int, v uint32) { _ = g.page.Store32(off, v) }

// put writes as much of b as the ring takes.
func (g *ringGuest) put(b []byte) int {
	prod := g.get(xenabi.XenstoreReqProd)
	n := min(len(b), int(1024-(prod-g.get(xenabi.XenstoreReqCons))))
	g.ring.copyRing(xenabi.XenstoreReq, prod, b[:n], g.page.Write)
	g.set(xenabi.XenstoreReqProd, prod+uint32(n))
	return n
}

func (g *ringGuest) take() []byte {
	cons, prod := g.get(xenabi.XenstoreRspCons), g.get(xenabi.XenstoreRspProd)
	b := make([]byte, prod-cons)
	g.ring.copyRing(xenabi.XenstoreRsp, cons, b, g.page.Read)
	g.set(xenabi.XenstoreRspCons, prod)
	return b
}

func TestRing(t *testing.T) {
	s, c := newStore(t)
	g := newRing(t, s)
	for _, off := range []int{xenabi.XenstoreReqCons, xenabi.XenstoreReqProd, xenabi.XenstoreRspCons, xenabi.XenstoreRspProd} {
		g.set(off, ^uint32(0)-500) // indices run freely and wrap
	}
	// A value longer than the ring goes both ways in pieces.
	long := strings.Repeat("0123456789", 200)
	in := appendMessage(nil, xenabi.XS_WRITE, 7, 0, []byte("data/long\x00"+long))
	in = appendMessage(in, xenabi.XS_READ, 8, 0, []byte("data/long\x00"))
	in = appendMessage(in, xenabi.XS_READ, 9, 0, []byte("nothing\x00"))
	var out []byte
	for range 20 {
		in = in[g.put(in):]
		for g.ring.step() {
		}
		out = append(out, g.take()...)
	}
	want := appendMessage(nil, xenabi.XS_WRITE, 7, 0, []byte("OK\x00"))
	want = appendMessage(want, xenabi.XS_READ, 8, 0, []byte(long))
	want = appendMessage(want, xenabi.XS_ERROR, 9, 0, []byte("ENOENT\x00"))
	if string(out) != string(want) {
		t.Fatalf("answers of %d bytes, want %d", len(out), len(want))
	}
	if v, _ := c.Read(Home(1) + "/data/long"); v != long || g.kicks == 0 {
		t.Errorf("%d kicks", g.kicks)
	}
	g.kicks = 0
	if g.ring.step() || g.kicks != 0 {
		t.Error("an idle ring kicks the guest")
	}
}

func TestRingFaults(t *testing.T) {
	s, _ := newStore(t)
	for name, q := range map[string]struct {
		do   func(*ringGuest)
		code uint32
	}{
		"a huge message": {func(g *ringGuest) {
			g.put([]byte{2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0x10, 0, 0})
		}, xenabi.XENSTORE_ERROR_PROTO},
		"a request index out of range": {func(g *ringGuest) { g.set(xenabi.XenstoreReqProd, g.get(xenabi.XenstoreReqCons)+1025) }, xenabi.XENSTORE_ERROR_RINGIDX},
		"an answer index out of range": {func(g *ringGuest) {
			g.set(xenabi.XenstoreRspCons, g.get(xenabi.XenstoreRspProd)+5)
			g.put(appendMessage(nil, xenabi.XS_READ, 1, 0, []byte("name\x00")))
		}, xenabi.XENSTORE_ERROR_RINGIDX},
	} {
		g := newRing(t, s)
		g.put(appendMessage(nil, xenabi.XS_WATCH, 1, 0, []byte("data\x00tok\x00")))
		for g.ring.step() {
		}
		g.take()
		q.do(g)
		for g.ring.step() {
		}
		if got := g.get(xenabi.XenstoreError); got != q.code || !g.ring.failed {
			t.Errorf("%s: error %d, want %d", name, got, q.code)
		}
		g.set(xenabi.XenstoreConnection, xenabi.XENSTORE_RECONNECT)
		for g.ring.step() {
		}
		if g.get(xenabi.XenstoreConnection) != 0 || g.get(xenabi.XenstoreReqProd) != 0 || len(g.ring.conn.watches) != 0 {
			t.Errorf("%s: not reconnected", name)
		}
		g.put(appendMessage(nil, xenabi.XS_READ, 3, 0, []byte("name\x00")))
		for g.ring.step() {
		}
		if got := g.take(); string(got) != string(appendMessage(nil, xenabi.XS_READ, 3, 0, []byte("one"))) {
			t.Errorf("%s: after reconnecting %q", name, got)
		}
	}
}

// TestServe runs a ring with its goroutine, back ends writing meanwhile.
func TestServe(t *testing.T) {
	s, c := newStore(t)
	m := guestmem.New(guestmem.Config{})
	if err := m.Add(0, guestmem.Host(1)); err != nil {
		t.Fatal(err)
	}
	page, _ := m.Page(0)
	raised := make(chan struct{}, 1)
	r, err := s.NewRing(1, page, func() {
		select {
		case raised <- struct{}{}:
		default:
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan struct{})
	go func() { r.Serve(ctx); close(served) }()
	if err := c.Write(Home(1)+"/data", ""); err != nil {
		t.Fatal(err)
	}
	r.conn.handle(xenabi.XS_WATCH, 0, []byte("data\x00t\x00"))
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			client := s.NewClient()
			defer client.Close()
			for n := range 50 {
				if err := client.Write(fmt.Sprintf("%s/data/%d/%d", Home(1), i, n), "x"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	events, all := 0, []byte(nil)
	deadline := time.After(5 * time.Minute)
	for events < 201 { // the first event and one per write
		cons, _ := page.Load32(xenabi.XenstoreRspCons)
		prod, _ := page.Load32(xenabi.XenstoreRspProd)
		b := make([]byte, prod-cons)
		r.copyRing(xenabi.XenstoreRsp, cons, b, page.Read)
		_ = page.Store32(xenabi.XenstoreRspCons, prod)
		r.Kick()
		all = append(all, b...)
		for {
			h, _, n, err := parse(all)
			if err != nil || n != 0 && h.Type != xenabi.XS_WATCH_EVENT {
				t.Fatalf("message %+v, %v", h, err)
			}
			if n == 0 {
				break
			}
			all = all[n:]
			events++
		}
		if events < 201 && len(b) == 0 {
			select {
			case <-raised:
			case <-deadline:
				t.Fatalf("%d events came", events)
			}
		}
	}
	wg.Wait()
	cancel()
	<-served
}

// FuzzWire feeds the ring with whatever a guest may write there.
func FuzzWire(f *testing.F) {
	f.Add(appendMessage(nil, xenabi.XS_WRITE, 1, 0, []byte("data/x\x00y")))
	f.Add(appendMessage(appendMessage(nil, xenabi.XS_TRANSACTION_START, 1, 0, []byte{0}), xenabi.XS_WRITE, 1, 1, []byte("data/x\x00y")))
	f.Add(appendMessage(nil, xenabi.XS_SET_PERMS, 1, 0, []byte("data\x00b1\x00")))
	f.Add(appendMessage(nil, xenabi.XS_DIRECTORY_PART, 1, 0, []byte("device\x000\x00")))
	f.Add(appendMessage(nil, xenabi.XS_WATCH, 1, 0, []byte("@x\x00t\x00")))
	f.Fuzz(func(t *testing.T, in []byte) {
		s, c := newStore(t)
		g := newRing(t, s)
		for len(in) > 0 {
			n := g.put(in)
			in = in[n:]
			for g.ring.step() {
			}
			if n == 0 && len(g.take()) == 0 {
				break // it has stopped listening
			}
		}
		if v, err := c.Read(Home(1) + "/name"); v != "one" || err != nil {
			t.Fatalf("a guest changed what is not its own: %q, %v", v, err)
		}
		// The quota's count is what the tree holds.
		counted := map[int]int{}
		s.root.count(counted, 1)
		for id, n := range counted {
			if s.owned[id] != n {
				t.Fatalf("domain %d owns %d nodes, counted %d", id, n, s.owned[id])
			}
		}
	})
}
