package client

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/hxen-project/hxen/app/api"
)

// ErrNoGuest says that Find found nothing.
var ErrNoGuest = errors.New("there is no guest")

// VMs returns all guests.
func (c *Client) VMs(ctx context.Context) (map[api.Ref]api.VM, error) {
	var out map[api.Ref]api.VM
	err := c.Call(ctx, "VM.get_all_records", &out)
	return out, err
}

// VM returns one guest's record.
func (c *Client) VM(ctx context.Context, vm api.Ref) (api.VM, error) {
	var out api.VM
	err := c.Call(ctx, "VM.get_record", &out, vm)
	return out, err
}

// List returns the columns of xl list, cheaply.
func (c *Client) List(ctx context.Context) ([]api.ListRow, error) {
	var out []api.ListRow
	err := c.Plugin(ctx, api.FnList, nil, &out)
	return out, err
}

// Find returns the one guest that has this uuid, domid or name. A uuid may be in
// capital letters; a number is a domid before it is a name.
func (c *Client) Find(ctx context.Context, what string) (api.Ref, api.ListRow, error) {
	rows, err := c.List(ctx)
	if err != nil {
		return "", api.ListRow{}, err
	}
	row, err := find(rows, what)
	return api.RefOf(row.UUID), row, err
}

func find(rows []api.ListRow, what string) (api.ListRow, error) {
	domid, err := strconv.Atoi(what)
	isNumber := err == nil && domid >= 0
	var named []api.ListRow
	for _, r := range rows {
		switch {
		case strings.EqualFold(r.UUID, what) && what != "", isNumber && r.DomID == domid:
			return r, nil
		case r.Name == what:
			named = append(named, r)
		}
	}
	switch len(named) {
	case 1:
		return named[0], nil
	case 0:
		return api.ListRow{}, fmt.Errorf("%w with name, uuid or domid %q; `hxen list` shows them all", ErrNoGuest, what)
	}
	lines := make([]string, len(named))
	for i, r := range named {
		lines[i] = fmt.Sprintf("%s (%s)", r.UUID, strings.ToLower(r.Power))
	}
	slices.Sort(lines)
	return api.ListRow{}, fmt.Errorf("%d guests are called %q: %s; use the uuid", len(named), what, strings.Join(lines, ", "))
}

// Create makes a guest. Relative paths in g are of this process's folder.
func (c *Client) Create(ctx context.Context, g api.NewGuest, progress Progress) (api.Created, error) {
	for _, p := range []*string{&g.ISO, &g.Disk, &g.Kernel, &g.Initrd} {
		if *p == "" {
			continue
		}
		abs, err := c.lend(*p, p == &g.Disk && !g.CopyDisk && !g.ReadOnly)
		if err != nil {
			return api.Created{}, err
		}
		*p = abs
	}
	var out api.Created
	err := c.PluginTask(ctx, api.FnCreate, g, progress, &out)
	return out, err
}

// Start starts a guest, and leaves it paused before its first instruction if
// asked to.
func (c *Client) Start(ctx context.Context, vm api.Ref, paused bool) error {
	return c.verb(ctx, "VM.start", vm, paused, false)
}

// Pause stops a guest's processors.
func (c *Client) Pause(ctx context.Context, vm api.Ref) error { return c.verb(ctx, "VM.pause", vm) }

// Unpause lets them go on.
func (c *Client) Unpause(ctx context.Context, vm api.Ref) error { return c.verb(ctx, "VM.unpause", vm) }

// Suspend saves a guest's state into its folder and ends it. When ctx ends, the
// save is cancelled and the guest goes on.
func (c *Client) Suspend(ctx context.Context, vm api.Ref, progress Progress) error {
	_, err := c.do(ctx, progress, "VM.suspend", vm)
	return err
}

// Resume lets a suspended guest go on, and leaves it paused if asked to. force has
// it go on although the date of a disk was changed meanwhile.
func (c *Client) Resume(ctx context.Context, vm api.Ref, paused, force bool, progress Progress) error {
	_, err := c.do(ctx, progress, "VM.resume", vm, paused, force)
	return err
}

