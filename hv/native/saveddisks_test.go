package native

import (
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
	check("deleted", "no such file")
}
