package hostsvc

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/hxen-project/hxen/platform/access"
	"github.com/hxen-project/hxen/platform/paths"
	"github.com/hxen-project/hxen/platform/proc"
)

func stored(t *testing.T, guests ...string) paths.Store {
	t.Helper()
	s := paths.Store{Root: t.TempDir()}
	for _, g := range guests {
		if err := os.MkdirAll(s.Guest(g, "").Worker(), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func TestBringOver(t *testing.T) {
	const one, two = "11111111-0000-4000-8000-000000000000", "22222222-0000-4000-8000-000000000000"
	from, to := stored(t, one), stored(t)
	if err := os.Mkdir(to.Guests(), 0o700); err != nil { // by a service that ran already
		t.Fatal(err)
	}
	lock, err := proc.TryLock(from.Guest(one, "").Lock())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bringOver(from, to); err == nil {
		t.Error("a guest that runs was moved")
	}
	lock.Close()
	if moved, err := bringOver(from, to); !moved || err != nil {
		t.Fatal(moved, err)
	}
	if _, err := os.Stat(to.Guest(one, "").Worker()); err != nil {
		t.Error(err)
	}
	if moved, err := bringOver(stored(t, two), to); moved || err != nil {
		t.Errorf("guests were mixed: %v, %v", moved, err)
	}
}

// TestReadyStore: a folder of the user's own choice, and who installed first stays
// the owner.
func TestReadyStore(t *testing.T) {
	d := Desired{Store: filepath.Join(t.TempDir(), "guests"), User: Account{Owner: access.Me()}}
	for _, owner := range []string{access.Me(), "S-1-5-21-1-2-3-1001"} {
		d.User.Owner = owner
		if err := readyStore(d); err != nil {
			t.Fatal(err)
		}
		if got := (paths.Store{Root: d.Store}).Owner(); got != access.Me() {
			t.Errorf("%q is the owner after %q installed", got, owner)
		}
	}
}
