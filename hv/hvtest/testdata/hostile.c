/*
 * A guest that does all the harm that it can. It starts as a PVH guest without
 * paging, follows Xen's rules as far as it must to be listened to (hypercall page,
 * grants, XenStore, rings of disk, card and screen), and then breaks them: garbage
 * in calls, rings, descriptors, grants and XenStore, memory changed between reads,
 * floods of events, wild ports, registers and addresses. Its own faults send it
 * back to its loop. Each 256 deeds it says so on Xen's console.
 *
 *     gcc -m32 -march=i686 -ffreestanding -fno-pic -fno-stack-protector -O1 -nostdlib
 *         -static -Wl,-Ttext-segment=0x100000,--build-id=none,-z,noexecstack hostile.c
 */
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

asm(".section .note.Xen, \"a\", @note\n"
    ".long 4, 4, 18\n.asciz \"Xen\"\n.long entry\n"
    ".text\n.globl entry\nentry:\n"
    "cld\nmov $stack_end, %esp\npush %ebx\ncall start\n"
    ".globl fault\nfault:\nmov $stack_end, %esp\njmp work\n");

enum { RINGS = 0x900000, PAGES = 64, GRANTS = 0x800000, SHARED = 0x700000, RAM = 64 << 20 };
enum { MEMORY_OP = 12, CONSOLE_IO = 18, GRANT_OP = 20, SCHED_OP = 29, EVENT_OP = 32, HVM_OP = 34 };

u8 hypercalls[4096] __attribute__((aligned(4096)));
u8 stack[8192] __attribute__((aligned(16)));
extern u8 stack_end;
asm(".globl stack_end\nstack_end = stack + 8192\n");
static u8 args[8192] __attribute__((aligned(4096)));
static u32 idt[512];
static const u32 gdt[] = {0, 0, 0xffff, 0xcf9b00, 0xffff, 0xcf9300};
static u32 seed, deeds, deaf, ports[32], nports, disk_ring, disk_port, console;
static u8 *store;
void fault(void);
void work(void) __attribute__((noreturn));

static u32 rnd(u32 n) {
	seed ^= seed << 13;
	seed ^= seed >> 17;
	seed ^= seed << 5;
	return n ? (u32)(((u64)seed * n) >> 32) : seed;
}

/* small, near a power of two, or anything: where bounds are missed */
static u32 number(void) {
	switch (rnd(8)) {
	case 0: case 1: case 2: return rnd(16);
	case 3: return (1u << rnd(32)) - rnd(3);
	case 4: return RINGS / 4096 + rnd(PAGES);
	case 5: return 0x7ff0;
	case 6: return (u32)args + rnd(8192);
	}
	return rnd(0);
}

static void fill(volatile u8 *at, u32 n) {
	while (n--)
		*at++ = rnd(3) ? 0 : number();
}

static long call(u32 nr, u32 a, u32 b, u32 c, u32 d, u32 e) {
	long r;
	asm volatile("call *%%eax" : "=a"(r), "+b"(a), "+c"(b), "+d"(c), "+S"(d), "+D"(e)
		     : "0"((u32)hypercalls + 32 * nr) : "memory");
	return r;
}

static void say(const char *s, u32 n) { call(CONSOLE_IO, 0, n, (u32)s, 0, 0); }

static u32 param(u32 index) {
	u32 *p = (u32 *)(args + 4096);
	p[0] = 0x7ff0, p[1] = index, p[2] = p[3] = 0;
	call(HVM_OP, 1, (u32)p, 0, 0, 0);
	return p[2];
}

static void map(u32 space, u32 idx, u32 gfn) {
	u32 *p = (u32 *)(args + 4096);
	p[0] = 0x7ff0, p[1] = space, p[2] = idx, p[3] = gfn;
	call(MEMORY_OP, 7, (u32)p, 0, 0, 0);
}

static void send(u32 port) {
	u32 *p = (u32 *)(args + 4096);
	p[0] = port;
	call(EVENT_OP, 4, (u32)p, 0, 0, 0);
}

static void grant(u32 n) {
	u32 *e = (u32 *)(GRANTS + 8 * (8 + n));
	e[1] = RINGS / 4096 + n, e[0] = 1;
}

static u32 put(u8 *at, u32 n, const char *s) {
	while (*s)
		at[n++] = *s++;
	return n;
}

static u32 digits(u8 *at, u32 n, u32 v) {
	u32 d = 1;
	while (v / d >= 10)
		d *= 10;
	for (; d; d /= 10)
		at[n++] = '0' + v / d % 10;
	return n;
}

