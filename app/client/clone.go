package client

import (
	"context"

	"github.com/hxen-project/hxen/app/api"
)

// SetTemplate makes a guest that does not run a template, or a guest again.
func (c *Client) SetTemplate(ctx context.Context, vm api.Ref, on bool) error {
	return c.Call(ctx, "VM.set_is_a_template", nil, vm, on)
}

// Checkpoint makes a template of a running guest, which goes on.
func (c *Client) Checkpoint(ctx context.Context, vm api.Ref, name string, progress Progress) (api.Ref, error) {
	return c.made(ctx, progress, "VM.checkpoint", vm, name)
}

// CloneVM makes a guest like one that does not run; like a suspended one, it is
// suspended, too.
func (c *Client) CloneVM(ctx context.Context, vm api.Ref, name string, progress Progress) (api.Ref, error) {
	return c.made(ctx, progress, "VM.clone", vm, name)
}

// made is do for methods that return a reference.
func (c *Client) made(ctx context.Context, progress Progress, method string, params ...any) (api.Ref, error) {
	t, err := c.do(ctx, progress, method, params...)
	if err != nil {
		return "", err
	}
	ref, err := api.ResultString(t.Result)
	return api.Ref(ref), err
}
