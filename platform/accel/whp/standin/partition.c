// Capabilities, partitions, their memory and time.
#include "standin.h"

#define REALLOC(p, n) ((p) ? HeapReAlloc(GetProcessHeap(), HEAP_ZERO_MEMORY, p, n) : HeapAlloc(GetProcessHeap(), HEAP_ZERO_MEMORY, n))

BOOL old_platform(void)
{
	char b[8];
	return GetEnvironmentVariableA("HXEN_STANDIN", b, sizeof b) && !lstrcmpA(b, "1809");
}

int kvm(void)
{
	static volatile LONG fd = -1;
	if (fd < 0) {
		int mine = linux_open("/dev/kvm");
		if (mine >= 0 && InterlockedCompareExchange(&fd, mine, -1) != -1)
			linux_close(mine);
	}
	return fd;
}

UINT64 rdtsc(void) { return __builtin_ia32_rdtsc(); }

// frequency asks a processor, as old kernels have it.
static UINT64 frequency(void)
{
	static UINT64 hz;
	if (!hz) {
		INT64 vm = linux_ioctl(kvm(), KVM_CREATE_VM, 0);
		INT64 vcpu = linux_ioctl((int)vm, KVM_CREATE_VCPU, 0);
		INT64 khz = linux_ioctl((int)vcpu, KVM_GET_TSC_KHZ, 0);
		linux_close((int)vcpu);
		linux_close((int)vm);
		hz = khz > 0 ? khz * 1000 : 0;
	}
	return hz;
}

EXPORT WHvGetCapability(WHV_CAPABILITY_CODE code, void *buffer, UINT32 size, UINT32 *written)
{
	UINT64 v;
	UINT32 n = 8;
	switch (code) {
	case WHvCapabilityCodeHypervisorPresent:
		v = kvm() >= 0;
		n = 4;
		break;
	case WHvCapabilityCodeFeatures: // partial unmap, local APIC, XSAVE
		v = 7;
		break;
	case WHvCapabilityCodeExtendedVmExits: // CPUID, MSRs; exceptions; hypercalls
		v = 3 | (old_platform() ? 1 << 2 : 1 << 5);
		break;
	case WHvCapabilityCodeExceptionExitBitmap:
		v = old_platform() ? 1 << 6 : 0;
		break;
	case WHvCapabilityCodeProcessorClockFrequency:
		v = frequency();
		break;
	default:
		return UNKNOWN_CAPABILITY;
	}
	if (size < n)
		return TOO_SMALL;
	CopyMemory(buffer, &v, n);
	if (written)
		*written = n;
	return S_OK;
}

EXPORT WHvCreatePartition(WHV_PARTITION_HANDLE *handle)
{
	struct partition *p = REALLOC(NULL, sizeof *p);
	INT64 vm = linux_ioctl(kvm(), KVM_CREATE_VM, 0);
	while (vm == -4) // EINTR
		vm = linux_ioctl(kvm(), KVM_CREATE_VM, 0);
	if (vm < 0)
		return complain("KVM_CREATE_VM", vm);
	p->vm = (int)vm;
	*handle = p;
	return S_OK;
}

static HRESULT set_msr_list(struct partition *p, const WHV_MSR_ACTION_ENTRY *e, UINT32 n)
{
	for (; n; n--, e++) {
		if (e->ReadAction != WHvMsrActionExit || e->WriteAction != WHvMsrActionExit || p->msr_count == 12)
			return E_INVALIDARG;
		p->msrs[p->msr_count++] = e->Index;
	}
	return S_OK;
}

