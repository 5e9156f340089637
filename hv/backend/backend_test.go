package backend_test

import (
	"context"
	"encoding/binary"
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/hxen-project/hxen/hv/backend"
	"github.com/hxen-project/hxen/hv/hvtest"
	"github.com/hxen-project/hxen/hv/xen"
	"github.com/hxen-project/hxen/hv/xenabi"
)

const (
	entrySize = 12 // does not divide a page, so that entries lie across pages
	frontDir  = "/local/domain/1/device/echo/7"
	backDir   = "/local/domain/0/backend/echo/1/7"
)

// echo answers each request with the number in it plus one.
type echo struct {
	link    *backend.Link
	ring    *backend.Ring
	channel *xen.Channel
	log     chan string // what was called
	refuse  error       // of Connect
}

func (e *echo) Connect(l *backend.Link) (map[string]string, error) {
	e.log <- "connect"
	e.link = l
	if e.refuse != nil {
		return nil, e.refuse
	}
	var refs []uint32
	for _, name := range []string{"ring-ref0", "queue-0/ring-ref1", "ring-ref2"} {
		if _, ok := l.Nodes[name]; ok || name == "ring-ref0" {
			ref, err := l.Uint32(name)
			if err != nil {
				return nil, err
			}
			refs = append(refs, ref)
		}
	}
	port, err := l.Uint32("event-channel")
	if err != nil {
		return nil, err
	}
	if e.ring, err = l.Ring(entrySize, refs...); err != nil {
		return nil, err
	}
	e.channel, err = l.Channel(port, nil)
	return map[string]string{"size": strconv.Itoa(e.ring.Size())}, err
}

func (e *echo) Work() error {
	for more := true; more; {
		var req [entrySize]byte
		for {
			ok, err := e.ring.Next(req[:])
			if err != nil {
				return err
			}
			if !ok {
				break
			}
			binary.LittleEndian.PutUint32(req[:], binary.LittleEndian.Uint32(req[:])+1)
			if err := e.ring.Respond(req[:]); err != nil {
				return err
			}
		}
		notify, err := e.ring.Push()
		if err != nil {
			return err
		}
		if notify {
			e.channel.Notify()
		}
		if more, err = e.ring.More(); err != nil {
			return err
		}
	}
	return nil
}

func (e *echo) Disconnect() { e.log <- "disconnect" }

func (e *echo) expect(t *testing.T, what string) {
	t.Helper()
	if got := <-e.log; got != what {
		t.Fatalf("the driver was told to %s, not to %s", got, what)
	}
}

// setUp has a guest with one device.
func setUp(t *testing.T) (*hvtest.Front, *echo, *backend.Device) {
	t.Helper()
	f := hvtest.NewFront(t)
	e := &echo{log: make(chan string, 100)}
	g := &backend.Guest{Domid: 1, Domain: f.Domain, Store: f.Client, Log: f.Log}
	d, err := g.Add(backend.Config{Type: "echo", ID: 7, Front: map[string]string{"kind": "front"}, Back: map[string]string{"kind": "back"}}, e)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return f, e, d
}

// connect has the front end publish a ring.
func connect(f *hvtest.Front, pages int) (*hvtest.FrontRing, uint32) {
	f.Helper()
	r, port := f.NewRing(pages, entrySize), f.Port()
	f.Send(port) // before anybody listens
	publish(f, r, port)
	f.Await(backDir+"/state", "4")
	return r, port
}

func publish(f *hvtest.Front, r *hvtest.FrontRing, port uint32) {
	f.Helper()
	nodes := map[string]string{"event-channel": strconv.Itoa(int(port))}
	for i, name := range []string{"ring-ref0", "queue-0/ring-ref1", "ring-ref2"}[:len(r.Refs)] {
		nodes[name] = strconv.Itoa(int(r.Refs[i]))
	}
	f.Publish(frontDir, xenabi.XenbusStateInitialised, nodes)
}

