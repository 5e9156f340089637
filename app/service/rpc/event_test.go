package rpc

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hxen-project/hxen/app/api"
)

// from asks the DB itself, without waiting.
func from(t *testing.T, db *DB, token string, classes ...string) api.EventBatch {
	t.Helper()
	b, err := tryFrom(db, token, classes...)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func tryFrom(db *DB, token string, classes ...string) (b api.EventBatch, err error) {
	f, err := newFilter(classes)
	if err != nil {
		return b, err
	}
	raw, err := db.From(context.Background(), f, token, 0, nil)
	if err == nil {
		err = json.Unmarshal(raw, &b)
	}
	return b, err
}

// said is what a batch says, in short.
func said(b api.EventBatch) string {
	var out []string
	for _, e := range b.Events {
		s := e.Operation + " " + e.Class
		if e.Operation != api.EventDel {
			var v struct {
				Name string `json:"name_label"`
			}
			_ = json.Unmarshal(e.Snapshot, &v)
			s += " " + v.Name
		} else if e.Snapshot != nil {
			s += " with a snapshot"
		}
		out = append(out, s)
	}
	return strings.Join(out, ", ")
}

func TestEventsTellWhatChanged(t *testing.T) {
	db := NewDB()
	named := func(ref api.Ref, name string) { db.Put(ref, api.VM{UUID: ref.UUID(), NameLabel: name}) }
	a, b, c := api.RefOf("a"), api.RefOf("b"), api.RefOf("c")
	named(a, "a")
	db.Put(a, api.VDI{UUID: "a", NameLabel: "disk"}) // the same reference in another class
	db.Put(api.RefOf("s"), api.Session{UUID: "s"})   // sessions are no events

	first := from(t, db, "", "*")
	if got := said(first); got != "add vm a, add vdi disk" {
		t.Errorf("snapshot: %s", got)
	}
	if first.ValidRefCounts["vm"] != 1 || first.ValidRefCounts["vdi"] != 1 || first.ValidRefCounts["sr"] != 0 {
		t.Errorf("counts: %v", first.ValidRefCounts)
	}
	if _, session := first.ValidRefCounts["session"]; session {
		t.Error("sessions are counted")
	}
	for i, step := range []struct {
		do    func()
		wants string // since the first token, of "*"
		vms   string // of "VM" alone
	}{
		{func() {}, "", ""},
		{func() { named(a, "a") }, "", ""}, // no change
		{func() { named(b, "b") }, "add vm b", "add vm b"},
		{func() { named(a, "a2") }, "add vm b, mod vm a2", "add vm b, mod vm a2"},
		{func() { named(b, "b2"); named(b, "b3") }, "mod vm a2, add vm b3", "mod vm a2, add vm b3"},
		{func() { named(c, "c"); db.Delete("VM", c) }, "mod vm a2, add vm b3", "mod vm a2, add vm b3"},
		{func() { db.Delete("VDI", a) }, "mod vm a2, add vm b3, del vdi", "mod vm a2, add vm b3"},
		{func() { db.Delete("VM", a) }, "add vm b3, del vdi, del vm", "add vm b3, del vm"},
		{func() { named(a, "again") }, "add vm b3, del vdi, add vm again", "add vm b3, add vm again"},
		{func() { db.Delete("VM", a) }, "add vm b3, del vdi, del vm", "add vm b3, del vm"},
	} {
		step.do()
		if got := said(from(t, db, first.Token, "*")); got != step.wants {
			t.Errorf("step %d: %s, want %s", i, got, step.wants)
		}
		if got := said(from(t, db, first.Token, "vm")); got != step.vms {
			t.Errorf("step %d, VMs: %s, want %s", i, got, step.vms)
		}
	}
	if got := said(from(t, db, first.Token, "VM/"+string(b), "SR", "nobody")); got != "add vm b3" {
		t.Errorf("one object: %s", got)
	}
	if got := said(from(t, db, "", "VM")); got != "add vm b3" {
		t.Errorf("a later snapshot: %s", got)
	}
	if db.Delete("VM", a) || db.Delete("nobody", a) {
		t.Error("what is not there was deleted")
	}
}

func TestTokens(t *testing.T) {
	db := NewDB()
	db.Put(api.RefOf("a"), api.VM{UUID: "a"})
	_, err := tryFrom(db, "0123456789abcdef:1", "*")
	refused(t, err, api.ErrEventsLost)
	for _, bad := range []string{"x", ":", ":1", db.epoch, db.epoch + ":", db.epoch + ":-1", db.epoch + ":x", db.token(db.seq + 1)} {
		_, err := tryFrom(db, bad, "*")
		if p := refused(t, err, api.ErrEventFromTokenParse); p[0] != bad {
			t.Errorf("%q: parameters %q", bad, p)
		}
	}
	for _, bad := range []string{"", "/x", "VM/", "VM/a/b"} {
		_, err := tryFrom(db, "", bad)
		refused(t, err, api.ErrEventSubscriptionParse)
	}
	if b := from(t, db, db.token(1), "*"); len(b.Events) != 0 || b.Token != db.token(1) {
		t.Errorf("nothing new came as %+v", b)
	}
}

func TestOldDeletionsAreForgotten(t *testing.T) {
	db := NewDB()
	n := maxDeletions + 10
	for i := range n {
		ref := api.RefOf(strconv.Itoa(i))
		db.Put(ref, api.SR{UUID: ref.UUID()})
	}
	before := from(t, db, "", "*").Token
	if len(from(t, db, "", "*").Events) != n {
		t.Fatal("not all are there")
	}
	mid := ""
	for i := range n {
		if i == 20 {
			mid = db.token(db.seq)
		}
		db.Delete("SR", api.RefOf(strconv.Itoa(i)))
	}
	_, err := tryFrom(db, before, "*")
	refused(t, err, api.ErrEventsLost)
	if b := from(t, db, mid, "*"); len(b.Events) != n-20 {
		t.Errorf("%d deletions, want %d", len(b.Events), n-20)
	}
	if b := from(t, db, "", "*"); len(b.Events) != 0 {
		t.Errorf("a snapshot of nothing has %d events", len(b.Events))
	}
	if len(db.gone) > maxDeletions {
		t.Errorf("%d deletions are kept", len(db.gone))
	}
}

func TestRecordsAreCopies(t *testing.T) {
	db := NewDB()
	ref := api.RefOf("a")
	in := api.VMMetrics{UUID: "a", OtherConfig: map[string]string{"k": "v"}, VCPUsFlags: map[string][]string{"0": {"x"}}, State: []string{"s"}}
	db.Put(ref, in)
	spoil := func(m api.VMMetrics) {
		m.OtherConfig["k"], m.VCPUsFlags["0"][0], m.State[0] = "spoilt", "spoilt", "spoilt"
	}
	spoil(in)
	out, ok := Get[api.VMMetrics](db, ref)
	if !ok {
		t.Fatal("it is gone")
	}
	spoil(out)
	for _, all := range All[api.VMMetrics](db) {
		spoil(all)
	}
	var kept api.VMMetrics
	if !Modify(db, ref, func(m *api.VMMetrics) { kept = *m; m.HVM = true }) {
		t.Fatal("it is gone")
	}
	spoil(kept)
	got, _ := Get[api.VMMetrics](db, ref)
	if got.OtherConfig["k"] != "v" || got.VCPUsFlags["0"][0] != "x" || got.State[0] != "s" || !got.HVM {
		t.Errorf("a record was changed from outside: %+v", got)
	}
	if _, ok := Get[api.VM](db, ref); ok || Modify(db, api.RefOf("x"), func(*api.VM) {}) || db.Has("VM", ref) || !db.Has("VM_metrics", ref) {
		t.Error("what is not there was found")
	}
}

func TestEventFromWaits(t *testing.T) {
	db := NewDB()
	f, _ := newFilter([]string{"VM"})
	ref := api.RefOf("a")
	type answer struct {
		b   api.EventBatch
		err error
	}
	ask := func(ctx context.Context, wait time.Duration, stop chan struct{}) chan answer {
		out := make(chan answer, 1)
		token := db.token(db.seq)
		go func() {
			raw, err := db.From(ctx, f, token, wait, stop)
			var a answer
			if a.err = err; err == nil {
				a.err = json.Unmarshal(raw, &a.b)
			}
			out <- a
		}()
		return out
	}
	got := ask(context.Background(), time.Hour, nil)
	inFlight(t, "(*DB).From")
	db.Put(ref, api.VDI{UUID: "a"}) // not asked for
	db.Put(ref, api.VM{UUID: "a"})
	if a := <-got; a.err != nil || said(a.b) != "add vm " {
		t.Errorf("woken with %v, %+v", a.err, a.b)
	}
	if a := <-ask(context.Background(), 20*time.Millisecond, nil); a.err != nil || len(a.b.Events) != 0 {
		t.Errorf("timed out with %v, %+v", a.err, a.b)
	}
	stop := make(chan struct{})
	got = ask(context.Background(), time.Hour, stop)
	inFlight(t, "(*DB).From")
	close(stop)
	if a := <-got; a.err != nil || len(a.b.Events) != 0 {
		t.Errorf("stopped with %v, %+v", a.err, a.b)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	got = ask(ctx, time.Hour, nil)
	inFlight(t, "(*DB).From")
	cancel(fmt.Errorf("hung up"))
	if a := <-got; a.err == nil || a.err.Error() != "hung up" {
		t.Errorf("cancelled with %v", a.err)
	}
}

// TestFollowersAgree: whatever happens, who applies the events has what the DB
// has.
func TestFollowersAgree(t *testing.T) {
	db := NewDB()
	const refs = 40
	done := make(chan struct{})
	var writers, followers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			r := rand.New(rand.NewSource(int64(w)))
			for range 1500 {
				ref := api.RefOf(strconv.Itoa(r.Intn(refs)))
				switch r.Intn(4) {
				case 0:
					db.Delete("VM", ref)
				case 1:
					Modify(db, ref, func(v *api.VM) { v.Version++ })
				default:
					db.Put(ref, api.VM{UUID: ref.UUID(), NameLabel: strconv.Itoa(r.Intn(5))})
				}
			}
		})
	}
	for range 3 {
		followers.Go(func() {
			known, token := map[api.Ref]string{}, ""
			for last := false; ; {
				select {
				case <-done:
					last = true
				default:
				}
				f, _ := newFilter([]string{"VM"})
				raw, err := db.From(context.Background(), f, token, time.Millisecond, nil)
				var b api.EventBatch
				if err == nil {
					err = json.Unmarshal(raw, &b)
				}
				if err != nil {
					t.Error(err)
					return
				}
				token = b.Token
				for _, e := range b.Events {
					_, have := known[e.Ref]
					switch e.Operation {
					case api.EventDel:
						if !have {
							t.Errorf("%s: deleted, but never told of", e.Ref)
						}
						delete(known, e.Ref)
					case api.EventMod:
						if !have {
							t.Errorf("%s: changed, but never told of", e.Ref)
						}
						fallthrough
					default:
						known[e.Ref] = string(e.Snapshot)
					}
				}
				if last {
					truth := map[api.Ref]string{}
					for _, o := range db.list(classes["VM"]) {
						truth[o.ref] = string(o.raw)
					}
					if !reflect.DeepEqual(known, truth) {
						t.Errorf("a follower has %v, the DB %v", slices.Sorted(maps.Keys(known)), slices.Sorted(maps.Keys(truth)))
					}
					return
				}
			}
		})
	}
	writers.Wait()
	close(done)
	followers.Wait()
}

