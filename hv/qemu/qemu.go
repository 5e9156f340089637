// Package qemu is the engine for hvm guests: QEMU is the device model, started
// by Launch, held at its first instruction, driven over QMP and watched through
// its events, never by polling.
//
//	args.go    the command line, a pure function of Spec and Facts
//	qmp.go     the QMP connection, an implementation of go-qemu's qmp.Monitor
//	probe.go   what the installed QEMU can do
//	qemu.go    the Engine: checks and Launch
//	wire.go    what they speak over: Unix sockets, else the loopback interface
//	machine.go the Machine: verbs, events.go: QEMU's events to hv's, exit.go: its end
//
// The package knows no service, no store and no operating system: it gets all
// it needs through hv.Host, and only sees sockets and files.
package qemu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/savefile"
)

// Engine runs hvm guests in QEMU.
type Engine struct {
	try func(dir string) error // whether Unix sockets work there
}

// New returns the engine.
func New() *Engine { return &Engine{try: tryUnix} }

var _ hv.Engine = (*Engine)(nil)

// Name is "qemu".
func (*Engine) Name() string { return "qemu" }

// Check looks at what the Spec alone can tell: its fields and the files that it
// names by absolute paths. Launch checks the rest.
func (*Engine) Check(s hv.Spec) error {
	if err := checkSpec(s); err != nil {
		return err
	}
	for _, d := range s.Disks {
		if !filepath.IsAbs(d.Path) {
			continue
		}
		// Only the guest's own folder may hold backing files. The Spec does not say
		// where that is, so here it is the folder of the image itself.
		if _, err := inspect(filepath.Dir(d.Path), "", d); err != nil {
			return err
		}
	}
	return nil
}

func checkSpec(s hv.Spec) error {
	if err := s.Check(); err != nil {
		return err
	}
	if s.Type != hv.HVM {
		return fmt.Errorf("type %s: QEMU runs guests of type hvm: %w", s.Type, hv.ErrUnsupported)
	}
	for what, path := range map[string]string{"kernel": s.Boot.Kernel, "initrd": s.Boot.Initrd} {
		if path == "" {
			continue
		}
		if err := readable(what, path); err != nil {
			return err
		}
	}
	return nil
}

func readable(what, path string) error {
	if !filepath.IsAbs(path) {
		return fmt.Errorf("the %s %s is not an absolute path", what, path)
	}
	fi, err := os.Stat(path)
	if err != nil {
		return mediaError(what, path, err)
	}
	if !fi.Mode().IsRegular() {
		return fmt.Errorf("the %s %s is not a file", what, path)
	}
	f, err := os.Open(path)
	if err != nil {
		return mediaError(what, path, err)
	}
	return f.Close()
}

// launchTime bounds a launch whatever its context says: QEMU answers within
// seconds even on a busy host, and a hang must become a sentence.
const launchTime = 60 * time.Second

// Launch starts QEMU and the guest in it. The error is a *hv.StageError, and
// nothing is left behind then.
func (e *Engine) Launch(ctx context.Context, s hv.Spec, h hv.Host) (hv.Machine, error) {
	ctx, cancel := context.WithTimeout(ctx, launchTime+restoreTime(h.Restore))
	defer cancel()
	if h.Log == nil {
		h.Log = slog.New(slog.DiscardHandler)
	}
	n, err := namesFor(s, h, e.try)
	if err != nil {
		n.remove()
		return nil, staged(stageSockets, err, "")
	}
	m, err := launch(ctx, s, h, n)
	if err != nil {
		n.remove()
		return nil, err
	}
	return m, nil
}

