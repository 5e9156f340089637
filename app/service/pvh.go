package service

import (
	"fmt"
	"slices"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/app/service/rpc"
	"github.com/hxen-project/hxen/hv"
)

// checkPVH says why the native engine cannot run the guest here. Without an
// accelerator the error tells as what the guest can be run instead.
func checkPVH(g *guest, spec *hv.Spec, host hostVerdict) error {
	if spec.Boot.Kernel == "" && !slices.ContainsFunc(spec.Disks, func(d hv.Disk) bool { return !d.IsCD() }) {
		return startFailed(g, "boot", "a guest of type pvh boots from its disk or from a kernel on this computer, and has neither", "choose one in the guest's settings")
	}
	if _, v := hv.NativeVerdict(host.accel); !v.Usable {
		cure, runAs := v.Cure, ""
		if host.qemu.Path != "" {
			runAs = string(hv.HVM)
			cure = orElse(cure, "run the guest as hvm, which QEMU can emulate, more slowly")
		}
		return api.NewError(api.ErrNoAccelerator, string(g.ref()), "accelerator",
			"a guest of type pvh needs hardware virtualisation, and it cannot be used: "+v.Reason, cure, runAs)
	}
	for _, d := range spec.Disks {
		if d.Path != "" && d.Format != hv.Raw && host.qemu.Storage == "" {
			path := diskPath(g.dir, d)
			return startFailed(g, "disk", fmt.Sprintf("%s is a %s image, which guests of type pvh use through qemu-storage-daemon, a part of QEMU that is not installed", path, d.Format),
				fmt.Sprintf("install QEMU, or convert the disk where it is: qemu-img convert -O raw %q %q", path, path+".raw"))
		}
	}
	return nil
}

// retype makes a halted guest one of the other type.
func (s *Service) retype(c *rpc.Call, ref api.Ref, to string) (notes []string, err error) {
	notes = []string{} // on the wire a list, if an empty one
	err = s.configure(c, ref, hv.OpConfigure, func(p *hv.Spec) error {
		said, err := p.Retype(hv.GuestType(to))
		if err != nil {
			return refuse("type", err.Error(), "")
		}
		notes = append(notes, said...)
		return nil
	})
	return notes, err
}
