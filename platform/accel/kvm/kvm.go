// Package kvm is the accel port over Linux's /dev/kvm, on x86-64, without cgo.
//
// Start with Open (hypervisor_linux_amd64.go); the run loop is in
// vcpu_linux_amd64.go. It knows the kernel's interface and nothing of Xen: which
// port, MSR or hypercall means what is decided above. Where the kernel hands
// Xen's hypercalls on (KVM_CAP_XEN_HVM), vmcall and vmmcall trap; else they are
// to be patched into an OUT (accel.Caps.Patched). It needs Linux 5.10.
//
// KVM takes four pages of each guest's address space below 4 GiB for itself
// (tssAt, identityAt): nothing may be mapped there.
package kvm