/* a request of XenStore's; the answer is waited for a little, and dropped */
static void xs(u32 kind, const u8 *payload, u32 n, u32 id) {
	static u32 store_port;
	volatile u32 *index = (u32 *)(store + 2048); /* req_cons, req_prod, rsp_cons, rsp_prod */
	u32 head[4] = {kind, id, 0, n}, i;
	if (deaf > 20)
		return;
	if (!store_port)
		store_port = param(2);
	for (i = 0; i < 16 + n; i++)
		store[(index[1] + i) % 1024] = i < 16 ? ((u8 *)head)[i] : payload[i - 16];
	index[1] += 16 + n;
	send(store_port);
	for (i = 0; i < 200 && index[2] == index[3]; i++)
		call(SCHED_OP, 0, 0, 0, 0, 0);
	if (index[2] == index[3])
		deaf++;
	index[2] = index[3];
}

static void node(const char *dir, const char *name, const char *text, u32 v) {
	u8 b[128];
	u32 n = put(b, put(b, 0, dir), name);
	b[n++] = 0;
	n = text ? put(b, n, text) : digits(b, n, v);
	xs(11, b, n, 7);
}

/* what front ends publish */
static void connect(void) {
	static const char *const dirs[] = {"device/vbd/51712/", "device/vbd/51728/", "device/vif/0/", "device/vfb/0/", "device/vkbd/0/"};
	static const char *const protocols[] = {"x86_64-abi", "x86_32-abi", "", "none"};
	u32 i, k, page, *ring, *p = (u32 *)(args + 4096), port;
	for (i = 0; i < 5; i++) {
		if (rnd(2))
			continue;
		node(dirs[i], "state", 0, 1);
		p[0] = 0x7ff0, p[1] = 0; /* dom, remote dom in one word; port */
		call(EVENT_OP, 6, (u32)p, 0, 0, 0);
		port = p[1];
		ports[nports++ % 32] = port;
		page = rnd(PAGES);
		ring = (u32 *)(RINGS + page * 4096);
		for (k = 0; k < 1024; k++)
			ring[k] = 0;
		if (i > 2)
			fill((u8 *)ring + 16, 24);
		node(dirs[i], "ring-ref", 0, 8 + page);
		node(dirs[i], "tx-ring-ref", 0, 8 + page);
		node(dirs[i], "rx-ring-ref", 0, 8 + (page + 1) % PAGES);
		node(dirs[i], "page-ref", 0, RINGS / 4096 + page);
		node(dirs[i], "page-gref", 0, 8 + page);
		node(dirs[i], "event-channel", 0, port);
		node(dirs[i], "request-rx-copy", 0, 1);
		node(dirs[i], "feature-update", 0, 1);
		node(dirs[i], "request-abs-pointer", 0, 1);
		node(dirs[i], "protocol", protocols[rnd(4)], 0);
		if (i == 0)
			disk_ring = RINGS + page * 4096, disk_port = port;
		node(dirs[i], "state", 0, 3);
		node(dirs[i], "state", 0, 4);
	}
}

/* any call but those by which a guest ends itself */
static void garbage_call(void) {
	static const u8 numbers[] = {12, 13, 15, 17, 18, 20, 21, 24, 29, 32, 33, 34, 35, 36, 40, 41, 63};
	u32 nr = numbers[rnd(sizeof numbers)], a[5], at, k;
	a[0] = rnd(26);
	for (k = 1; k < 5; k++)
		a[k] = number();
	fill(args, 512);
	if (rnd(3)) {
		at = nr == 24 || nr == CONSOLE_IO ? 2 : nr == 13 ? 0 : 1;
		a[at] = (u32)args + 4 * rnd(8);
		if (nr == 13) /* 32 bytes each: op, result, args */
			for (a[1] = rnd(16), k = 0; k < 16; k++)
				if (((u32 *)a[0])[8 * k] == SCHED_OP)
					((u32 *)a[0])[8 * k] = 0;
	} else if (nr == 13)
		return;
	if (nr == SCHED_OP && (a[0] == 1 || a[0] == 2 || a[0] == 4 || a[0] == 5))
		a[0] = 0; /* not to end or to wait for good */
	if (nr == SCHED_OP && a[0] == 3 && rnd(50))
		return;
	if (nr == EVENT_OP && (a[0] == 3 || a[0] == 10) && rnd(50))
		a[0] = 9; /* devices would hear little */
	call(nr, a[0], a[1], a[2], a[3], a[4]);
}

static void disk_request(u32 ring) {
	u8 *q = (u8 *)ring + 64 + *(u32 *)ring % 32 * 112;
	u32 k;
	fill(q, 112);
	q[0] = rnd(8), q[1] = rnd(13);
	*(u32 *)(q + 16) = rnd(4096), *(u32 *)(q + 20) = 0;
	for (k = 0; k < 11; k++)
		*(u32 *)(q + 24 + 8 * k) = 8 + rnd(PAGES), q[28 + 8 * k] = rnd(9), q[29 + 8 * k] = rnd(9);
	*(volatile u32 *)ring += 1;
}

