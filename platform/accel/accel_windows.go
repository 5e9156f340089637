package accel

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/windows"
)

// IoctlType is the type of the ioctls that a machine of Open needs while it runs; 0: none.
const IoctlType = 0

const title = "the Windows Hypervisor Platform"

// probeHost asks Windows whether its hypervisor is there, and then runs guest
// code on it. QEMU's whpx stands on the same platform.
func probeHost(ctx context.Context, o Options) Result {
	if why := cannotEver(); why != "" {
		return Result{Name: "whpx", Reason: why}
	}
	present, err := hypervisorPresent()
	if err != nil || !present {
		return absent(err)
	}
	key := cacheKey()
	if r, ok := recall(o.Cache, key); ok && !o.Fresh {
		return r
	}
	how, err := runChild(ctx, deadline)
	r, firm := judge(how, err)
	if firm {
		remember(o.Cache, key, r)
	}
	return r
}

// absent explains that there is no platform, or no hypervisor below it.
func absent(err error) Result {
	r := Result{Name: "whpx"}
	switch {
	case errors.Is(err, errNoPlatform):
		r.Reason = title + " is not installed"
		r.Cure = "Switch on \"Windows Hypervisor Platform\" under \"Turn Windows features on or off\", then restart the computer."
	case err != nil:
		r.Reason = title + " does not answer: " + err.Error()
	default:
		r.Reason = "the Windows hypervisor is installed but does not run"
		r.Cure = "Switch on Intel VT-x or AMD-V (SVM) in the computer's firmware settings, then restart the computer."
	}
	return r
}

// judge turns what the child did into a verdict; a firm one holds until the next
// boot.
func judge(how string, err error) (r Result, firm bool) {
	switch {
	case err == nil:
		return Result{Name: "whpx", Usable: true, Native: Native{How: how}}, true
	case errors.Is(err, errNoVerdict):
		return Result{Name: "whpx", Reason: "whether " + title + " runs guests is not known: " + err.Error()}, false
	default:
		return noGuests("whpx", title, err.Error()), true
	}
}

// cacheKey is another one after an update or a start of Windows. The clock may
// be set meanwhile, which only means that the probe is made again.
func cacheKey() string {
	v := windows.RtlGetVersion()
	boot := time.Now().Add(-windows.DurationSinceBoot()).Round(5 * time.Minute)
	return fmt.Sprintf("2 %d.%d.%d %d", v.MajorVersion, v.MinorVersion, v.BuildNumber, boot.Unix())
}

// unstableTSC: Windows' hypervisor hands out the counter only where it is stable.
func unstableTSC() string { return "" }
