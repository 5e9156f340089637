package client

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/hxen-project/hxen/app/api"
)

// AttachDisk gives a guest the image at path as a disk, at once if it runs.
func (c *Client) AttachDisk(ctx context.Context, vm api.Ref, path string, readOnly bool) (api.VBD, error) {
	abs, err := c.lend(path, !readOnly)
	if err != nil {
		return api.VBD{}, err
	}
	vdi, err := c.introduce(ctx, abs)
	if err != nil {
		return api.VBD{}, err
	}
	want := api.VBD{VM: vm, VDI: vdi, Mode: "RW", Type: "Disk"}
	if readOnly {
		want.Mode = "RO"
	}
	var out api.VBD
	ref, err := c.attach(ctx, api.ClassVBD, vm, want)
	if err == nil {
		err = c.Call(ctx, "VBD.get_record", &out, ref)
	}
	return out, err
}

// AttachCard gives a guest a network card, at once if it runs; an empty mac is
// chosen for it.
func (c *Client) AttachCard(ctx context.Context, vm api.Ref, mac string) (api.VIF, error) {
	var out api.VIF
	ref, err := c.attach(ctx, api.ClassVIF, vm, api.VIF{VM: vm, MAC: mac, Network: api.NullRef})
	if err == nil {
		err = c.Call(ctx, "VIF.get_record", &out, ref)
	}
	return out, err
}

// attach makes a device and, if the guest runs, plugs it in; what cannot be plugged
// in is not left in the settings.
func (c *Client) attach(ctx context.Context, class string, vm api.Ref, record any) (api.Ref, error) {
	var ref api.Ref
	if err := c.Call(ctx, class+".create", &ref, record); err != nil {
		return "", err
	}
	rec, err := c.VM(ctx, vm)
	if err == nil && (rec.PowerState == "Running" || rec.PowerState == "Paused") {
		err = c.verb(ctx, class+".plug", ref)
	}
	if err != nil {
		undo, over := outlasting(ctx, tidyTime)
		defer over()
		_ = c.Call(undo, class+".destroy", nil, ref) // the error that counts is told
		return "", err
	}
	return ref, nil
}

// Disks and Cards are a guest's, in their order.
func (c *Client) Disks(ctx context.Context, vm api.Ref) ([]api.Ref, []api.VBD, error) {
	return records[api.VBD](ctx, c, "VM.get_VBDs", "VBD.get_record", vm)
}

func (c *Client) Cards(ctx context.Context, vm api.Ref) ([]api.Ref, []api.VIF, error) {
	return records[api.VIF](ctx, c, "VM.get_VIFs", "VIF.get_record", vm)
}

func records[T any](ctx context.Context, c *Client, list, get string, vm api.Ref) (refs []api.Ref, out []T, err error) {
	if err := c.Call(ctx, list, &refs, vm); err != nil {
		return nil, nil, err
	}
	for _, ref := range refs {
		var v T
		if err := c.Call(ctx, get, &v, ref); err != nil {
			return nil, nil, err
		}
		out = append(out, v)
	}
	return refs, out, nil
}

// DetachDisk takes a disk from a guest, named by its device (xvdb), place or uuid.
func (c *Client) DetachDisk(ctx context.Context, vm api.Ref, which string) error {
	refs, all, err := c.Disks(ctx, vm)
	if err != nil {
		return err
	}
	for i, d := range all {
		if which == d.Device || which == d.UUID || which == d.Userdevice {
			return c.detach(ctx, api.ClassVBD, refs[i], d.CurrentlyAttached)
		}
	}
	return fmt.Errorf("the guest has no disk %q; hxen block-list shows them", which)
}

// DetachCard takes a card from a guest, named by its place, MAC or uuid.
func (c *Client) DetachCard(ctx context.Context, vm api.Ref, which string) error {
	refs, all, err := c.Cards(ctx, vm)
	if err != nil {
		return err
	}
	for i, n := range all {
		if which == strconv.Itoa(i) || strings.EqualFold(which, n.MAC) || which == n.UUID {
			return c.detach(ctx, api.ClassVIF, refs[i], n.CurrentlyAttached)
		}
	}
	return fmt.Errorf("the guest has no network card %q; hxen network-list shows them", which)
}

func (c *Client) detach(ctx context.Context, class string, ref api.Ref, runs bool) error {
	if runs {
		if err := c.verb(ctx, class+".unplug", ref); err != nil {
			return err
		}
	}
	return c.Call(ctx, class+".destroy", nil, ref)
}