static void scribble(void) {
	u32 page = RINGS + rnd(PAGES) * 4096;
	if (disk_ring && rnd(3)) {
		disk_request(disk_ring);
		send(disk_port);
		return;
	}
	switch (rnd(9)) {
	case 0: case 1: case 2:
		fill((u8 *)page + 64 + rnd(32) * 112, 112);
		*(volatile u32 *)page += 1 + rnd(3);
		break;
	case 3: disk_request(page); break;
	case 4: fill((u8 *)page + rnd(64), 16); break;
	case 5:
		if (!rnd(20))
			fill((u8 *)page, 4096);
		break;
	case 6: fill((u8 *)GRANTS + 8 * (8 + rnd(PAGES)), 8); break;
	case 7: grant(rnd(PAGES)); break;
	case 8:
		if (!rnd(100))
			fill(store + rnd(4080), 16);
		fill((u8 *)console + rnd(4080), 16);
		break;
	}
}

/* what no Xen has to do with */
static void wild(void) {
	u32 port, lo, hi, a;
	switch (rnd(6)) {
	case 0:
		port = rnd(0x10000);
		if (port >= 0x600 && port < 0x608) /* sleep and reset */
			return;
		if (rnd(2))
			asm volatile("inl %%dx, %%eax" : "=a"(lo) : "d"(port));
		else
			asm volatile("outb %%al, %%dx" : : "a"(number()), "d"(port == 0xf5 || port == 0xf6 ? 0x80 : port));
		break;
	case 1:
		asm volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(rnd(2) ? 0x40000000 + rnd(0x200) : number()));
		break;
	case 2:
		asm volatile("wrmsr" : : "a"(number()), "d"(rnd(3) ? 0 : number()), "c"(0x40000001 + rnd(0x200)));
		break;
	case 3:
		asm volatile("cpuid" : "=a"(lo) : "0"(0x40000000 + rnd(8)), "c"(number()) : "ebx", "edx");
		break;
	case 4: /* memory that is not there, and Xen's own pages */
		a = rnd(3) ? RAM + rnd(0xf0000000 - RAM) : 0xfc000000 + rnd(0x50000);
		lo = *(volatile u32 *)(a & ~3);
		if (!rnd(4))
			*(volatile u32 *)(a & ~3) = lo ^ rnd(0);
		break;
	case 5:
		asm volatile("ud2");
	}
}

void work(void) {
	u8 b[64];
	for (;;) {
		u32 n = rnd(100);
		if (!(++deeds % 256))
			say("[256 deeds]\n", 12);
		if (deeds % 1024 == 1)
			connect();
		else if (n < 35)
			garbage_call();
		else if (n < 70)
			scribble();
		else if (n < 90)
			send(ports[rnd(32)]);
		else if (n < 97)
			wild();
		else {
			fill(b, sizeof b);
			xs(rnd(24), b, rnd(60), rnd(0));
		}
	}
}

void start(u32 *info) {
	struct { u16 limit; u32 base; } __attribute__((packed)) table = {sizeof gdt - 1, (u32)gdt};
	u32 i, lo, hi;
	const char *line;
	asm volatile("lgdt %0\nljmp $8, $1f\n1: mov $16, %%eax\nmov %%eax, %%ds\nmov %%eax, %%es\nmov %%eax, %%ss\n" : : "m"(table) : "eax", "memory");
	for (i = 0; i < 256; i++)
		idt[2 * i] = 8 << 16 | ((u32)fault & 0xffff), idt[2 * i + 1] = ((u32)fault & 0xffff0000) | 0x8e00;
	table.limit = sizeof idt - 1, table.base = (u32)idt;
	asm volatile("lidt %0" : : "m"(table));
	asm volatile("rdtsc" : "=a"(lo), "=d"(hi));
	seed = lo | 1;
	for (line = (const char *)info[6]; *line; line++) /* cmdline_paddr */
		seed = seed * 31 + *line;
	seed |= 1;
	asm volatile("wrmsr" : : "a"(hypercalls), "d"(0), "c"(0x40000000));
	store = (u8 *)(param(1) << 12), console = param(17) << 12;
	for (i = 0; i < 32; i++)
		ports[i] = rnd(40);
	ports[nports++] = param(2), ports[nports++] = param(18);
	map(0, 0, SHARED / 4096);
	map(1, 1, GRANTS / 4096 + 1);
	map(1, 0, GRANTS / 4096);
	for (i = 0; i < PAGES; i++)
		grant(i);
	say("hostile\n", 8);
	work();
}
