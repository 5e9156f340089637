// Running a processor, and KVM's exits as the platform has them.
#include "standin.h"

#define EINTR_ (-4)
#define EAGAIN_ (-11)
#define EINVAL_ (-22)

// enter is KVM_RUN, when nobody sorts the memory.
static INT64 enter(struct vp *vp)
{
	while (InterlockedCompareExchange(&vp->p->pausing, 0, 0))
		Sleep(0);
	AcquireSRWLockShared(&vp->p->running);
	INT64 err = linux_ioctl(vp->fd, KVM_RUN, 0);
	ReleaseSRWLockShared(&vp->p->running);
	return err;
}

// answer_ones has a read of memory that is not there get all ones.
static void answer_ones(struct kvm_run *run)
{
	if (run->exit_reason == KVM_EXIT_MMIO && !run->mmio.is_write)
		FillMemory(run->mmio.data, 8, 0xff);
	if (run->exit_reason == KVM_EXIT_IO && run->io.direction == KVM_EXIT_IO_IN)
		ZeroMemory((BYTE *)run + run->io.data_offset, run->io.size * run->io.count);
}

// complete has KVM finish an instruction that it has begun, without another one, and
// puts the registers back to where the instruction begins: the client does it. What
// it loads goes to registers, which are put back, or by INS to memory, where the
// client's will be.
static BOOL complete(struct vp *vp)
{
	struct kvm_run *run = vp->run;
	struct kvm_regs at = run->s.regs.regs;
	INT64 err = 0;
	while (err == 0) {
		answer_ones(run);
		run->immediate_exit = 1;
		err = linux_ioctl(vp->fd, KVM_RUN, 0);
	}
	if (err != EINTR_) {
		complain("finish an instruction", err);
		return FALSE;
	}
	run->s.regs.regs = at;
	run->kvm_dirty_regs |= KVM_SYNC_X86_REGS;
	return TRUE;
}

UINT64 guest_physical(struct vp *vp, UINT64 linear)
{
	struct kvm_translation t = {.linear_address = linear};
	if (!flush(vp) || IOCTL(vp->fd, KVM_TRANSLATE, &t) < 0 || !t.valid)
		return ~0ULL;
	return t.physical_address;
}

// guest_code reads up to n bytes from RIP on.
UINT32 guest_code(struct vp *vp, BYTE *bytes, UINT32 n)
{
	struct kvm_sregs *s = &vp->run->s.regs.sregs;
	UINT64 at = vp->run->s.regs.regs.rip, left;
	UINT32 done = 0;
	if (!(s->efer & 1 << 10 && s->cs.l))
		at = (s->cs.base + at) & 0xffffffff;
	while (done < n) {
		UINT64 gpa = guest_physical(vp, at + done);
		BYTE *mem = gpa == ~0ULL ? NULL : guest_memory(vp->p, gpa, &left);
		if (!mem)
			break;
		UINT64 page = 4096 - (gpa & 4095), some = n - done;
		some = some < page ? some : page;
		some = some < left ? some : left;
		CopyMemory(bytes + done, mem, some);
		done += (UINT32)some;
	}
	return done;
}

// context fills in what all exits have.
void context(struct vp *vp, WHV_RUN_VP_EXIT_CONTEXT *exit, WHV_RUN_VP_EXIT_REASON reason, UINT32 length)
{
	struct kvm_sregs *s = &vp->run->s.regs.sregs;
	ZeroMemory(exit, sizeof *exit);
	exit->ExitReason = reason;
	WHV_VP_EXIT_CONTEXT *c = &exit->VpContext;
	c->ExecutionState.Cpl = s->ss.dpl;
	c->ExecutionState.Cr0Pe = s->cr0 & 1;
	c->ExecutionState.Cr0Am = s->cr0 >> 18 & 1;
	c->ExecutionState.EferLma = s->efer >> 10 & 1;
	c->ExecutionState.InterruptShadow = vp->run->s.regs.events.interrupt.shadow != 0;
	c->ExecutionState.InterruptionPending = vp->run->s.regs.events.interrupt.injected;
	c->InstructionLength = length;
	c->Cr8 = s->cr8 & 15;
	c->Cs = segment_of(&s->cs);
	c->Rip = vp->run->s.regs.regs.rip;
	c->Rflags = vp->run->s.regs.regs.rflags;
}

// port_length is the length of IN, OUT, INS or OUTS; 0: it is none.
static UINT32 port_length(const BYTE *b, UINT32 n, BOOL long_mode)
{
	for (UINT32 i = 0; i < n; i++) {
		BYTE c = b[i];
		if (c >= 0xe4 && c <= 0xe7)
			return i + 2;
		if (c >= 0xec && c <= 0xef || c >= 0x6c && c <= 0x6f)
			return i + 1;
		BOOL prefix = c == 0x66 || c == 0x67 || c == 0xf2 || c == 0xf3 || c == 0x26 || c == 0x2e || c == 0x36 || c == 0x3e || c == 0x64 || c == 0x65;
		if (!prefix && !(long_mode && c >> 4 == 4))
			return 0;
	}
	return 0;
}

