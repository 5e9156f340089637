// CPUID: KVM answers it by a table, and never exits for it. The client, who expects
// an exit for each leaf that it has listed, is asked for all of them before the
// processor's first instruction, as if that were CPUID. The registers are as they
// were afterwards.
//
// What this proves is that the client answers each leaf, subleaf and processor as it
// should; not that it can be asked at any time, nor what the platform says of what
// changes while a guest runs (OSXSAVE, OSPKE, the size of XSAVE's area), which KVM
// keeps up to date in its table by itself.
#include "standin.h"

#define SUBLEAVES 8         // that are asked for,
#define SUBLEAVES_XSAVE 64  // and those of 0xd

// supported is what KVM and this processor can show.
const struct cpuid *supported(void)
{
	static struct cpuid all;
	static SRWLOCK lock = SRWLOCK_INIT;
	AcquireSRWLockExclusive(&lock);
	if (!all.head.nent) {
		all.head.nent = MAX_ENTRIES;
		INT64 err = IOCTL(kvm(), KVM_GET_SUPPORTED_CPUID, &all);
		if (err < 0)
			complain("KVM_GET_SUPPORTED_CPUID", err);
	}
	ReleaseSRWLockExclusive(&lock);
	return &all;
}

struct kvm_cpuid_entry2 supported_leaf(UINT32 leaf, UINT32 sub)
{
	const struct cpuid *all = supported();
	for (UINT32 i = 0; i < all->head.nent; i++) {
		const struct kvm_cpuid_entry2 *e = &all->entries[i];
		if (e->function == leaf && leaf >> 28 != 4 && (!(e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) || e->index == sub))
			return *e;
	}
	return (struct kvm_cpuid_entry2){.function = leaf, .index = sub};
}

EXPORT WHvGetVirtualProcessorCpuidOutput(WHV_PARTITION_HANDLE handle, UINT32 index, UINT32 leaf, UINT32 sub, WHV_CPUID_OUTPUT *out)
{
	if (old_platform())
		return E_NOTIMPL;
	if (!find_vp(handle, index))
		return E_INVALIDARG;
	struct kvm_cpuid_entry2 e = supported_leaf(leaf, sub);
	*out = (WHV_CPUID_OUTPUT){.Eax = e.eax, .Ebx = e.ebx, .Ecx = e.ecx, .Edx = e.edx};
	return S_OK;
}

static BOOL same(const struct kvm_cpuid_entry2 *a, const struct kvm_cpuid_entry2 *b)
{
	return a->eax == b->eax && a->ebx == b->ebx && a->ecx == b->ecx && a->edx == b->edx;
}

static void add(struct cpuid *c, struct kvm_cpuid_entry2 e)
{
	if (c->head.nent < MAX_ENTRIES)
		c->entries[c->head.nent++] = e;
	else
		complain("there are too many leaves of CPUID", c->head.nent);
}

// settle looks at all subleaves of a leaf: if they differ, they count, up to the last
// that is not zero.
static void settle(struct vp *vp)
{
	struct cpuid *c = &vp->cpuid;
	UINT32 last = vp->first;
	BOOL differ = FALSE;
	const struct kvm_cpuid_entry2 zero = {0};
	for (UINT32 i = vp->first; i < c->head.nent; i++) {
		differ = differ || !same(&c->entries[i], &c->entries[vp->first]);
		if (!same(&c->entries[i], &zero))
			last = i;
	}
	if (!differ)
		last = vp->first;
	for (UINT32 i = vp->first; i <= last; i++)
		c->entries[i].flags = differ ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0;
	c->head.nent = last + 1;
}

// install gives KVM the answers, and for leaves that the client has not listed
// what they would have been by themselves.
static BOOL install(struct vp *vp)
{
	const struct cpuid *all = supported();
	for (UINT32 i = 0; i < all->head.nent; i++) {
		BOOL listed = all->entries[i].function >> 28 == 4;
		for (UINT32 j = 0; j < vp->p->leaf_count && !listed; j++)
			listed = vp->p->leaves[j] == all->entries[i].function;
		if (!listed)
			add(&vp->cpuid, all->entries[i]);
	}
	INT64 err = IOCTL(vp->fd, KVM_SET_CPUID2, &vp->cpuid);
	if (err < 0)
		complain("KVM_SET_CPUID2", err);
	return err >= 0;
}

// ask_cpuid makes the exit for the next question; FALSE: there is none, or it failed.
BOOL ask_cpuid(struct vp *vp, WHV_RUN_VP_EXIT_CONTEXT *exit)
{
	struct partition *p = vp->p;
	if (vp->asked)
		return FALSE;
	if (vp->leaf == p->leaf_count) {
		vp->asked = TRUE;
		return install(vp) && FALSE;
	}
	UINT32 leaf = p->leaves[vp->leaf];
	struct kvm_cpuid_entry2 e = supported_leaf(leaf, vp->sub);
	context(vp, exit, WHvRunVpExitReasonX64Cpuid, 2);
	exit->CpuidAccess = (WHV_X64_CPUID_ACCESS_CONTEXT){
		.Rax = leaf, .Rcx = vp->sub, .Rdx = vp->run->s.regs.regs.rdx, .Rbx = vp->run->s.regs.regs.rbx,
		.DefaultResultRax = e.eax, .DefaultResultRcx = e.ecx, .DefaultResultRdx = e.edx, .DefaultResultRbx = e.ebx,
	};
	vp->asking = TRUE;
	return TRUE;
}

// take_cpuid takes what the client sets as the answer, if a question is open and RIP
// goes on behind the instruction.
BOOL take_cpuid(struct vp *vp, const WHV_REGISTER_NAME *names, UINT32 count, const WHV_REGISTER_VALUE *values)
{
	struct kvm_cpuid_entry2 e = {.function = vp->asking ? vp->p->leaves[vp->leaf] : 0, .index = vp->sub};
	UINT32 given = 0;
	for (UINT32 i = 0; i < count && vp->asking; i++) {
		UINT64 v = values[i].Reg64;
		switch (names[i]) {
		case WHvX64RegisterRax: e.eax = (UINT32)v; given |= 1; break;
		case WHvX64RegisterRbx: e.ebx = (UINT32)v; given |= 2; break;
		case WHvX64RegisterRcx: e.ecx = (UINT32)v; given |= 4; break;
		case WHvX64RegisterRdx: e.edx = (UINT32)v; given |= 8; break;
		case WHvX64RegisterRip: given |= v == vp->run->s.regs.regs.rip + 2 ? 16 : 0; break;
		default: given |= 32;
		}
	}
	if (given != 31)
		return FALSE;
	vp->asking = FALSE;
	if (vp->sub == 0)
		vp->first = vp->cpuid.head.nent;
	add(&vp->cpuid, e);
	if (++vp->sub == (e.function == 0xd ? SUBLEAVES_XSAVE : SUBLEAVES)) {
		settle(vp);
		vp->sub = 0;
		vp->leaf++;
	}
	return TRUE;
}
