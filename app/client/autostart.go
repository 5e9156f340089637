package client

import (
	"context"
	"fmt"
	"strconv"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/platform/proc"
)

// Autostart is what to change of how a guest starts and stops with the host; nil
// leaves a thing as it is.
type Autostart struct {
	On         *bool
	Order      *int64  // place in the start order
	Delay      *int64  // seconds until the next guest starts
	WaitFor    *string // "network", a path, or "" for nothing
	OnHostStop *string // shutdown, save, poweroff
}

// SetAutostart changes when a guest starts with the host.
func (c *Client) SetAutostart(ctx context.Context, vm api.Ref, a Autostart) error {
	var other map[string]string
	if err := c.Call(ctx, "VM.get_other_config", &other, vm); err != nil {
		return err
	}
	for key, v := range map[string]*string{api.KeyWaitFor: a.WaitFor, api.KeyOnHostStop: a.OnHostStop} {
		if v != nil {
			other[key] = *v
		}
	}
	if a.On != nil {
		other["auto_poweron"] = strconv.FormatBool(*a.On)
	}
	if err := c.Call(ctx, "VM.set_other_config", nil, vm, other); err != nil {
		return err
	}
	for field, v := range map[string]*int64{"order": a.Order, "start_delay": a.Delay} {
		if v != nil {
			if err := c.Call(ctx, "VM.set_"+field, nil, vm, *v); err != nil {
				return err
			}
		}
	}
	return nil
}

// Policies are what to do when a guest ends by itself, in xl's words; nil leaves
// one as it is.
type Policies struct {
	OnPoweroff, OnReboot, OnCrash, OnWatchdog *string
}

// SetPolicies changes what is done when a guest ends.
func (c *Client) SetPolicies(ctx context.Context, vm api.Ref, p Policies) error {
	for field, v := range map[string]*string{"shutdown": p.OnPoweroff, "reboot": p.OnReboot, "crash": p.OnCrash} {
		if v == nil {
			continue
		}
		if err := c.Call(ctx, "VM.set_actions_after_"+field, nil, vm, *v); err != nil {
			return err
		}
	}
	if p.OnWatchdog == nil {
		return nil
	}
	var other map[string]string
	if err := c.Call(ctx, "VM.get_other_config", &other, vm); err != nil {
		return err
	}
	other[api.KeyOnWatchdog] = *p.OnWatchdog
	return c.Call(ctx, "VM.set_other_config", nil, vm, other)
}

// EndService has the service end, under its guests, and waits for its end.
func (c *Client) EndService(ctx context.Context) error {
	if err := c.Plugin(ctx, api.FnEnd, nil, nil); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, c.opt.Wait, fmt.Errorf("it did not end within %v", c.opt.Wait))
	defer cancel()
	if err := proc.WaitFree(ctx, c.opt.Store.Lock()); err != nil {
		return fmt.Errorf("end the service: %w", err)
	}
	return nil
}
