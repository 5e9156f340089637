package model

import (
	"context"

	"github.com/hxen-project/hxen/app/api"
)

// Repairs says what Repair would do about a guest whose folder cannot be used;
// empty if nothing.
func (v *VM) Repairs() string { return v.Record.OtherConfig[api.KeyRepair] }

// Repair makes a guest whose folder cannot be used one that can; done gets which.
func (v *VM) Repair(done func(api.Ref, error)) {
	ref := v.Ref
	var made api.Ref
	v.lib.Async(func(ctx context.Context) (err error) {
		made, err = v.lib.svc.Repair(ctx, ref)
		return err
	}, func(err error) { done(made, err) })
}

// Moved is the first disk whose image is not where it was.
func (v *VM) Moved() (Disk, bool) {
	for _, d := range v.Disks() {
		if d.Missing && !d.CD {
			return d, true
		}
	}
	return Disk{}, false
}

// Relink tells the guest where a disk's image is now.
func (v *VM) Relink(d Disk, path string, done func(error)) {
	ref := v.Ref
	v.lib.Async(func(ctx context.Context) error { return v.lib.svc.Relink(ctx, ref, d.Path, path) }, done)
}