// walk moves a register within the width of addresses.
static void walk(__u64 *r, INT64 by, UINT32 width)
{
	UINT64 mask = width == 8 ? ~0ULL : (1ULL << (8 * width)) - 1;
	*r = (*r & ~mask) | ((*r + by) & mask);
}

// address_size is that of a string instruction at b.
static UINT32 address_size(struct vp *vp, const BYTE *b, UINT32 length)
{
	struct kvm_sregs *s = &vp->run->s.regs.sregs;
	BOOL other = FALSE;
	for (UINT32 i = 0; i + 1 < length; i++)
		other = other || b[i] == 0x67;
	if (s->efer & 1 << 10 && s->cs.l)
		return other ? 4 : 8;
	return (s->cs.db != 0) != other ? 4 : 2;
}

static BOOL is_outs(const BYTE *b, UINT32 length) { return length && b[length - 1] >= 0x6e && b[length - 1] <= 0x6f; }

static BOOL repeated(const BYTE *b, UINT32 length)
{
	for (UINT32 i = 0; i + 1 < length; i++)
		if (b[i] == 0xf2 || b[i] == 0xf3)
			return TRUE;
	return FALSE;
}

// outs_before finds the OUTS that ends at RIP, and goes back to its beginning: all bytes
// before it that look like a prefix are taken to be its own.
static UINT32 outs_before(struct vp *vp, BYTE *b, BOOL long_mode)
{
	struct kvm_regs *r = &vp->run->s.regs.regs;
	UINT64 end = r->rip;
	UINT32 length = 0;
	BYTE before[8];
	for (UINT32 back = 1; back <= 6; back++) {
		r->rip = end - back;
		if (guest_code(vp, before, back) != back || port_length(before, back, long_mode) != back || !is_outs(before, back))
			break;
		length = back;
		CopyMemory(b, before, back);
	}
	r->rip = end - length;
	return length;
}

// undo_outs takes back the one element that KVM has read of an OUTS. If that was the
// last, RIP is already behind it.
static BOOL undo_outs(struct vp *vp, BOOL long_mode)
{
	struct kvm_run *run = vp->run;
	struct kvm_regs *r = &run->s.regs.regs;
	BYTE b[15];
	UINT32 length = port_length(b, guest_code(vp, b, sizeof b), long_mode), width = address_size(vp, b, length);
	BOOL more = is_outs(b, length) && repeated(b, length) && r->rcx & (~0ULL >> (64 - 8 * width));
	if (!more) {
		length = outs_before(vp, b, long_mode);
		width = address_size(vp, b, length);
	}
	if (!length)
		return FALSE;
	walk(&r->rsi, r->rflags & 1 << 10 ? run->io.size : -(INT64)run->io.size, width);
	if (repeated(b, length))
		walk(&r->rcx, 1, width);
	run->kvm_dirty_regs |= KVM_SYNC_X86_REGS;
	return TRUE;
}

static BOOL serve_io(struct vp *vp, WHV_RUN_VP_EXIT_CONTEXT *exit)
{
	struct kvm_run *run = vp->run;
	struct kvm_regs *r = &run->s.regs.regs;
	struct kvm_sregs *s = &run->s.regs.sregs;
	BOOL out = run->io.direction == KVM_EXIT_IO_OUT, long_mode = s->efer & 1 << 10 && s->cs.l;
	UINT32 size = run->io.size, port = run->io.port;
	BYTE b[16];
	UINT32 n = guest_code(vp, b, 15), length = port_length(b, n, long_mode);
	// Only a plain one is where it stands: of OUTS one element has been read.
	BOOL plain = length && (b[length - 1] >= 0xec || length > 1 && b[length - 2] >= 0xe4 && b[length - 2] <= 0xe7);
	if (out && !plain) {
		if (!undo_outs(vp, long_mode)) {
			complain("find an OUTS before", (INT64)r->rip);
			return FALSE;
		}
		n = guest_code(vp, b, 15), length = port_length(b, n, long_mode);
	} else if (!complete(vp)) {
		return FALSE;
	}
	if (!length) {
		complain("find the instruction of a port access at", (INT64)r->rip);
		return FALSE;
	}
	context(vp, exit, WHvRunVpExitReasonX64IoPortAccess, length);
	WHV_X64_IO_PORT_ACCESS_CONTEXT *c = &exit->IoPortAccess;
	c->AccessInfo.IsWrite = out;
	c->AccessInfo.AccessSize = size;
	c->PortNumber = port;
	c->Rax = r->rax, c->Rcx = r->rcx, c->Rsi = r->rsi, c->Rdi = r->rdi;
	c->Ds = segment_of(&s->ds), c->Es = segment_of(&s->es);
	c->InstructionByteCount = n;
	CopyMemory(c->InstructionBytes, b, n);
	if (plain)
		return TRUE;
	c->AccessInfo.StringOp = 1;
	c->AccessInfo.RepPrefix = repeated(b, length);
	return TRUE;
}

