// Prints the numbers in kvm.txt from Linux's own headers:
//	cc -o /tmp/kvm testdata/kvm.c && /tmp/kvm > testdata/kvm.txt
#include <linux/kvm.h>
#include <stddef.h>
#include <stdio.h>
#define C(x) printf("const %s %#lx\n", #x, (unsigned long)(x))
#define S(s) printf("size %s %zu\n", #s, sizeof(struct s))
#define O(s, f) printf("offset %s.%s %zu\n", #s, #f, offsetof(struct s, f))
int main(void) {
	C(KVM_GET_API_VERSION); C(KVM_CREATE_VM); C(KVM_CHECK_EXTENSION); C(KVM_GET_VCPU_MMAP_SIZE);
	C(KVM_GET_SUPPORTED_CPUID); C(KVM_CREATE_VCPU); C(KVM_SET_USER_MEMORY_REGION); C(KVM_SET_TSS_ADDR);
	C(KVM_SET_IDENTITY_MAP_ADDR); C(KVM_SIGNAL_MSI); C(KVM_ENABLE_CAP); C(KVM_XEN_HVM_CONFIG);
	C(KVM_X86_SET_MSR_FILTER); C(KVM_RUN); C(KVM_GET_REGS); C(KVM_SET_REGS); C(KVM_GET_SREGS); C(KVM_SET_SREGS);
	C(KVM_INTERRUPT); C(KVM_GET_MSRS); C(KVM_SET_MSRS); C(KVM_SET_CPUID2); C(KVM_GET_LAPIC); C(KVM_SET_LAPIC);
	C(KVM_GET_MP_STATE); C(KVM_SET_MP_STATE); C(KVM_GET_VCPU_EVENTS); C(KVM_SET_VCPU_EVENTS);
	C(KVM_GET_DEBUGREGS); C(KVM_SET_DEBUGREGS); C(KVM_GET_XSAVE); C(KVM_SET_XSAVE); C(KVM_GET_XSAVE2);
	C(KVM_GET_XCRS); C(KVM_SET_XCRS); C(KVM_SET_TSC_KHZ); C(KVM_GET_TSC_KHZ);
	C(KVM_SET_DEVICE_ATTR); C(KVM_GET_DEVICE_ATTR); C(KVM_HAS_DEVICE_ATTR);
	C(KVM_CAP_XEN_HVM); C(KVM_CAP_TSC_CONTROL); C(KVM_CAP_SYNC_REGS); C(KVM_CAP_SPLIT_IRQCHIP);
	C(KVM_CAP_IMMEDIATE_EXIT); C(KVM_CAP_TSC_DEADLINE_TIMER); C(KVM_CAP_X86_USER_SPACE_MSR); C(KVM_CAP_X86_MSR_FILTER); C(KVM_CAP_XSAVE2);
	C(KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL); C(KVM_MSR_EXIT_REASON_FILTER);
	C(KVM_MSR_FILTER_READ); C(KVM_MSR_FILTER_WRITE); C(KVM_MSR_FILTER_MAX_RANGES);
	C(KVM_VCPU_TSC_CTRL); C(KVM_VCPU_TSC_OFFSET); C(KVM_SYNC_X86_REGS); C(KVM_SYNC_X86_SREGS);
	C(KVM_CPUID_FLAG_SIGNIFCANT_INDEX);
	C(KVM_EXIT_IO); C(KVM_EXIT_MMIO); C(KVM_EXIT_IRQ_WINDOW_OPEN); C(KVM_EXIT_SHUTDOWN); C(KVM_EXIT_FAIL_ENTRY);
	C(KVM_EXIT_INTR); C(KVM_EXIT_INTERNAL_ERROR); C(KVM_EXIT_X86_RDMSR); C(KVM_EXIT_X86_WRMSR); C(KVM_EXIT_XEN);
	C(KVM_EXIT_IO_OUT); C(KVM_EXIT_XEN_HCALL);
	S(kvm_regs); O(kvm_regs, rax); O(kvm_regs, r8); O(kvm_regs, r15); O(kvm_regs, rip); O(kvm_regs, rflags);
	S(kvm_segment); O(kvm_segment, base); O(kvm_segment, limit); O(kvm_segment, selector);
	O(kvm_segment, type); O(kvm_segment, present); O(kvm_segment, dpl); O(kvm_segment, db);
	O(kvm_segment, s); O(kvm_segment, l); O(kvm_segment, g); O(kvm_segment, avl); O(kvm_segment, unusable);
	S(kvm_dtable); O(kvm_dtable, base); O(kvm_dtable, limit);
	S(kvm_sregs); O(kvm_sregs, cs); O(kvm_sregs, ds); O(kvm_sregs, es); O(kvm_sregs, fs); O(kvm_sregs, gs);
	O(kvm_sregs, ss); O(kvm_sregs, tr); O(kvm_sregs, ldt); O(kvm_sregs, gdt); O(kvm_sregs, idt);
	O(kvm_sregs, cr0); O(kvm_sregs, cr2); O(kvm_sregs, cr3); O(kvm_sregs, cr4); O(kvm_sregs, cr8);
	O(kvm_sregs, efer); O(kvm_sregs, apic_base); O(kvm_sregs, interrupt_bitmap);
	S(kvm_userspace_memory_region); O(kvm_userspace_memory_region, slot); O(kvm_userspace_memory_region, flags);
	O(kvm_userspace_memory_region, guest_phys_addr); O(kvm_userspace_memory_region, memory_size);
	O(kvm_userspace_memory_region, userspace_addr);
	S(kvm_cpuid_entry2); O(kvm_cpuid_entry2, function); O(kvm_cpuid_entry2, index); O(kvm_cpuid_entry2, flags);
	O(kvm_cpuid_entry2, eax); O(kvm_cpuid_entry2, edx); O(kvm_cpuid2, nent); O(kvm_cpuid2, entries);
	S(kvm_enable_cap); O(kvm_enable_cap, cap); O(kvm_enable_cap, flags); O(kvm_enable_cap, args);
	S(kvm_xen_hvm_config); O(kvm_xen_hvm_config, flags); O(kvm_xen_hvm_config, msr);
	S(kvm_msr_filter); O(kvm_msr_filter, flags); O(kvm_msr_filter, ranges);
	S(kvm_msr_filter_range); O(kvm_msr_filter_range, flags); O(kvm_msr_filter_range, nmsrs);
	O(kvm_msr_filter_range, base); O(kvm_msr_filter_range, bitmap);
	S(kvm_msi); O(kvm_msi, address_lo); O(kvm_msi, address_hi); O(kvm_msi, data); O(kvm_msi, flags);
	S(kvm_msr_entry); O(kvm_msr_entry, index); O(kvm_msr_entry, data); O(kvm_msrs, nmsrs); O(kvm_msrs, entries);
	S(kvm_device_attr); O(kvm_device_attr, flags); O(kvm_device_attr, group); O(kvm_device_attr, attr); O(kvm_device_attr, addr);
	S(kvm_lapic_state); S(kvm_mp_state); S(kvm_vcpu_events); S(kvm_debugregs); S(kvm_xsave); S(kvm_xcrs);
	O(kvm_run, request_interrupt_window); O(kvm_run, immediate_exit); O(kvm_run, exit_reason);
	O(kvm_run, ready_for_interrupt_injection); O(kvm_run, io);
	O(kvm_run, kvm_valid_regs); O(kvm_run, kvm_dirty_regs); O(kvm_run, s.regs.regs); O(kvm_run, s.regs.sregs);
	O(kvm_run, io.direction); O(kvm_run, io.size); O(kvm_run, io.port); O(kvm_run, io.count); O(kvm_run, io.data_offset);
	O(kvm_run, mmio.phys_addr); O(kvm_run, mmio.data); O(kvm_run, mmio.len); O(kvm_run, mmio.is_write);
	O(kvm_run, msr.error); O(kvm_run, msr.index); O(kvm_run, msr.data);
	O(kvm_run, xen.type); O(kvm_run, xen.u.hcall.longmode); O(kvm_run, xen.u.hcall.cpl); O(kvm_run, xen.u.hcall.input);
	O(kvm_run, xen.u.hcall.result); O(kvm_run, xen.u.hcall.params);
	O(kvm_run, internal.suberror); O(kvm_run, fail_entry.hardware_entry_failure_reason);
	return 0;
}
