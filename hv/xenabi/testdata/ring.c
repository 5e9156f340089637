/*
 * Prints the offsets of a ring of Xen's io/ring.h (libxen-dev) and the states of
 * io/xenbus.h, like layout.c:
 *
 *	gcc -ffreestanding -S -o - ring.c | sed -n 's/^->//p' > ring.txt
 *
 * With -m32 the same comes out.
 */
typedef __SIZE_TYPE__ size_t;
#include <stdint.h>
#define __XEN_INTERFACE_VERSION__ 0x00040e00
#define xen_mb()
#define xen_rmb()
#define xen_wmb()
#include <xen/xen.h>
#include <xen/io/ring.h>
#include <xen/io/xenbus.h>

struct req { uint32_t a; };
struct rsp { uint32_t a; };
DEFINE_RING_TYPES(any, struct req, struct rsp);

#define F(f) asm volatile("\n->any_sring." #f " %c0" : : "i"(__builtin_offsetof(struct any_sring, f)))
#define C(c) asm volatile("\n->" #c " %c0" : : "i"(c))

void layout(void)
{
	F(req_prod); F(req_event); F(rsp_prod); F(rsp_event); F(ring);
	C(XenbusStateUnknown); C(XenbusStateInitialising); C(XenbusStateInitWait); C(XenbusStateInitialised);
	C(XenbusStateConnected); C(XenbusStateClosing); C(XenbusStateClosed);
}
