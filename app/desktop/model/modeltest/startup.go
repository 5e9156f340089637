package modeltest

import (
	"context"
	"slices"
	"strconv"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/app/client"
)

// SetAutostart implements model.Service.
func (s *Service) SetAutostart(ctx context.Context, vm api.Ref, a client.Autostart) error {
	return s.work(ctx, "SetAutostart", "autostart", func() error {
		s.change(vm, func(v *api.VM) {
			if a.On != nil {
				v.OtherConfig["auto_poweron"] = strconv.FormatBool(*a.On)
			}
			if a.Order != nil {
				v.Order = *a.Order
			}
		})
		return nil
	})
}

// trash is what Trash answers.
var trash = []api.Trashed{{ID: "20260102T030405-old-11111111", Name: "old", Size: 3 << 30, Path: "/store/trash/20260102T030405-old-11111111"}}

// Trash implements model.Service.
func (s *Service) Trash(context.Context) ([]api.Trashed, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(trash), s.fail["Trash"]
}

// Untrash implements model.Service.
func (s *Service) Untrash(ctx context.Context, _ string) error {
	return s.work(ctx, "Untrash", "restore", func() error { return nil })
}

// EmptyTrash implements model.Service.
func (s *Service) EmptyTrash(ctx context.Context, _ string) error {
	return s.work(ctx, "EmptyTrash", "empty", func() error { return nil })
}