// CleanShutdown asks a guest to shut down and waits until it has.
func (c *Client) CleanShutdown(ctx context.Context, vm api.Ref) error {
	return c.verb(ctx, "VM.clean_shutdown", vm)
}

// HardShutdown takes a guest's power away.
func (c *Client) HardShutdown(ctx context.Context, vm api.Ref) error {
	return c.verb(ctx, "VM.hard_shutdown", vm)
}

// CleanReboot asks a guest to reboot.
func (c *Client) CleanReboot(ctx context.Context, vm api.Ref) error {
	return c.verb(ctx, "VM.clean_reboot", vm)
}

// HardReboot resets a guest.
func (c *Client) HardReboot(ctx context.Context, vm api.Ref) error {
	return c.verb(ctx, "VM.hard_reboot", vm)
}

// SetMemory asks a running guest to use this many bytes of its memory.
func (c *Client) SetMemory(ctx context.Context, vm api.Ref, bytes int64) error {
	return c.verb(ctx, "VM.set_memory_dynamic_range", vm, bytes, bytes)
}

// SetVCPUs asks a running guest to use its first n processors.
func (c *Client) SetVCPUs(ctx context.Context, vm api.Ref, n int) error {
	return c.verb(ctx, "VM.set_VCPUs_number_live", vm, int64(n))
}

// verb runs a lifecycle method to its end.
func (c *Client) verb(ctx context.Context, method string, params ...any) error {
	_, err := c.do(ctx, nil, method, params...)
	return err
}

// Rename gives a guest another name.
func (c *Client) Rename(ctx context.Context, vm api.Ref, name string) error {
	return c.Call(ctx, "VM.set_name_label", nil, vm, name)
}

// Delete moves a halted guest to the trash; with keepDisks its disks stay.
func (c *Client) Delete(ctx context.Context, vm api.Ref, keepDisks bool) (api.Deleted, error) {
	var out api.Deleted
	err := c.PluginTask(ctx, api.FnDelete, api.Delete{VM: vm, KeepDisks: keepDisks}, nil, &out)
	return out, err
}

// DeletePaths tells what Delete would move, and what it would leave.
func (c *Client) DeletePaths(ctx context.Context, vm api.Ref) (api.Deleted, error) {
	var out api.Deleted
	err := c.Plugin(ctx, api.FnPaths, api.VMArg{VM: vm}, &out)
	return out, err
}

// InsertCD puts the CD image at path into a guest's CD drive, in place of what
// is in it.
func (c *Client) InsertCD(ctx context.Context, vm api.Ref, path string) error {
	abs, err := c.lend(path, false)
	if err != nil {
		return err
	}
	drive, cd, err := c.drive(ctx, vm)
	if err != nil {
		return err
	}
	vdi, err := c.introduce(ctx, abs)
	if err != nil {
		return err
	}
	if !cd.Empty {
		if cd.VDI == vdi {
			return nil
		}
		if err := c.verb(ctx, "VBD.eject", drive); err != nil && !IsCode(err, api.ErrVBDIsEmpty) {
			return err
		}
	}
	return c.verb(ctx, "VBD.insert", drive, vdi)
}

// EjectCD empties a guest's CD drive.
func (c *Client) EjectCD(ctx context.Context, vm api.Ref) error {
	drive, _, err := c.drive(ctx, vm)
	if err != nil {
		return err
	}
	return c.verb(ctx, "VBD.eject", drive)
}

// drive finds a guest's first CD drive.
func (c *Client) drive(ctx context.Context, vm api.Ref) (api.Ref, api.VBD, error) {
	var vbds []api.Ref
	if err := c.Call(ctx, "VM.get_VBDs", &vbds, vm); err != nil {
		return "", api.VBD{}, err
	}
	for _, ref := range vbds {
		var v api.VBD
		if err := c.Call(ctx, "VBD.get_record", &v, ref); err != nil {
			return "", v, err
		}
		if v.Type == "CD" {
			return ref, v, nil
		}
	}
	return "", api.VBD{}, api.NewError(api.ErrRefused, "CD drive", "the guest has none", "")
}

