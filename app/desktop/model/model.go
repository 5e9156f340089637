// Package model is what the windows show, without a window: the library of
// guests and the connection it comes from, one guest with its metrics and what
// may be done to it now, the tasks under way, the state behind the New-VM
// wizard and the settings form, and what goes wrong in words for a person.
//
// It may not know Fyne, goroutines of the window or the wire: it speaks to the
// service through Service, which it declares, and hands every change to the one
// loop it was given. Unless a method says otherwise it is called on that loop.
package model

import (
	"context"
	"net"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/app/client"
)

// Service is what the model needs of the service's client. Every call blocks
// until the work is done or ctx ends, and may run on any goroutine. Long calls
// (power operations, Create, Delete) appear as api.Task in Watch while they run.
type Service interface {
	// Watch connects, starting the service if none runs, and delivers all that
	// is, then what changes, in order and from one goroutine. It returns when
	// the connection ends (the reason) or ctx does.
	Watch(ctx context.Context, deliver func(Batch)) error
	Host(ctx context.Context) (api.HostInfo, error)

	// Do runs one operation of the operation table, by XenAPI's name.
	Do(ctx context.Context, vm api.Ref, op string) error
	Rename(ctx context.Context, vm api.Ref, name string) error
	// Clone makes a guest like vm, which does not run, and has it start, or go on
	// where vm was saved.
	Clone(ctx context.Context, vm api.Ref, name string) error
	// SetTemplate makes a guest that does not run a template, or a guest again.
	SetTemplate(ctx context.Context, vm api.Ref, on bool) error
	Config(ctx context.Context, vm api.Ref) (api.GuestConfig, error)
	SetConfig(ctx context.Context, c api.GuestConfig) error
	// Retype makes a halted guest one of the other type, hvm or pvh, and returns
	// what was changed and what its own files may name, a sentence each.
	Retype(ctx context.Context, vm api.Ref, to string) ([]string, error)
	Paths(ctx context.Context, vm api.Ref) (api.Deleted, error)
	Delete(ctx context.Context, d api.Delete) (api.Deleted, error)
	Create(ctx context.Context, g api.NewGuest) (api.Created, error)
	Probe(ctx context.Context, path string) (api.ProbeResult, error)
	InsertCD(ctx context.Context, vm api.Ref, path string) error
	EjectCD(ctx context.Context, vm api.Ref) error
	CancelTask(ctx context.Context, task api.Ref) error
	// SetAutostart changes how a guest starts and stops with the host.
	SetAutostart(ctx context.Context, vm api.Ref, a client.Autostart) error
	// Trash lists the deleted guests; Untrash makes one a guest again; EmptyTrash
	// erases one, or all for an empty id.
	Trash(ctx context.Context) ([]api.Trashed, error)
	Untrash(ctx context.Context, id string) error
	EmptyTrash(ctx context.Context, id string) error
	// Repair makes a guest whose folder cannot be used one that can, and returns it.
	Repair(ctx context.Context, vm api.Ref) (api.Ref, error)
	// Relink tells that the image of a guest's disk, named by its path, is at another.
	Relink(ctx context.Context, vm api.Ref, disk, path string) error

	// DataSources are the figures of a running guest, now.
	DataSources(ctx context.Context, vm api.Ref) ([]api.DataSource, error)
	// Screenshot is the guest's screen as PNG.
	Screenshot(ctx context.Context, vm api.Ref) ([]byte, error)
	// Console opens the stream of the guest's console with this protocol.
	Console(ctx context.Context, vm api.Ref, protocol string) (net.Conn, error)
}

// Batch is what one answer of the event stream brought.
type Batch struct {
	Full    bool // everything there is: what was known and is not in it is gone
	Changes []Change
}

// Change is one object as it is now. Record is *api.VM, *api.VMMetrics,
// *api.VMGuestMetrics, *api.VBD, *api.VDI, *api.VIF or *api.Task; other classes
// are ignored.
type Change struct {
	Ref    api.Ref
	Gone   bool
	Record any // not read when Gone
}

// Operations by XenAPI's names, as they stand in VM.allowed_operations.
const (
	OpStart     = "start"
	OpPause     = "pause"
	OpResume    = "unpause"
	OpShutdown  = "clean_shutdown"
	OpRestart   = "clean_reboot"
	OpPowerOff  = "hard_shutdown"
	OpReset     = "hard_reboot"
	OpSave      = "suspend" // save the guest's state and end it
	OpRestore   = "resume"  // let it go on from there
	OpDestroy   = "destroy"
	OpRename    = "changing_name"
	OpConfigure = "changing_static_configuration"
	OpMedia     = "changing_media"
	OpKeys      = "send_sysrq"
	OpClone     = "clone"
	OpTemplate  = "make_into_template"
)

// Power states by XenAPI's names.
const (
	Halted    = "Halted"
	Running   = "Running"
	Paused    = "Paused"
	Suspended = "Suspended"
)
