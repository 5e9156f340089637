// Registers by name, the local APIC and the XSAVE area. The general and the system
// registers and what is being injected lie in KVM's shared page, from where it takes
// what is marked as changed when it next enters the guest.
#include "standin.h"

#define DIRTY(vp, what) ((vp)->run->kvm_dirty_regs |= KVM_SYNC_X86_##what)
#define SYNC(vp) ((vp)->run->s.regs)

// flush gives KVM at once what has been changed.
BOOL flush(struct vp *vp)
{
	UINT64 dirty = vp->run->kvm_dirty_regs;
	INT64 err = 0;
	if (dirty & KVM_SYNC_X86_REGS)
		err = IOCTL(vp->fd, KVM_SET_REGS, &SYNC(vp).regs);
	if (err >= 0 && dirty & KVM_SYNC_X86_SREGS)
		err = IOCTL(vp->fd, KVM_SET_SREGS, &SYNC(vp).sregs);
	if (err >= 0 && dirty & KVM_SYNC_X86_EVENTS)
		err = IOCTL(vp->fd, KVM_SET_VCPU_EVENTS, &SYNC(vp).events);
	if (err < 0)
		return FALSE;
	vp->run->kvm_dirty_regs = 0;
	return TRUE;
}

// fetch asks KVM for them, after a call that may have changed them.
BOOL fetch(struct vp *vp)
{
	INT64 err = IOCTL(vp->fd, KVM_GET_REGS, &SYNC(vp).regs);
	if (err >= 0)
		err = IOCTL(vp->fd, KVM_GET_SREGS, &SYNC(vp).sregs);
	if (err >= 0)
		err = IOCTL(vp->fd, KVM_GET_VCPU_EVENTS, &SYNC(vp).events);
	if (err < 0)
		complain("read a processor", err);
	return err >= 0;
}

WHV_X64_SEGMENT_REGISTER segment_of(const struct kvm_segment *s)
{
	WHV_X64_SEGMENT_REGISTER r = {.Base = s->base, .Limit = s->limit, .Selector = s->selector};
	r.Attributes = s->type | s->s << 4 | s->dpl << 5 | s->present << 7 | s->avl << 12 | s->l << 13 | s->db << 14 | s->g << 15;
	return r;
}

static struct kvm_segment to_segment(WHV_X64_SEGMENT_REGISTER r)
{
	UINT16 a = r.Attributes;
	return (struct kvm_segment){.base = r.Base, .limit = r.Limit, .selector = r.Selector, .type = a & 15, .s = a >> 4 & 1,
		.dpl = a >> 5 & 3, .present = a >> 7 & 1, .avl = a >> 12 & 1, .l = a >> 13 & 1, .db = a >> 14 & 1, .g = a >> 15, .unusable = !(a >> 7 & 1)};
}

// general finds a general register.
static __u64 *general(struct vp *vp, UINT32 name)
{
	struct kvm_regs *r = &SYNC(vp).regs;
	__u64 *all[] = {&r->rax, &r->rcx, &r->rdx, &r->rbx, &r->rsp, &r->rbp, &r->rsi, &r->rdi,
		&r->r8, &r->r9, &r->r10, &r->r11, &r->r12, &r->r13, &r->r14, &r->r15, &r->rip, &r->rflags};
	return name <= WHvX64RegisterRflags ? all[name] : NULL;
}

static struct kvm_segment *segment(struct vp *vp, UINT32 name)
{
	struct kvm_sregs *s = &SYNC(vp).sregs;
	struct kvm_segment *all[] = {&s->es, &s->cs, &s->ss, &s->ds, &s->fs, &s->gs, &s->ldt, &s->tr};
	return name >= WHvX64RegisterEs && name <= WHvX64RegisterTr ? all[name - WHvX64RegisterEs] : NULL;
}

static __u64 *control(struct vp *vp, UINT32 name)
{
	struct kvm_sregs *s = &SYNC(vp).sregs;
	switch (name) {
	case WHvX64RegisterCr0: return &s->cr0;
	case WHvX64RegisterCr2: return &s->cr2;
	case WHvX64RegisterCr3: return &s->cr3;
	case WHvX64RegisterCr4: return &s->cr4;
	case WHvX64RegisterCr8: return &s->cr8;
	case WHvX64RegisterEfer: return &s->efer;
	case WHvX64RegisterApicBase: return &s->apic_base;
	}
	return NULL;
}

