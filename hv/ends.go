package hv

import (
	"fmt"
	"time"
)

// What is to happen when a guest ends: xl's on_poweroff, on_reboot,
// on_crash, on_watchdog.
const (
	EndDestroy         = "destroy"
	EndRestart         = "restart"
	EndPreserve        = "preserve"         // of a crash or a hang: the guest stays, paused, to be looked at
	EndCoredumpDestroy = "coredump-destroy" // of a crash or a hang: its memory is written into a file first
	EndCoredumpRestart = "coredump-restart"
	// EndRenameRestart keeps what is left of the guest under another name, and
	// restarts it. A guest is one folder: what is left is its memory, in a file there.
	EndRenameRestart = "rename-restart"
)

// Dumps reports whether the guest's memory is to be written into a file when it
// ends in a way for which this is the policy.
func Dumps(policy string) bool {
	return policy == EndCoredumpDestroy || policy == EndCoredumpRestart || policy == EndRenameRestart
}

// Dumps reports whether a crashed guest's memory is to be written into a file.
func (s *Spec) Dumps() bool { return Dumps(s.OnCrash) }

func (s *Spec) checkEnds() error {
	for field, v := range map[string]string{"on_poweroff": s.OnPoweroff, "on_reboot": s.OnReboot} {
		switch v {
		case "", EndDestroy, EndRestart:
		default:
			return fmt.Errorf("%s %q: must be %s or %s", field, v, EndDestroy, EndRestart)
		}
	}
	for field, v := range map[string]string{"on_crash": s.OnCrash, "on_watchdog": s.OnWatchdog} {
		switch v {
		case "", EndDestroy, EndRestart, EndPreserve, EndCoredumpDestroy, EndCoredumpRestart, EndRenameRestart:
		default:
			return fmt.Errorf("%s %q: must be %s, %s, %s, %s, %s or %s", field, v, EndDestroy, EndRestart, EndRenameRestart, EndPreserve, EndCoredumpDestroy, EndCoredumpRestart)
		}
	}
	return nil
}

// CoreName names the file that the memory of a guest that ended now goes into.
func CoreName(now time.Time) string { return "crash-" + now.UTC().Format("20060102T150405") + ".core" }

// Preserved, Dumping and NotDumped tell what happens by a policy: to what is at an
// end, by which field of the Spec; where its memory goes; that it could not.
func Preserved(what, field string) string {
	return what + " and was kept, paused, as it is (" + field + "); power it off when you have looked at it"
}
func Dumping(what, path string) string { return what + "; its memory is being written to " + path }
func NotDumped(err error) string {
	return fmt.Sprintf("the guest's system is at an end, and its memory could not be written: %v", err)
}