func launch(ctx context.Context, s hv.Spec, h hv.Host, n names) (*Machine, error) {
	if h.QEMU.Path == "" {
		return nil, staged(stageQEMU, errors.New("QEMU is not installed"), h.QEMU.Missing)
	}
	progress(h, "checking")
	if h.Restore != "" && n.Migration == "" {
		return nil, staged(stageSaved, errUnsaved, "discard the saved state, or update Windows")
	}
	sv, closeSaved, err := openSaved(s, h)
	if err != nil {
		return nil, err
	}
	defer closeSaved()
	f, err := prepare(s, h, n)
	if err != nil {
		return nil, err
	}
	c, err := probe(ctx, h, n)
	if err != nil {
		return nil, staged(stageQEMU, fmt.Errorf("ask %s what it can do: %w", h.QEMU.Path, err), h.QEMU.Missing)
	}
	if len(s.NICs) > 0 && !c.Stream {
		return nil, staged(stageNetwork, fmt.Errorf("the installed QEMU %s cannot connect to HXEN's networks", c.Version), "install QEMU 7.2 or newer")
	}
	if err := sv.machine(c); err != nil {
		return nil, err
	}
	if sv != nil {
		f.Restore, f.GenID, s.Machine = true, sv.head.GenID, sv.head.Machine
	}
	if f.Machine, err = c.machine(s.Machine); err != nil {
		return nil, staged(stageMachine, err, "install the QEMU that the guest was made with, or choose another machine in its settings")
	}
	f.Sandbox, f.VGA = c.Sandbox, pick(c.Devices, "virtio-vga", "VGA")
	if f.VGA == "" && s.Display.Adapter != "none" {
		return nil, staged(stageQEMU, errors.New("the installed QEMU has no screen adapter"), "install all of QEMU's packages")
	}
	usable, why := c.accelerator(h.Accel)
	if len(usable) == 0 {
		return nil, staged(stageAccel, errors.New("the installed QEMU has no accelerator that works here, and no TCG"), "install a QEMU that was built with TCG")
	}
	if usable, err = sv.only(usable); err != nil {
		return nil, err
	}
	for i, accel := range usable {
		f.Accel = accel
		m, err := start(ctx, s, h, f, sv, hv.MachineInfo{
			Engine: "qemu", Accelerator: accel, AccelReason: why[accel], Machine: f.Machine, Version: c.Version,
		}, c)
		var se *hv.StageError
		if errors.As(err, &se) && se.Stage == stageAccel && i+1 < len(usable) {
			h.Log.Warn("accelerator failed, taking the next", "accelerator", accel, "err", err)
			next := usable[i+1]
			why[next] = strings.TrimSpace(why[next] + " QEMU could not use " + accel + ": " + sentence(se.Err.Error()))
			continue
		}
		return m, err
	}
	panic("qemu: the loop returns with the last accelerator")
}

func progress(h hv.Host, stage string) {
	if h.Progress != nil {
		h.Progress(stage, 0, 0)
	}
}

// prepare checks every file of the guest and makes its UEFI variables.
func prepare(s hv.Spec, h hv.Host, n names) (Facts, error) {
	f := Facts{names: n, OVMFCode: h.QEMU.OVMFCode}
	if err := checkSpec(s); err != nil {
		return f, staged("check", err, "")
	}
	for _, d := range s.Disks {
		im, err := inspect(h.Dir, h.Base, d)
		if err != nil {
			return f, staged(stageDisk, err, "")
		}
		f.images = append(f.images, im)
	}
	if s.Firmware != hv.UEFI {
		return f, nil
	}
	if h.QEMU.OVMFCode == "" || h.QEMU.OVMFVars == "" {
		return f, staged(stageFirmware, errors.New("the UEFI firmware (OVMF) is not installed"), h.QEMU.Missing)
	}
	if err := readable("UEFI firmware", h.QEMU.OVMFCode); err != nil {
		return f, staged(stageFirmware, err, h.QEMU.Missing)
	}
	if err := makeNVRAM(n.NVRAM, h.QEMU.OVMFVars); err != nil {
		return f, staged(stageFirmware, err, h.QEMU.Missing)
	}
	return f, nil
}

