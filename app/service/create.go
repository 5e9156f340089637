package service

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/disk"
	"github.com/hxen-project/hxen/hv/savefile"
	"github.com/hxen-project/hxen/platform/paths"
)

// draft is a guest that is being made: its spec, and the images that it uses or
// that are still to be made.
type draft struct {
	spec  *hv.Spec
	iso   *looked // put into the first drive
	inUse *looked // an existing disk, used in place
	copy  *looked // an existing disk, copied into the store
	blank int64   // bytes of a new disk
}

// create makes a guest. It is all or nothing: the guest grows in a hidden
// folder, which gets its name at the end. What fails or is killed before that
// leaves nothing that could be seen.
func (s *Service) create(ctx context.Context, want api.NewGuest, progress progressFunc) (api.Created, error) {
	d, err := s.plan(want)
	if err != nil {
		return api.Created{}, err
	}
	s.naming.Lock()
	err = s.nameFree(d.spec.Name, "")
	s.naming.Unlock()
	if err != nil {
		return api.Created{}, err
	}
	tmp := filepath.Join(s.store.Guests(), newPrefix+d.spec.UUID)
	if err := os.Mkdir(tmp, 0o700); err != nil {
		return api.Created{}, fmt.Errorf("make the guest's folder: %w", err)
	}
	defer os.RemoveAll(tmp) // what failed; after the rename there is nothing to remove
	if err := s.furnish(ctx, tmp, d, progress); err != nil {
		return api.Created{}, err
	}
	return s.enroll(tmp, d.spec)
}

// plan checks what was asked for and fills in what was left open.
func (s *Service) plan(want api.NewGuest) (*draft, error) {
	d := &draft{blank: want.DiskSize}
	spec := &hv.Spec{
		Version: hv.SpecVersion, UUID: newUUID(), Name: want.Name, Description: want.Description,
		Type: hv.GuestType(orElse(want.Type, string(hv.HVM))), Firmware: hv.Firmware(orElse(want.Firmware, string(hv.BIOS))),
		Display:   hv.Display{Adapter: want.Display, Audio: want.Audio},
		Autostart: want.Autostart, Other: clientKeys(want.OtherConfig),
		Boot: hv.Boot{Kernel: want.Kernel, Initrd: want.Initrd, Cmdline: want.Cmdline, Entry: want.BootEntry},
	}
	d.spec = spec
	if err := hv.CheckName(want.Name); err != nil {
		return nil, refuse("name", err.Error(), "choose another name")
	}
	if spec.Type != hv.PVH && want.BootEntry != "" {
		return nil, refuse("boot", "the boot loader's menu of a guest of type hvm is its own", "choose in its screen when it starts, or the type pvh")
	}
	if spec.Type == hv.PVH {
		if err := planPVH(spec, want); err != nil {
			return nil, err
		}
	}
	if err := s.planSources(d, want); err != nil {
		return nil, err
	}
	s.planResources(d, want)
	if !want.NoNetwork {
		forwards, err := toForwards(want.Forwards)
		if err != nil {
			return nil, err
		}
		spec.NICs = []hv.NIC{{UUID: newUUID(), MAC: newMAC(), Network: s.defaultNetwork(), Forwards: forwards}}
	} else if len(want.Forwards) > 0 {
		return nil, refuse("network", "a guest without a network cannot have port forwards", "leave the network on")
	}
	return d, nil
}

// planPVH refuses what a guest of type pvh does not have, and gives its kernel
// the console that it has.
func planPVH(spec *hv.Spec, want api.NewGuest) error {
	switch {
	case want.Kernel == "" && want.Disk == "":
		return refuse("source", "a guest of type pvh boots from a disk that has a system on it, or from a kernel on this computer", "choose a disk or a kernel, or the type hvm")
	case want.Kernel != "" && want.BootEntry != "":
		return refuse("boot", "a kernel on this computer and an entry of the disk's menu exclude each other", "choose one of them")
	case want.Firmware != "":
		return refuse("firmware", "a guest of type pvh has no firmware", "leave the firmware out, or choose the type hvm")
	case want.Display != "" && want.Display != "none" || want.Audio:
		return refuse("display", "a guest of type pvh has Xen's own screen or none, and no sound card", "leave them out, or choose the type hvm")
	}
	spec.Firmware, spec.Display = "", hv.Display{Adapter: want.Display}
	if want.Kernel != "" {
		spec.Boot.Cmdline = hv.PutConsole(hv.PVH, want.Cmdline)
	}
	return nil
}

