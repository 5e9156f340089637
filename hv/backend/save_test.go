package backend_test

import (
	"testing"

	"github.com/hxen-project/hxen/hv/backend"
)

// TestHold: a device that is held answers nothing until it is let go, and one
// that is made where another has been goes on with its ring.
func TestHold(t *testing.T) {
	f, e, d := setUp(t)
	r, port := connect(f, 1)
	exchange(f, r, port, 100)
	release, err := d.Hold()
	if err != nil {
		t.Fatal(err)
	}
	r.Put(make([]byte, entrySize))
	r.Push()
	f.Send(port)
	d.Wake()
	if r.Take(make([]byte, entrySize)) {
		t.Error("a held device answered")
	}
	release()
	f.Until("the answer", func() bool { return r.Take(make([]byte, entrySize)) })
	exchange(f, r, port, 100)
	for _, want := range []string{"connect", "disconnect", "connect"} {
		e.expect(t, want)
	}

	for i := range 3 {
		if i > 0 { // what is held can be closed
			if _, err := d.Hold(); err != nil {
				t.Fatal(err)
			}
		}
		d.Close()
		e.expect(t, "disconnect")
		if free, err := d.Hold(); err != nil { // of nobody
			t.Error(err)
		} else {
			free()
		}
		g := &backend.Guest{Domid: 1, Domain: f.Domain, Store: f.Client, Log: f.Log}
		next, err := g.Add(backend.Config{Type: "echo", ID: 7, Back: map[string]string{"kind": "restored"}}, e)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(next.Close)
		e.expect(t, "connect")
		exchange(f, r, port, 300)
		if got := f.ReadNode(frontDir + "/kind"); got != "front" {
			t.Errorf("the front end's own node says %q", got)
		}
		if got := f.ReadNode(backDir + "/kind"); got != "restored" {
			t.Errorf("the back end's node says %q", got)
		}
		d = next
	}
}
