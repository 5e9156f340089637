package kvm_test

import (
	"context"
	"os"
	"sync"
	"testing"

	"github.com/hxen-project/hxen/hv/accel"
	"github.com/hxen-project/hxen/hv/hvtest"
	probe "github.com/hxen-project/hxen/platform/accel"
	"github.com/hxen-project/hxen/platform/accel/kvm"
)

func TestMain(m *testing.M) {
	probe.ProbeChild()
	os.Exit(m.Run())
}

// unusable says why this computer's KVM runs no guests; empty if it does. The
// lab's does, and may be too busy for the probe's deadline.
var unusable = sync.OnceValue(func() string {
	if os.Getenv("HXEN_LAB") != "" {
		return ""
	}
	for _, r := range probe.Probe(context.Background(), probe.Options{}) {
		if r.Name == "kvm" {
			return r.Reason
		}
	}
	return "there is no verdict on KVM"
})

func open(t *testing.T) accel.Hypervisor {
	t.Helper()
	hvtest.RequireThat(t, "accel", unusable())
	if err := hold(); err != nil {
		t.Fatal(err)
	}
	h, err := kvm.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

// hold keeps KVM from going to sleep between two tests.
var hold = sync.OnceValue(func() error { return hvtest.HoldMachine(kvm.Open) })

func TestConformance(t *testing.T) {
	open(t)
	hvtest.RunAccel(t, kvm.Open)
}

// TestPatched is for kernels that hand hypercalls on: the other way works too.
func TestPatched(t *testing.T) {
	if !kvm.Trapped(open(t)) {
		t.Skip("this kernel knows no other way")
	}
	hvtest.RunAccel(t, kvm.OpenPatched)
}

// TestOffset holds the TSC offset that is measured for old kernels against what
// this one tells.
func TestOffset(t *testing.T) {
	m, err := open(t).NewVM(accel.Config{VCPUs: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	v, err := m.NewVCPU(0, m.Caps().CPUID)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	measured, told, ok, err := kvm.Offsets(v)
	if err != nil {
		t.Fatal(err)
	}
	if !ok {
		t.Skip("this kernel does not tell")
	}
	// A tenth of a second: what is measured here has been interrupted many times.
	if d := int64(measured - told); max(d, -d) > int64(m.Caps().TSCHz/10) {
		t.Errorf("measured an offset of %d, told %d", int64(measured), int64(told))
	}
}
