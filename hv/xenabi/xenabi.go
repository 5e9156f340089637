// Package xenabi is Xen's public interface as an x86 PVH guest sees it: the
// constants under their C names and the structures of the public headers
// (xen/include/public), laid out as a C compiler lays them out, for 64-bit
// callers and, with the suffix 32, for 32-bit callers where that differs.
//
// It has no behaviour: it knows neither hypercalls nor memory. Fields that a
// guest filled are hostile until somebody checked them.
package xenabi

import "structs"

// U64 is a 64-bit integer of the 32-bit ABI, which aligns it to 4 bytes.
type U64 [2]uint32

// Value returns the integer.
func (u U64) Value() uint64 { return uint64(u[0]) | uint64(u[1])<<32 }

// MakeU64 splits v.
func MakeU64(v uint64) U64 { return U64{uint32(v), uint32(v >> 32)} }

// StartInfo is struct hvm_start_info, arch-x86/hvm/start_info.h.
type StartInfo struct {
	_             structs.HostLayout
	Magic         uint32
	Version       uint32
	Flags         uint32
	NrModules     uint32
	ModlistPaddr  uint64
	CmdlinePaddr  uint64
	RSDPPaddr     uint64
	MemmapPaddr   uint64
	MemmapEntries uint32
	_             uint32
}

// ModlistEntry is struct hvm_modlist_entry, arch-x86/hvm/start_info.h.
type ModlistEntry struct {
	_            structs.HostLayout
	Paddr        uint64
	Size         uint64
	CmdlinePaddr uint64
	_            uint64
}

// MemmapEntry is struct hvm_memmap_table_entry, arch-x86/hvm/start_info.h.
type MemmapEntry struct {
	_    structs.HostLayout
	Addr uint64
	Size uint64
	Type uint32
	_    uint32
}

// AddToPhysmap is struct xen_add_to_physmap, memory.h.
type AddToPhysmap struct {
	_     structs.HostLayout
	Domid uint16
	Size  uint16
	Space uint32
	Idx   uint64
	Gpfn  uint64
}

// AddToPhysmap32 is struct xen_add_to_physmap, memory.h.
type AddToPhysmap32 struct {
	_     structs.HostLayout
	Domid uint16
	Size  uint16
	Space uint32
	Idx   uint32
	Gpfn  uint32
}

// RemoveFromPhysmap is struct xen_remove_from_physmap, memory.h.
type RemoveFromPhysmap struct {
	_     structs.HostLayout
	Domid uint16
	_     [6]byte
	Gpfn  uint64
}

// RemoveFromPhysmap32 is struct xen_remove_from_physmap, memory.h.
type RemoveFromPhysmap32 struct {
	_     structs.HostLayout
	Domid uint16
	_     [2]byte
	Gpfn  uint32
}

// MemoryMap is struct xen_memory_map, memory.h.
type MemoryMap struct {
	_         structs.HostLayout
	NrEntries uint32
	_         uint32
	Buffer    uint64
}

// MemoryMap32 is struct xen_memory_map, memory.h.
type MemoryMap32 struct {
	_         structs.HostLayout
	NrEntries uint32
	Buffer    uint32
}

// MemoryReservation is struct xen_memory_reservation, memory.h.
type MemoryReservation struct {
	_           structs.HostLayout
	ExtentStart uint64
	NrExtents   uint64
	ExtentOrder uint32
	MemFlags    uint32
	Domid       uint16
	_           [6]byte
}

// MemoryReservation32 is struct xen_memory_reservation, memory.h.
type MemoryReservation32 struct {
	_           structs.HostLayout
	ExtentStart uint32
	NrExtents   uint32
	ExtentOrder uint32
	MemFlags    uint32
	Domid       uint16
	_           [2]byte
}

// FeatureInfo is struct xen_feature_info, version.h.
type FeatureInfo struct {
	_         structs.HostLayout
	SubmapIdx uint32
	Submap    uint32
}

// CompileInfo is struct xen_compile_info, version.h.
type CompileInfo struct {
	_             structs.HostLayout
	Compiler      [64]byte
	CompileBy     [16]byte
	CompileDomain [32]byte
	CompileDate   [32]byte
}

// HVMParam is struct xen_hvm_param, hvm/hvm_op.h.
type HVMParam struct {
	_     structs.HostLayout
	Domid uint16
	_     uint16
	Index uint32
	Value uint64
}

