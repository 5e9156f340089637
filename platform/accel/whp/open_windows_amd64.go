package whp

import (
	"fmt"

	"github.com/hxen-project/hxen/hv/accel"
)

// Open opens the platform. That it opens does not mean that it runs guests:
// platform/accel has the probe for that.
func Open() (accel.Hypervisor, error) {
	if err := procRunVP.Find(); err != nil {
		return nil, fmt.Errorf("the Windows Hypervisor Platform is not installed: %w", err)
	}
	h, err := open(windowsHost{})
	if err != nil {
		return nil, err
	}
	return h, nil
}

// rdtsc reads the host's time-stamp counter, cpuid one of its leaves.
func rdtsc() uint64
func cpuid(leaf, sub uint32) (eax, ebx, ecx, edx uint32)
