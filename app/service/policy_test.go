package service

import (
	"testing"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/hv"
)

// TestRestarts: which ends are followed by a start, by xl's policies.
func TestRestarts(t *testing.T) {
	for _, c := range []struct {
		spec   hv.Spec
		reason hv.ExitReason
		want   bool
	}{
		{hv.Spec{}, hv.ExitPoweroff, false},
		{hv.Spec{OnPoweroff: hv.EndRestart}, hv.ExitPoweroff, true},
		{hv.Spec{}, hv.ExitReboot, true},
		{hv.Spec{OnReboot: hv.EndDestroy}, hv.ExitReboot, false},
		{hv.Spec{}, hv.ExitCrash, false},
		{hv.Spec{OnCrash: hv.EndCoredumpDestroy}, hv.ExitCrash, false},
		{hv.Spec{OnCrash: hv.EndCoredumpRestart}, hv.ExitCrash, true},
		{hv.Spec{OnCrash: hv.EndRenameRestart}, hv.ExitCrash, true},
		{hv.Spec{}, hv.ExitWatchdog, true}, // an hvm guest's is reset in place, a pvh guest's starts anew
		{hv.Spec{OnWatchdog: hv.EndDestroy}, hv.ExitWatchdog, false},
		{hv.Spec{OnWatchdog: hv.EndRestart, OnCrash: hv.EndDestroy}, hv.ExitWatchdog, true},
		{hv.Spec{OnPoweroff: hv.EndRestart, OnCrash: hv.EndRestart}, hv.ExitDestroyed, false},
		{hv.Spec{OnCrash: hv.EndRestart}, hv.ExitFailed, false},
		{hv.Spec{OnPoweroff: hv.EndRestart}, hv.ExitSaved, false},
	} {
		if got := restarts(&c.spec, c.reason); got != c.want {
			t.Errorf("%q/%q/%q/%q after %s: restarts %v", c.spec.OnPoweroff, c.spec.OnReboot, c.spec.OnCrash, c.spec.OnWatchdog, c.reason, got)
		}
	}
}

// TestWatchdogRestarts: a guest that its watchdog saw hang is started again, and why
// is kept.
func TestWatchdogRestarts(t *testing.T) {
	b := newBench(t)
	c := b.up()
	ref := c.create(api.NewGuest{Name: "hanging", Memory: 1 << 30})
	c.must(nil, "VM.set_other_config", ref, map[string]string{api.KeyOnWatchdog: hv.EndCoredumpRestart})
	c.must(nil, "VM.start", ref, false, false)
	c.must(nil, "VM.hard_reboot", ref)
	r := c.until(ref, "started again", func(r api.VM) bool { return r.PowerState == "Running" && r.DomID == 2 })
	if got := r.OtherConfig[api.KeyLastExit]; got != "watchdog" {
		t.Errorf("its last run ended as %q", got)
	}
}
