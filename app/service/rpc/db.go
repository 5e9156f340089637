package rpc

import (
	"bytes"
	"container/list"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"iter"
	"reflect"
	"slices"
	"sync"

	"github.com/hxen-project/hxen/app/api"
)

// class is what reflection tells about a class, once.
type class struct {
	name   string
	wire   string // in lower case, as events have it
	typ    reflect.Type
	fields map[string]int // JSON name -> index
	uuid   int
	label  int // -1 if the class has no name_label
	events bool
}

var classes = func() map[string]*class {
	out := map[string]*class{}
	for _, name := range api.Classes() {
		c := &class{name: name, wire: api.WireClass(name), typ: api.TypeOf(name), fields: map[string]int{}, label: -1, events: api.HasEvents(name)}
		for i := range c.typ.NumField() {
			c.fields[c.typ.Field(i).Tag.Get("json")] = i
		}
		c.uuid = c.fields["uuid"]
		if i, ok := c.fields["name_label"]; ok {
			c.label = i
		}
		out[name] = c
	}
	return out
}()

func classOf(t reflect.Type) *class {
	c := classes[api.ClassOf(t)]
	if c == nil {
		panic(fmt.Sprintf("rpc: %v is no record of the API", t))
	}
	return c
}

// object is one record and its history. All but the three numbers and at is
// replaced, never changed, so what was taken under the lock may be used after.
type object struct {
	class   *class
	ref     api.Ref
	record  reflect.Value   // the struct; nobody else holds its maps and slices
	raw     json.RawMessage // the record as it travels, made once per change
	created uint64          // sequence number at which it came
	changed uint64          // sequence number of its last change
	at      *list.Element   // in DB.order, nil for a class without events
}

func (o *object) uuid() string  { return o.record.Field(o.class.uuid).String() }
func (o *object) label() string { return o.record.Field(o.class.label).String() }

// deletion remembers an object that has gone, for clients that still have it.
type deletion struct {
	class        *class
	ref          api.Ref
	created, seq uint64
}

// maxDeletions bounds the memory for deleted objects. Who asks for events from
// before the oldest that is kept is told EVENTS_LOST.
const maxDeletions = 4096

// DB holds the objects of the API by class and reference, and numbers their
// changes. It is safe for concurrent use. Records go in and come out as copies.
type DB struct {
	epoch string // tells this run's sequence numbers from another's

	mu      sync.Mutex // guards everything below
	seq     uint64
	objects map[*class]map[api.Ref]*object
	order   *list.List // *object, by changed, oldest first; classes with events only
	gone    []deletion // by seq, oldest first
	lost    uint64     // deletions up to this sequence number are forgotten
	news    chan struct{}
}

// NewDB returns an empty DB with an epoch of its own.
func NewDB() *DB {
	db := &DB{epoch: randomHex(8), objects: map[*class]map[api.Ref]*object{}, order: list.New(), news: make(chan struct{})}
	for _, c := range classes {
		db.objects[c] = map[api.Ref]*object{}
	}
	return db
}

func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // crypto/rand.Read never fails
	return hex.EncodeToString(b)
}

// newUUID returns a random (version 4) uuid, RFC 9562.
func newUUID() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// Put adds record, a struct of the API (or a pointer to one), or replaces the
// one that has this reference in its class. Only a change is an event. Empty
// sets, maps and references are filled in (api.Fill).
func (db *DB) Put(ref api.Ref, record any) {
	v := reflect.Indirect(reflect.ValueOf(record))
	c := classOf(v.Type())
	own, raw := encode(v)
	db.mu.Lock()
	defer db.mu.Unlock()
	db.put(c, ref, own, raw)
}

// Modify changes the record of class T at ref in one step and reports whether
// it is there. change gets a copy of its own; it must not use the DB.
func Modify[T any](db *DB, ref api.Ref, change func(*T)) bool {
	c := classOf(reflect.TypeFor[T]())
	db.mu.Lock()
	defer db.mu.Unlock()
	o := db.objects[c][ref]
	if o == nil {
		return false
	}
	record := clone(o.record).Interface().(T)
	change(&record)
	own, raw := encode(reflect.ValueOf(record))
	db.put(c, ref, own, raw)
	return true
}

// encode copies and fills a record, and writes it as it travels.
func encode(v reflect.Value) (reflect.Value, json.RawMessage) {
	own := clone(v)
	api.Fill(own.Addr().Interface())
	raw, err := json.Marshal(own.Addr().Interface())
	if err != nil {
		// Records are plain strings, numbers and maps of them; only a number that
		// is none (NaN) gets here, which is its maker's defect.
		panic(fmt.Sprintf("rpc: encode a %v: %v", v.Type(), err))
	}
	return own, raw
}

