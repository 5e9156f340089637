package native

import (
	"os"
	"testing"

	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/hvtest"
)

// TestCloneLetsGoOfItsFile: before the guest runs the worker deletes what a clone's
// memory came from, which Windows does not let it while the file is open.
func TestCloneLetsGoOfItsFile(t *testing.T) {
	path, _ := savedFile(t)
	s := testSpec(t)
	s.VCPUs, s.Memory = 2, memMiB*hv.MiB
	host := hv.Host{Restore: path, Confine: func() (string, error) { return "", os.Remove(path) }}
	m, ended := launchFakeOn(t, host, s, (*hvtest.FakeCPU).Halt)
	if err := m.Stop(t.Context(), hv.PowerOff); err != nil {
		t.Error(err)
	}
	if reason, _ := ended(); reason != hv.ExitDestroyed {
		t.Errorf("the clone ended as %s", reason)
	}
}