static BOOL memory_exit(struct vp *vp, WHV_RUN_VP_EXIT_CONTEXT *exit, WHV_MEMORY_ACCESS_TYPE type, UINT64 gpa)
{
	context(vp, exit, WHvRunVpExitReasonMemoryAccess, 0);
	WHV_MEMORY_ACCESS_CONTEXT *c = &exit->MemoryAccess;
	c->AccessInfo.AccessType = type;
	c->AccessInfo.GpaUnmapped = 1;
	c->Gpa = gpa;
	if (type != WHvMemoryAccessExecute)
		c->InstructionByteCount = guest_code(vp, c->InstructionBytes, 15);
	return TRUE;
}

static BOOL serve_msr(struct vp *vp, WHV_RUN_VP_EXIT_CONTEXT *exit)
{
	struct kvm_run *run = vp->run;
	UINT32 index = run->msr.index;
	BOOL write = run->exit_reason == KVM_EXIT_X86_WRMSR;
	run->msr.error = 0;
	if (!complete(vp))
		return FALSE;
	context(vp, exit, WHvRunVpExitReasonX64MsrAccess, 2);
	exit->MsrAccess = (WHV_X64_MSR_ACCESS_CONTEXT){.MsrNumber = index, .Rax = run->s.regs.regs.rax, .Rdx = run->s.regs.regs.rdx};
	exit->MsrAccess.AccessInfo.IsWrite = write;
	return TRUE;
}

static BOOL serve_hypercall(struct vp *vp, WHV_RUN_VP_EXIT_CONTEXT *exit)
{
	struct kvm_regs *r = &vp->run->s.regs.regs;
	if (!complete(vp))
		return FALSE;
	if (vp->p->exits & 1 << 2) { // an old platform has the processor not know it
		context(vp, exit, WHvRunVpExitReasonException, 3);
		exit->VpException.ExceptionType = 6;
		exit->VpException.InstructionByteCount = guest_code(vp, exit->VpException.InstructionBytes, 15);
		return TRUE;
	}
	context(vp, exit, WHvRunVpExitReasonHypercall, 3);
	WHV_HYPERCALL_CONTEXT *c = &exit->Hypercall;
	c->Rax = r->rax, c->Rbx = r->rbx, c->Rcx = r->rcx, c->Rdx = r->rdx;
	c->R8 = r->r8, c->Rsi = r->rsi, c->Rdi = r->rdi;
	return TRUE;
}

// serve_failure: KVM cannot emulate an instruction. If that was because its code is in
// memory that is not there, the platform says so.
static BOOL serve_failure(struct vp *vp, WHV_RUN_VP_EXIT_CONTEXT *exit)
{
	struct kvm_sregs *s = &vp->run->s.regs.sregs;
	UINT64 at = vp->run->s.regs.regs.rip, left;
	if (!(s->efer & 1 << 10 && s->cs.l))
		at = (s->cs.base + at) & 0xffffffff;
	vp->run->s.regs.events.exception.injected = vp->run->s.regs.events.exception.pending = 0; // the #UD that KVM would raise
	vp->run->kvm_dirty_regs |= KVM_SYNC_X86_EVENTS;
	UINT64 gpa = guest_physical(vp, at);
	if (gpa != ~0ULL && !guest_memory(vp->p, gpa, &left))
		return memory_exit(vp, exit, WHvMemoryAccessExecute, gpa);
	context(vp, exit, WHvRunVpExitReasonUnsupportedFeature, 0);
	return TRUE;
}

// open_lint0 lets KVM tell when the guest takes interrupts, which it does as an
// interrupt controller outside would be asked: through the LAPIC's LINT0.
static BOOL open_lint0(struct vp *vp)
{
	struct kvm_lapic_state l;
	UINT32 *lvt0 = (UINT32 *)(l.regs + 0x350);
	INT64 err = IOCTL(vp->fd, KVM_GET_LAPIC, &l);
	if (err >= 0 && *lvt0 != 0x700) {
		*lvt0 = 0x700;
		err = IOCTL(vp->fd, KVM_SET_LAPIC, &l);
	}
	if (err < 0)
		complain("open LINT0", err);
	return err >= 0;
}