EXPORT WHvSetPartitionProperty(WHV_PARTITION_HANDLE handle, WHV_PARTITION_PROPERTY_CODE code, const void *buffer, UINT32 size)
{
	struct partition *p = handle;
	UINT64 v = 0;
	CopyMemory(&v, buffer, size < 8 ? size : 8);
	switch ((UINT32)code) {
	case WHvPartitionPropertyCodeProcessorCount:
		p->count = (UINT32)v;
		return v >= 1 && v <= MAX_VPS ? S_OK : E_INVALIDARG;
	case WHvPartitionPropertyCodeLocalApicEmulationMode:
		return v == WHvX64LocalApicEmulationModeXApic || v == WHvX64LocalApicEmulationModeX2Apic && !old_platform() ? S_OK : E_INVALIDARG;
	case WHvPartitionPropertyCodeExtendedVmExits:
		p->exits = v;
		return v & ~(3ULL | (old_platform() ? 1 << 2 : 1 << 5)) ? E_INVALIDARG : S_OK;
	case WHvPartitionPropertyCodeExceptionExitBitmap:
		p->exceptions = v;
		return old_platform() && v == 1 << 6 ? S_OK : E_INVALIDARG;
	case WHvPartitionPropertyCodeX64MsrExitBitmap:
		return v == 1 ? S_OK : E_INVALIDARG;
	case WHvPartitionPropertyCodeCpuidExitList:
		p->leaf_count = size / 4;
		p->leaves = REALLOC(NULL, size);
		CopyMemory(p->leaves, buffer, size);
		return S_OK;
	case WHvPartitionPropertyCodeSyntheticProcessorFeaturesBanks: // it has no such registers
		return old_platform() ? UNKNOWN_PROPERTY : S_OK;
	case WHvPartitionPropertyCodeMsrActionList:
		return old_platform() ? UNKNOWN_PROPERTY : set_msr_list(p, buffer, size / sizeof(WHV_MSR_ACTION_ENTRY));
	}
	return UNKNOWN_PROPERTY;
}

static INT64 enable(int fd, UINT32 cap, UINT64 arg)
{
	struct kvm_enable_cap c = {.cap = cap, .args = {arg}};
	return IOCTL(fd, KVM_ENABLE_CAP, &c);
}

// route_msrs has unknown MSRs exit, KVM's and Hyper-V's own among them, and those of
// the list.
static INT64 route_msrs(struct partition *p)
{
	static UINT64 deny[0x200 / 64]; // a bit for each
	struct kvm_msr_filter f = {0};
	UINT32 n = 0;
	const UINT32 own[2][2] = {{0x40000000, 0x200}, {0x4b564d00, 0x100}};
	for (int i = 0; i < 2; i++, n++)
		f.ranges[n] = (struct kvm_msr_filter_range){.flags = KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE, .base = own[i][0], .nmsrs = own[i][1], .bitmap = (void *)deny};
	for (UINT32 i = 0; i < p->msr_count; i++)
		if (p->msrs[i] - own[0][0] >= own[0][1])
			f.ranges[n++] = (struct kvm_msr_filter_range){.flags = KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE, .base = p->msrs[i], .nmsrs = 1, .bitmap = (void *)deny};
	return IOCTL(p->vm, KVM_X86_SET_MSR_FILTER, &f);
}

EXPORT WHvSetupPartition(WHV_PARTITION_HANDLE handle)
{
	struct partition *p = handle;
	UINT64 identity = 0xfffbc000;
	p->origin = -rdtsc();
	struct kvm_xen_hvm_config xen = {.flags = KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL, .msr = 0x40000000};
	INT64 err = linux_ioctl(p->vm, KVM_SET_TSS_ADDR, 0xfffbd000);
	if (err >= 0)
		err = IOCTL(p->vm, KVM_SET_IDENTITY_MAP_ADDR, &identity);
	if (err >= 0) // local APICs, and nothing else
		err = enable(p->vm, KVM_CAP_SPLIT_IRQCHIP, 24);
	if (err >= 0)
		err = enable(p->vm, KVM_CAP_X86_USER_SPACE_MSR, KVM_MSR_EXIT_REASON_UNKNOWN | KVM_MSR_EXIT_REASON_FILTER);
	if (err >= 0) // else it would be behind an OUT to this port when it exits
		err = enable(p->vm, KVM_CAP_DISABLE_QUIRKS, KVM_X86_QUIRK_OUT_7E_INC_RIP);
	if (err >= 0)
		err = route_msrs(p);
	if (err < 0)
		return complain("make a machine", err);
	if ((err = IOCTL(p->vm, KVM_XEN_HVM_CONFIG, &xen)) < 0)
		return complain("have hypercalls handed on (CONFIG_KVM_XEN)", err);
	return S_OK;
}

static UINT64 run_size(void) { return linux_ioctl(kvm(), KVM_GET_VCPU_MMAP_SIZE, 0); }

