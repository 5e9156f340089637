package service

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/app/service/rpc"
	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/disk"
	"github.com/hxen-project/hxen/hv/savefile"
	"github.com/hxen-project/hxen/platform/diskfile"
	"github.com/hxen-project/hxen/platform/paths"
)

// registerClone adds templates and clones.
func (s *Service) registerClone(srv *rpc.Server) {
	srv.Register("VM.clone", func(c *rpc.Call, ref api.Ref, name string) (api.Ref, error) {
		g, end, err := s.begin(ref, hv.OpClone, c.Task.Ref())
		if err != nil {
			return "", err
		}
		defer end()
		return s.clone(c.Context(), g, name, false, progressOf(c.Task))
	})
	srv.Register("VM.checkpoint", s.checkpoint)
	srv.RegisterSetter(api.ClassVM, "is_a_template", s.setTemplate)
}

// setTemplate makes a guest that does not run a template, or a guest again.
func (s *Service) setTemplate(c *rpc.Call, ref api.Ref, on bool) error {
	g, end, err := s.begin(ref, hv.OpTemplate, c.Task.Ref())
	if err != nil {
		return err
	}
	defer end()
	s.mu.Lock()
	spec := g.spec
	s.mu.Unlock()
	if on && spec.Base != "" {
		return refuse("template", fmt.Sprintf("the disks of guest %q build on another template's", g.name), "make a template of that one, or convert this one's disks with qemu-img convert")
	}
	if on && s.suspended(g) && spec.Type != hv.PVH {
		return refuse("template", fmt.Sprintf("guest %q has a saved state, and only guests of type pvh can be cloned with one", g.name), "let it go on and shut it down first")
	}
	if !on {
		if err := s.builtOn(g); err != nil {
			return err
		}
	}
	return s.update(g, func(p *hv.Spec) error {
		p.Template = on
		if on {
			p.Autostart = false
		}
		return nil
	})
}