// serve_exit makes the platform's exit of KVM's. FALSE: it cannot.
static BOOL serve_exit(struct vp *vp, WHV_RUN_VP_EXIT_CONTEXT *exit)
{
	struct kvm_run *run = vp->run;
	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		return serve_io(vp, exit);
	case KVM_EXIT_MMIO: {
		UINT64 gpa = run->mmio.phys_addr;
		WHV_MEMORY_ACCESS_TYPE type = run->mmio.is_write ? WHvMemoryAccessWrite : WHvMemoryAccessRead;
		return complete(vp) && memory_exit(vp, exit, type, gpa);
	}
	case KVM_EXIT_X86_RDMSR:
	case KVM_EXIT_X86_WRMSR:
		return serve_msr(vp, exit);
	case KVM_EXIT_XEN:
		return serve_hypercall(vp, exit);
	case KVM_EXIT_IRQ_WINDOW_OPEN:
		vp->window = FALSE;
		context(vp, exit, WHvRunVpExitReasonX64InterruptWindow, 0);
		return TRUE;
	case KVM_EXIT_SHUTDOWN:
		context(vp, exit, WHvRunVpExitReasonUnrecoverableException, 0);
		return TRUE;
	case KVM_EXIT_FAIL_ENTRY:
		context(vp, exit, WHvRunVpExitReasonInvalidVpRegisterValue, 0);
		return TRUE;
	case KVM_EXIT_INTERNAL_ERROR:
		return serve_failure(vp, exit);
	}
	complain("unknown exit of KVM", run->exit_reason);
	return FALSE;
}

// claim has the calling thread be the processor's.
static BOOL claim(struct vp *vp)
{
	LONG thread = linux_thread();
	if (vp->ready != thread) {
		UINT64 blocked = linux_block_nudges();
		struct {
			struct kvm_signal_mask head;
			BYTE set[8];
		} m = {.head = {.len = 8}};
		CopyMemory(m.head.sigset, &blocked, 8);
		INT64 err = IOCTL(vp->fd, KVM_SET_SIGNAL_MASK, &m);
		if (err < 0) {
			complain("KVM_SET_SIGNAL_MASK", err);
			return FALSE;
		}
		vp->ready = thread;
	}
	InterlockedExchange(&vp->thread, thread);
	return TRUE;
}

// run goes on until there is an exit.
static HRESULT run(struct vp *vp, WHV_RUN_VP_EXIT_CONTEXT *exit)
{
	struct kvm_run *r = vp->run;
	for (;;) {
		r->immediate_exit = 0; // before the looks at what it may have been set for
		MemoryBarrier();
		if (InterlockedExchange(&vp->cancel, 0)) {
			context(vp, exit, WHvRunVpExitReasonCanceled, 0);
			return S_OK;
		}
		if (ask_cpuid(vp, exit))
			return S_OK;
		if (vp->window && !open_lint0(vp))
			return E_FAIL;
		r->request_interrupt_window = vp->window;
		INT64 err = enter(vp);
		switch (err) {
		case 0:
			if (r->exit_reason == KVM_EXIT_MMIO && r->mmio.is_write && !undo_store(vp))
				continue; // it is done, and goes nowhere
			return serve_exit(vp, exit) ? S_OK : E_FAIL;
		case EINTR_:
		case EAGAIN_: // a processor that waited to be started
			linux_take_nudge();
			continue;
		case EINVAL_: // it does not take its registers
			context(vp, exit, WHvRunVpExitReasonInvalidVpRegisterValue, 0);
			return S_OK;
		default:
			return complain("KVM_RUN", err);
		}
	}
}

EXPORT WHvRunVirtualProcessor(WHV_PARTITION_HANDLE handle, UINT32 index, void *exit, UINT32 size)
{
	struct vp *vp = find_vp(handle, index);
	if (!vp || size < sizeof(WHV_RUN_VP_EXIT_CONTEXT) || vp->thread)
		return E_INVALIDARG;
	if (!claim(vp))
		return E_FAIL;
	HRESULT result = run(vp, exit);
	InterlockedExchange(&vp->thread, 0);
	return result;
}

// WHvCancelRunVirtualProcessor ends the present run, or the next if there is none.
EXPORT WHvCancelRunVirtualProcessor(WHV_PARTITION_HANDLE handle, UINT32 index, UINT32 flags)
{
	struct vp *vp = find_vp(handle, index);
	if (!vp || flags)
		return E_INVALIDARG;
	InterlockedExchange(&vp->cancel, 1);
	vp->run->immediate_exit = 1;
	MemoryBarrier();
	LONG thread = InterlockedCompareExchange(&vp->thread, 0, 0);
	if (thread)
		linux_nudge(thread);
	return S_OK;
}