// HVMEvtchnUpcallVector is struct xen_hvm_evtchn_upcall_vector, hvm/hvm_op.h.
type HVMEvtchnUpcallVector struct {
	_      structs.HostLayout
	VCPU   uint32
	Vector uint8
	_      [3]byte
}

// Shutdown is struct sched_shutdown, sched.h.
type Shutdown struct {
	_      structs.HostLayout
	Reason uint32
}

// RemoteShutdown is struct sched_remote_shutdown, sched.h.
type RemoteShutdown struct {
	_      structs.HostLayout
	Domain uint16
	_      uint16
	Reason uint32
}

// Watchdog is struct sched_watchdog, sched.h.
type Watchdog struct {
	_       structs.HostLayout
	ID      uint32
	Timeout uint32 // seconds
}

// Poll is struct sched_poll, sched.h.
type Poll struct {
	_       structs.HostLayout
	Ports   uint64
	NrPorts uint32
	_       uint32
	Timeout uint64
}

// Poll32 is struct sched_poll, sched.h.
type Poll32 struct {
	_       structs.HostLayout
	Ports   uint32
	NrPorts uint32
	Timeout U64
}

// RunstateInfo is struct vcpu_runstate_info, vcpu.h.
type RunstateInfo struct {
	_              structs.HostLayout
	State          int32
	_              uint32
	StateEntryTime uint64
	Time           [4]uint64
}

// RunstateInfo32 is struct vcpu_runstate_info, vcpu.h.
type RunstateInfo32 struct {
	_              structs.HostLayout
	State          int32
	StateEntryTime U64
	Time           [4]U64
}

// RegisterArea is struct vcpu_register_runstate_memory_area and struct
// vcpu_register_time_memory_area, vcpu.h: a linear address in 64 bits, which a
// 32-bit caller fills as far as a pointer reaches.
type RegisterArea struct {
	_    structs.HostLayout
	Addr uint64
}

// SetPeriodicTimer is struct vcpu_set_periodic_timer, vcpu.h.
type SetPeriodicTimer struct {
	_        structs.HostLayout
	PeriodNS uint64
}

// SetSingleshotTimer is struct vcpu_set_singleshot_timer, vcpu.h.
type SetSingleshotTimer struct {
	_            structs.HostLayout
	TimeoutAbsNS uint64
	Flags        uint32
	_            uint32
}

// SetSingleshotTimer32 is struct vcpu_set_singleshot_timer, vcpu.h.
type SetSingleshotTimer32 struct {
	_            structs.HostLayout
	TimeoutAbsNS U64
	Flags        uint32
}

// RegisterVCPUInfo is struct vcpu_register_vcpu_info, vcpu.h.
type RegisterVCPUInfo struct {
	_      structs.HostLayout
	MFN    uint64
	Offset uint32
	_      uint32
}

// VCPUTimeInfo is struct vcpu_time_info, xen.h.
type VCPUTimeInfo struct {
	_              structs.HostLayout
	Version        uint32
	_              uint32
	TSCTimestamp   uint64
	SystemTime     uint64
	TSCToSystemMul uint32
	TSCShift       int8
	Flags          uint8
	_              [2]byte
}

// VCPUInfo is struct vcpu_info, xen.h.
type VCPUInfo struct {
	_                   structs.HostLayout
	EvtchnUpcallPending uint8
	EvtchnUpcallMask    uint8
	_                   [6]byte
	EvtchnPendingSel    uint64
	Arch                [2]uint64
	Time                VCPUTimeInfo
}

// VCPUInfo32 is struct vcpu_info, xen.h.
type VCPUInfo32 struct {
	_                   structs.HostLayout
	EvtchnUpcallPending uint8
	EvtchnUpcallMask    uint8
	_                   [2]byte
	EvtchnPendingSel    uint32
	Arch                [6]uint32
	Time                VCPUTimeInfo
}

// MulticallEntry is struct multicall_entry, xen.h.
type MulticallEntry struct {
	_      structs.HostLayout
	Op     uint64
	Result uint64
	Args   [6]uint64
}

// MulticallEntry32 is struct multicall_entry, xen.h.
type MulticallEntry32 struct {
	_      structs.HostLayout
	Op     uint32
	Result uint32
	Args   [6]uint32
}
