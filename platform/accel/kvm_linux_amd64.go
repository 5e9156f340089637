package accel

import (
	"github.com/hxen-project/hxen/hv/accel"
	"github.com/hxen-project/hxen/platform/accel/kvm"
)

func cannotEver() string { return "" }

func open() (accel.Hypervisor, error) { return kvm.Open() }
