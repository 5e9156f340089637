package rpc

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/hxen-project/hxen/app/api"
)

// coalesce is how long an answer waits, after the first change, for more that
// come with it: starting a guest changes a handful of objects.
const coalesce = 5 * time.Millisecond

// maxPoll bounds how long one event.from waits, whatever the caller asks for.
const maxPoll = time.Hour

// filter is what a caller of event.from wants to hear of.
type filter struct {
	all     bool
	classes map[string]bool // in lower case
	objects map[string]bool // class in lower case/ref
}

// newFilter reads subscriptions: "*", a class, or class/ref. Classes that are
// not served are legal: clients subscribe to all that they know.
func newFilter(subscriptions []string) (filter, error) {
	f := filter{classes: map[string]bool{}, objects: map[string]bool{}}
	for _, s := range subscriptions {
		class, ref, object := strings.Cut(s, "/")
		switch {
		case class == "" || object && (ref == "" || strings.Contains(ref, "/")):
			return f, api.NewError(api.ErrEventSubscriptionParse, s)
		case object:
			f.objects[api.WireClass(class)+"/"+ref] = true
		case class == api.AllClasses:
			f.all = true
		default:
			f.classes[api.WireClass(class)] = true
		}
	}
	return f, nil
}

func (f filter) wants(c *class, ref api.Ref) bool {
	return f.all || f.classes[c.wire] || len(f.objects) > 0 && f.objects[c.wire+"/"+string(ref)]
}

// change is one event before it is written.
type change struct {
	seq   uint64
	op    string
	class *class
	ref   api.Ref
	raw   json.RawMessage // nil for a deletion
}

func (db *DB) token(seq uint64) string { return db.epoch + ":" + strconv.FormatUint(seq, 10) }

// since reads a token; "" is the beginning of time.
func (db *DB) since(token string) (uint64, error) {
	if token == "" {
		return 0, nil
	}
	epoch, number, found := strings.Cut(token, ":")
	seq, err := strconv.ParseUint(number, 10, 64)
	if !found || epoch == "" || err != nil {
		return 0, api.NewError(api.ErrEventFromTokenParse, token)
	}
	if epoch != db.epoch {
		return 0, api.NewError(api.ErrEventsLost)
	}
	return seq, nil
}

