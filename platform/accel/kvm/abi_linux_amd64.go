package kvm

import "structs"

// linux/kvm.h and asm/kvm.h; testdata/kvm.txt holds the numbers that a C
// compiler printed.
const (
	KVM_GET_API_VERSION        = 0xae00
	KVM_CREATE_VM              = 0xae01
	KVM_CHECK_EXTENSION        = 0xae03
	KVM_GET_VCPU_MMAP_SIZE     = 0xae04
	KVM_GET_SUPPORTED_CPUID    = 0xc008ae05
	KVM_CREATE_VCPU            = 0xae41
	KVM_SET_USER_MEMORY_REGION = 0x4020ae46
	KVM_SET_TSS_ADDR           = 0xae47
	KVM_SET_IDENTITY_MAP_ADDR  = 0x4008ae48
	KVM_SIGNAL_MSI             = 0x4020aea5
	KVM_ENABLE_CAP             = 0x4068aea3
	KVM_XEN_HVM_CONFIG         = 0x4038ae7a
	KVM_X86_SET_MSR_FILTER     = 0x4188aec6
	KVM_RUN                    = 0xae80
	KVM_GET_REGS               = 0x8090ae81
	KVM_SET_REGS               = 0x4090ae82
	KVM_GET_SREGS              = 0x8138ae83
	KVM_SET_SREGS              = 0x4138ae84
	KVM_INTERRUPT              = 0x4004ae86
	KVM_GET_MSRS               = 0xc008ae88
	KVM_SET_MSRS               = 0x4008ae89
	KVM_SET_CPUID2             = 0x4008ae90
	KVM_GET_LAPIC              = 0x8400ae8e
	KVM_SET_LAPIC              = 0x4400ae8f
	KVM_GET_MP_STATE           = 0x8004ae98
	KVM_SET_MP_STATE           = 0x4004ae99
	KVM_GET_VCPU_EVENTS        = 0x8040ae9f
	KVM_SET_VCPU_EVENTS        = 0x4040aea0
	KVM_GET_DEBUGREGS          = 0x8080aea1
	KVM_SET_DEBUGREGS          = 0x4080aea2
	KVM_GET_XSAVE              = 0x9000aea4
	KVM_SET_XSAVE              = 0x5000aea5
	KVM_GET_XSAVE2             = 0x9000aecf
	KVM_GET_XCRS               = 0x8188aea6
	KVM_SET_XCRS               = 0x4188aea7
	KVM_SET_TSC_KHZ            = 0xaea2
	KVM_GET_TSC_KHZ            = 0xaea3
	KVM_SET_DEVICE_ATTR        = 0x4018aee1
	KVM_GET_DEVICE_ATTR        = 0x4018aee2
	KVM_HAS_DEVICE_ATTR        = 0x4018aee3

	KVM_CAP_XEN_HVM            = 38
	KVM_CAP_TSC_CONTROL        = 60
	KVM_CAP_TSC_DEADLINE_TIMER = 72
	KVM_CAP_SYNC_REGS          = 74
	KVM_CAP_SPLIT_IRQCHIP      = 121
	KVM_CAP_IMMEDIATE_EXIT     = 136
	KVM_CAP_X86_USER_SPACE_MSR = 188
	KVM_CAP_X86_MSR_FILTER     = 189
	KVM_CAP_XSAVE2             = 208

	KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL = 1 << 1
	KVM_MSR_EXIT_REASON_FILTER         = 1 << 2
	KVM_MSR_FILTER_READ                = 1 << 0
	KVM_MSR_FILTER_WRITE               = 1 << 1
	KVM_MSR_FILTER_MAX_RANGES          = 16
	KVM_VCPU_TSC_CTRL                  = 0
	KVM_VCPU_TSC_OFFSET                = 0
	KVM_SYNC_X86_REGS                  = 1 << 0
	KVM_SYNC_X86_SREGS                 = 1 << 1
	KVM_CPUID_FLAG_SIGNIFCANT_INDEX    = 1 << 0

	KVM_EXIT_IO              = 2
	KVM_EXIT_MMIO            = 6
	KVM_EXIT_IRQ_WINDOW_OPEN = 7
	KVM_EXIT_SHUTDOWN        = 8
	KVM_EXIT_FAIL_ENTRY      = 9
	KVM_EXIT_INTR            = 10
	KVM_EXIT_INTERNAL_ERROR  = 17
	KVM_EXIT_X86_RDMSR       = 29
	KVM_EXIT_X86_WRMSR       = 30
	KVM_EXIT_XEN             = 34

	KVM_EXIT_IO_OUT    = 1
	KVM_EXIT_XEN_HCALL = 1
)

// kvmAPI is the only version there has been since 2.6.22
// (Documentation/virt/kvm/api.rst, 4.1).
const kvmAPI = 12

// regs is struct kvm_regs, asm/kvm.h.
type regs struct {
	_                                              structs.HostLayout
	rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp         uint64
	r8, r9, r10, r11, r12, r13, r14, r15, rip, flg uint64
}

