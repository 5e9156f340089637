package service

import (
	"context"
	"fmt"
	"os"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/disk"
)

const (
	// overhead is what a device model needs beside the guest's memory, and
	// nativeOverhead what the worker needs that runs a guest by itself.
	overhead       = 96 * hv.MiB
	nativeOverhead = 16 * hv.MiB
	// diskFloor is how much room a disk that grows must have to be started: less,
	// and the guest would meet a full disk within seconds.
	diskFloor = 256 * hv.MiB
)

func overheadOf(spec *hv.Spec) uint64 {
	if spec.Type == hv.PVH {
		return nativeOverhead
	}
	return overhead
}

// hostVerdict is what this computer offers to a start.
type hostVerdict struct {
	qemu  hv.QEMUInfo
	accel []hv.AccelInfo
}

// preflight refuses a start that cannot go well, with the reason, before
// anything is started, and claims the guest's disks.
func (s *Service) preflight(ctx context.Context, g *guest) (*hv.Spec, hostVerdict, error) {
	s.mu.Lock()
	spec := g.spec.Clone()
	s.mu.Unlock()
	var none hostVerdict
	if s.stop.begun() {
		return nil, none, startFailed(g, "host", "the computer is about to stop", "start the guest when it has started again")
	}
	err := s.checkMedia(g, spec)
	s.lookAgain(g)
	if err != nil {
		return nil, none, err
	}
	host := hostVerdict{qemu: s.opt.Host.QEMU(ctx), accel: s.opt.Host.Accel(ctx)}
	check := checkHVM
	if spec.Type == hv.PVH {
		check = checkPVH
	}
	if err := check(g, spec, host); err != nil {
		return nil, none, err
	}
	if err := s.checkMemory(g, spec); err != nil {
		return nil, none, err
	}
	if err := s.claimDisks(g, spec); err != nil {
		return nil, none, err
	}
	return spec, host, nil
}

// checkHVM says why QEMU cannot run the guest here.
func checkHVM(g *guest, spec *hv.Spec, host hostVerdict) error {
	if host.qemu.Path == "" {
		return startFailed(g, "qemu", orElse(host.qemu.Missing, "QEMU is not installed"), "")
	}
	if spec.Firmware == hv.UEFI && (host.qemu.OVMFCode == "" || host.qemu.OVMFVars == "") {
		return startFailed(g, "firmware", orElse(host.qemu.Missing, "the firmware for UEFI guests (OVMF) is not installed"), "install it, or set the guest's firmware to BIOS")
	}
	return nil
}

// checkMedia looks at every file that the guest needs.
func (s *Service) checkMedia(g *guest, spec *hv.Spec) error {
	for _, f := range []struct{ what, path string }{{"kernel", spec.Boot.Kernel}, {"initrd", spec.Boot.Initrd}} {
		if f.path == "" {
			continue
		}
		if err := readable(f.path); err != nil {
			return startFailed(g, "boot", "the guest's "+f.what+" "+err.Error(), "put the file back, or choose another in the guest's settings")
		}
	}
	for i, d := range spec.Disks {
		if d.Path == "" {
			continue
		}
		path := diskPath(g.dir, d)
		what, cure := "disk", fmt.Sprintf("put the file back, or tell where it is now: hxen relink %q %s FILE", spec.Name, deviceName(i))
		if d.IsCD() {
			what, cure = "CD image", "put the file back, or eject the CD or insert another"
		}
		if err := readable(path); err != nil {
			return startFailed(g, "media", "the "+what+" "+err.Error(), cure)
		}
		if err := s.checkImage(g, d, path, what); err != nil {
			return err
		}
	}
	return nil
}

// checkImage looks into one image. A raw one is never probed: its format was
// decided when it was added, and a guest writes what it likes into it.
func (s *Service) checkImage(g *guest, d hv.Disk, path, what string) error {
	if d.Format == hv.QCOW2 {
		in, err := disk.Inspect(path)
		if err != nil {
			return startFailed(g, what, err.Error(), "")
		}
		if in.Format != hv.QCOW2 {
			return startFailed(g, what, path+" is not a qcow2 image any more", "put the right file back")
		}
		if in.Problem != "" && !builtOnBase(g, in.Backing) {
			return startFailed(g, what, path+": "+in.Problem, "")
		}
	}
	if d.Mode != hv.ReadWrite {
		return nil
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return startFailed(g, "media", "the disk "+fileError(path, "written", err).Error(), "allow it, or attach the disk read-only")
	}
	f.Close()
	free, err := s.opt.Host.DiskFree(path)
	if err != nil {
		s.log.Warn("tell how much room a disk has", "path", path, "err", err)
		return nil
	}
	if free < diskFloor {
		return startFailed(g, what, fmt.Sprintf("only %s are free where %s is, and the guest's disk grows", sizeText(int64(free)), path), "free some space there")
	}
	return nil
}

func (s *Service) checkMemory(g *guest, spec *hv.Spec) error {
	total, free, err := s.opt.Host.Memory()
	if err != nil {
		s.log.Warn("tell the host's memory", "err", err)
		return nil
	}
	need := spec.Memory + overheadOf(spec)
	switch {
	case need > total:
		return startFailed(g, "memory", fmt.Sprintf("the guest wants %s of memory and this computer has %s in all", sizeText(int64(spec.Memory)), sizeText(int64(total))), "give the guest less memory")
	case need > free:
		return api.NewError(api.ErrHostNotEnoughMemory, fmt.Sprint(need), fmt.Sprint(free))
	}
	return nil
}

// claimDisks marks the guest's disks as in use, unless another guest's run would
// write to one of them, or this one would write to one of another's.
func (s *Service) claimDisks(g *guest, spec *hv.Spec) error {
	mine := openDisks(g.dir, spec)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.disksFree(g, mine); err != nil {
		return err
	}
	g.active = true
	g.notice, g.leases, g.info, g.samples, g.pulled = "", nil, nil, samples{}, false // of the run before
	return nil
}

// disksFree says who else uses one of a guest's disks. s.mu is held.
func (s *Service) disksFree(g *guest, mine []openDisk) error {
	for _, other := range s.guests {
		saved := other.power == hv.Suspended // it goes on with the disks as it left them
		if other == g || !other.active && !saved || other.spec == nil {
			continue
		}
		for _, theirs := range openDisks(other.dir, other.spec) {
			for _, d := range mine {
				if (d.write || theirs.write) && os.SameFile(d.file, theirs.file) {
					if saved {
						return startFailed(g, "disk", fmt.Sprintf("%s belongs to guest %q, whose state is saved", d.path, other.name), fmt.Sprintf("let %q go on and shut it down, or discard its saved state", other.name))
					}
					return startFailed(g, "disk", fmt.Sprintf("%s is in use by guest %q, which is running", d.path, other.name), fmt.Sprintf("shut %q down first", other.name))
				}
			}
		}
	}
	return nil
}

// openDisk is an image file that a run has open.
type openDisk struct {
	path  string
	file  os.FileInfo
	write bool
}

func openDisks(dir string, spec *hv.Spec) []openDisk {
	var out []openDisk
	for _, d := range spec.Disks {
		if d.Path == "" {
			continue
		}
		path := diskPath(dir, d)
		if st, err := os.Stat(path); err == nil {
			out = append(out, openDisk{path, st, d.Mode == hv.ReadWrite})
		}
	}
	return out
}
