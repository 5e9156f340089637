package native

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/accel"
	"github.com/hxen-project/hxen/hv/savefile"
	"github.com/hxen-project/hxen/hv/xen"
)

// Stages of a launch, for hv.StageError.
const (
	stageSpec      = "settings"
	stageKernel    = "kernel"
	stageAccel     = "accelerator"
	stageMachine   = "machine"
	stageNetwork   = "network"
	stageIsolation = "isolation"
	stageDisk      = "disk"
	stageSaved     = "saved state"
)

// Engine runs guests of type pvh.
type Engine struct {
	open func() (accel.Hypervisor, error)
}

var _ hv.Engine = (*Engine)(nil)

// New makes the engine. open opens the host's hypervisor, once for each guest.
func New(open func() (accel.Hypervisor, error)) *Engine { return &Engine{open} }

// Name is the engine's name.
func (*Engine) Name() string { return "native" }

// Check looks at what the Spec alone can tell, and whether its files are there.
func (*Engine) Check(s hv.Spec) error {
	if err := s.Check(); err != nil {
		return err
	}
	if s.Type != hv.PVH {
		return fmt.Errorf("type %s: the native engine runs guests of type pvh: %w", s.Type, hv.ErrUnsupported)
	}
	if s.Boot.Kernel == "" && !hasDisk(s) {
		return fmt.Errorf("a guest of type pvh boots from its disk or from a kernel on this computer, and has neither: choose one in its settings")
	}
	if s.VCPUs > xen.MaxVCPUs {
		return fmt.Errorf("%d processors: a guest of type pvh can have %d", s.VCPUs, xen.MaxVCPUs)
	}
	if err := checkCmdline(s.Boot.Cmdline); err != nil {
		return err
	}
	for what, path := range map[string]string{"kernel": s.Boot.Kernel, "initial ramdisk": s.Boot.Initrd} {
		if path == "" {
			continue
		}
		if err := readable(path); err != nil {
			return fmt.Errorf("the %s: %w", what, err)
		}
	}
	return nil
}

func readable(path string) error {
	if !filepath.IsAbs(path) {
		return fmt.Errorf("%s is not an absolute path", path)
	}
	f, err := os.Open(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s is not there: put it back, or choose another in the guest's settings", path)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s cannot be read: give yourself the right to read it (chmod a+r)", path)
	case err != nil:
		return err
	}
	defer f.Close()
	if fi, err := f.Stat(); err != nil {
		return err
	} else if !fi.Mode().IsRegular() {
		return fmt.Errorf("%s is not a file", path)
	}
	return nil
}

// Launch loads the guest's kernel and starts it. The error is a *hv.StageError,
// and nothing is left behind then.
func (e *Engine) Launch(ctx context.Context, s hv.Spec, h hv.Host) (hv.Machine, error) {
	if h.Log == nil {
		h.Log = slog.New(slog.DiscardHandler)
	}
	if err := e.Check(s); err != nil {
		return nil, staged(stageSpec, err, "")
	}
	g, err := e.prepare(ctx, s, h)
	if err != nil {
		return nil, err
	}
	c := g.config
	c.Ready = g.confine
	m, err := Start(g.hyp, c)
	if err != nil {
		g.abandon()
		return nil, staged(stageMachine, err, "")
	}
	g.begin(m)
	return g, nil
}

// prepare opens what a guest needs for its life.
func (e *Engine) prepare(ctx context.Context, s hv.Spec, h hv.Host) (_ *Guest, err error) {
	id, err := hex.DecodeString(strings.ReplaceAll(s.UUID, "-", ""))
	if err != nil || len(id) != 16 {
		return nil, staged(stageSpec, fmt.Errorf("%q is no uuid", s.UUID), "")
	}
	g := newGuest(s, h)
	defer func() {
		if err != nil {
			g.abandon()
		}
	}()
	g.config = Config{
		UUID: [16]byte(id), Name: s.Name, VCPUs: s.VCPUs, Memory: s.Memory,
		Cmdline: s.Boot.Cmdline, Hold: h.Hold, Slept: h.Slept, Log: h.Log, Notice: g.notice,
		OnCrash: s.OnCrash, OnWatchdog: s.OnWatchdog, Work: h.Work,
		Stopped: func() { g.events.Put(hv.Event{Kind: hv.EventState, State: hv.Paused}) },
	}
	g.config.Outside = g.outside
	if h.Restore != "" {
		if g.config.Saved, err = OpenSaved(h.Restore); err != nil {
			return nil, staged(stageSaved, err, "")
		}
		g.config.Progress = g.progress("reading the saved guest")
		now, err := g.config.Outside()
		if err == nil && !g.config.Saved.clones(g.config.UUID) { // a clone has copies
			err = savefile.Same(g.config.Saved.state.Outside.Disks, now.Disks, h.Force)
		}
		if err != nil {
			return nil, staged(stageSaved, err, savefile.DiscardCure)
		}
	}
	if err := g.place(g.config.Saved); err != nil {
		return nil, staged(stageSaved, err, savefile.DiscardCure)
	}
	if err := g.openKernel(ctx); err != nil {
		if h.Restore == "" {
			return nil, err
		}
		h.Log.Warn("a restored guest will not be able to restart", "err", err)
	}
	if err := ctx.Err(); err != nil {
		return nil, staged(stageKernel, err, "")
	}
	if err := g.openDevices(ctx); err != nil {
		return nil, err
	}
	if s.Boot.Kernel == "" && h.Restore == "" { // a restart reads the disk anyway
		if err := g.loadFromDisk(ctx, &g.config); err != nil {
			return nil, staged(stageKernel, err, "")
		}
	}
	if g.hyp, err = e.open(); err != nil {
		return nil, staged(stageAccel, err, "run the guest as hvm, which QEMU can emulate, or see what \"hxen doctor\" says of the accelerator")
	}
	return g, nil
}

// openKernel opens what the guest is started with.
func (g *Guest) openKernel(ctx context.Context) error {
	boot := g.spec.Boot
	if boot.Kernel == "" { // it is on the guest's disk
		return nil
	}
	file, kernel, err := OpenKernel(ctx, boot.Kernel, g.host.Cache, g.progress("unpacking the kernel"))
	if err != nil {
		return staged(stageKernel, err, "")
	}
	g.files = append(g.files, file)
	g.config.KernelFile, g.config.Kernel = file, kernel
	if boot.Initrd == "" {
		return nil
	}
	f, err := os.Open(boot.Initrd)
	if err != nil {
		return staged(stageKernel, fmt.Errorf("open the initial ramdisk: %w", err), "")
	}
	g.files = append(g.files, f)
	st, err := f.Stat()
	if err != nil {
		return staged(stageKernel, fmt.Errorf("look at the initial ramdisk: %w", err), "")
	}
	g.config.Initrd = &Image{Data: f, Size: uint64(st.Size())}
	return nil
}

// progress tells the host of a stage.
func (g *Guest) progress(stage string) func(done, total int64) {
	return func(done, total int64) {
		if g.host.Progress != nil {
			g.host.Progress(stage, done, total)
		}
	}
}

// staged gives err a stage unless it has one.
func staged(stage string, err error, cure string) error {
	var se *hv.StageError
	if errors.As(err, &se) {
		return se
	}
	return &hv.StageError{Stage: stage, Err: err, Cure: cure}
}