// planSources looks at the images that the user has named.
func (s *Service) planSources(d *draft, want api.NewGuest) error {
	sources := 0
	for _, v := range []string{want.ISO, want.Disk, want.Kernel} {
		if v != "" {
			sources++
		}
	}
	switch {
	case want.ISO != "" && want.Kernel != "", want.ISO != "" && want.Disk != "":
		return refuse("source", "a CD image, an existing disk and a kernel exclude each other", "choose one of them")
	case want.DiskSize < 0:
		return refuse("disk", "the size of the new disk is negative", "give a size such as 20G")
	case sources == 0 && want.DiskSize == 0:
		return refuse("source", "the guest has nothing to start from", "choose a CD image, a disk, a kernel, or the size of a new disk")
	case want.DiskSize%512 != 0:
		return refuse("disk", "the size of the new disk is not a multiple of 512 bytes", "give a size such as 20G")
	}
	if want.DiskSize > 0 {
		d.spec.Disks = append(d.spec.Disks, ownDisk(blankFormat(d.spec.Type)))
	}
	if want.Disk != "" {
		img, err := s.inspect(want.Disk, disk.Disk)
		if err != nil {
			return err
		}
		if want.CopyDisk {
			d.copy = &img
			d.spec.Disks = append([]hv.Disk{ownDisk(hv.QCOW2)}, d.spec.Disks...)
		} else {
			d.inUse = &img
			mode := hv.ReadWrite
			if want.ReadOnly {
				mode = hv.ReadOnly
			}
			d.spec.Disks = append([]hv.Disk{{UUID: newUUID(), Path: img.path, Format: img.info.Format, Mode: mode}}, d.spec.Disks...)
		}
	}
	for _, f := range []string{want.Kernel, want.Initrd} {
		if f == "" {
			continue
		}
		if !filepath.IsAbs(f) {
			return refuse("boot", fmt.Sprintf("%q is not an absolute path", f), "give the whole path of the file")
		}
		if err := readable(f); err != nil {
			return refuse("boot", err.Error(), "choose a file that you can read")
		}
	}
	drive := hv.Disk{UUID: newUUID(), Mode: hv.ReadOnly, Kind: hv.KindCDROM}
	if want.ISO != "" {
		img, err := s.inspect(want.ISO, disk.ISO)
		if err != nil {
			return err
		}
		d.iso = &img
		d.spec.Boot.Order = "cd" // a blank disk is passed over until something is installed on it
	}
	if d.spec.Type != hv.PVH && (want.Kernel == "" || want.Disk != "" || want.DiskSize > 0) {
		d.spec.Disks = append(d.spec.Disks, drive) // an empty drive costs nothing and can be filled later
	}
	return nil
}

// blankFormat is the format of new disks: guests of type pvh use raw ones without
// QEMU.
func blankFormat(t hv.GuestType) string {
	if t == hv.PVH {
		return hv.Raw
	}
	return hv.QCOW2
}

// ownDisk is a disk in the guest's folder.
func ownDisk(format string) hv.Disk {
	vdi := newUUID()
	return hv.Disk{UUID: newUUID(), VDI: vdi, Path: filepath.Base(paths.Disk("", vdi, format)), Format: format, Mode: hv.ReadWrite}
}

// planResources chooses memory and processors where the user did not: what suits
// an installer and a desktop, within a quarter (memory) or half (processors) of
// the host; a kernel of one's own needs little.
func (s *Service) planResources(d *draft, want api.NewGuest) {
	d.spec.Memory, d.spec.VCPUs = uint64(max(want.Memory, 0)), int(want.VCPUs)
	if want.Memory == 0 {
		mem := 2 * hv.GiB
		if want.Kernel != "" && want.Disk == "" {
			mem = 512 * hv.MiB
		}
		if d.iso != nil && strings.HasPrefix(d.iso.info.OS, "Windows") {
			mem = 4 * hv.GiB
		}
		if total, _, err := s.opt.Host.Memory(); err == nil {
			mem = min(mem, max(total/4/hv.MiB*hv.MiB, 256*hv.MiB))
		}
		d.spec.Memory = mem
	}
	if want.VCPUs == 0 {
		d.spec.VCPUs = max(1, min(2, s.opt.Host.CPUs/2))
	}
}

