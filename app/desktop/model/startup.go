package model

import (
	"cmp"
	"context"
	"slices"
	"strconv"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/app/client"
	"github.com/hxen-project/hxen/app/text"
)

// Autostart reports whether the guest starts with the computer.
func (v *VM) Autostart() bool {
	on, _ := strconv.ParseBool(v.Record.OtherConfig["auto_poweron"])
	return on
}

// Waiting says why the guest has not started yet although it is to; empty if it
// is not waiting.
func (v *VM) Waiting() string { return v.Record.OtherConfig[api.KeyWaiting] }

// OnHostStop is what becomes of the guest when the computer stops, in a word.
func (v *VM) OnHostStop() string {
	switch v.Record.OtherConfig[api.KeyOnHostStop] {
	case "save":
		return text.T("saved")
	case "poweroff":
		return text.T("powered off")
	}
	return text.T("shut down")
}

// WaitsFor is what must be there before the guest starts by itself: empty,
// "network" or a path.
func (v *VM) WaitsFor() string { return v.Record.OtherConfig[api.KeyWaitFor] }

// SetAutostart changes when the guest starts with the computer; done gets the
// outcome on the loop.
func (v *VM) SetAutostart(a client.Autostart, done func(error)) {
	ref := v.Ref
	v.lib.Async(func(ctx context.Context) error { return v.lib.svc.SetAutostart(ctx, ref, a) }, done)
}

// StartOrder are all guests as the computer starts them: those that start with it
// first, in their order.
func (l *Library) StartOrder() []*VM {
	var out []*VM
	for _, vm := range l.vms {
		if vm.Broken() == "" {
			out = append(out, vm)
		}
	}
	slices.SortFunc(out, func(a, b *VM) int {
		if a.Autostart() != b.Autostart() {
			if a.Autostart() {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(a.Record.Order, b.Record.Order), cmp.Compare(a.Name(), b.Name()))
	})
	return out
}

// LoadTrash asks for the deleted guests.
func (l *Library) LoadTrash(done func([]api.Trashed, error)) {
	var list []api.Trashed
	l.Async(func(ctx context.Context) (err error) {
		list, err = l.svc.Trash(ctx)
		return err
	}, func(err error) { done(list, err) })
}

// Untrash makes a deleted guest one again.
func (l *Library) Untrash(id string, done func(error)) {
	l.Async(func(ctx context.Context) error { return l.svc.Untrash(ctx, id) }, done)
}

// Erase erases one deleted guest for good, or all for an empty id.
func (l *Library) Erase(id string, done func(error)) {
	l.Async(func(ctx context.Context) error { return l.svc.EmptyTrash(ctx, id) }, done)
}
