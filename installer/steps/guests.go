package steps

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/hxen-project/hxen/app/client"
	"github.com/hxen-project/hxen/app/text"
	"github.com/hxen-project/hxen/platform/paths"
	"github.com/hxen-project/hxen/platform/proc"
)

// stopWait is how long a service gets to end; guests go on without it.
const stopWait = 15 * time.Second

// stopService ends this user's service if one runs that nobody registered: its
// program is about to be replaced or removed. Guests are not touched.
func (s *Setup) stopService(ctx context.Context) {
	store, err := paths.Default()
	if err != nil {
		return
	}
	c, err := client.Open(ctx, client.Options{Store: store, NoStart: true, Program: "hxen-setup"})
	if err != nil {
		return
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, stopWait)
	defer cancel()
	_ = c.EndService(ctx) // one that does not want to has its program renamed or replaced under it
}

// removeGuests deletes this user's store, which was asked for by name. A store
// with a guest that runs stays as it is.
func removeGuests() error {
	store, err := paths.Default()
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(store.Guests())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the guests: %w", err)
	}
	for _, e := range entries {
		g := store.Guest(e.Name(), "")
		if held, err := proc.Held(g.Lock()); err == nil && held {
			return errors.New(text.T("A guest is running, so no guest was removed; they are in %s.", store.Root))
		}
	}
	for _, name := range []string{store.Guests(), store.Networks(), store.Media(), store.Trash(), store.Log(), store.Log() + ".1",
		store.DomID(), store.Hosts(), store.Probes(), store.Lock(), store.OwnerRecord()} {
		if err := os.RemoveAll(name); err != nil {
			return fmt.Errorf("remove the guests: %w", err)
		}
	}
	os.Remove(store.Root + "/run")
	os.Remove(store.Root) // if nothing else is in it
	return nil
}