// msr_of is the MSR of a register's name, or 0.
static UINT32 msr_of(UINT32 name)
{
	static const UINT32 some[][2] = {
		{WHvX64RegisterKernelGsBase, 0xc0000102}, {WHvX64RegisterPat, 0x277}, {WHvX64RegisterSysenterCs, 0x174},
		{WHvX64RegisterSysenterEip, 0x176}, {WHvX64RegisterSysenterEsp, 0x175}, {WHvX64RegisterStar, 0xc0000081},
		{WHvX64RegisterLstar, 0xc0000082}, {WHvX64RegisterCstar, 0xc0000083}, {WHvX64RegisterSfmask, 0xc0000084},
		{WHvX64RegisterMsrMtrrDefType, 0x2ff}, {WHvX64RegisterMsrMtrrFix64k00000, 0x250}, {WHvX64RegisterMsrMtrrFix16k80000, 0x258},
		{WHvX64RegisterMsrMtrrFix16kA0000, 0x259}, {WHvX64RegisterTscAux, 0xc0000103}, {WHvX64RegisterSpecCtrl, 0x48},
		{WHvX64RegisterXss, 0xda0}, {WHvX64RegisterTscDeadline, 0x6e0}, {WHvX64RegisterTscAdjust, 0x3b},
	};
	for (UINT32 i = 0; i < sizeof some / sizeof *some; i++)
		if (some[i][0] == name)
			return some[i][1];
	if (name - WHvX64RegisterMsrMtrrPhysBase0 < 8)
		return 0x200 + 2 * (name - WHvX64RegisterMsrMtrrPhysBase0);
	if (name - WHvX64RegisterMsrMtrrPhysMask0 < 8)
		return 0x201 + 2 * (name - WHvX64RegisterMsrMtrrPhysMask0);
	if (name - WHvX64RegisterMsrMtrrFix4kC0000 < 8)
		return 0x268 + name - WHvX64RegisterMsrMtrrFix4kC0000;
	return 0;
}

// access_msr reads or writes one; FALSE: this processor has it not, or does not take it.
static BOOL access_msr(struct vp *vp, UINT32 index, UINT64 *v, BOOL write)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} m = {.head = {.nmsrs = 1}, .entry = {.index = index, .data = *v}};
	BOOL ok = IOCTL(vp->fd, write ? KVM_SET_MSRS : KVM_GET_MSRS, &m) == 1;
	*v = m.entry.data;
	return ok;
}

static BOOL access_debug(struct vp *vp, UINT32 n, UINT64 *v, BOOL write)
{
	struct kvm_debugregs d;
	if (IOCTL(vp->fd, KVM_GET_DEBUGREGS, &d) < 0)
		return FALSE;
	__u64 *at = n < 4 ? &d.db[n] : n == 4 ? &d.dr6 : &d.dr7;
	if (!write) {
		*v = *at;
		return TRUE;
	}
	*at = *v;
	return IOCTL(vp->fd, KVM_SET_DEBUGREGS, &d) >= 0;
}

static BOOL access_xcr0(struct vp *vp, UINT64 *v, BOOL write)
{
	struct kvm_xcrs x = {.nr_xcrs = 1, .xcrs = {{.xcr = 0, .value = *v}}};
	INT64 err = IOCTL(vp->fd, write ? KVM_SET_XCRS : KVM_GET_XCRS, &x);
	*v = x.xcrs[0].value;
	return err >= 0;
}

// access_activity: waiting to be started is bit 0, halted bit 1.
static BOOL access_activity(struct vp *vp, UINT64 *v, BOOL write)
{
	struct kvm_mp_state m = {.mp_state = *v & 1 ? KVM_MP_STATE_UNINITIALIZED : *v & 2 ? KVM_MP_STATE_HALTED : KVM_MP_STATE_RUNNABLE};
	if (write)
		return IOCTL(vp->fd, KVM_SET_MP_STATE, &m) >= 0;
	if (!flush(vp) || IOCTL(vp->fd, KVM_GET_MP_STATE, &m) < 0)
		return FALSE;
	*v = m.mp_state == KVM_MP_STATE_UNINITIALIZED || m.mp_state == KVM_MP_STATE_INIT_RECEIVED ? 1 : m.mp_state == KVM_MP_STATE_HALTED ? 2 : 0;
	return *v != 1 || fetch(vp); // KVM may have taken an INIT just now
}