EXPORT WHvCreateVirtualProcessor(WHV_PARTITION_HANDLE handle, UINT32 index, UINT32 flags)
{
	struct partition *p = handle;
	if (index >= p->count || p->vps[index] || flags)
		return E_INVALIDARG;
	struct vp *vp = REALLOC(NULL, sizeof *vp);
	INT64 fd = linux_ioctl(p->vm, KVM_CREATE_VCPU, index);
	if (fd < 0)
		return complain("KVM_CREATE_VCPU", fd);
	vp->p = p;
	vp->index = index;
	vp->fd = (int)fd;
	if (!(vp->run = linux_map(vp->fd, run_size())))
		return complain("map a processor", 0);
	vp->run->kvm_valid_regs = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS;
	vp->cpuid = *supported();
	INT64 err = IOCTL(vp->fd, KVM_SET_CPUID2, &vp->cpuid);
	if (err < 0)
		return complain("KVM_SET_CPUID2", err);
	vp->cpuid.head.nent = 0;
	if (!fetch(vp) || !set_offset(vp, p->origin))
		return E_FAIL;
	p->vps[index] = vp;
	return S_OK;
}

EXPORT WHvDeleteVirtualProcessor(WHV_PARTITION_HANDLE handle, UINT32 index)
{
	struct vp *vp = find_vp(handle, index);
	if (!vp)
		return E_INVALIDARG;
	vp->p->vps[index] = NULL;
	linux_unmap(vp->run, run_size());
	linux_close(vp->fd);
	HeapFree(GetProcessHeap(), 0, vp);
	return S_OK;
}

EXPORT WHvDeletePartition(WHV_PARTITION_HANDLE handle)
{
	struct partition *p = handle;
	for (UINT32 i = 0; i < MAX_VPS; i++)
		WHvDeleteVirtualProcessor(handle, i);
	linux_close(p->vm);
	if (p->slots)
		HeapFree(GetProcessHeap(), 0, p->slots);
	if (p->leaves)
		HeapFree(GetProcessHeap(), 0, p->leaves);
	HeapFree(GetProcessHeap(), 0, p);
	return S_OK;
}

struct vp *find_vp(WHV_PARTITION_HANDLE handle, UINT32 index)
{
	return index < MAX_VPS ? ((struct partition *)handle)->vps[index] : NULL;
}

// put tells KVM of a slot; with size 0 it is taken away.
static INT64 put(struct partition *p, UINT32 number, UINT64 size)
{
	struct slot *s = &p->slots[number];
	struct kvm_userspace_memory_region r = {.slot = number, .flags = s->flags, .guest_phys_addr = s->gpa, .memory_size = size, .userspace_addr = (UINT64)(ULONG_PTR)s->mem};
	return IOCTL(p->vm, KVM_SET_USER_MEMORY_REGION, &r);
}

static INT64 add(struct partition *p, struct slot s)
{
	UINT32 i = 0;
	while (i < p->slot_count && p->slots[i].size)
		i++;
	if (i == p->slot_count) {
		p->slots = REALLOC(p->slots, ++p->slot_count * sizeof s);
	}
	p->slots[i] = s;
	INT64 err = put(p, i, s.size);
	if (err < 0)
		p->slots[i].size = 0;
	return err;
}

EXPORT WHvMapGpaRange(WHV_PARTITION_HANDLE handle, void *mem, WHV_GUEST_PHYSICAL_ADDRESS gpa, UINT64 size, WHV_MAP_GPA_RANGE_FLAGS flags)
{
	struct partition *p = handle;
	AcquireSRWLockExclusive(&p->table);
	INT64 err = add(p, (struct slot){gpa, size, mem, flags & WHvMapGpaRangeFlagWrite ? 0 : KVM_MEM_READONLY});
	ReleaseSRWLockExclusive(&p->table);
	return err < 0 ? complain("KVM_SET_USER_MEMORY_REGION", err) : S_OK;
}

// pause has all processors out of KVM, so that none sees memory vanish that is only
// sorted anew: KVM would do its writes and tell us afterwards.
static void pause_all(struct partition *p)
{
	InterlockedExchange(&p->pausing, 1);
	for (UINT32 i = 0; i < MAX_VPS; i++) {
		struct vp *vp = p->vps[i];
		if (!vp)
			continue;
		vp->run->immediate_exit = 1;
		LONG thread = InterlockedCompareExchange(&vp->thread, 0, 0);
		if (thread)
			linux_nudge(thread);
	}
	AcquireSRWLockExclusive(&p->running);
}

