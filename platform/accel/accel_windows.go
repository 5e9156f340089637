package accel

import (
	"context"
	"errors"

	"github.com/hxen-project/hxen/hv/accel"
)

// IoctlType is the type of the ioctls that a machine of Open needs while it runs; 0: none.
const IoctlType = 0

// probeHost asks Windows whether its hypervisor is there. No guest code has been
// run on it yet, so the verdict is not "usable".
func probeHost(context.Context, Options) Result {
	r := Result{Name: "whpx"}
	switch present, err := hypervisorPresent(); {
	case errors.Is(err, errNoPlatform):
		r.Reason = "the Windows Hypervisor Platform is not installed"
		r.Cure = "Switch on \"Windows Hypervisor Platform\" under \"Turn Windows features on or off\", then restart the computer."
	case err != nil:
		r.Reason = "the Windows Hypervisor Platform does not answer: " + err.Error()
	case !present:
		r.Reason = "the Windows hypervisor is installed but does not run"
		r.Cure = "Switch on Intel VT-x or AMD-V (SVM) in the computer's firmware settings, then restart the computer."
	default:
		r.Reason = "the Windows Hypervisor Platform is present, but it has not been shown that it runs guests"
	}
	return r
}

var errNoGuest = errors.New("no guest code is run on Windows")

func runGuest(func(string)) (string, error) { return "", errNoGuest }

func unstableTSC() string { return "" }

func open() (accel.Hypervisor, error) {
	return nil, &UnavailableError{
		Reason: "this version of HXEN cannot run guests of type pvh on Windows",
		Cure:   "run the guest as hvm",
	}
}
