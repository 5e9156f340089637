package xenabi

import (
	"reflect"
	"testing"
)

func TestNetifLayout(t *testing.T) {
	sizes, offsets, byName := printed(t, "netif.txt")
	for c, v := range map[string]any{
		"netif_tx_request": NetifTxRequest{}, "netif_extra_info": NetifExtraInfo{}, "netif_tx_response": NetifTxResponse{},
		"netif_rx_request": NetifRxRequest{}, "netif_rx_response": NetifRxResponse{},
	} {
		typ := reflect.TypeOf(v)
		if int(typ.Size()) != sizes[c] || typ.Field(0).Type.String() != "structs.HostLayout" {
			t.Errorf("struct %s has %d bytes, %s %d", c, sizes[c], typ.Name(), typ.Size())
		}
		var at []int
		for f := range fields(typ) {
			at = append(at, int(f.Offset))
		}
		if !reflect.DeepEqual(at, offsets[c]) {
			t.Errorf("the fields of %s are at %v, those of struct %s at %v", typ.Name(), at, c, offsets[c])
		}
	}
	for c, v := range map[string]int{
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
	} {
		if want, ok := byName[c]; !ok || want != v {
			t.Errorf("%s is %d, the header has %d (%v)", c, v, want, ok)
		}
	}
}