static void resume_all(struct partition *p)
{
	ReleaseSRWLockExclusive(&p->running);
	InterlockedExchange(&p->pausing, 0);
}

// unmap takes a range out of a slot and puts back what is left of it.
static INT64 unmap(struct partition *p, UINT32 i, UINT64 from, UINT64 to)
{
	struct slot s = p->slots[i];
	INT64 err = put(p, i, 0);
	if (err < 0)
		return err;
	p->slots[i].size = 0;
	if (from > s.gpa)
		err = add(p, (struct slot){s.gpa, from - s.gpa, s.mem, s.flags});
	if (err >= 0 && to < s.gpa + s.size)
		err = add(p, (struct slot){to, s.gpa + s.size - to, s.mem + (to - s.gpa), s.flags});
	return err;
}

EXPORT WHvUnmapGpaRange(WHV_PARTITION_HANDLE handle, WHV_GUEST_PHYSICAL_ADDRESS gpa, UINT64 size)
{
	struct partition *p = handle;
	INT64 err = -22; // EINVAL: nothing was there
	UINT64 end = gpa + size;
	pause_all(p);
	AcquireSRWLockExclusive(&p->table);
	for (UINT32 i = 0; i < p->slot_count; i++) {
		struct slot s = p->slots[i];
		if (!s.size || s.gpa >= end || s.gpa + s.size <= gpa)
			continue;
		if ((err = unmap(p, i, gpa > s.gpa ? gpa : s.gpa, end < s.gpa + s.size ? end : s.gpa + s.size)) < 0)
			break;
	}
	ReleaseSRWLockExclusive(&p->table);
	resume_all(p);
	return err < 0 ? complain("take memory away", err) : S_OK;
}

// guest_memory is where memory lies, and how much follows; NULL where there is none.
BYTE *guest_memory(struct partition *p, UINT64 gpa, UINT64 *left)
{
	BYTE *at = NULL;
	AcquireSRWLockShared(&p->table);
	for (UINT32 i = 0; i < p->slot_count && !at; i++) {
		struct slot *s = &p->slots[i];
		if (gpa - s->gpa < s->size) {
			at = s->mem + (gpa - s->gpa);
			*left = s->size - (gpa - s->gpa);
		}
	}
	ReleaseSRWLockShared(&p->table);
	return at;
}

BOOL set_offset(struct vp *vp, UINT64 offset)
{
	struct kvm_device_attr a = {.group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET, .addr = (UINT64)(ULONG_PTR)&offset};
	vp->offset = offset;
	INT64 err = IOCTL(vp->fd, KVM_SET_DEVICE_ATTR, &a);
	if (err < 0)
		complain("set a TSC's offset", err);
	return err >= 0;
}

EXPORT WHvSuspendPartitionTime(WHV_PARTITION_HANDLE handle)
{
	struct partition *p = handle;
	p->held_at = rdtsc();
	p->held = TRUE;
	return S_OK;
}

EXPORT WHvResumePartitionTime(WHV_PARTITION_HANDLE handle)
{
	struct partition *p = handle;
	if (!p->held)
		return S_OK;
	p->held = FALSE;
	UINT64 passed = rdtsc() - p->held_at;
	for (UINT32 i = 0; i < MAX_VPS; i++)
		if (p->vps[i] && !set_offset(p->vps[i], p->vps[i]->offset - passed))
			return E_FAIL;
	return S_OK;
}

EXPORT WHvRequestInterrupt(WHV_PARTITION_HANDLE handle, const WHV_INTERRUPT_CONTROL *c, UINT32 size)
{
	struct kvm_msi m = {
		.address_lo = 0xfee00000 | (c->Destination & 0xff) << 12 | (UINT32)c->DestinationMode << 2,
		.data = (c->Vector & 0xff) | (UINT32)(c->Type & 7) << 8 | (UINT32)c->TriggerMode << 15 | 1 << 14,
	};
	INT64 err = IOCTL(((struct partition *)handle)->vm, KVM_SIGNAL_MSI, &m);
	return size < sizeof *c ? E_INVALIDARG : err < 0 ? complain("KVM_SIGNAL_MSI", err) : S_OK;
}
