package xenabi

import "structs"

// EvtchnBindInterdomain is struct evtchn_bind_interdomain, event_channel.h.
type EvtchnBindInterdomain struct {
	_          structs.HostLayout
	RemoteDom  uint16
	_          uint16
	RemotePort uint32
	LocalPort  uint32
}

// EvtchnBindVIRQ is struct evtchn_bind_virq, event_channel.h.
type EvtchnBindVIRQ struct {
	_    structs.HostLayout
	VIRQ uint32
	VCPU uint32
	Port uint32
}

// EvtchnPort is struct evtchn_close, evtchn_send and evtchn_unmask,
// event_channel.h.
type EvtchnPort struct {
	_    structs.HostLayout
	Port uint32
}

// EvtchnStatus is struct evtchn_status, event_channel.h. VIRQOrDom is the
// union's virq, pirq or (its low half) dom, RemotePort its interdomain.port.
type EvtchnStatus struct {
	_          structs.HostLayout
	Dom        uint16
	_          uint16
	Port       uint32
	Status     uint32
	VCPU       uint32
	VIRQOrDom  uint32
	RemotePort uint32
}

// EvtchnAllocUnbound is struct evtchn_alloc_unbound, event_channel.h.
type EvtchnAllocUnbound struct {
	_         structs.HostLayout
	Dom       uint16
	RemoteDom uint16
	Port      uint32
}

// EvtchnBindIPI is struct evtchn_bind_ipi, event_channel.h.
type EvtchnBindIPI struct {
	_    structs.HostLayout
	VCPU uint32
	Port uint32
}

// EvtchnBindVCPU is struct evtchn_bind_vcpu, event_channel.h.
type EvtchnBindVCPU struct {
	_    structs.HostLayout
	Port uint32
	VCPU uint32
}

// EvtchnReset is struct evtchn_reset, event_channel.h.
type EvtchnReset struct {
	_   structs.HostLayout
	Dom uint16
}

// EvtchnInitControl is struct evtchn_init_control, event_channel.h.
type EvtchnInitControl struct {
	_          structs.HostLayout
	ControlGFN uint64
	Offset     uint32
	VCPU       uint32
	LinkBits   uint8
	_          [7]byte
}

// GrantEntryV1 is struct grant_entry_v1, grant_table.h.
type GrantEntryV1 struct {
	_     structs.HostLayout
	Flags uint16
	Domid uint16
	Frame uint32
}

// GnttabQuerySize is struct gnttab_query_size, grant_table.h.
type GnttabQuerySize struct {
	_           structs.HostLayout
	Dom         uint16
	_           uint16
	NrFrames    uint32
	MaxNrFrames uint32
	Status      int16
	_           uint16
}

// GnttabSetVersion is struct gnttab_set_version, grant_table.h.
type GnttabSetVersion struct {
	_       structs.HostLayout
	Version uint32
}

// GnttabGetVersion is struct gnttab_get_version, grant_table.h.
type GnttabGetVersion struct {
	_       structs.HostLayout
	Dom     uint16
	_       uint16
	Version uint32
}

// GnttabSetupTable is struct gnttab_setup_table, grant_table.h.
type GnttabSetupTable struct {
	_         structs.HostLayout
	Dom       uint16
	_         uint16
	NrFrames  uint32
	Status    int16
	_         [6]byte
	FrameList uint64
}

// GnttabSetupTable32 is struct gnttab_setup_table, grant_table.h.
type GnttabSetupTable32 struct {
	_         structs.HostLayout
	Dom       uint16
	_         uint16
	NrFrames  uint32
	Status    int16
	_         uint16
	FrameList uint32
}

// XSDSockmsg is struct xsd_sockmsg, io/xs_wire.h.
type XSDSockmsg struct {
	_     structs.HostLayout
	Type  uint32
	ReqID uint32
	TxID  uint32
	Len   uint32
}

// SharedInfo names the places in struct shared_info, xen.h, of one guest width.
type SharedInfo struct {
	VCPUInfo, EvtchnPending, EvtchnMask int
	WCVersion, WCSec, WCNsec, WCSecHi   int
	Ports                               int // how many the bitmaps hold
	WordBits                            int // of a selector's bit: the guest's long
	PendingSel                          int // in struct vcpu_info
}

// SharedInfo64 and SharedInfo32 are the two layouts.
var (
	SharedInfo64 = SharedInfo{0, 2048, 2560, 3072, 3076, 3080, 3084, 4096, 64, 8}
	SharedInfo32 = SharedInfo{0, 2048, 2176, 2304, 2308, 2312, 2340, 1024, 32, 4}
)

// VCPUInfoSize and VCPUTimeOffset hold in both widths.
const (
	VCPUInfoSize   = 64
	VCPUTimeOffset = 32
)

// Places in struct xenstore_domain_interface, io/xs_wire.h.
const (
	XenstoreReq            = 0
	XenstoreRsp            = 1024
	XenstoreReqCons        = 2048
	XenstoreReqProd        = 2052
	XenstoreRspCons        = 2056
	XenstoreRspProd        = 2060
	XenstoreServerFeatures = 2064
	XenstoreConnection     = 2068
	XenstoreError          = 2072
)

// Places in struct xencons_interface, io/console.h.
const (
	XenconsIn      = 0
	XenconsOut     = 1024
	XenconsInCons  = 3072
	XenconsInProd  = 3076
	XenconsOutCons = 3080
	XenconsOutProd = 3084
)
