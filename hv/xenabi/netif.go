package xenabi

import "structs"

// The flags, types and status values of io/netif.h.
const (
	NETTXF_csum_blank     = 1 << 0
	NETTXF_data_validated = 1 << 1
	NETTXF_more_data      = 1 << 2
	NETTXF_extra_info     = 1 << 3

	NETRXF_data_validated = 1 << 0
	NETRXF_csum_blank     = 1 << 1
	NETRXF_more_data      = 1 << 2
	NETRXF_extra_info     = 1 << 3

	XEN_NETIF_EXTRA_TYPE_NONE = 0
	XEN_NETIF_EXTRA_TYPE_GSO  = 1
	XEN_NETIF_EXTRA_TYPE_MAX  = 5

	XEN_NETIF_EXTRA_FLAG_MORE = 1 << 0

	XEN_NETIF_GSO_TYPE_TCPV4 = 1
	XEN_NETIF_GSO_TYPE_TCPV6 = 2

	XEN_NETIF_NR_SLOTS_MIN = 18

	NETIF_RSP_DROPPED = -2
	NETIF_RSP_ERROR   = -1
	NETIF_RSP_OKAY    = 0
	NETIF_RSP_NULL    = 1
)

// NetifTxRequest is struct netif_tx_request, io/netif.h.
type NetifTxRequest struct {
	_      structs.HostLayout
	Gref   uint32
	Offset uint16
	Flags  uint16
	ID     uint16
	Size   uint16
}

// NetifExtraInfo is struct netif_extra_info, io/netif.h, with the GSO form of
// its union.
type NetifExtraInfo struct {
	_           structs.HostLayout
	Type        uint8
	Flags       uint8
	GSOSize     uint16
	GSOType     uint8
	_           uint8
	GSOFeatures uint16
}

// NetifTxResponse is struct netif_tx_response, io/netif.h.
type NetifTxResponse struct {
	_      structs.HostLayout
	ID     uint16
	Status int16
}

// NetifRxRequest is struct netif_rx_request, io/netif.h.
type NetifRxRequest struct {
	_    structs.HostLayout
	ID   uint16
	_    uint16
	Gref uint32
}

// NetifRxResponse is struct netif_rx_response, io/netif.h.
type NetifRxResponse struct {
	_      structs.HostLayout
	ID     uint16
	Offset uint16
	Flags  uint16
	Status int16
}
