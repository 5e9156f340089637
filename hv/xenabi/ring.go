package xenabi

// States of a device's two ends: enum xenbus_state, io/xenbus.h.
const (
	XenbusStateUnknown      = 0
	XenbusStateInitialising = 1
	XenbusStateInitWait     = 2
	XenbusStateInitialised  = 3
	XenbusStateConnected    = 4
	XenbusStateClosing      = 5
	XenbusStateClosed       = 6
)

// Offsets in the first page of a ring as DEFINE_RING_TYPES of io/ring.h makes
// it, the same for all devices.
const (
	SringReqProd  = 0
	SringReqEvent = 4
	SringRspProd  = 8
	SringRspEvent = 12
	SringEntries  = 64
)