// access_event: what is to be delivered before the next instruction.
static BOOL access_event(struct vp *vp, UINT32 name, WHV_REGISTER_VALUE *v, BOOL write)
{
	struct kvm_vcpu_events *e = &SYNC(vp).events;
	UINT64 n = v->Reg64;
	if (write)
		DIRTY(vp, EVENTS);
	switch (name) {
	case WHvRegisterInterruptState: // bit 0 is the shadow
		if (write)
			e->interrupt.shadow = n & 1 ? KVM_X86_SHADOW_INT_STI : 0, e->flags |= KVM_VCPUEVENT_VALID_SHADOW;
		else
			v->Reg64 = e->interrupt.shadow != 0;
		return TRUE;
	case WHvRegisterPendingInterruption: // an interrupt on its way: type 0, vector from bit 16
		if (!write)
			v->Reg64 = e->interrupt.injected ? 1 | (UINT64)e->interrupt.nr << 16 : 0;
		else if ((n & 1) && (n >> 1 & 7) != 0)
			return FALSE;
		else
			e->interrupt.injected = n & 1, e->interrupt.nr = n >> 16 & 0xff, e->interrupt.soft = 0;
		return TRUE;
	}
	// WHvRegisterPendingEvent
	if (!write) {
		v->Reg128.High64 = SYNC(vp).sregs.cr2;
		v->Reg64 = e->exception.injected ? 1 | (UINT64)(e->exception.has_error_code != 0) << 8 | (UINT64)e->exception.nr << 16 | (UINT64)e->exception.error_code << 32 : 0;
		return TRUE;
	}
	switch (n & 1 ? (n >> 1 & 7) : 8) {
	case 8:
		e->exception.injected = e->exception.pending = 0;
		return TRUE;
	case WHvX64PendingEventException:
		e->exception.injected = 1, e->exception.pending = 0;
		e->exception.nr = n >> 16 & 0xff;
		e->exception.has_error_code = n >> 8 & 1;
		e->exception.error_code = n >> 32;
		if (e->exception.nr == 14) { // a page fault's address
			SYNC(vp).sregs.cr2 = v->Reg128.High64;
			DIRTY(vp, SREGS);
		}
		return TRUE;
	case WHvX64PendingEventExtInt:
		e->interrupt.injected = 1, e->interrupt.nr = n >> 8 & 0xff, e->interrupt.soft = 0;
		return TRUE;
	}
	return FALSE;
}

static BOOL access_tsc(struct vp *vp, UINT64 *v, BOOL write)
{
	UINT64 now = vp->p->held ? vp->p->held_at : rdtsc();
	if (write)
		return set_offset(vp, *v - now);
	*v = now + vp->offset;
	return TRUE;
}

static BOOL access_table(struct kvm_dtable *t, WHV_REGISTER_VALUE *v, BOOL write)
{
	if (write)
		t->base = v->Table.Base, t->limit = v->Table.Limit;
	else
		v->Table.Base = t->base, v->Table.Limit = t->limit;
	return TRUE;
}

// access_rest is for registers that have a way of their own.
static BOOL access_rest(struct vp *vp, UINT32 name, WHV_REGISTER_VALUE *v, BOOL write)
{
	UINT32 msr = msr_of(name);
	if (msr)
		return access_msr(vp, msr, &v->Reg64, write);
	switch (name) {
	case WHvX64RegisterGdtr:
	case WHvX64RegisterIdtr:
		if (write)
			DIRTY(vp, SREGS);
		return access_table(name == WHvX64RegisterGdtr ? &SYNC(vp).sregs.gdt : &SYNC(vp).sregs.idt, v, write);
	case WHvX64RegisterDr0 ... WHvX64RegisterDr7:
		return access_debug(vp, name - WHvX64RegisterDr0, &v->Reg64, write);
	case WHvX64RegisterXCr0:
		return access_xcr0(vp, &v->Reg64, write);
	case WHvX64RegisterTsc:
		return access_tsc(vp, &v->Reg64, write);
	case WHvRegisterInternalActivityState:
		return access_activity(vp, &v->Reg64, write);
	case WHvRegisterInterruptState:
	case WHvRegisterPendingInterruption:
	case WHvRegisterPendingEvent:
		return access_event(vp, name, v, write);
	case WHvX64RegisterDeliverabilityNotifications: // bit 1: of interrupts
		if (write)
			vp->window = v->Reg64 >> 1 & 1;
		else
			v->Reg64 = vp->window << 1;
		return TRUE;
	}
	return FALSE;
}

static BOOL get(struct vp *vp, UINT32 name, WHV_REGISTER_VALUE *v)
{
	__u64 *r;
	struct kvm_segment *s;
	v->Reg128.Low64 = v->Reg128.High64 = 0;
	if ((r = general(vp, name)) || (r = control(vp, name)))
		v->Reg64 = *r;
	else if ((s = segment(vp, name)))
		v->Segment = segment_of(s);
	else
		return access_rest(vp, name, v, FALSE);
	return TRUE;
}

