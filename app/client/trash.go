package client

import (
	"context"

	"github.com/hxen-project/hxen/app/api"
)

// Trash lists the deleted guests, the last first.
func (c *Client) Trash(ctx context.Context) ([]api.Trashed, error) {
	var out []api.Trashed
	err := c.Plugin(ctx, api.FnTrash, nil, &out)
	return out, err
}

// Untrash makes a deleted guest one again.
func (c *Client) Untrash(ctx context.Context, id string) (api.Created, error) {
	var out api.Created
	err := c.Plugin(ctx, api.FnUntrash, api.TrashArg{ID: id}, &out)
	return out, err
}

// EmptyTrash erases one deleted guest, or all for an empty id, and returns how
// many bytes that freed.
func (c *Client) EmptyTrash(ctx context.Context, id string, progress Progress) (int64, error) {
	var freed int64
	err := c.PluginTask(ctx, api.FnEmpty, api.TrashArg{ID: id}, progress, &freed)
	return freed, err
}

// Relink tells where a guest's disk has moved: path is the image's new place.
func (c *Client) Relink(ctx context.Context, vm api.Ref, disk, path string) error {
	abs, err := c.lend(path, true)
	if err != nil {
		return err
	}
	return c.Plugin(ctx, api.FnRelink, api.Relink{VM: vm, Disk: disk, Path: abs}, nil)
}

// Repair makes a guest whose folder cannot be used one that can.
func (c *Client) Repair(ctx context.Context, vm api.Ref) (api.Created, error) {
	var out api.Created
	err := c.Plugin(ctx, api.FnRepair, api.RepairArg{VM: vm}, &out)
	return out, err
}
