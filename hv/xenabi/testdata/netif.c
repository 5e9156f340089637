/*
 * Prints the sizes, offsets and constants of Xen's io/netif.h (libxen-dev), like
 * layout.c:
 *
 *	gcc -ffreestanding -S -o - netif.c | sed -n 's/^->//p' > netif.txt
 *
 * With -m32 the same comes out.
 */
typedef __SIZE_TYPE__ size_t;
#include <stdint.h>
#define __XEN_INTERFACE_VERSION__ 0x00040e00
#include <xen/xen.h>
#include <xen/event_channel.h>
#include <xen/io/netif.h>

#define S(s) asm volatile("\n->" #s " %c0" : : "i"(sizeof(struct s)))
#define F(s, f) asm volatile("\n->" #s "." #f " %c0" : : "i"(__builtin_offsetof(struct s, f)))
#define C(c) asm volatile("\n->" #c " %c0" : : "i"(c))

void layout(void)
{
	S(netif_tx_request); F(netif_tx_request, gref); F(netif_tx_request, offset); F(netif_tx_request, flags); F(netif_tx_request, id); F(netif_tx_request, size);
	S(netif_extra_info); F(netif_extra_info, type); F(netif_extra_info, flags); F(netif_extra_info, u.gso.size); F(netif_extra_info, u.gso.type); F(netif_extra_info, u.gso.features);
	S(netif_tx_response); F(netif_tx_response, id); F(netif_tx_response, status);
	S(netif_rx_request); F(netif_rx_request, id); F(netif_rx_request, gref);
	S(netif_rx_response); F(netif_rx_response, id); F(netif_rx_response, offset); F(netif_rx_response, flags); F(netif_rx_response, status);

	C(NETTXF_csum_blank); C(NETTXF_data_validated); C(NETTXF_more_data); C(NETTXF_extra_info);
	C(NETRXF_data_validated); C(NETRXF_csum_blank); C(NETRXF_more_data); C(NETRXF_extra_info);
	C(XEN_NETIF_EXTRA_TYPE_NONE); C(XEN_NETIF_EXTRA_TYPE_GSO); C(XEN_NETIF_EXTRA_TYPE_MAX); C(XEN_NETIF_EXTRA_FLAG_MORE);
	C(XEN_NETIF_GSO_TYPE_TCPV4); C(XEN_NETIF_GSO_TYPE_TCPV6); C(XEN_NETIF_NR_SLOTS_MIN);
	C(NETIF_RSP_DROPPED); C(NETIF_RSP_ERROR); C(NETIF_RSP_OKAY); C(NETIF_RSP_NULL);
}