// furnish fills the guest's folder.
func (s *Service) furnish(ctx context.Context, dir string, d *draft, progress progressFunc) error {
	for _, in := range []struct {
		img  *looked
		isCD bool
	}{{d.iso, true}, {d.inUse, false}} {
		if in.img == nil {
			continue
		}
		m, err := s.introduce(*in.img, "")
		if err != nil {
			return err
		}
		for i := range d.spec.Disks {
			slot := &d.spec.Disks[i]
			if in.isCD && slot.IsCD() || !in.isCD && slot.Path == in.img.path {
				slot.VDI, slot.Path, slot.Format = m.UUID, in.img.path, m.Format
				break
			}
		}
	}
	if err := d.spec.Check(); err != nil {
		return refuse("settings", err.Error(), "")
	}
	own := ownPaths(dir, d.spec)
	if d.copy != nil {
		tell := func(stage string, done float64) { progress(stage+" of "+d.spec.Name, done) } // no record names it yet
		if err := s.makeDisk(ctx, own[0], d.copy, 0, tell); err != nil {
			return err
		}
		own = own[1:]
	}
	if d.blank > 0 {
		if err := s.makeDisk(ctx, own[0], nil, d.blank, nil); err != nil {
			return err
		}
	}
	return s.store.writeSpec(dir, d.spec)
}

func ownPaths(dir string, spec *hv.Spec) []string {
	var out []string
	for _, d := range spec.Disks {
		if d.Path != "" && !filepath.IsAbs(d.Path) {
			out = append(out, filepath.Join(dir, d.Path))
		}
	}
	return out
}

// makeDisk copies src, or makes a blank disk, where there is room for it.
func (s *Service) makeDisk(ctx context.Context, path string, src *looked, size int64, progress progressFunc) error {
	need := uint64(diskFloor)
	if src != nil {
		need += uint64(src.info.FileSize) // what a copy takes at most; blank disks grow as they are used
	}
	if free, err := s.opt.Host.DiskFree(s.store.Root); err == nil && free < need {
		return refuse("disk", fmt.Sprintf("%s are needed where the guests are (%s), and %s are free", sizeText(int64(need)), s.store.Root, sizeText(int64(free))), "free some space there")
	}
	if src == nil && filepath.Ext(path) == "."+hv.Raw {
		if err := disk.CreateRaw(path, size); err != nil {
			return refuse("disk", err.Error(), "")
		}
		return nil
	}
	qemu := s.opt.Host.QEMU(ctx)
	if qemu.Img == "" {
		return refuse("disk", orElse(qemu.Missing, "qemu-img, which makes disks, is not installed"), "")
	}
	tool := disk.Tool{Img: qemu.Img, Start: s.startTool}
	var err error
	if src != nil {
		err = tool.Copy(ctx, src.path, src.info.Format, path, func(done float64) { progress("copying the disk", done) })
	} else {
		err = tool.Create(ctx, path, size)
	}
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return refuse("disk", err.Error(), "")
	}
	return nil
}

// enroll gives the finished folder its name and shows the guest.
func (s *Service) enroll(tmp string, spec *hv.Spec) (api.Created, error) {
	s.naming.Lock() // the name may have been taken while disks were copied
	defer s.naming.Unlock()
	if err := s.nameFree(spec.Name, ""); err != nil {
		return api.Created{}, err
	}
	savefile.SyncDir(tmp)
	dir := s.store.Guest(spec.UUID, s.run).Dir
	if err := savefile.Rename(tmp, dir); err != nil {
		return api.Created{}, fmt.Errorf("name the guest's folder: %w", err)
	}
	savefile.SyncDir(s.store.Guests())
	g := newGuest(readGuest(dir), s.run)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.guests[g.uuid] = g
	s.publish(g)
	s.publishSets()
	s.publishSpace()
	for _, d := range spec.Disks {
		if m := s.media[d.VDI]; m != nil {
			s.publishMedia(m)
		}
	}
	s.log.Info("made a guest", "guest", spec.Name, "uuid", spec.UUID)
	return api.Created{VM: g.ref(), UUID: g.uuid}, nil
}

// toForwards checks what a client wants forwarded.
func toForwards(in []api.Forward) ([]hv.Forward, error) {
	var out []hv.Forward
	seen := map[string]bool{}
	for _, f := range in {
		h := hv.Forward{Proto: f.Proto, Host: f.Host, From: f.From, To: f.To}
		if err := h.Check(); err != nil {
			return nil, refuse("network", err.Error(), "")
		}
		key := fmt.Sprint(orElse(f.Proto, "tcp"), f.Host, f.From)
		if seen[key] {
			return nil, refuse("network", fmt.Sprintf("port %d of the host is forwarded twice", f.From), "choose another port")
		}
		seen[key] = true
		out = append(out, h)
	}
	return out, nil
}

// clientKeys leaves out the keys that are ours to write.
func clientKeys(in map[string]string) map[string]string {
	out := map[string]string{}
	for k, v := range in {
		if !strings.HasPrefix(k, "hxen:") && k != "auto_poweron" {
			out[k] = v
		}
	}
	return out
}
