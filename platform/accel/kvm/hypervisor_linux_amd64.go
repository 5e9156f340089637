package kvm

import (
	"fmt"
	"os"
	"strings"

	"github.com/hxen-project/hxen/hv/accel"
	"golang.org/x/sys/unix"
)

const device = "/dev/kvm"

// hypervisor is /dev/kvm.
type hypervisor struct {
	fd      int
	runSize int // of a processor's struct kvm_run and what follows it

	// What this kernel can do.
	trapped     bool // it hands Xen's hypercalls on
	tscScaling  bool
	tscDeadline bool
	eoiExits    bool // it does not have the processor's own LAPIC for guests
}

// needed are the abilities that the back end cannot do without.
var needed = []struct {
	cap  uintptr
	name string
}{
	{KVM_CAP_SYNC_REGS, "KVM_CAP_SYNC_REGS"},
	{KVM_CAP_SPLIT_IRQCHIP, "KVM_CAP_SPLIT_IRQCHIP"},
	{KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT"},
	{KVM_CAP_X86_USER_SPACE_MSR, "KVM_CAP_X86_USER_SPACE_MSR"},
	{KVM_CAP_X86_MSR_FILTER, "KVM_CAP_X86_MSR_FILTER"},
}

// Open opens KVM. That it opens does not mean that it runs guests: platform/accel
// has the probe for that.
func Open() (accel.Hypervisor, error) {
	h, err := open()
	if err != nil {
		return nil, err
	}
	return h, nil
}

func open() (*hypervisor, error) {
	fd, err := unix.Open(device, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", device, err)
	}
	h := &hypervisor{fd: fd}
	if err := h.look(); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return h, nil
}

func (h *hypervisor) look() error {
	v, err := ioctl(h.fd, KVM_GET_API_VERSION, 0)
	if err != nil {
		return fmt.Errorf("KVM_GET_API_VERSION: %w", err)
	}
	if v != kvmAPI {
		return fmt.Errorf("%s speaks API version %d, not %d", device, v, kvmAPI)
	}
	for _, n := range needed {
		if check(h.fd, n.cap) <= 0 {
			return fmt.Errorf("this system's KVM lacks %s; HXEN needs Linux 5.10 or later", n.name)
		}
	}
	if h.runSize, err = ioctl(h.fd, KVM_GET_VCPU_MMAP_SIZE, 0); err != nil {
		return fmt.Errorf("KVM_GET_VCPU_MMAP_SIZE: %w", err)
	}
	h.trapped = check(h.fd, KVM_CAP_XEN_HVM)&KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL != 0
	h.tscScaling = check(h.fd, KVM_CAP_TSC_CONTROL) > 0
	h.tscDeadline = check(h.fd, KVM_CAP_TSC_DEADLINE_TIMER) > 0
	h.eoiExits = eoiExits()
	return nil
}

// eoiExits reports whether this kernel has told that it emulates guests' LAPICs without
// help of the processor's (APICv, AVIC).
func eoiExits() bool {
	for _, parameter := range []string{"kvm_intel/parameters/enable_apicv", "kvm_amd/parameters/avic"} {
		if b, err := os.ReadFile("/sys/module/" + parameter); err == nil {
			return strings.TrimSpace(string(b)) == "N"
		}
	}
	return false
}

// check asks for an ability: 0 if there is none, else what the ability says.
func check(fd int, ability uintptr) int {
	n, err := ioctl(fd, KVM_CHECK_EXTENSION, ability)
	if err != nil {
		return 0
	}
	return n
}

func (h *hypervisor) Name() string { return "kvm" }

func (h *hypervisor) Close() error { return unix.Close(h.fd) }

// CPUID.1:ECX, SDM 2A.
const (
	cpuidX2APIC      = 1 << 21
	cpuidTSCDeadline = 1 << 24
)

// cpuid is what KVM and the processor can show to a guest. KVM's list leaves out
// what only its LAPIC gives (Documentation/virt/kvm/api.rst, 4.46).
func (h *hypervisor) cpuid() ([]accel.CPUID, error) {
	ids := &cpuid{nent: maxCPUID}
	if _, err := ioctlPtr(h.fd, KVM_GET_SUPPORTED_CPUID, ids); err != nil {
		return nil, fmt.Errorf("KVM_GET_SUPPORTED_CPUID: %w", err)
	}
	out := make([]accel.CPUID, ids.nent)
	for i, e := range ids.entries[:ids.nent] {
		out[i] = accel.CPUID{Leaf: e.function, Sub: e.index, Indexed: e.flags&KVM_CPUID_FLAG_SIGNIFCANT_INDEX != 0,
			EAX: e.eax, EBX: e.ebx, ECX: e.ecx, EDX: e.edx}
		if e.function == 1 {
			out[i].ECX |= cpuidX2APIC
			if h.tscDeadline {
				out[i].ECX |= cpuidTSCDeadline
			}
		}
	}
	return out, nil
}