// introduce makes an image outside the store known and returns its reference.
// The parameters are those of XenAPI's VDI.introduce that have no default; the
// service looks at the image itself, so only where it lies matters.
func (c *Client) introduce(ctx context.Context, path string) (api.Ref, error) {
	sr, err := c.outside(ctx)
	if err != nil {
		return "", err
	}
	var vdi api.Ref
	none := map[string]string{}
	err = c.Call(ctx, "VDI.introduce", &vdi,
		"", filepath.Base(path), "", sr, "user", false, true, none, path, none, none)
	return vdi, err
}

// outside returns the place of images that lie outside the store: the one that
// is not the pool's default.
func (c *Client) outside(ctx context.Context) (api.Ref, error) {
	var pools map[api.Ref]api.Pool
	if err := c.Call(ctx, "pool.get_all_records", &pools); err != nil {
		return "", err
	}
	var srs []api.Ref
	if err := c.Call(ctx, "SR.get_all", &srs); err != nil {
		return "", err
	}
	for _, sr := range srs {
		for _, pool := range pools {
			if sr != pool.DefaultSR {
				return sr, nil
			}
		}
	}
	return "", errors.New("the service has no place for images outside the store: it is of another version")
}

// DataSources returns a guest's figures as of now.
func (c *Client) DataSources(ctx context.Context, vm api.Ref) ([]api.DataSource, error) {
	var out []api.DataSource
	err := c.Call(ctx, "VM.get_data_sources", &out, vm)
	return out, err
}

// HostInfo tells what the host offers to guests.
func (c *Client) HostInfo(ctx context.Context) (api.HostInfo, error) {
	var out api.HostInfo
	err := c.Plugin(ctx, api.FnDefault, nil, &out)
	return out, err
}

// Probe tells what an image file is.
func (c *Client) Probe(ctx context.Context, path string) (api.ProbeResult, error) {
	abs, err := c.lend(path, false)
	if err != nil {
		return api.ProbeResult{}, err
	}
	var out api.ProbeResult
	err = c.Plugin(ctx, api.FnProbe, api.Probe{Path: abs}, &out)
	return out, err
}

// Keys presses Linux KEY_* codes together in a guest and lets go.
func (c *Client) Keys(ctx context.Context, vm api.Ref, codes ...uint16) error {
	return c.Plugin(ctx, api.FnKeys, api.Keys{VM: vm, Codes: codes}, nil)
}

// Config returns a guest's settings.
func (c *Client) Config(ctx context.Context, vm api.Ref) (api.GuestConfig, error) {
	var out api.GuestConfig
	err := c.Plugin(ctx, api.FnGet, api.VMArg{VM: vm}, &out)
	return out, err
}

// SetConfig replaces a halted guest's settings.
func (c *Client) SetConfig(ctx context.Context, g api.GuestConfig) error {
	return c.Plugin(ctx, api.FnConfig, g, nil)
}

// Retype makes a halted guest one of the other type, hvm or pvh, and returns what
// was changed and what its own files may name, a sentence each.
func (c *Client) Retype(ctx context.Context, vm api.Ref, to string) ([]string, error) {
	var out api.Retyped
	err := c.Plugin(ctx, api.FnRetype, api.Retype{VM: vm, Type: to}, &out)
	return out.Notes, err
}

// BootMenu tells what the disks of a halted guest can boot.
func (c *Client) BootMenu(ctx context.Context, vm api.Ref) (api.BootMenu, error) {
	var out api.BootMenu
	err := c.PluginTask(ctx, api.FnBoot, api.VMArg{VM: vm}, nil, &out)
	return out, err
}

// SetBootEntry has a halted guest boot this entry of its disks' menu; empty: what
// its boot loader would.
func (c *Client) SetBootEntry(ctx context.Context, vm api.Ref, entry string) error {
	return c.Call(ctx, "VM.set_PV_bootloader_args", nil, vm, entry)
}

// Version tells which service runs.
func (c *Client) Version(ctx context.Context) (api.Version, error) {
	var out api.Version
	err := c.Plugin(ctx, api.FnVersion, nil, &out)
	return out, err
}

// Ping returns nil if the service answers.
func (c *Client) Ping(ctx context.Context) error {
	_, err := c.Version(ctx)
	return err
}
