// A write to memory that is not there: KVM has done the instruction before it tells.
// To stop at it, as the platform does, it is looked for among the bytes before RIP: a
// MOV or MOVNTI to memory that ends there, has the width of the write and goes to its
// address. (SDM 2A 2.1 and 2.2.1, and 2B, MOV.)
#include "standin.h"

struct store {
	const BYTE *b;
	UINT32 n, at; // bytes, and where we are in them
	BYTE rex, segment;
	UINT32 operand, address; // sizes
	UINT64 linear;
};

static BOOL long_mode(struct vp *vp)
{
	struct kvm_sregs *s = &vp->run->s.regs.sregs;
	return s->efer & 1 << 10 && s->cs.l;
}

static void prefixes(struct vp *vp, struct store *s)
{
	BOOL wide = long_mode(vp);
	s->operand = wide || vp->run->s.regs.sregs.cs.db ? 4 : 2;
	s->address = wide ? 8 : s->operand;
	for (; s->at < s->n; s->at++) {
		BYTE c = s->b[s->at];
		if (c == 0x66)
			s->operand ^= 6;
		else if (c == 0x67)
			s->address = wide ? 4 : s->address ^ 6;
		else if (c == 0x26 || c == 0x2e || c == 0x36 || c == 0x3e || c == 0x64 || c == 0x65)
			s->segment = c;
		else
			break;
	}
	if (wide && s->at < s->n && s->b[s->at] >> 4 == 4) {
		s->rex = s->b[s->at++];
		if (s->rex & 8)
			s->operand = 8;
	}
}

static UINT64 general(struct vp *vp, UINT32 n)
{
	struct kvm_regs *r = &vp->run->s.regs.regs;
	UINT64 all[] = {r->rax, r->rcx, r->rdx, r->rbx, r->rsp, r->rbp, r->rsi, r->rdi, r->r8, r->r9, r->r10, r->r11, r->r12, r->r13, r->r14, r->r15};
	return all[n & 15];
}

// number reads a signed one of size bytes.
static INT64 number(struct store *s, UINT32 size)
{
	UINT64 v = 0;
	if (s->n - s->at < size)
		size = s->n - s->at, s->n = 0; // it is too short: nothing will match
	CopyMemory(&v, s->b + s->at, size);
	s->at += size;
	return size == 8 || size == 0 ? (INT64)v : (INT64)(v << (64 - 8 * size)) >> (64 - 8 * size);
}

static UINT64 segment_base(struct vp *vp, struct store *s, BOOL stack)
{
	struct kvm_sregs *r = &vp->run->s.regs.sregs;
	switch (s->segment) {
	case 0x64: return r->fs.base;
	case 0x65: return r->gs.base;
	}
	if (long_mode(vp))
		return 0;
	switch (s->segment) {
	case 0x26: return r->es.base;
	case 0x2e: return r->cs.base;
	case 0x36: return r->ss.base;
	case 0x3e: return r->ds.base;
	}
	return stack ? r->ss.base : r->ds.base;
}

// operand follows ModRM to memory; immediate is how much comes behind it. FALSE: it is
// a register, or an address of 16 bits.
static BOOL operand(struct vp *vp, struct store *s, UINT32 immediate)
{
	BYTE modrm = (BYTE)number(s, 1), mod = modrm >> 6, base = modrm & 7;
	UINT64 ea = 0;
	BOOL stack = FALSE;
	if (mod == 3 || s->address == 2)
		return FALSE;
	if (base == 4) {
		BYTE sib = (BYTE)number(s, 1);
		UINT32 index = (sib >> 3 & 7) | (s->rex & 2) << 2;
		base = sib & 7;
		if (index != 4)
			ea = general(vp, index) << (sib >> 6);
		if (base == 5 && mod == 0)
			ea += number(s, 4);
		else
			ea += general(vp, base | (s->rex & 1) << 3);
		stack = base == 4 || base == 5 && mod != 0;
	} else if (base == 5 && mod == 0) {
		ea = number(s, 4);
		if (long_mode(vp)) // RIP is at the instruction just now
			ea += vp->run->s.regs.regs.rip + s->at + immediate;
	} else {
		ea = general(vp, base | (s->rex & 1) << 3);
		stack = base == 5;
	}
	if (mod)
		ea += number(s, mod == 1 ? 1 : 4);
	if (s->address == 4)
		ea &= 0xffffffff;
	s->linear = segment_base(vp, s, stack) + ea;
	return TRUE;
}

// width decodes; it is that of the write, or 0.
static UINT32 width(struct vp *vp, struct store *s)
{
	prefixes(vp, s);
	UINT32 size = s->operand, immediate = 0;
	BYTE op = (BYTE)number(s, 1);
	switch (op) {
	case 0xa2:
		size = 1; // fall through
	case 0xa3:
		s->linear = segment_base(vp, s, FALSE) + (UINT64)number(s, s->address);
		return size;
	case 0x88:
		size = 1;
		break;
	case 0x89:
		break;
	case 0xc6:
		size = immediate = 1;
		break;
	case 0xc7:
		immediate = size < 4 ? size : 4;
		break;
	case 0x0f:
		if ((BYTE)number(s, 1) == 0xc3)
			break; // fall through
	default:
		return 0;
	}
	if (immediate && s->at < s->n && s->b[s->at] >> 3 & 7)
		return 0; // C6 and C7 have others
	if (!operand(vp, s, immediate))
		return 0;
	s->at += immediate;
	return size;
}

// undo_store puts RIP to the beginning of the instruction that has just written. FALSE:
// it is not one of these.
BOOL undo_store(struct vp *vp)
{
	struct kvm_run *run = vp->run;
	UINT64 end = run->s.regs.regs.rip;
	BYTE b[15];
	for (UINT32 n = 2; n <= sizeof b; n++) {
		run->s.regs.regs.rip = end - n;
		struct store s = {.b = b, .n = n};
		if (guest_code(vp, b, n) != n)
			break;
		if (width(vp, &s) == run->mmio.len && s.at == n && s.n == n && guest_physical(vp, s.linear) == run->mmio.phys_addr)
			return TRUE;
	}
	run->s.regs.regs.rip = end;
	return FALSE;
}
