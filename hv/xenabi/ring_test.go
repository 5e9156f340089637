package xenabi

import "testing"

func TestRingLayout(t *testing.T) {
	_, _, byName := printed(t, "ring.txt")
	for c, v := range map[string]int{
		"any_sring.req_prod": SringReqProd, "any_sring.req_event": SringReqEvent,
		"any_sring.rsp_prod": SringRspProd, "any_sring.rsp_event": SringRspEvent, "any_sring.ring": SringEntries,
		"XenbusStateUnknown": XenbusStateUnknown, "XenbusStateInitialising": XenbusStateInitialising,
		"XenbusStateInitWait": XenbusStateInitWait, "XenbusStateInitialised": XenbusStateInitialised,
		"XenbusStateConnected": XenbusStateConnected, "XenbusStateClosing": XenbusStateClosing,
		"XenbusStateClosed": XenbusStateClosed,
	} {
		if want, ok := byName[c]; !ok || want != v {
			t.Errorf("%s is %d, the header has %d (%v)", c, v, want, ok)
		}
	}
}