// From is event.from: it waits until something that f wants has changed since
// the token, until the timeout or until ctx or stop ends, and returns an encoded
// api.EventBatch. With token "" it returns at once with all there is.
func (db *DB) From(ctx context.Context, f filter, token string, timeout time.Duration, stop <-chan struct{}) (json.RawMessage, error) {
	since, err := db.since(token)
	if err != nil {
		return nil, err
	}
	timer := time.NewTimer(min(timeout, maxPoll))
	defer timer.Stop()
	for waited := token == ""; ; {
		batch, changes, news, err := db.collect(f, since)
		if err != nil {
			return nil, err
		}
		over := false
		switch {
		case len(changes) > 0 && waited, token == "":
			return writeBatch(batch, changes), nil
		case len(changes) > 0:
			// Something has just come; give what belongs to it a moment.
			waited = true
			pause := time.NewTimer(coalesce)
			select {
			case <-pause.C:
			case <-timer.C:
			case <-stop:
			case <-ctx.Done():
			}
			pause.Stop()
			continue
		}
		// Nothing that is wanted up to batch.seq: the next look need not go back further.
		since = batch.seq
		select {
		case <-news:
			continue
		case <-timer.C:
			over = true
		case <-stop:
			over = true
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		if over {
			return writeBatch(batch, changes), nil
		}
	}
}

// batch is the part of the answer that is not events.
type batch struct {
	token  string
	seq    uint64
	counts map[string]int
}

// collect returns what changed since a sequence number, in order, and a channel
// that is closed at the next change.
func (db *DB) collect(f filter, since uint64) (batch, []change, <-chan struct{}, error) {
	db.mu.Lock()
	defer db.mu.Unlock()
	switch {
	case since > db.seq:
		return batch{}, nil, nil, api.NewError(api.ErrEventFromTokenParse, db.token(since))
	case since > 0 && since < db.lost:
		return batch{}, nil, nil, api.NewError(api.ErrEventsLost)
	}
	b := batch{token: db.token(db.seq), seq: db.seq, counts: make(map[string]int, len(classes))}
	for c, objects := range db.objects {
		if c.events {
			b.counts[c.wire] = len(objects)
		}
	}
	// Both lists end with the newest; merge them from the back, then turn round.
	var out []change
	at, g := db.order.Back(), len(db.gone)-1
	for {
		var o *object
		if at != nil {
			if o = at.Value.(*object); o.changed <= since {
				o = nil
			}
		}
		var d *deletion
		if since > 0 && g >= 0 && db.gone[g].seq > since {
			d = &db.gone[g]
		}
		switch {
		case o == nil && d == nil:
			for i, j := 0, len(out)-1; i < j; i, j = i+1, j-1 {
				out[i], out[j] = out[j], out[i]
			}
			return b, out, db.news, nil
		case d == nil || o != nil && o.changed > d.seq:
			at = at.Prev()
			if f.wants(o.class, o.ref) {
				op := api.EventMod
				if o.created > since {
					op = api.EventAdd
				}
				out = append(out, change{o.changed, op, o.class, o.ref, o.raw})
			}
		default:
			g--
			// One event per object: not for what came and went unseen, nor for
			// what is there again.
			if d.created <= since && db.objects[d.class][d.ref] == nil && f.wants(d.class, d.ref) {
				out = append(out, change{d.seq, api.EventDel, d.class, d.ref, nil})
			}
		}
	}
}

// writeBatch writes an api.EventBatch by hand: the snapshots are JSON already,
// and checking megabytes of it again would be most of the work.
func writeBatch(b batch, changes []change) json.RawMessage {
	size := 1024
	for _, c := range changes {
		size += len(c.raw) + 192
	}
	var out bytes.Buffer
	out.Grow(size)
	counts, _ := json.Marshal(b.counts) // strings and numbers cannot fail
	fmt.Fprintf(&out, `{"token":%q,"valid_ref_counts":%s,"events":[`, b.token, counts)
	for i, c := range changes {
		if i > 0 {
			out.WriteByte(',')
		}
		fmt.Fprintf(&out, `{"id":%d,"timestamp":"0.0","class":%q,"operation":%q,"ref":%s`, c.seq, c.class.wire, c.op, quote(string(c.ref)))
		if c.raw != nil {
			out.WriteString(`,"snapshot":`)
			out.Write(c.raw)
		}
		out.WriteByte('}')
	}
	out.WriteString("]}")
	return out.Bytes()
}

func quote(s string) []byte {
	b, _ := json.Marshal(s) // a string cannot fail
	return b
}

// inject makes an event of an object that has not changed and returns the token
// that precedes it, as xapi does for clients that need a token to begin with.
func (db *DB) inject(className string, ref api.Ref) (string, error) {
	db.mu.Lock()
	defer db.mu.Unlock()
	for c, objects := range db.objects {
		if c.wire != api.WireClass(className) || !c.events {
			continue
		}
		o := objects[ref]
		if o == nil {
			break
		}
		db.seq++
		db.touch(o)
		return db.token(db.seq), nil
	}
	return "", api.NewError(api.ErrHandleInvalid, className, string(ref))
}

// registerEvents adds event.from and its small companions.
func (s *Server) registerEvents() {
	s.builtin("event.from", func(c *Call, subscriptions []string, token string, timeout float64) (json.RawMessage, error) {
		f, err := newFilter(subscriptions)
		if err != nil {
			return nil, err
		}
		if math.IsNaN(timeout) || timeout < 0 {
			timeout = 0
		}
		wait := time.Duration(min(timeout, maxPoll.Seconds()) * float64(time.Second))
		return s.db.From(c.request, f, token, wait, s.stopping)
	})
	s.builtin("event.inject", func(_ *Call, class string, ref api.Ref) (string, error) { return s.db.inject(class, ref) })
	s.builtin("event.get_current_id", func(*Call) (uint64, error) {
		s.db.mu.Lock()
		defer s.db.mu.Unlock()
		return s.db.seq + 1, nil
	})
}
