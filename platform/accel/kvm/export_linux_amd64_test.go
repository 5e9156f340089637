package kvm

import "github.com/hxen-project/hxen/hv/accel"

// What the tests outside of the package need of its inside.

// Trapped reports whether this kernel hands hypercalls on.
func Trapped(h accel.Hypervisor) bool { return h.(*hypervisor).trapped }

// OpenPatched opens KVM as on a kernel that does not.
func OpenPatched() (accel.Hypervisor, error) {
	h, err := open()
	if err != nil {
		return nil, err
	}
	h.trapped = false
	return h, nil
}

// Offsets returns the TSC offset that is measured for old kernels, and what this
// one tells; ok is false where it does not.
func Offsets(c accel.VCPU) (measured, told uint64, ok bool, err error) {
	v := c.(*vcpu)
	measured, err = v.measureOffset()
	return measured, v.tscOffset.Load(), v.vm.offsetAttr, err
}