// put stores a record; mu is held.
func (db *DB) put(c *class, ref api.Ref, own reflect.Value, raw json.RawMessage) {
	o := db.objects[c][ref]
	if o != nil && bytes.Equal(o.raw, raw) {
		return
	}
	if !c.events {
		db.objects[c][ref] = &object{class: c, ref: ref, record: own, raw: raw}
		return
	}
	db.seq++
	if o == nil {
		o = &object{class: c, ref: ref, created: db.seq}
		o.at = db.order.PushBack(o)
		db.objects[c][ref] = o
	}
	o.record, o.raw = own, raw
	db.touch(o)
}

// touch gives the object the newest sequence number; mu is held.
func (db *DB) touch(o *object) {
	o.changed = db.seq
	db.order.MoveToBack(o.at)
	db.wake()
}

// wake tells all that wait in event.from; mu is held.
func (db *DB) wake() {
	close(db.news)
	db.news = make(chan struct{})
}

// Delete removes an object and reports whether it was there.
func (db *DB) Delete(class string, ref api.Ref) bool {
	c := classes[class]
	if c == nil {
		return false
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	o := db.objects[c][ref]
	if o == nil {
		return false
	}
	delete(db.objects[c], ref)
	if !c.events {
		return true
	}
	db.order.Remove(o.at)
	db.seq++
	db.gone = append(db.gone, deletion{class: c, ref: ref, created: o.created, seq: db.seq})
	if n := len(db.gone) - maxDeletions; n > 0 {
		db.lost = db.gone[n-1].seq
		db.gone = db.gone[n:]
	}
	db.wake()
	return true
}

// Has reports whether the class has an object with this reference.
func (db *DB) Has(class string, ref api.Ref) bool {
	db.mu.Lock()
	defer db.mu.Unlock()
	return db.objects[classes[class]][ref] != nil
}

// Get returns a copy of the record of class T at ref.
func Get[T any](db *DB, ref api.Ref) (T, bool) {
	record, ok := db.get(classOf(reflect.TypeFor[T]()), ref)
	if !ok {
		var none T
		return none, false
	}
	return clone(record).Interface().(T), true
}

func (db *DB) get(c *class, ref api.Ref) (reflect.Value, bool) {
	db.mu.Lock()
	defer db.mu.Unlock()
	o := db.objects[c][ref]
	if o == nil {
		return reflect.Value{}, false
	}
	return o.record, true
}

// All returns copies of the records of class T as they are now, oldest first.
func All[T any](db *DB) iter.Seq2[api.Ref, T] {
	all := db.list(classOf(reflect.TypeFor[T]()))
	return func(yield func(api.Ref, T) bool) {
		for _, o := range all {
			if !yield(o.ref, clone(o.record).Interface().(T)) {
				return
			}
		}
	}
}

// list returns what the objects of a class are now, oldest first.
func (db *DB) list(c *class) []object {
	db.mu.Lock()
	out := make([]object, 0, len(db.objects[c]))
	for _, o := range db.objects[c] {
		out = append(out, *o)
	}
	db.mu.Unlock()
	slices.SortFunc(out, func(a, b object) int {
		if a.created != b.created {
			return int(int64(a.created - b.created))
		}
		return bytes.Compare([]byte(a.ref), []byte(b.ref))
	})
	return out
}

// clone copies a record with its maps and slices, to an addressable value.
func clone(v reflect.Value) reflect.Value {
	out := reflect.New(v.Type()).Elem()
	out.Set(v)
	for i := range out.NumField() {
		f := out.Field(i)
		if k := f.Kind(); k == reflect.Map || k == reflect.Slice {
			f.Set(cloneInner(f))
		}
	}
	return out
}

func cloneInner(v reflect.Value) reflect.Value {
	switch {
	case v.Kind() == reflect.Map && !v.IsNil():
		out := reflect.MakeMapWithSize(v.Type(), v.Len())
		for it := v.MapRange(); it.Next(); {
			out.SetMapIndex(it.Key(), cloneInner(it.Value()))
		}
		return out
	case v.Kind() == reflect.Slice && !v.IsNil():
		out := reflect.MakeSlice(v.Type(), v.Len(), v.Len())
		reflect.Copy(out, v) // elements of sets are strings and numbers
		return out
	}
	return v
}
