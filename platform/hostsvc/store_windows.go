package hostsvc

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/hxen-project/hxen/platform/access"
	"github.com/hxen-project/hxen/platform/paths"
	"github.com/hxen-project/hxen/platform/proc"
)

// readyStore makes the folder of the service's guests, which the service, the user
// whose guests they are and administrators may use, and notes who that user is: who
// installed the service first, as somebody else must not get their guests by
// repairing HXEN. A folder of the user's own choice stays open to whom it was.
func readyStore(d Desired) error {
	theirs, err := paths.OfUser(d.User.Home)
	if err != nil {
		return err
	}
	store := paths.Store{Root: d.Store}
	owner := d.User.Owner
	if first := store.Owner(); first != "" && access.Trusted(store.Root) == nil {
		owner = first
	}
	if store == theirs {
		err = serviceStore(store, owner)
	} else if err = os.MkdirAll(store.Root, 0o700); err == nil {
		err = access.Lend(store.Root, access.Service(), true)
	}
	if errors.Is(err, access.ErrForeign) {
		return fmt.Errorf("make the folder for the service's guests: %w; remove it as administrator", err)
	}
	if err != nil {
		return fmt.Errorf("make the folder for the service's guests: %w", err)
	}
	if err := os.WriteFile(store.OwnerRecord(), []byte(owner+"\n"), 0o600); err != nil {
		return fmt.Errorf("note whose guests the service has: %w", err)
	}
	return nil
}

// serviceStore is the folder in ProgramData, into which the owner's guests go so that
// they are theirs as before.
func serviceStore(store paths.Store, owner string) error {
	protect := func() error { return access.Protect(store.Root, access.Service(), owner) }
	if err := protect(); err != nil {
		return err
	}
	own, err := paths.Own()
	if err != nil || owner != access.Me() {
		return err // whose folder this program does not know
	}
	moved, err := bringOver(own, store)
	if err != nil || !moved {
		return err
	}
	return protect() // what came in has the access lists of where it was
}

// bringOver moves guests to a store that has none. While a guest runs it is refused.
func bringOver(from, to paths.Store) (moved bool, err error) {
	guests, _ := os.ReadDir(from.Guests())
	there, _ := os.ReadDir(to.Guests())
	if len(guests) == 0 || len(there) > 0 {
		return false, nil
	}
	locks := []string{from.Lock()}
	for _, g := range guests {
		locks = append(locks, from.Guest(g.Name(), "").Lock())
	}
	for _, l := range locks {
		if held, err := proc.Held(l); err == nil && held {
			return false, fmt.Errorf("your guests in %s become the service's, but one of them, or a service of theirs, runs: shut it down first", from.Root)
		}
	}
	for _, old := range []string{from.Networks(), from.Media(), from.Trash(), from.Hosts(), from.DomID(), from.Guests()} {
		place := filepath.Join(to.Root, filepath.Base(old))
		_ = os.Remove(place) // an empty folder gives way; others make the move fail
		if err := os.Rename(old, place); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return true, fmt.Errorf("your guests in %s become the service's: %w; move them to %s yourself, or delete what is in the way", from.Root, err, to.Root)
		}
	}
	return true, nil
}