// exchange sends n requests, as many at once as fit, and checks their answers.
func exchange(f *hvtest.Front, r *hvtest.FrontRing, port uint32, n int) {
	f.Helper()
	var b [entrySize]byte
	for sent, answered := 0, 0; answered < n; {
		for sent < n && r.Prod-r.Cons < r.Size {
			binary.LittleEndian.PutUint32(b[:], uint32(sent))
			binary.LittleEndian.PutUint32(b[8:], ^uint32(sent))
			r.Put(b[:])
			sent++
		}
		if r.Push() {
			f.Send(port)
		}
		f.Until("an answer", func() bool { return r.Take(b[:]) })
		for ok := true; ok; ok = r.Take(b[:]) {
			if got, rest := binary.LittleEndian.Uint32(b[:]), binary.LittleEndian.Uint32(b[8:]); got != uint32(answered)+1 || rest != ^uint32(answered) {
				f.Fatalf("request %d was answered with %d, %#x", answered, got, rest)
			}
			answered++
		}
	}
}

func TestExchange(t *testing.T) {
	for pages := 1; pages <= 3; pages++ {
		f, e, d := setUp(t)
		if got := f.ReadNode(frontDir + "/backend"); got != backDir {
			t.Errorf("the device's back end is at %q", got)
		}
		r, port := connect(f, pages)
		if got := f.ReadNode(backDir + "/size"); got != strconv.Itoa(int(r.Size)) {
			t.Errorf("the back end sees a ring of %s, the front end of %d", got, r.Size)
		}
		exchange(f, r, port, 3000)
		e.expect(t, "connect")
		d.Close()
		e.expect(t, "disconnect")
		if _, err := e.ring.Next(make([]byte, entrySize)); err == nil {
			t.Error("the ring can be read after its end")
		}
	}
}

// TestSuppressed has the front end ask for one event at the end of many answers.
func TestSuppressed(t *testing.T) {
	f, _, _ := setUp(t)
	r, port := connect(f, 1)
	before := f.Events(port)
	for range 100 {
		r.Put(make([]byte, entrySize))
	}
	r.Set(xenabi.SringRspEvent, 100)
	r.Push()
	f.Send(port)
	f.Until("the event for the last answer", func() bool { return r.Get(xenabi.SringRspProd) == 100 })
	// Whether the answers came at once or not: nobody wanted an event before the last.
	r.Cons = 100
	var b [entrySize]byte
	r.Put(b[:])
	r.Push()
	f.Send(port)
	f.Until("an answer", func() bool { return r.Take(b[:]) })
	if n := f.Events(port) - before; n < 1 || n > 2 {
		t.Errorf("%d events for the last of 100 answers and one more", n)
	}
}

// TestHandOver closes and starts over as a boot loader and the kernel after it
// do, and as a driver that is loaded again does.
func TestHandOver(t *testing.T) {
	f, e, _ := setUp(t)
	for _, through := range [][]int{{6, 1}, {5, 6, 1}, {1}} {
		r, port := connect(f, 1)
		exchange(f, r, port, 10)
		e.expect(t, "connect")
		for _, state := range through {
			f.Publish(frontDir, state, nil)
			want := map[int]string{1: "2", 5: "5", 6: "6"}[state]
			f.Await(backDir+"/state", want)
		}
		e.expect(t, "disconnect")
		for _, ref := range r.Refs {
			f.SetGrant(ref, 0)
		}
		f.ClosePort(port)
	}
	// A ring goes on where it was when a front end keeps it, as after a restore.
	r, port := connect(f, 1)
	exchange(f, r, port, 300)
	f.Publish(frontDir, xenabi.XenbusStateInitialising, nil)
	f.Await(backDir+"/state", "2")
	publish(f, r, port)
	f.Await(backDir+"/state", "4")
	exchange(f, r, port, 300)
}

