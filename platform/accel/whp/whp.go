// Package whp is the accel port over the Windows Hypervisor Platform
// (winhvplatform.dll), on x86-64, without cgo.
//
// Start with Open (open_windows_amd64.go) and hypervisor.go; the run loop is in
// vcpu.go. All that is Windows' own stands behind the interface host, and only
// the two files that end in windows_amd64.go know more of it: everything else is
// tested on any system over a scripted host, and the whole under wine on a stand-in
// for the DLL (standin, make test-whp). It knows nothing of Xen.
//
// Hypercalls trap: by the platform's hypercall exit where it has one, else by
// the exit for the #UD that an unknown vmcall or vmmcall raises. CPUID exits, as
// its leaves differ by processor and come after the machine is set up. The
// platform stops at an instruction and says how long it is; going on behind it
// is ours to do. It needs Windows 10 1809.
package whp
