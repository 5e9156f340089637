// A stand-in for winhvplatform.dll on Linux' KVM, for tests: the Windows Hypervisor
// Platform back end runs guests with it under wine. It is never shipped.
//
// Wine leaves system calls that a Windows program makes by itself to Linux, so
// that this is a plain Windows DLL, built by mingw-w64 against its own
// winhvplatform.h, and needs nothing of wine.
//
// What it keeps to is what Microsoft documents and QEMU relies on: the processor
// stops at an instruction, with its length, and the client sets registers and
// RIP; registers by name; interrupts of the local APIC are the platform's.
// KVM has done a part of an instruction when it exits, or finishes it at the next
// entry; here it finishes at once, and the registers are put back (complete, in
// exits.c). What differs from the platform for certain:
//
//   - KVM never exits for CPUID. Before the first instruction of a processor the
//     client is asked for every leaf and subleaf by an exit that no guest made
//     (cpuid.c), and KVM gets the answers.
//   - Of writes to memory that is not there the client is told if they are a MOV:
//     KVM does not say where the instruction began (store.c). Others are dropped.
//   - WHvTranslateGva does not look at privileges.
//   - Hypercalls need a KVM with its Xen interface (CONFIG_KVM_XEN).
//
// HXEN_STANDIN=1809 makes it an old platform: no hypercall exit, so that
// hypercalls come as #UD, no x2APIC, no MSR list and no
// WHvGetVirtualProcessorCpuidOutput.
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
#include <winhvplatform.h>
#include <linux/kvm.h>

#define EXPORT __declspec(dllexport) HRESULT WINAPI
#define MAX_VPS 254
#define MAX_ENTRIES 256 // KVM_MAX_CPUID_ENTRIES
#define UNKNOWN_PROPERTY ((HRESULT)0x80370302)
#define UNKNOWN_CAPABILITY ((HRESULT)0x80370300)
#define TOO_SMALL ((HRESULT)0x80370301)

struct cpuid {
	struct kvm_cpuid2 head;
	struct kvm_cpuid_entry2 entries[MAX_ENTRIES];
};

struct slot { // of guest memory; its place is its number in KVM
	UINT64 gpa, size;
	BYTE *mem;
	UINT32 flags;
};

struct vp {
	struct partition *p;
	UINT32 index;
	int fd;
	struct kvm_run *run; // with the registers, which KVM leaves and takes there
	volatile LONG cancel;
	volatile LONG thread; // Linux' number of the thread that runs it, or 0
	LONG ready;           // the thread whose signals are set for it
	UINT64 offset;        // of its TSC
	BOOL window;          // the client asks to be told when interrupts are taken
	// The questions for CPUID.
	BOOL asked, asking;
	UINT32 leaf, sub; // leaf is a place in the partition's list
	struct kvm_cpuid_entry2 answer;
	UINT32 first; // entry of this leaf's subleaf 0
	struct cpuid cpuid;
};

struct partition {
	int vm;
	UINT32 count;
	UINT64 exits, exceptions;
	UINT32 *leaves, leaf_count; // that exit
	UINT32 msrs[64], msr_count; // that exit
	struct vp *vps[MAX_VPS];
	SRWLOCK table; // guards slots
	struct slot *slots;
	UINT32 slot_count;
	SRWLOCK running; // shared by processors that are in KVM
	volatile LONG pausing;
	UINT64 origin; // offset of its processors' TSCs at first
	BOOL held; // its time stands still,
	UINT64 held_at; // since the host's TSC was this
};

// linux.c: negative results are Linux' errors.
INT64 linux_ioctl(int fd, UINT64 request, UINT64 arg);
int linux_open(const char *path);
void linux_close(int fd);
void *linux_map(int fd, UINT64 size);
void linux_unmap(void *at, UINT64 size);
LONG linux_thread(void);
void linux_nudge(LONG thread);
UINT64 linux_block_nudges(void);
void linux_take_nudge(void);
HRESULT complain(const char *what, INT64 error);

#define NUDGE 42 // SIGRTMIN+8
#define IOCTL(fd, request, p) linux_ioctl(fd, request, (UINT64)(ULONG_PTR)(p))

BOOL old_platform(void);
int kvm(void);
struct vp *find_vp(WHV_PARTITION_HANDLE handle, UINT32 index);
BOOL flush(struct vp *vp);
BOOL fetch(struct vp *vp);
UINT64 rdtsc(void);
BOOL set_offset(struct vp *vp, UINT64 offset);

const struct cpuid *supported(void);
struct kvm_cpuid_entry2 supported_leaf(UINT32 leaf, UINT32 sub);
BOOL ask_cpuid(struct vp *vp, WHV_RUN_VP_EXIT_CONTEXT *exit);
BOOL take_cpuid(struct vp *vp, const WHV_REGISTER_NAME *names, UINT32 count, const WHV_REGISTER_VALUE *values);

BYTE *guest_memory(struct partition *p, UINT64 gpa, UINT64 *left);
UINT64 guest_physical(struct vp *vp, UINT64 linear);
UINT32 guest_code(struct vp *vp, BYTE *bytes, UINT32 n);
WHV_X64_SEGMENT_REGISTER segment_of(const struct kvm_segment *s);
BOOL undo_store(struct vp *vp);
void context(struct vp *vp, WHV_RUN_VP_EXIT_CONTEXT *exit, WHV_RUN_VP_EXIT_REASON reason, UINT32 length);
