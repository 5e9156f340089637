/*
 * Prints the sizes, offsets and constants of Xen's io/blkif.h (libxen-dev), like
 * layout.c, for both widths of front ends:
 *
 *	for m in 64 32; do
 *		gcc -m$m -ffreestanding -S -o - blkif.c | sed -n 's/^->//p' > blkif$m.txt
 *	done
 */
typedef __SIZE_TYPE__ size_t;
#include <stdint.h>
#define __XEN_INTERFACE_VERSION__ 0x00040e00
#define xen_mb()
#define xen_rmb()
#define xen_wmb()
#include <xen/xen.h>
#include <xen/event_channel.h>
#include <xen/io/blkif.h>

#define S(s) asm volatile("\n->" #s " %c0" : : "i"(sizeof(struct s)))
#define F(s, f) asm volatile("\n->" #s "." #f " %c0" : : "i"(__builtin_offsetof(struct s, f)))
#define C(c) asm volatile("\n->" #c " %c0" : : "i"(c))

void layout(void)
{
	S(blkif_request_segment); F(blkif_request_segment, gref); F(blkif_request_segment, first_sect); F(blkif_request_segment, last_sect);
	S(blkif_request); F(blkif_request, operation); F(blkif_request, nr_segments); F(blkif_request, handle); F(blkif_request, id); F(blkif_request, sector_number); F(blkif_request, seg);
	S(blkif_request_discard); F(blkif_request_discard, operation); F(blkif_request_discard, flag); F(blkif_request_discard, handle); F(blkif_request_discard, id); F(blkif_request_discard, sector_number); F(blkif_request_discard, nr_sectors);
	S(blkif_request_indirect); F(blkif_request_indirect, operation); F(blkif_request_indirect, indirect_op); F(blkif_request_indirect, nr_segments); F(blkif_request_indirect, id); F(blkif_request_indirect, sector_number); F(blkif_request_indirect, handle); F(blkif_request_indirect, indirect_grefs);
	S(blkif_response); F(blkif_response, id); F(blkif_response, operation); F(blkif_response, status);
	asm volatile("\n->entry %c0" : : "i"(sizeof(union blkif_sring_entry)));

	C(BLKIF_OP_READ); C(BLKIF_OP_WRITE); C(BLKIF_OP_WRITE_BARRIER); C(BLKIF_OP_FLUSH_DISKCACHE); C(BLKIF_OP_DISCARD); C(BLKIF_OP_INDIRECT);
	C(BLKIF_RSP_EOPNOTSUPP); C(BLKIF_RSP_ERROR); C(BLKIF_RSP_OKAY);
	C(BLKIF_MAX_SEGMENTS_PER_REQUEST); C(BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST);
	C(VDISK_CDROM); C(VDISK_REMOVABLE); C(VDISK_READONLY);
}