// segment is struct kvm_segment, asm/kvm.h.
type segment struct {
	_                               structs.HostLayout
	base                            uint64
	limit                           uint32
	selector                        uint16
	typ, present, dpl, db           uint8
	s, l, g, avl, unusable, padding uint8
}

// dtable is struct kvm_dtable, asm/kvm.h.
type dtable struct {
	_     structs.HostLayout
	base  uint64
	limit uint16
	_     [3]uint16
}

// sregs is struct kvm_sregs, asm/kvm.h.
type sregs struct {
	_                              structs.HostLayout
	cs, ds, es, fs, gs, ss, tr, ld segment
	gdt, idt                       dtable
	cr0, cr2, cr3, cr4, cr8        uint64
	efer, apicBase                 uint64
	interruptBitmap                [4]uint64
}

// memoryRegion is struct kvm_userspace_memory_region, linux/kvm.h.
type memoryRegion struct {
	_              structs.HostLayout
	slot, flags    uint32
	guest, size    uint64
	userspaceStart uint64
}

// maxCPUID is KVM_MAX_CPUID_ENTRIES of arch/x86/kvm/cpuid.h.
const maxCPUID = 256

// cpuidEntry is struct kvm_cpuid_entry2, asm/kvm.h.
type cpuidEntry struct {
	_                      structs.HostLayout
	function, index, flags uint32
	eax, ebx, ecx, edx     uint32
	_                      [3]uint32
}

// cpuid is struct kvm_cpuid2 with room for as many as KVM takes.
type cpuid struct {
	_       structs.HostLayout
	nent    uint32
	_       uint32
	entries [maxCPUID]cpuidEntry
}

// enableCap is struct kvm_enable_cap, linux/kvm.h.
type enableCap struct {
	_          structs.HostLayout
	cap, flags uint32
	args       [4]uint64
	_          [64]byte
}

// xenConfig is struct kvm_xen_hvm_config, linux/kvm.h.
type xenConfig struct {
	_          structs.HostLayout
	flags, msr uint32
	_          [48]byte // hypercall pages for KVM to copy; ours are written above
}

// msrFilter is struct kvm_msr_filter, asm/kvm.h; flags 0 allows by default.
type msrFilter struct {
	_      structs.HostLayout
	flags  uint32
	_      uint32
	ranges [KVM_MSR_FILTER_MAX_RANGES]msrRange
}

// msrRange is struct kvm_msr_filter_range, asm/kvm.h. A clear bit denies.
type msrRange struct {
	_                  structs.HostLayout
	flags, nmsrs, base uint32
	_                  uint32
	bitmap             uint64 // address
}

// msi is struct kvm_msi, linux/kvm.h.
type msi struct {
	_                structs.HostLayout
	addrLow, addrHi  uint32
	data, flags, dev uint32
	_                [12]byte
}

// msr is struct kvm_msr_entry, asm/kvm.h.
type msr struct {
	_     structs.HostLayout
	index uint32
	_     uint32
	data  uint64
}

// oneMSR is struct kvm_msrs with one entry.
type oneMSR struct {
	_     structs.HostLayout
	nmsrs uint32
	_     uint32
	entry msr
}

// deviceAttr is struct kvm_device_attr, linux/kvm.h.
type deviceAttr struct {
	_            structs.HostLayout
	flags, group uint32
	attr, addr   uint64
}

// runArea is struct kvm_run, linux/kvm.h. control is request_interrupt_window
// (byte 0) and immediate_exit (byte 1), which other threads write.
type runArea struct {
	_          structs.HostLayout
	control    uint32
	_          uint32
	exitReason uint32
	ready      uint8 // ready_for_interrupt_injection
	_          [3]byte
	_          [16]byte
	exit       [256]byte // the union
	validRegs  uint64
	dirtyRegs  uint64
	regs       regs
	sregs      sregs
}

// Bits of runArea.control.
const (
	wantWindow    = 1 << 0 // request_interrupt_window
	immediateExit = 1 << 8 // immediate_exit
)

// The members of runArea's union that are looked at.
type (
	exitIO struct {
		_               structs.HostLayout
		direction, size uint8
		port            uint16
		count           uint32
		dataOffset      uint64
	}
	exitMMIO struct {
		_       structs.HostLayout
		gpa     uint64
		data    [8]byte
		len     uint32
		isWrite uint8
	}
	exitMSR struct {
		_     structs.HostLayout
		err   uint8
		_     [11]byte
		index uint32
		data  uint64
	}
	exitXen struct {
		_             structs.HostLayout
		typ           uint32
		_             uint32
		longmode, cpl uint32
		input, result uint64
		params        [6]uint64
	}
	exitInternal struct {
		_        structs.HostLayout
		suberror uint32
	}
	exitFailEntry struct {
		_      structs.HostLayout
		reason uint64
	}
)