// makeNVRAM gives the guest its own copy of the UEFI variables, once.
func makeNVRAM(path, template string) (err error) {
	if fi, err := os.Stat(path); err == nil && fi.Size() > 0 {
		return nil
	}
	src, err := os.Open(template)
	if err != nil {
		return fmt.Errorf("make the UEFI variables: %w", err)
	}
	defer src.Close()
	dst, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+"-")
	if err != nil {
		return fmt.Errorf("make the UEFI variables: %w", err)
	}
	defer func() {
		_ = dst.Close()
		if err != nil {
			_ = os.Remove(dst.Name())
			err = fmt.Errorf("make the UEFI variables: %w", err)
		}
	}()
	if _, err = io.Copy(dst, src); err != nil {
		return err
	}
	if err = dst.Sync(); err != nil {
		return err
	}
	if err = dst.Close(); err != nil {
		return err
	}
	return savefile.Rename(dst.Name(), path)
}

// start runs QEMU, waits until it is ready and lets the guest go, unless it is
// to be held.
func start(ctx context.Context, s hv.Spec, h hv.Host, f Facts, sv *saved, info hv.MachineInfo, c caps) (*Machine, error) {
	plugs, err := openPlugs(&f.names)
	if err != nil {
		return nil, staged(stageSockets, err, "")
	}
	defer plugs.close()
	args, err := Args(s, f)
	if err != nil {
		plugs.closeDoors()
		return nil, staged(stageQEMU, err, "")
	}
	progress(h, "starting")
	ch, err := startChild(h, hv.Command{Path: h.QEMU.Path, Args: args, Dir: h.Dir, Files: slices.Clone(h.Inherit)})
	if err != nil {
		plugs.closeDoors()
		return nil, staged(stageQEMU, err, h.QEMU.Missing)
	}
	for _, d := range plugs.doors {
		d.serve(ch, h)
	}
	info.PID = ch.proc.PID()
	m := newMachine(s, h, f.names, info, c, ch)
	if err := m.connect(ctx, plugs); err != nil {
		m.abandon()
		return nil, staged(stageQEMU, ch.because(err), "")
	}
	if sv != nil {
		if err := m.load(ctx, sv); err != nil {
			m.abandon()
			return nil, staged(stageSaved, fmt.Errorf("the guest cannot go on from its saved state: %w", ch.because(err)), savefile.DiscardCure)
		}
	}
	if !h.Hold {
		if err := m.mon.Do(ctx, "cont", nil, nil); err != nil {
			m.abandon()
			return nil, staged(stageQEMU, ch.because(err), "")
		}
	}
	go m.watch()
	return m, nil
}

// plugs are the sockets that QEMU dials when it starts. Those of network cards
// belong to the worker, which listens on them before Launch, if there are no doors.
type plugs struct {
	qmp, serial, agent plug
	doors              []door
}

// openPlugs opens all, and notes the addresses in n.
func openPlugs(n *names) (_ *plugs, err error) {
	p := &plugs{}
	defer func() {
		if err != nil {
			p.close()
			p.closeDoors()
		}
	}()
	if p.qmp, n.QMP, err = listen(n.QMP); err != nil {
		return nil, err
	}
	if p.serial, n.Serial, err = listen(n.Serial); err != nil {
		return nil, err
	}
	if p.agent, n.Agent, err = listen(n.Agent); err != nil {
		return nil, err
	}
	if !n.doors {
		return p, nil
	}
	for i, socket := range n.NIC {
		var d door
		if d, n.NIC[i], err = n.door(socket, fmt.Sprintf("n%d", i)); err != nil {
			return nil, err
		}
		p.doors = append(p.doors, d)
	}
	return p, nil
}

// close closes all and removes their files: what is connected stays so.
func (p *plugs) close() {
	for _, l := range []plug{p.qmp, p.serial, p.agent} {
		if l != nil {
			_ = l.Close()
		}
	}
}

// closeDoors closes the doors that nobody serves.
func (p *plugs) closeDoors() {
	for _, d := range p.doors {
		_ = d.l.Close()
	}
}
