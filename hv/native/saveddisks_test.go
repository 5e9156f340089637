package native

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/savefile"
)

// TestSavedDisks: a saved guest goes on with the disks that it had, as they were.
func TestSavedDisks(t *testing.T) {
	path := imageFile(t, "disk", 1<<20)
	g := newGuest(hv.Spec{Disks: []hv.Disk{{UUID: diskID, Path: path}, {UUID: cdID}}}, hv.Host{})
	was, err := g.outside()
	if err != nil || len(was.Disks) != 1 {
		t.Fatalf("%v, %v", was, err)
	}
	force := false
	check := func(what, want string) {
		t.Helper()
		now, err := g.outside()
		if err == nil {
			err = savefile.Same(was.Disks, now.Disks, force)
		}
		if (want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", what, err, want)
		}
	}
	check("nothing", "")
	g.media[cdID] = path
	check("a CD inserted", "was not there")
	delete(g.media, cdID)
	g.spec.Disks[0].Path = ""
	check("a disk less", "is missing")
	g.spec.Disks[0].Path = path
	if err := os.Chtimes(path, time.Now(), time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	check("written to", "was changed")
	force = true
	check("its date was changed", "")
	if err := os.Truncate(path, 2<<20); err != nil {
		t.Fatal(err)
	}
	check("longer", "is not what it was")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	check("deleted", "look at a disk of the guest")
	if _, err := g.outside(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("deleted: %v", err)
	}
}

// TestPlaces: a guest that goes on finds its devices by the numbers that it knows; a
// clone's cards are others than its template's.
func TestPlaces(t *testing.T) {
	spec := hv.Spec{Disks: []hv.Disk{{UUID: "a"}, {UUID: "b"}}, NICs: []hv.NIC{{UUID: "n"}}}
	s := &Saved{state: saved{Outside: outside{Places: places{Disks: []int{3, 0}, NICs: []int{2}}}}}
	g := newGuest(spec, hv.Host{})
	if err := g.place(s); err != nil || g.places["a"] != 3 || g.places["b"] != 0 || g.places["n"] != 2 {
		t.Errorf("restored: %v, %v", g.places, err)
	}
	g = newGuest(spec, hv.Host{})
	g.config.UUID[0] = 1
	if err := g.place(s); err != nil || g.places["a"] != 3 || g.places["n"] != 2+hv.MaxNICs {
		t.Errorf("a clone: %v, %v", g.places, err)
	}
	if n, err := g.reserve("c", func(s *hv.Spec) []string { return []string{"a", "b"} }, 3, 4); n != 1 || err != nil {
		t.Errorf("the next disk is %d, %v", n, err)
	}
	for _, bad := range []places{{}, {Disks: []int{0, 0}, NICs: []int{1}}, {Disks: []int{0, -1}, NICs: []int{1}}, {Disks: []int{0, 1}, NICs: []int{99}}} {
		s.state.Outside.Places = bad
		if err := newGuest(spec, hv.Host{}).place(s); err == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
}

// FuzzPlaces: what a file says of them may be anything.
func FuzzPlaces(f *testing.F) {
	f.Add([]byte(`{"Disks":[3,0],"NICs":[2]}`))
	f.Add([]byte(`{"Disks":[-9223372036854775808,9],"NICs":[15]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var p places
		if json.Unmarshal(b, &p) != nil {
			return
		}
		g := newGuest(hv.Spec{Disks: []hv.Disk{{UUID: "a"}, {UUID: "b"}}, NICs: []hv.NIC{{UUID: "n"}}}, hv.Host{})
		if g.place(&Saved{state: saved{Outside: outside{Places: p}}}) != nil {
			return
		}
		for _, n := range g.places {
			if n < 0 || n >= hv.MaxDisks {
				t.Errorf("a device has the number %d", n)
			}
		}
	})
}
