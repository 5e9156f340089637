package native

import (
	"context"
	"fmt"
	"log/slog"
	"slices"

	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/bootdisk"
)

// BootMenu reads from a guest's disks what they can boot, and writes nothing. The
// guest must not run. h.Confine is called before the first byte is read.
func BootMenu(ctx context.Context, s hv.Spec, h hv.Host) (*bootdisk.Menu, error) {
	if h.Log == nil {
		h.Log = slog.New(slog.DiscardHandler)
	}
	s.Disks = slices.DeleteFunc(slices.Clone(s.Disks), hv.Disk.IsCD)
	if len(s.Disks) == 0 {
		return nil, fmt.Errorf("the guest has no disk to boot from")
	}
	for i := range s.Disks {
		s.Disks[i].Mode = hv.ReadOnly
	}
	g := newGuest(s, h)
	defer g.abandon()
	if err := g.openDisks(ctx); err != nil {
		return nil, err
	}
	if err := g.confine(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, bootPatience)
	defer cancel()
	return bootdisk.Find(ctx, g.bootDisks)
}