static BOOL set(struct vp *vp, UINT32 name, WHV_REGISTER_VALUE v)
{
	__u64 *r;
	struct kvm_segment *s;
	if ((r = general(vp, name))) {
		*r = v.Reg64;
		DIRTY(vp, REGS);
	} else if ((r = control(vp, name))) {
		*r = v.Reg64;
		DIRTY(vp, SREGS);
	} else if ((s = segment(vp, name))) {
		*s = to_segment(v.Segment);
		DIRTY(vp, SREGS);
	} else {
		return access_rest(vp, name, &v, TRUE);
	}
	return TRUE;
}

EXPORT WHvGetVirtualProcessorRegisters(WHV_PARTITION_HANDLE handle, UINT32 index, const WHV_REGISTER_NAME *names, UINT32 count, WHV_REGISTER_VALUE *values)
{
	struct vp *vp = find_vp(handle, index);
	if (!vp)
		return E_INVALIDARG;
	for (UINT32 i = 0; i < count; i++)
		if (!get(vp, names[i], &values[i]))
			return E_INVALIDARG;
	return S_OK;
}

EXPORT WHvSetVirtualProcessorRegisters(WHV_PARTITION_HANDLE handle, UINT32 index, const WHV_REGISTER_NAME *names, UINT32 count, const WHV_REGISTER_VALUE *values)
{
	struct vp *vp = find_vp(handle, index);
	if (!vp)
		return E_INVALIDARG;
	if (take_cpuid(vp, names, count, values))
		return S_OK;
	for (UINT32 i = 0; i < count; i++)
		if (!set(vp, names[i], values[i]))
			return E_INVALIDARG;
	return S_OK;
}

// The local APIC's page; KVM has its first KiB.
#define APIC_PAGE 4096

EXPORT WHvGetVirtualProcessorInterruptControllerState2(WHV_PARTITION_HANDLE handle, UINT32 index, void *state, UINT32 size, UINT32 *written)
{
	struct vp *vp = find_vp(handle, index);
	*written = APIC_PAGE;
	if (!vp)
		return E_INVALIDARG;
	if (size < APIC_PAGE)
		return TOO_SMALL;
	ZeroMemory(state, APIC_PAGE);
	INT64 err = IOCTL(vp->fd, KVM_GET_LAPIC, state);
	return err < 0 ? complain("KVM_GET_LAPIC", err) : S_OK;
}

EXPORT WHvSetVirtualProcessorInterruptControllerState2(WHV_PARTITION_HANDLE handle, UINT32 index, const void *state, UINT32 size)
{
	struct vp *vp = find_vp(handle, index);
	if (!vp || size != APIC_PAGE || !flush(vp)) // its base says how the page is to be read
		return E_INVALIDARG;
	INT64 err = IOCTL(vp->fd, KVM_SET_LAPIC, state);
	if (err < 0)
		return complain("KVM_SET_LAPIC", err);
	return fetch(vp) ? S_OK : E_FAIL; // it has CR8
}

EXPORT WHvGetVirtualProcessorXsaveState(WHV_PARTITION_HANDLE handle, UINT32 index, void *state, UINT32 size, UINT32 *written)
{
	struct vp *vp = find_vp(handle, index);
	*written = sizeof(struct kvm_xsave);
	if (!vp)
		return E_INVALIDARG;
	if (size < *written)
		return TOO_SMALL;
	INT64 err = IOCTL(vp->fd, KVM_GET_XSAVE, state);
	return err < 0 ? complain("KVM_GET_XSAVE", err) : S_OK;
}

EXPORT WHvSetVirtualProcessorXsaveState(WHV_PARTITION_HANDLE handle, UINT32 index, const void *state, UINT32 size)
{
	struct vp *vp = find_vp(handle, index);
	if (!vp || size != sizeof(struct kvm_xsave))
		return E_INVALIDARG;
	INT64 err = IOCTL(vp->fd, KVM_SET_XSAVE, state);
	return err < 0 ? complain("KVM_SET_XSAVE", err) : S_OK;
}

EXPORT WHvTranslateGva(WHV_PARTITION_HANDLE handle, UINT32 index, WHV_GUEST_VIRTUAL_ADDRESS gva, WHV_TRANSLATE_GVA_FLAGS flags, WHV_TRANSLATE_GVA_RESULT *result, WHV_GUEST_PHYSICAL_ADDRESS *gpa)
{
	struct vp *vp = find_vp(handle, index);
	if (!vp)
		return E_INVALIDARG;
	UINT64 at = guest_physical(vp, gva);
	ZeroMemory(result, sizeof *result);
	result->ResultCode = at == ~0ULL ? WHvTranslateGvaResultPageNotPresent : WHvTranslateGvaResultSuccess;
	*gpa = at;
	return S_OK;
}
