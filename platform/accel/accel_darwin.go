package accel

import (
	"context"

	"github.com/hxen-project/hxen/hv/accel"
	"golang.org/x/sys/unix"
)

// IoctlType is the type of the ioctls that a machine of Open needs while it runs; 0: none.
const IoctlType = 0

// probeHost asks whether the processor could. No guest code has been run on
// macOS yet, so the verdict is not "usable".
func probeHost(context.Context, Options) Result {
	r := Result{Name: "hvf"}
	switch v, err := unix.SysctlUint32("kern.hv_support"); {
	case !sameProcessor:
		r.Reason = "the guests are for x86 processors and this Mac has an Apple processor, so the Hypervisor framework cannot run them"
	case err != nil || v == 0:
		r.Reason = "this Mac does not offer hardware virtualisation (kern.hv_support)"
	default:
		r.Reason = "the Hypervisor framework is present, but it has not been shown that it runs guests"
	}
	return r
}

func unstableTSC() string { return "" }

func open() (accel.Hypervisor, error) {
	return nil, &UnavailableError{
		Reason: "this version of HXEN cannot run guests of type pvh on macOS",
		Cure:   "run the guest as hvm",
	}
}
