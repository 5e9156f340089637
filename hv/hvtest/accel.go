package hvtest

import (
	"errors"
	"testing"

	"github.com/hxen-project/hxen/hv/accel"
	"github.com/hxen-project/hxen/hv/accel/selftest"
)

// RunAccel is the contract of the accel port, as a test that every back end
// passes. The hypervisor is opened once for each case.
func RunAccel(t *testing.T, open func() (accel.Hypervisor, error)) {
	for _, c := range selftest.Cases {
		t.Run(c.Name, func(t *testing.T) {
			h, err := open()
			if err != nil {
				t.Fatal(err)
			}
			err = c.Run(h)
			if errors.Is(err, selftest.ErrSkip) {
				t.Skip(err)
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := h.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// RequireThat is Require for a part that is more than programs: reason says why
// it is missing, and is empty if it is there.
func RequireThat(t testing.TB, part, reason string) {
	t.Helper()
	if reason != "" {
		missing(t, part, reason)
	}
}

// HoldMachine makes a machine that stands until the process ends. The first and
// the last machine of a system have its kernel patch its code (static keys),
// which the lab's emulated processors do not always survive; so tests there do
// it once.
func HoldMachine(open func() (accel.Hypervisor, error)) error {
	h, err := open()
	if err != nil {
		return err
	}
	m, err := h.NewVM(accel.Config{VCPUs: 1})
	if err != nil {
		return err
	}
	_, err = m.NewVCPU(0, m.Caps().CPUID)
	return err
}
