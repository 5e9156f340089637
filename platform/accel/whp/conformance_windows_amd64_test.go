package whp_test

import (
	"testing"

	"github.com/hxen-project/hxen/hv/hvtest"
	"github.com/hxen-project/hxen/platform/accel/whp"
)

// TestConformance runs on a Windows that has the platform, and under wine on the
// stand-in (TestLabWHP in hv/hvtest).
func TestConformance(t *testing.T) {
	reason := ""
	if h, err := whp.Open(); err != nil {
		reason = err.Error()
	} else if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	hvtest.RequireThat(t, "accel", reason)
	if err := hvtest.HoldMachine(whp.Open); err != nil {
		t.Fatal(err)
	}
	hvtest.RunAccel(t, whp.Open)
}
