package service

import (
	"fmt"
	"path/filepath"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/app/control"
	"github.com/hxen-project/hxen/app/service/rpc"
	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/disk"
)

// registerPlugin adds what HXEN has beyond XenAPI (app/api/hxen.go).
func (s *Service) registerPlugin(srv *rpc.Server) {
	add := func(function string, fn any) { srv.RegisterPlugin(api.Plugin, function, fn) }
	add(api.FnCreate, func(c *rpc.Call, want api.NewGuest) (api.Created, error) {
		return s.create(c.Context(), want, progressOf(c.Task))
	})
	add(api.FnList, func(c *rpc.Call) ([]api.ListRow, error) { return s.list(c.Context()), nil })
	add(api.FnGet, func(_ *rpc.Call, arg api.VMArg) (api.GuestConfig, error) { return s.config(arg.VM) })
	add(api.FnConfig, s.setConfig)
	add(api.FnRetype, func(c *rpc.Call, want api.Retype) (api.Retyped, error) {
		notes, err := s.retype(c, want.VM, want.Type)
		return api.Retyped{Notes: notes}, err
	})
	add(api.FnDelete, s.destroy)
	add(api.FnPaths, func(_ *rpc.Call, d api.Delete) (api.Deleted, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		g, err := s.lookup(d.VM)
		if err != nil {
			return api.Deleted{}, err
		}
		return s.planRemoval(g, d.KeepDisks).answer(), nil
	})
	add(api.FnKeys, s.pressKeys)
	add(api.FnProbe, func(_ *rpc.Call, p api.Probe) (api.ProbeResult, error) { return s.probe(p.Path) })
	add(api.FnDefault, s.hostInfo)
	add(api.FnRelink, s.relink)
	srv.RegisterPlugin(api.Plugin, api.FnRepair, s.repair)
	add(api.FnBoot, s.bootMenu)
	add(api.FnEnd, func(*rpc.Call) error { s.end(errLeave); return nil })
	add(api.FnVersion, func(*rpc.Call) (api.Version, error) { return s.version(), nil })
}

// pressKeys needs no claim: keys may be pressed while a guest is asked to shut down.
func (s *Service) pressKeys(c *rpc.Call, k api.Keys) error {
	s.mu.Lock()
	g, err := s.lookup(k.VM)
	if err == nil && !hv.CanDo(hv.OpSendKeys, g.power) {
		err = g.can(hv.OpSendKeys)
	}
	s.mu.Unlock()
	if err != nil {
		return err
	}
	return s.call(c.Context(), g, control.VerbKeys, control.Keys{Codes: k.Codes}, nil)
}

// config is what the settings page shows.
func (s *Service) config(ref api.Ref) (api.GuestConfig, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, err := s.lookup(ref)
	if err != nil {
		return api.GuestConfig{}, err
	}
	if !g.sound() {
		return api.GuestConfig{}, g.can(hv.OpConfigure)
	}
	p := g.spec
	c := api.GuestConfig{
		VM: ref, Name: p.Name, Description: p.Description, Memory: int64(p.Memory), VCPUs: int64(p.VCPUs),
		Firmware: orElse(string(p.Firmware), string(hv.BIOS)), BootOrder: orElse(p.Boot.Order, "cd"),
		Kernel: p.Boot.Kernel, Initrd: p.Boot.Initrd, Cmdline: p.Boot.Cmdline, BootEntry: p.Boot.Entry, Forwards: []api.Forward{},
		Network: len(p.NICs) > 0, Display: orElse(p.Display.Adapter, "virtio"), Audio: p.Display.Audio, Autostart: p.Autostart,
	}
	for _, n := range p.NICs {
		for _, f := range n.Forwards {
			c.Forwards = append(c.Forwards, api.Forward(f))
		}
	}
	return c, nil
}

