package model

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/app/client"
)

// Remote is the Service that the store's real service is, through its client.
type Remote struct {
	options client.Options

	mu     sync.Mutex
	client *client.Client // mu; nil until Watch has connected
}

var _ Service = (*Remote)(nil)

// NewRemote makes a Remote. It connects, and starts the service if none runs,
// when Watch is called.
func NewRemote(o client.Options) *Remote { return &Remote{options: o} }

// Close logs out.
func (r *Remote) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.client == nil {
		return nil
	}
	return r.client.Close()
}

// errDropped is that a service which answered does so no more. Why is nothing for
// a person: it is started again.
var errDropped = errors.New("the connection to the service was lost")

var errNotYet = errors.New("the service has not answered yet; try again in a moment")

func (r *Remote) c() (*client.Client, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.client == nil {
		return nil, errNotYet
	}
	return r.client, nil
}

func (r *Remote) connect(ctx context.Context) (*client.Client, error) {
	if c, err := r.c(); err == nil {
		return c, c.StartService(ctx)
	}
	c, err := client.Open(ctx, r.options)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.client = c
	return c, nil
}

// watched are the classes that the library is made of.
var watched = []string{api.ClassVM, api.ClassVMMetrics, api.ClassVMGuestMetrics, api.ClassVBD, api.ClassVDI, api.ClassVIF, api.ClassTask}

// Watch implements Service.
func (r *Remote) Watch(ctx context.Context, deliver func(Batch)) error {
	c, err := r.connect(ctx)
	if err != nil {
		return err
	}
	ctx, lost := context.WithCancelCause(ctx)
	defer lost(nil)
	return c.Watch(ctx, watched, func(b client.Batch) {
		if !b.Connected {
			lost(fmt.Errorf("%w: %w", errDropped, b.Err))
			return
		}
		out := Batch{Full: b.Reset}
		for _, e := range b.Events {
			if change, ok := changeOf(e); ok {
				out.Changes = append(out.Changes, change)
			}
		}
		deliver(out)
	})
}

// changeOf turns an event into a change. A record that cannot be read is left
// out: a newer service may say more than we know.
func changeOf(e api.Event) (Change, bool) {
	ref := e.Ref
	if e.Operation == api.EventDel {
		return Change{Ref: ref, Gone: true}, true
	}
	switch {
	case e.Is(api.ClassVM):
		return decode[api.VM](e)
	case e.Is(api.ClassVMMetrics):
		return decode[api.VMMetrics](e)
	case e.Is(api.ClassVMGuestMetrics):
		return decode[api.VMGuestMetrics](e)
	case e.Is(api.ClassVBD):
		return decode[api.VBD](e)
	case e.Is(api.ClassVDI):
		return decode[api.VDI](e)
	case e.Is(api.ClassVIF):
		return decode[api.VIF](e)
	case e.Is(api.ClassTask):
		return decode[api.Task](e)
	}
	return Change{}, false
}

func decode[T any](e api.Event) (Change, bool) {
	v, err := client.Decode[T](e)
	return Change{Ref: e.Ref, Record: &v}, err == nil
}

// get calls f with the client.
func get[T any](r *Remote, f func(*client.Client) (T, error)) (T, error) {
	c, err := r.c()
	if err != nil {
		var none T
		return none, err
	}
	return f(c)
}

func (r *Remote) do(f func(*client.Client) error) error {
	c, err := r.c()
	if err != nil {
		return err
	}
	return f(c)
}

// Host implements Service.
func (r *Remote) Host(ctx context.Context) (api.HostInfo, error) {
	return get(r, func(c *client.Client) (api.HostInfo, error) { return c.HostInfo(ctx) })
}

// Do implements Service.
func (r *Remote) Do(ctx context.Context, vm api.Ref, op string) error {
	return r.do(func(c *client.Client) error {
		switch op {
		case OpStart:
			return c.Start(ctx, vm, false)
		case OpPause:
			return c.Pause(ctx, vm)
		case OpResume:
			return c.Unpause(ctx, vm)
		case OpShutdown:
			return c.CleanShutdown(ctx, vm)
		case OpRestart:
			return c.CleanReboot(ctx, vm)
		case OpPowerOff:
			return c.HardShutdown(ctx, vm)
		case OpSave:
			return c.Suspend(ctx, vm, nil)
		case OpRestore:
			return c.Resume(ctx, vm, false, false, nil)
		case OpReset:
			return c.HardReboot(ctx, vm)
		}
		return fmt.Errorf("%s is no operation that can be asked for", op)
	})
}

// Rename implements Service.
func (r *Remote) Rename(ctx context.Context, vm api.Ref, name string) error {
	return r.do(func(c *client.Client) error { return c.Rename(ctx, vm, name) })
}

// Clone implements Service.
func (r *Remote) Clone(ctx context.Context, vm api.Ref, name string) error {
	return r.do(func(c *client.Client) error {
		made, err := c.CloneVM(ctx, vm, name, nil)
		if err != nil {
			return err
		}
		rec, err := c.VM(ctx, made)
		if err != nil {
			return err
		}
		if rec.PowerState == Suspended {
			return c.Resume(ctx, made, false, false, nil)
		}
		return c.Start(ctx, made, false)
	})
}