// builtOn says which guests' disks build on a template's, so that it must stay.
func (s *Service) builtOn(g *guest) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for _, other := range s.sorted() {
		if other.spec != nil && other.spec.Base == g.uuid {
			names = append(names, other.name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	return refuse("template", fmt.Sprintf("the disks of %s build on those of template %q", strings.Join(names, ", "), g.name), "delete these guests first")
}

// builtOnBase reports whether a guest's image may build on backing: an image in its
// template's folder.
func builtOnBase(g *guest, backing string) bool {
	if g.spec == nil || g.spec.Base == "" || backing == "" {
		return false
	}
	return filepath.ToSlash(filepath.Dir(filepath.FromSlash(backing))) == "../"+g.spec.Base
}

// checkpoint makes a template of a running guest, which goes on: it is saved,
// copied and restored.
func (s *Service) checkpoint(c *rpc.Call, ref api.Ref, name string) (_ api.Ref, err error) {
	g, end, err := s.begin(ref, hv.OpCheckpoint, c.Task.Ref())
	if err != nil {
		return "", err
	}
	defer end()
	s.mu.Lock()
	pvh, paused := g.spec.Type == hv.PVH, g.power == hv.Paused
	s.mu.Unlock()
	if !pvh {
		return "", refuse("template", "only guests of type pvh can be cloned with their memory", "shut the guest down, then clone it")
	}
	s.naming.Lock()
	err = errors.Join(hv.CheckName(name), s.nameFree(name, ""))
	s.naming.Unlock()
	if err != nil {
		return "", refuse("name", words(err), "choose another name")
	}
	progress := progressOf(c.Task)
	if err := s.suspend(c.Context(), g, progress); err != nil {
		return "", err
	}
	made, err := s.clone(c.Context(), g, name, true, progress)
	// The guest goes on whatever has happened, also when the call was cancelled.
	if rerr := s.start(s.ctx, g, launchHow{paused: paused, restore: true}, progress); rerr != nil {
		return made, rerr
	}
	return made, err
}

// clone makes a guest, or a template, like g, which does not run and which the
// caller has claimed. A saved guest's clone goes on from the same memory, as
// another guest: see hv/native. It is all or nothing, as create is.
func (s *Service) clone(ctx context.Context, g *guest, name string, template bool, progress progressFunc) (api.Ref, error) {
	if err := hv.CheckName(name); err != nil {
		return "", refuse("name", err.Error(), "choose another name")
	}
	s.naming.Lock()
	err := s.nameFree(name, "")
	s.naming.Unlock()
	if err != nil {
		return "", err
	}
	s.mu.Lock()
	spec := g.spec.Clone()
	s.mu.Unlock()
	saved := s.suspended(g)
	var was []savefile.Disk
	if saved {
		if was, err = s.cloneable(g, spec); err != nil {
			return "", err
		}
	}
	becomeAnother(spec)
	spec.Name, spec.Template = name, template
	tmp := filepath.Join(s.store.Guests(), newPrefix+spec.UUID)
	if err := os.Mkdir(tmp, 0o700); err != nil {
		return "", fmt.Errorf("make the guest's folder: %w", err)
	}
	defer os.RemoveAll(tmp) // what failed; after the rename there is nothing to remove
	if err := s.cloneDisks(ctx, g, spec, tmp, progress); err != nil {
		return "", err
	}
	if saved && template {
		if err := dateDisks(tmp, spec.Disks, was); err != nil {
			return "", fmt.Errorf("date the template's disks: %w", err)
		}
	}
	if saved {
		if err := s.cloneMemory(ctx, g, tmp, template, progress); err != nil {
			return "", err
		}
	}
	if err := s.store.writeSpec(tmp, spec); err != nil {
		return "", err
	}
	made, err := s.enroll(tmp, spec)
	return made.VM, err
}

// becomeAnother gives a guest's settings the identity of a new guest like it, which
// does not start by itself as that does, and has none of its ports of the host.
func becomeAnother(spec *hv.Spec) {
	spec.UUID, spec.Autostart = newUUID(), false
	for i := range spec.Disks {
		spec.Disks[i].UUID = newUUID()
	}
	for i := range spec.NICs {
		n := &spec.NICs[i]
		n.UUID, n.MAC, n.Forwards = newUUID(), newMAC(), nil
	}
}

// cloneable says why a saved guest cannot be gone on with as another one, or how its
// disks were when it was saved.
func (s *Service) cloneable(g *guest, spec *hv.Spec) ([]savefile.Disk, error) {
	const cure = "let it go on and shut it down, or discard its saved state"
	if spec.Type != hv.PVH {
		return nil, refuse("clone", fmt.Sprintf("guest %q has a saved state, and only guests of type pvh can be cloned with one", g.name), cure)
	}
	from := g.savedFile()
	f, err := savefile.Open(from, "native")
	if err != nil {
		return nil, refuse("clone", err.Error(), cure)
	}
	defer f.Close()
	var saved struct {
		Outside struct{ Disks []savefile.Disk }
	}
	err = f.ReadState(&saved)
	was := saved.Outside.Disks
	if err == nil && from == g.files.Saved() { // a clone that never ran has its disks as its template left them
		var now []savefile.Disk
		if now, err = savefile.Disks(g.dir, spec.Disks); err == nil {
			err = savefile.Same(was, asSaved(g, now, was), false)
		}
	}
	if err != nil {
		return nil, refuse("clone", err.Error(), savefile.DiscardCure)
	}
	return was, nil
}

// asSaved gives a template's disks, which are copies, the names and sizes of those
// that they are copies of. Their dates are the same, see dateDisks.
func asSaved(g *guest, now, was []savefile.Disk) []savefile.Disk {
	if !g.isTemplate() || len(now) != len(was) {
		return now
	}
	for i := range now {
		now[i].UUID, now[i].Path, now[i].Size = was[i].UUID, was[i].Path, was[i].Size
	}
	return now
}

// dateDisks gives the copies that a template has of a saved guest's disks the dates
// of these, so that one that is changed later is seen.
func dateDisks(dir string, disks []hv.Disk, was []savefile.Disk) error {
	now, err := savefile.Disks(dir, disks)
	if err != nil {
		return err
	}
	for i, d := range now {
		if i < len(was) && !filepath.IsAbs(d.Path) {
			err = errors.Join(err, os.Chtimes(filepath.Join(dir, d.Path), time.Time{}, was[i].Changed))
		}
	}
	return err
}

// cloneMemory gives a clone the state that g was saved in: the same file, where the
// file system can, as nobody ever writes to it. Where it lies a clone's worker cannot
// write to it either; a template has no worker.
func (s *Service) cloneMemory(ctx context.Context, g *guest, tmp string, template bool, progress progressFunc) error {
	from, files := g.savedFile(), paths.GuestDir(tmp, "")
	to := files.Clone()
	if template {
		to = files.Saved()
		if err := os.Mkdir(files.Worker(), 0o700); err != nil {
			return fmt.Errorf("make the guest's folder: %w", err)
		}
	}
	if os.Link(from, to) == nil {
		return nil
	}
	if err := s.copyFile(ctx, from, to, func(done float64) { progress("copying the memory", done) }); err != nil {
		return refuse("clone", err.Error(), "")
	}
	return nil
}

// copyFile copies a file, sharing the room with it where the file system can.
func (s *Service) copyFile(ctx context.Context, from, to string, progress func(float64)) error {
	if err := diskfile.Clone(from, to); err == nil {
		return nil
	}
	return disk.CopyRaw(ctx, from, to, progress)
}

// cloneDisks makes the disks of a clone in its folder, and names them in spec.
func (s *Service) cloneDisks(ctx context.Context, g *guest, spec *hv.Spec, tmp string, progress progressFunc) error {
	base := spec.Base
	spec.Base = ""
	for i := range spec.Disks {
		d := &spec.Disks[i]
		from := diskPath(g.dir, *d)
		if d.Path == "" || d.Mode == hv.ReadOnly && filepath.IsAbs(d.Path) {
			continue
		}
		if base != "" && d.Format == hv.QCOW2 {
			return refuse("clone", fmt.Sprintf("the disks of guest %q build on a template's", g.name), "clone that template")
		}
		if err := s.cloneDisk(ctx, g, spec, d, from, tmp, progress); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return refuse("disk", err.Error(), "")
		}
	}
	nvram := filepath.Join(g.dir, "nvram.fd") // UEFI's variables: hv/qemu/names.go
	if _, err := os.Stat(nvram); err == nil {
		return s.copyFile(ctx, nvram, filepath.Join(tmp, "nvram.fd"), nil)
	}
	return nil
}

// cloneDisk makes one disk: what differs from its template's where QEMU is there and
// the disk is the template's own, else a copy, which takes no time and no room where
// the file system can.
func (s *Service) cloneDisk(ctx context.Context, g *guest, spec *hv.Spec, d *hv.Disk, from, tmp string, progress progressFunc) error {
	tell := func(done float64) { progress("copying the disk", done) }
	own := !filepath.IsAbs(d.Path)
	put := func(format string) string {
		d.VDI = newUUID()
		path := paths.Disk(tmp, d.VDI, format)
		d.Path = filepath.Base(path)
		return path
	}
	name, format := d.Path, d.Format
	if format == hv.Raw {
		if err := diskfile.Clone(from, put(hv.Raw)); err == nil {
			return nil
		}
	}
	qemu := s.opt.Host.QEMU(ctx)
	tool := disk.Tool{Img: qemu.Img, Start: s.startTool}
	overlay := g.isTemplate() && own && qemu.Img != "" && (format == hv.QCOW2 || qemu.Storage != "" || spec.Type == hv.HVM)
	switch {
	case overlay:
		spec.Base, d.Format = g.uuid, hv.QCOW2
		return tool.Overlay(ctx, put(hv.QCOW2), "../"+g.uuid+"/"+filepath.ToSlash(name), format)
	case format == hv.QCOW2:
		return tool.Copy(ctx, from, format, put(hv.QCOW2), tell)
	}
	return disk.CopyRaw(ctx, from, put(hv.Raw), tell)
}