func TestEventInject(t *testing.T) {
	h := serve(t, Options{}, nil)
	ref, rec := vm(1)
	h.s.DB().Put(ref, rec)
	before := h.token()
	var id uint64
	h.must(&id, "event.get_current_id")
	var token string
	h.must(&token, "event.inject", "vm", ref)
	if token != h.s.db.token(id) {
		t.Errorf("token %s, want number %d", token, id)
	}
	if got := said(from(t, h.s.db, before, "*")); got != "mod vm guest 1" {
		t.Errorf("events: %s", got)
	}
	refused(t, h.call(nil, "event.inject", "vm", "OpaqueRef:x"), api.ErrHandleInvalid)
	refused(t, h.call(nil, "event.inject", "nobody", ref), api.ErrHandleInvalid)
	var b api.EventBatch
	h.must(&b, "event.from", []string{"VM"}, token, -5.0)
	if len(b.Events) != 0 {
		t.Errorf("events after the token: %s", said(b))
	}
}

func benchDB(n int) *DB {
	db := NewDB()
	for i := range n {
		ref, rec := vm(i)
		db.Put(ref, rec)
	}
	return db
}

func BenchmarkPutChanged(b *testing.B) {
	db := benchDB(1000)
	ref, rec := vm(500)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		rec.DomID = int64(i)
		db.Put(ref, rec)
	}
}

func BenchmarkSnapshotOf1000(b *testing.B) {
	db := benchDB(1000)
	f, _ := newFilter([]string{"*"})
	for b.Loop() {
		raw, err := db.From(context.Background(), f, "", 0, nil)
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(len(raw)))
	}
}

func BenchmarkOneChangeOf1000(b *testing.B) {
	db := benchDB(1000)
	f, _ := newFilter([]string{"*"})
	_, rec := vm(500)
	for i := 0; b.Loop(); i++ {
		token := db.token(db.seq)
		rec.DomID = int64(i)
		db.Put(api.RefOf(rec.UUID), rec)
		since, _ := db.since(token)
		if bt, changes, _, err := db.collect(f, since); err != nil || len(changes) != 1 || len(writeBatch(bt, changes)) == 0 {
			b.Fatal(len(changes), err)
		}
	}
}

func BenchmarkGetAllRecordsOf1000(b *testing.B) {
	db := benchDB(1000)
	for b.Loop() {
		b.SetBytes(int64(len(allRecords(db.list(classes["VM"])))))
	}
}
