/*
 * Prints the sizes, offsets and constants of Xen's io/fbif.h and io/kbdif.h
 * (libxen-dev), like layout.c, for both guest widths:
 *
 *	for m in 64 32; do
 *		gcc -m$m -ffreestanding -S -o - fbif.c | sed -n 's/^->//p' > fbif$m.txt
 *	done
 */
typedef __SIZE_TYPE__ size_t;
#include <stdint.h>
#define __XEN_INTERFACE_VERSION__ 0x00040e00
#include <xen/xen.h>
#include <xen/io/fbif.h>
#include <xen/io/kbdif.h>

#define S(s) asm volatile("\n->" #s " %c0" : : "i"(sizeof(struct s)))
#define F(s, f) asm volatile("\n->" #s "." #f " %c0" : : "i"(__builtin_offsetof(struct s, f)))
#define C(c) asm volatile("\n->" #c " %c0" : : "i"(c))

void layout(void)
{
	S(xenfb_update); F(xenfb_update, type); F(xenfb_update, x); F(xenfb_update, y); F(xenfb_update, width); F(xenfb_update, height);
	S(xenfb_resize); F(xenfb_resize, type); F(xenfb_resize, width); F(xenfb_resize, height); F(xenfb_resize, stride); F(xenfb_resize, depth); F(xenfb_resize, offset);
	F(xenfb_page, in_cons); F(xenfb_page, in_prod); F(xenfb_page, out_cons); F(xenfb_page, out_prod); F(xenfb_page, width); F(xenfb_page, height);
	F(xenfb_page, line_length); F(xenfb_page, mem_length); F(xenfb_page, depth); F(xenfb_page, pd);
	C(XENFB_TYPE_UPDATE); C(XENFB_TYPE_RESIZE); C(XENFB_OUT_EVENT_SIZE); C(XENFB_OUT_RING_LEN); C(XENFB_OUT_RING_OFFS);

	S(xenkbd_motion); F(xenkbd_motion, type); F(xenkbd_motion, rel_x); F(xenkbd_motion, rel_y); F(xenkbd_motion, rel_z);
	S(xenkbd_key); F(xenkbd_key, type); F(xenkbd_key, pressed); F(xenkbd_key, keycode);
	S(xenkbd_position); F(xenkbd_position, type); F(xenkbd_position, abs_x); F(xenkbd_position, abs_y); F(xenkbd_position, rel_z);
	F(xenkbd_page, in_cons); F(xenkbd_page, in_prod); F(xenkbd_page, out_cons); F(xenkbd_page, out_prod);
	C(XENKBD_TYPE_MOTION); C(XENKBD_TYPE_KEY); C(XENKBD_TYPE_POS); C(XENKBD_IN_EVENT_SIZE); C(XENKBD_IN_RING_LEN); C(XENKBD_IN_RING_OFFS);
}
