package service

import (
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"time"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/app/control"
	"github.com/hxen-project/hxen/app/service/rpc"
	"github.com/hxen-project/hxen/hv"
)

// letGoWait is how long a guest may take to let go of a device.
const letGoWait = 10 * time.Second

// registerPlug adds XenAPI's ways to give guests disks and cards, and to take them.
func (s *Service) registerPlug(srv *rpc.Server) {
	srv.Register("VBD.create", func(c *rpc.Call, r api.VBD) (api.Ref, error) { return s.createVBD(c, r) })
	srv.Register("VIF.create", func(c *rpc.Call, r api.VIF) (api.Ref, error) { return s.createVIF(c, r) })
	for _, class := range []string{api.ClassVBD, api.ClassVIF} {
		for verb, do := range map[string]func(*rpc.Call, *guest, part) error{"plug": s.plug, "unplug": s.unplug, "destroy": s.destroyPart} {
			srv.Register(class+"."+verb, func(c *rpc.Call, ref api.Ref) error {
				g, p, err := s.partOf(class, ref)
				if err != nil {
					return err
				}
				g, end, err := s.begin(g.ref(), hv.OpPlug, c.Task.Ref())
				if err != nil {
					return err
				}
				defer end()
				return do(c, g, p)
			})
		}
	}
}

// part is a disk or a card of a guest.
type part struct {
	disk *hv.Disk // nil: it is a card
	nic  hv.NIC
}

func (p part) uuid() string {
	if p.disk != nil {
		return p.disk.UUID
	}
	return p.nic.UUID
}

// partOf finds the guest and the disk or card that a reference is.
func (s *Service) partOf(class string, ref api.Ref) (*guest, part, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.guests {
		if !g.sound() {
			continue
		}
		for _, d := range g.spec.Disks {
			if class == api.ClassVBD && d.UUID == ref.UUID() {
				return g, part{disk: &d}, nil
			}
		}
		for _, n := range g.spec.NICs {
			if class == api.ClassVIF && n.UUID == ref.UUID() {
				return g, part{nic: n}, nil
			}
		}
	}
	return nil, part{}, api.NewError(api.ErrHandleInvalid, class, string(ref))
}

// attached reports whether a running guest has a disk or card of its settings.
// s.mu is held.
func (g *guest) attached(uuid string) bool { return g.link != nil && !g.unplugged[uuid] }

// missing are the disks and cards of the settings that the run does not have.
func missing(spec, runs *hv.Spec) map[string]bool {
	out := map[string]bool{}
	if spec == nil || runs == nil {
		return out
	}
	for _, d := range spec.Disks {
		if !slices.ContainsFunc(runs.Disks, func(x hv.Disk) bool { return x.UUID == d.UUID }) {
			out[d.UUID] = true
		}
	}
	for _, n := range spec.NICs {
		if !slices.ContainsFunc(runs.NICs, func(x hv.NIC) bool { return x.UUID == n.UUID }) {
			out[n.UUID] = true
		}
	}
	return out
}