// setConfig replaces a halted guest's settings, all or nothing.
func (s *Service) setConfig(c *rpc.Call, want api.GuestConfig) error {
	forwards, err := toForwards(want.Forwards)
	if err != nil {
		return err
	}
	if err := hv.CheckName(want.Name); err != nil {
		return refuse("name", err.Error(), "choose another name")
	}
	for _, f := range []string{want.Kernel, want.Initrd} {
		if f != "" && !filepath.IsAbs(f) {
			return refuse("boot", fmt.Sprintf("%q is not an absolute path", f), "give the whole path of the file")
		}
	}
	if !want.Network && len(forwards) > 0 {
		return refuse("network", "a guest without a network cannot have port forwards", "leave the network on")
	}
	g, end, err := s.begin(want.VM, hv.OpConfigure, c.Task.Ref())
	if err != nil {
		return err
	}
	defer end()
	network := s.defaultNetwork()
	s.naming.Lock()
	defer s.naming.Unlock()
	if err := s.nameFree(want.Name, g.uuid); err != nil {
		return err
	}
	err = s.update(g, func(p *hv.Spec) error {
		p.Name, p.Description, p.Memory, p.VCPUs = want.Name, want.Description, uint64(max(want.Memory, 0)), int(want.VCPUs)
		p.Firmware, p.Boot = hv.Firmware(want.Firmware), hv.Boot{Kernel: want.Kernel, Initrd: want.Initrd, Cmdline: want.Cmdline, Order: want.BootOrder, Entry: want.BootEntry}
		p.Display, p.Autostart = hv.Display{Adapter: want.Display, Audio: want.Audio}, want.Autostart
		if p.Type == hv.PVH { // what it does not have
			p.Firmware, p.Display.Audio = "", false
			if p.Display.Adapter != "none" {
				p.Display.Adapter = ""
			}
		}
		switch {
		case !want.Network:
			p.NICs = nil
		case len(p.NICs) == 0:
			p.NICs = []hv.NIC{{UUID: newUUID(), MAC: newMAC(), Network: network}}
		}
		if len(p.NICs) > 0 {
			p.NICs[0].Forwards = forwards
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.networksChanged()
	return nil
}

// probe says what a file is, and why it cannot be used if it cannot.
func (s *Service) probe(path string) (api.ProbeResult, error) {
	if !filepath.IsAbs(path) {
		return api.ProbeResult{}, refuse("image", fmt.Sprintf("%q is not an absolute path", path), "give the whole path of the file")
	}
	in, err := disk.Inspect(path)
	if err != nil {
		return api.ProbeResult{Kind: string(disk.Unknown), Problem: err.Error()}, nil
	}
	return api.ProbeResult{
		Kind: string(in.Kind), Format: in.Format, Size: in.Size, Label: in.Label, OS: in.OS,
		UEFI: in.UEFI, BIOS: in.BIOS, Problem: in.Problem,
	}, nil
}

// hostInfo is what forms offer.
func (s *Service) hostInfo(c *rpc.Call) (api.HostInfo, error) {
	info := api.HostInfo{CPUs: s.opt.Host.CPUs, Store: s.store.Root}
	if total, free, err := s.opt.Host.Memory(); err == nil {
		info.Memory, info.MemoryFree = int64(total), int64(free)
	}
	if free, err := s.opt.Host.DiskFree(s.store.Root); err == nil {
		info.DiskFree = int64(free)
	}
	q := s.opt.Host.QEMU(c.Context())
	info.Missing, info.UEFI = q.Missing, q.OVMFCode != "" && q.OVMFVars != ""
	if q.Path != "" {
		info.QEMU = s.opt.Host.QEMUVersion(c.Context())
	}
	accel := s.opt.Host.Accel(c.Context())
	name, native := hv.NativeVerdict(accel)
	info.Native, info.NativeWhy, info.NativeCure = name, native.Reason, native.Cure
	for _, a := range accel {
		if a.Usable {
			info.Accel = a.Name
			break
		}
		if info.AccelWhy == "" { // the best one that cannot be used
			info.AccelWhy, info.AccelCure = a.Reason, a.Cure
		}
	}
	s.publishMemory()
	return info, nil
}

// inspectAny looks at a CD or disk image that is to be introduced.
func (s *Service) inspectAny(path string) (looked, error) {
	img, err := s.inspect(path, disk.ISO)
	if err == nil {
		return img, nil
	}
	if p, perr := s.probe(path); perr == nil && p.Kind == string(disk.Disk) {
		return s.inspect(path, disk.Disk)
	}
	return img, err
}
