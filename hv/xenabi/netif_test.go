package xenabi

import "testing"

func TestNetifLayout(t *testing.T) {
	compare(t, "netif.txt", map[string]any{
		"netif_tx_request": NetifTxRequest{}, "netif_extra_info": NetifExtraInfo{}, "netif_tx_response": NetifTxResponse{},
		"netif_rx_request": NetifRxRequest{}, "netif_rx_response": NetifRxResponse{},
	}, map[string]int{
		"NETTXF_csum_blank": NETTXF_csum_blank, "NETTXF_data_validated": NETTXF_data_validated,
		"NETTXF_more_data": NETTXF_more_data, "NETTXF_extra_info": NETTXF_extra_info,
		"NETRXF_data_validated": NETRXF_data_validated, "NETRXF_csum_blank": NETRXF_csum_blank,
		"NETRXF_more_data": NETRXF_more_data, "NETRXF_extra_info": NETRXF_extra_info,
		"XEN_NETIF_EXTRA_TYPE_NONE": XEN_NETIF_EXTRA_TYPE_NONE, "XEN_NETIF_EXTRA_TYPE_GSO": XEN_NETIF_EXTRA_TYPE_GSO,
		"XEN_NETIF_EXTRA_TYPE_MAX": XEN_NETIF_EXTRA_TYPE_MAX, "XEN_NETIF_EXTRA_FLAG_MORE": XEN_NETIF_EXTRA_FLAG_MORE,
		"XEN_NETIF_GSO_TYPE_TCPV4": XEN_NETIF_GSO_TYPE_TCPV4, "XEN_NETIF_GSO_TYPE_TCPV6": XEN_NETIF_GSO_TYPE_TCPV6,
		"XEN_NETIF_NR_SLOTS_MIN": XEN_NETIF_NR_SLOTS_MIN,
		"NETIF_RSP_DROPPED":      NETIF_RSP_DROPPED, "NETIF_RSP_ERROR": NETIF_RSP_ERROR,
		"NETIF_RSP_OKAY": NETIF_RSP_OKAY, "NETIF_RSP_NULL": NETIF_RSP_NULL,
	})
}