// TestHostile has front ends that break the rules: each loses its device, which
// is served again once it starts over.
func TestHostile(t *testing.T) {
	for name, attack := range map[string]func(*hvtest.Front){
		"producer": func(f *hvtest.Front) {
			r, port := connect(f, 1)
			r.Set(xenabi.SringReqProd, r.Size+1)
			f.Send(port)
		},
		"producer from the start": func(f *hvtest.Front) {
			r := f.NewRing(1, entrySize)
			r.Set(xenabi.SringReqProd, 1<<31)
			publish(f, r, f.Port())
		},
		"foreign port": func(f *hvtest.Front) { publish(f, f.NewRing(1, entrySize), f.Domain.StorePort()) },
		"no port":      func(f *hvtest.Front) { publish(f, f.NewRing(1, entrySize), 4000) },
		"no grant": func(f *hvtest.Front) {
			r := f.NewRing(1, entrySize)
			r.Refs[0] = 2000
			publish(f, r, f.Port())
		},
		"grant to be read": func(f *hvtest.Front) {
			r := f.NewRing(1, entrySize)
			r.Refs[0] = f.Grant(r.GFNs[0], true)
			publish(f, r, f.Port())
		},
		"nothing": func(f *hvtest.Front) { f.Publish(frontDir, xenabi.XenbusStateConnected, nil) },
		"words":   func(f *hvtest.Front) { f.Publish(frontDir, 3, map[string]string{"ring-ref0": "eight"}) },
		"the driver's own reasons": func(f *hvtest.Front) {
			r := f.NewRing(1, entrySize)
			publish(f, r, f.Port())
		},
	} {
		t.Run(name, func(t *testing.T) {
			f, e, _ := setUp(t)
			if name == "the driver's own reasons" {
				e.refuse = errors.New("no")
			}
			attack(f)
			f.Await(backDir+"/state", "5")
			e.expect(t, "connect")
			e.expect(t, "disconnect")
			f.Publish(frontDir, xenabi.XenbusStateConnected, nil) // it is not heard until it starts over
			f.Publish(frontDir, xenabi.XenbusStateClosed, nil)
			f.Await(backDir+"/state", "6")
			f.Publish(frontDir, xenabi.XenbusStateInitialising, nil)
			f.Await(backDir+"/state", "2")
			e.refuse = nil
			r, port := connect(f, 2)
			exchange(f, r, port, 100)
		})
	}
}

// TestAhead has a front end that takes no answers and asks on.
func TestAhead(t *testing.T) {
	f, e, _ := setUp(t)
	r, port := connect(f, 1)
	for range 10 {
		for range r.Size {
			r.Put(make([]byte, entrySize))
		}
		r.Push()
		f.Send(port)
		f.Until("answers", func() bool { return r.Get(xenabi.SringRspProd) == r.Prod })
		r.Set(xenabi.SringRspEvent, r.Prod+r.Size)
	}
	if n := e.ring.Taken(); n != 0 {
		t.Errorf("%d requests are held", n)
	}
}

func TestUnplug(t *testing.T) {
	gone := func(f *hvtest.Front) {
		t.Helper()
		for _, dir := range []string{frontDir, backDir} {
			if _, err := f.Client.Read(dir); err == nil {
				t.Errorf("%s is still there", dir)
			}
		}
	}
	t.Run("without a driver", func(t *testing.T) {
		f, _, d := setUp(t)
		if err := d.Unplug(t.Context()); err != nil {
			t.Error(err)
		}
		gone(f)
	})
	t.Run("in use", func(t *testing.T) {
		f, e, d := setUp(t)
		r, port := connect(f, 1)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := d.Unplug(ctx); err == nil || !strings.Contains(err.Error(), "does not let go") {
			t.Errorf("a device in use was unplugged: %v", err)
		}
		f.Await(backDir+"/state", "5")
		if got := f.ReadNode(backDir + "/online"); got != "0" {
			t.Errorf("online is %q", got)
		}
		exchange(f, r, port, 10) // it is served until it has let go
		unplugged := make(chan error)
		go func() { unplugged <- d.Unplug(t.Context()) }()
		f.Publish(frontDir, xenabi.XenbusStateClosing, nil)
		f.Publish(frontDir, xenabi.XenbusStateClosed, nil)
		if err := <-unplugged; err != nil {
			t.Error(err)
		}
		e.expect(t, "connect")
		e.expect(t, "disconnect")
		gone(f)
	})
}

// TestPublish has a connected front end hear of what changes.
func TestPublish(t *testing.T) {
	f, _, d := setUp(t)
	connect(f, 1)
	w, err := f.Client.Watch(backDir + "/state")
	if err != nil {
		t.Fatal(err)
	}
	<-w.C // the first is for free
	w.Paths()
	if err := d.Publish(map[string]string{"kind": "another"}); err != nil {
		t.Fatal(err)
	}
	<-w.C
	if kind, state := f.ReadNode(backDir+"/kind"), f.ReadNode(backDir+"/state"); kind != "another" || state != "4" {
		t.Errorf("kind %q, state %q", kind, state)
	}
}
