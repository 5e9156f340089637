// Prints the numbers in kvm.txt from Linux's own header:
//	cc -o /tmp/kvm testdata/kvm.c && /tmp/kvm > testdata/kvm.txt
#include <linux/kvm.h>
#include <stddef.h>
#include <stdio.h>
#define C(x) printf("const %s %#lx\n", #x, (unsigned long)(x))
#define S(s) printf("size %s %zu\n", #s, sizeof(struct s))
#define O(s, f) printf("offset %s.%s %zu\n", #s, #f, offsetof(struct s, f))
int main(void) {
	C(KVM_GET_API_VERSION); C(KVM_CREATE_VM); C(KVM_GET_VCPU_MMAP_SIZE);
	C(KVM_GET_SUPPORTED_CPUID); C(KVM_SET_CPUID2); C(KVM_CREATE_VCPU);
	C(KVM_SET_USER_MEMORY_REGION); C(KVM_SET_TSS_ADDR); C(KVM_RUN);
	C(KVM_SET_REGS); C(KVM_GET_SREGS); C(KVM_SET_SREGS);
	C(KVM_EXIT_IO); C(KVM_EXIT_HLT); C(KVM_EXIT_SHUTDOWN); C(KVM_EXIT_FAIL_ENTRY); C(KVM_EXIT_INTERNAL_ERROR); C(KVM_EXIT_IO_OUT);
	S(kvm_regs); O(kvm_regs, rip); O(kvm_regs, rflags);
	S(kvm_segment); O(kvm_segment, base); O(kvm_segment, limit); O(kvm_segment, selector);
	O(kvm_segment, type); O(kvm_segment, present); O(kvm_segment, dpl); O(kvm_segment, db);
	O(kvm_segment, s); O(kvm_segment, l); O(kvm_segment, g); O(kvm_segment, unusable);
	S(kvm_dtable); O(kvm_dtable, limit);
	S(kvm_sregs); O(kvm_sregs, cs); O(kvm_sregs, ds); O(kvm_sregs, es); O(kvm_sregs, fs); O(kvm_sregs, gs);
	O(kvm_sregs, ss); O(kvm_sregs, tr); O(kvm_sregs, ldt); O(kvm_sregs, gdt); O(kvm_sregs, idt);
	O(kvm_sregs, cr0); O(kvm_sregs, cr2); O(kvm_sregs, cr3); O(kvm_sregs, cr4); O(kvm_sregs, cr8);
	O(kvm_sregs, efer); O(kvm_sregs, apic_base); O(kvm_sregs, interrupt_bitmap);
	S(kvm_userspace_memory_region); O(kvm_userspace_memory_region, slot); O(kvm_userspace_memory_region, flags);
	O(kvm_userspace_memory_region, guest_phys_addr); O(kvm_userspace_memory_region, memory_size);
	O(kvm_userspace_memory_region, userspace_addr);
	S(kvm_cpuid_entry2); O(kvm_cpuid2, nent); O(kvm_cpuid2, entries);
	O(kvm_run, exit_reason); O(kvm_run, io.direction); O(kvm_run, io.size); O(kvm_run, io.port);
	O(kvm_run, io.count); O(kvm_run, io.data_offset);
	return 0;
}