// SetTemplate implements Service.
func (r *Remote) SetTemplate(ctx context.Context, vm api.Ref, on bool) error {
	return r.do(func(c *client.Client) error { return c.SetTemplate(ctx, vm, on) })
}

// Config implements Service.
func (r *Remote) Config(ctx context.Context, vm api.Ref) (api.GuestConfig, error) {
	return get(r, func(c *client.Client) (api.GuestConfig, error) { return c.Config(ctx, vm) })
}

// SetConfig implements Service.
func (r *Remote) SetConfig(ctx context.Context, g api.GuestConfig) error {
	return r.do(func(c *client.Client) error { return c.SetConfig(ctx, g) })
}

// Retype implements Service.
func (r *Remote) Retype(ctx context.Context, vm api.Ref, to string) ([]string, error) {
	return get(r, func(c *client.Client) ([]string, error) { return c.Retype(ctx, vm, to) })
}

// Paths implements Service.
func (r *Remote) Paths(ctx context.Context, vm api.Ref) (api.Deleted, error) {
	return get(r, func(c *client.Client) (api.Deleted, error) { return c.DeletePaths(ctx, vm) })
}

// Delete implements Service.
func (r *Remote) Delete(ctx context.Context, d api.Delete) (api.Deleted, error) {
	return get(r, func(c *client.Client) (api.Deleted, error) { return c.Delete(ctx, d.VM, d.KeepDisks) })
}

// Create implements Service.
func (r *Remote) Create(ctx context.Context, g api.NewGuest) (api.Created, error) {
	return get(r, func(c *client.Client) (api.Created, error) { return c.Create(ctx, g, nil) })
}

// Probe implements Service.
func (r *Remote) Probe(ctx context.Context, path string) (api.ProbeResult, error) {
	return get(r, func(c *client.Client) (api.ProbeResult, error) { return c.Probe(ctx, path) })
}

// InsertCD implements Service.
func (r *Remote) InsertCD(ctx context.Context, vm api.Ref, path string) error {
	return r.do(func(c *client.Client) error { return c.InsertCD(ctx, vm, path) })
}

// EjectCD implements Service.
func (r *Remote) EjectCD(ctx context.Context, vm api.Ref) error {
	return r.do(func(c *client.Client) error { return c.EjectCD(ctx, vm) })
}

// CancelTask implements Service.
func (r *Remote) CancelTask(ctx context.Context, task api.Ref) error {
	return r.do(func(c *client.Client) error { return c.CancelTask(ctx, task) })
}

// DataSources implements Service.
func (r *Remote) DataSources(ctx context.Context, vm api.Ref) ([]api.DataSource, error) {
	return get(r, func(c *client.Client) ([]api.DataSource, error) { return c.DataSources(ctx, vm) })
}

// Screenshot implements Service.
func (r *Remote) Screenshot(ctx context.Context, vm api.Ref) ([]byte, error) {
	return get(r, func(c *client.Client) ([]byte, error) { return c.Screenshot(ctx, vm) })
}

// Console implements Service.
func (r *Remote) Console(ctx context.Context, vm api.Ref, protocol string) (net.Conn, error) {
	return get(r, func(c *client.Client) (net.Conn, error) {
		ref, err := c.ConsoleOf(ctx, vm, protocol)
		if err != nil {
			return nil, err
		}
		return c.Console(ctx, ref)
	})
}

// SetAutostart implements Service.
func (r *Remote) SetAutostart(ctx context.Context, vm api.Ref, a client.Autostart) error {
	return r.do(func(c *client.Client) error { return c.SetAutostart(ctx, vm, a) })
}

// Trash implements Service.
func (r *Remote) Trash(ctx context.Context) ([]api.Trashed, error) {
	return get(r, func(c *client.Client) ([]api.Trashed, error) { return c.Trash(ctx) })
}

// Untrash implements Service.
func (r *Remote) Untrash(ctx context.Context, id string) error {
	return r.do(func(c *client.Client) error {
		_, err := c.Untrash(ctx, id)
		return err
	})
}

// EmptyTrash implements Service.
func (r *Remote) EmptyTrash(ctx context.Context, id string) error {
	return r.do(func(c *client.Client) error {
		_, err := c.EmptyTrash(ctx, id, nil)
		return err
	})
}

// Repair implements Service.
func (r *Remote) Repair(ctx context.Context, vm api.Ref) (api.Ref, error) {
	made, err := get(r, func(c *client.Client) (api.Created, error) { return c.Repair(ctx, vm) })
	return made.VM, err
}

// Relink implements Service.
func (r *Remote) Relink(ctx context.Context, vm api.Ref, disk, path string) error {
	return r.do(func(c *client.Client) error { return c.Relink(ctx, vm, disk, path) })
}