// addPart puts a disk or card into a guest's settings; one that runs does not have
// it before it is plugged in.
func (s *Service) addPart(c *rpc.Call, vm api.Ref, uuid string, change func(*hv.Spec) error) (api.Ref, error) {
	g, end, err := s.begin(vm, hv.OpPlug, c.Task.Ref())
	if err != nil {
		return "", err
	}
	defer end()
	s.mu.Lock()
	if g.link != nil {
		g.unplugged[uuid] = true
	}
	s.mu.Unlock()
	if err := s.update(g, change); err != nil {
		s.setPlugged(g, uuid)
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.measure(g)
	s.publish(g)
	for _, m := range s.media {
		s.publishMedia(m)
	}
	s.networksChanged()
	return api.RefOf(uuid), nil
}

func (s *Service) setPlugged(g *guest, uuid string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(g.unplugged, uuid)
	s.publish(g)
}

func (s *Service) createVBD(c *rpc.Call, r api.VBD) (api.Ref, error) {
	if r.Type == "CD" {
		return "", api.NewError(api.ErrValueNotSupported, "type", r.Type, "CD drives are chosen when a guest is made")
	}
	s.mu.Lock()
	m := s.media[r.VDI.UUID()]
	s.mu.Unlock()
	if m == nil {
		return "", api.NewError(api.ErrHandleInvalid, api.ClassVDI, string(r.VDI))
	}
	d := hv.Disk{UUID: newUUID(), VDI: m.UUID, Path: s.mediumPath(m), Format: m.Format, Mode: hv.ReadWrite}
	if r.Mode == "RO" || m.Kind == mediumISO {
		d.Mode = hv.ReadOnly
	}
	return s.addPart(c, r.VM, d.UUID, func(p *hv.Spec) error {
		p.Disks = append(p.Disks, d)
		return nil
	})
}

func (s *Service) createVIF(c *rpc.Call, r api.VIF) (api.Ref, error) {
	network := s.defaultNetwork()
	if r.Network != "" && r.Network != api.NullRef {
		network = r.Network.UUID()
		s.mu.Lock()
		known := s.networks[network] != nil
		s.mu.Unlock()
		if !known {
			return "", api.NewError(api.ErrHandleInvalid, api.ClassNetwork, string(r.Network))
		}
	}
	mac := r.MAC
	if mac == "" {
		mac = newMAC()
	} else if _, err := net.ParseMAC(mac); err != nil {
		return "", api.NewError(api.ErrValueNotSupported, "MAC", mac, err.Error())
	}
	n := hv.NIC{UUID: newUUID(), MAC: mac, Network: network}
	return s.addPart(c, r.VM, n.UUID, func(p *hv.Spec) error {
		p.NICs = append(p.NICs, n)
		return nil
	})
}

// plug gives a running guest a disk or a card of its settings.
func (s *Service) plug(c *rpc.Call, g *guest, p part) error {
	s.mu.Lock()
	runs, has, spec := g.link != nil, g.attached(p.uuid()), g.spec
	s.mu.Unlock()
	switch {
	case !runs:
		return api.NewError(api.ErrVMBadPowerState, string(g.ref()), "running", "halted")
	case has:
		return api.NewError(api.ErrDeviceAttached, string(api.RefOf(p.uuid())))
	}
	ctx := c.Context()
	if p.disk == nil {
		only := spec.Clone()
		only.NICs = []hv.NIC{p.nic}
		networks, err := s.attachNetworks(ctx, g, only)
		if err == nil {
			err = s.call(ctx, g, control.VerbAttach, control.Attach{NIC: &p.nic, Frames: networks[p.nic.Network]}, nil)
		}
		if err == nil {
			s.setPlugged(g, p.uuid())
		}
		return err
	}
	d := *p.disk
	path := diskPath(g.dir, d)
	if err := readable(path); err != nil {
		return refuse("disk", "the disk "+err.Error(), "put the file back")
	}
	if err := s.checkImage(g, d, path, "disk"); err != nil {
		return err
	}
	s.mu.Lock()
	err := s.disksFree(g, openDisks(g.dir, spec))
	s.mu.Unlock()
	if err != nil {
		return err
	}
	err = s.granted(g, path, d.Mode == hv.ReadWrite, func() error {
		return s.call(ctx, g, control.VerbAttach, control.Attach{Disk: &d}, nil)
	})
	if err == nil {
		s.setPlugged(g, p.uuid())
	}
	return err
}

// granted has a worker that can open no files any more be given one while f runs.
func (s *Service) granted(g *guest, path string, write bool, f func() error) error {
	if path == "" {
		return f()
	}
	if err := writeJSON(g.files.Grant(), control.Grant{Path: path, Write: write}); err != nil {
		return fmt.Errorf("grant guest %q a file: %w", g.name, err)
	}
	defer os.Remove(g.files.Grant())
	return f()
}

// unplug has a running guest let go of a disk or a card, which stays in its settings.
func (s *Service) unplug(c *rpc.Call, g *guest, p part) error {
	s.mu.Lock()
	runs, has := g.link != nil, g.attached(p.uuid())
	s.mu.Unlock()
	switch {
	case !runs:
		return api.NewError(api.ErrVMBadPowerState, string(g.ref()), "running", "halted")
	case !has:
		return api.NewError(api.ErrDeviceDetached, string(api.RefOf(p.uuid())))
	}
	ctx, cancel := context.WithTimeout(c.Context(), letGoWait+callWait)
	defer cancel()
	if err := s.call(ctx, g, control.VerbDetach, control.Detach{UUID: p.uuid(), NIC: p.disk == nil, Wait: letGoWait}, nil); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	g.unplugged[p.uuid()] = true
	s.publish(g)
	return nil
}

// destroyPart takes a disk or a card out of the settings. The image stays.
func (s *Service) destroyPart(_ *rpc.Call, g *guest, p part) error {
	s.mu.Lock()
	has := g.attached(p.uuid())
	s.mu.Unlock()
	if has {
		return api.NewError(api.ErrOperationNotAllowed, fmt.Sprintf("the running guest %q has it: unplug it first", g.name))
	}
	if p.disk != nil {
		if p.disk.IsCD() {
			return api.NewError(api.ErrOperationNotAllowed, "CD drives stay; eject what is in it")
		}
		if _, outside := s.medium(p.disk.VDI); !outside {
			return api.NewError(api.ErrOperationNotAllowed, "this disk is the guest's own, in its folder, and would be lost with its device")
		}
	}
	err := s.update(g, func(spec *hv.Spec) error {
		spec.Disks = slices.DeleteFunc(spec.Disks, func(d hv.Disk) bool { return d.UUID == p.uuid() })
		spec.NICs = slices.DeleteFunc(spec.NICs, func(n hv.NIC) bool { return n.UUID == p.uuid() })
		return nil
	})
	s.setPlugged(g, p.uuid())
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.media {
		s.publishMedia(m)
	}
	s.networksChanged()
	return err
}

func (s *Service) medium(vdi string) (*medium, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, ok := s.media[vdi]
	return m, ok
}
