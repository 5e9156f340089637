package accel

import "github.com/hxen-project/hxen/hv/accel"

// cannotEver: the platform runs guests of its own kind of processor, and HXEN's
// are x86.
func cannotEver() string {
	return "the guests are for x86 processors and this computer has an ARM processor, so the Windows Hypervisor Platform cannot run them"
}

func open() (accel.Hypervisor, error) { return nil, &UnavailableError{Reason: cannotEver()} }
