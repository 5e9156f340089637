package whp

import "structs"

// WinHvPlatformDefs.h; testdata/whp.c holds the numbers against mingw-w64's.
const (
	WHvCapabilityCodeHypervisorPresent       = 0
	WHvCapabilityCodeFeatures                = 1
	WHvCapabilityCodeExtendedVmExits         = 2
	WHvCapabilityCodeExceptionExitBitmap     = 3
	WHvCapabilityCodeProcessorClockFrequency = 0x1004

	featurePartialUnmap       = 1 << 0 // WHV_CAPABILITY_FEATURES
	featureLocalApicEmulation = 1 << 1

	exitCpuid     = 1 << 0 // WHV_EXTENDED_VM_EXITS
	exitMsr       = 1 << 1
	exitException = 1 << 2
	exitHypercall = 1 << 5

	msrUnhandled = 1 << 0 // WHV_X64_MSR_EXIT_BITMAP

	WHvPartitionPropertyCodeExtendedVmExits                 = 1
	WHvPartitionPropertyCodeExceptionExitBitmap             = 2
	WHvPartitionPropertyCodeX64MsrExitBitmap                = 5
	WHvPartitionPropertyCodeCpuidExitList                   = 0x1003
	WHvPartitionPropertyCodeLocalApicEmulationMode          = 0x1005
	WHvPartitionPropertyCodeSyntheticProcessorFeaturesBanks = 0x100c
	WHvPartitionPropertyCodeMsrActionList                   = 0x100f
	WHvPartitionPropertyCodeProcessorCount                  = 0x1fff

	WHvX64LocalApicEmulationModeXApic  = 1
	WHvX64LocalApicEmulationModeX2Apic = 2

	WHvMsrActionExit = 2

	WHvMapGpaRangeFlagRead    = 1
	WHvMapGpaRangeFlagWrite   = 2
	WHvMapGpaRangeFlagExecute = 4

	WHvTranslateGvaFlagValidateRead    = 1
	WHvTranslateGvaFlagValidateWrite   = 2
	WHvTranslateGvaFlagValidateExecute = 4

	WHvTranslateGvaResultSuccess            = 0
	WHvTranslateGvaResultPageNotPresent     = 1
	WHvTranslateGvaResultPrivilegeViolation = 2

	WHvRunVpExitReasonMemoryAccess           = 1
	WHvRunVpExitReasonX64IoPortAccess        = 2
	WHvRunVpExitReasonUnrecoverableException = 4
	WHvRunVpExitReasonInvalidVpRegisterValue = 5
	WHvRunVpExitReasonUnsupportedFeature     = 6
	WHvRunVpExitReasonX64InterruptWindow     = 7
	WHvRunVpExitReasonX64Halt                = 8
	WHvRunVpExitReasonX64ApicEoi             = 9
	WHvRunVpExitReasonX64MsrAccess           = 0x1000
	WHvRunVpExitReasonX64Cpuid               = 0x1001
	WHvRunVpExitReasonException              = 0x1002
	WHvRunVpExitReasonHypercall              = 0x1005
	WHvRunVpExitReasonCanceled               = 0x2001

	WHvMemoryAccessRead    = 0
	WHvMemoryAccessWrite   = 1
	WHvMemoryAccessExecute = 2

	WHvX64InterruptTypeFixed = 0

	WHvX64PendingEventException = 0
	WHvX64PendingEventExtInt    = 5
)

// Names of registers: WHV_REGISTER_NAME.
const (
	WHvX64RegisterRax    = 0x00
	WHvX64RegisterRcx    = 0x01
	WHvX64RegisterRdx    = 0x02
	WHvX64RegisterRbx    = 0x03
	WHvX64RegisterRsp    = 0x04
	WHvX64RegisterRbp    = 0x05
	WHvX64RegisterRsi    = 0x06
	WHvX64RegisterRdi    = 0x07
	WHvX64RegisterR8     = 0x08
	WHvX64RegisterR15    = 0x0f
	WHvX64RegisterRip    = 0x10
	WHvX64RegisterRflags = 0x11
	WHvX64RegisterEs     = 0x12
	WHvX64RegisterCs     = 0x13
	WHvX64RegisterSs     = 0x14
	WHvX64RegisterDs     = 0x15
	WHvX64RegisterFs     = 0x16
	WHvX64RegisterGs     = 0x17
	WHvX64RegisterLdtr   = 0x18
	WHvX64RegisterTr     = 0x19
	WHvX64RegisterIdtr   = 0x1a
	WHvX64RegisterGdtr   = 0x1b
	WHvX64RegisterCr0    = 0x1c
	WHvX64RegisterCr2    = 0x1d
	WHvX64RegisterCr3    = 0x1e
	WHvX64RegisterCr4    = 0x1f
	WHvX64RegisterCr8    = 0x20
	WHvX64RegisterDr0    = 0x21
	WHvX64RegisterDr7    = 0x26
	WHvX64RegisterXCr0   = 0x27

	WHvX64RegisterTsc                   = 0x2000
	WHvX64RegisterEfer                  = 0x2001
	WHvX64RegisterKernelGsBase          = 0x2002
	WHvX64RegisterApicBase              = 0x2003
	WHvX64RegisterSfmask                = 0x200b
	WHvX64RegisterMsrMtrrDefType        = 0x200e
	WHvX64RegisterMsrMtrrPhysBase0      = 0x2010
	WHvX64RegisterMsrMtrrPhysMask0      = 0x2040
	WHvX64RegisterMsrMtrrFix64k00000    = 0x2070
	WHvX64RegisterTscAux                = 0x207b
	WHvX64RegisterSpecCtrl              = 0x2084
	WHvX64RegisterXss                   = 0x208b
	WHvX64RegisterUCet                  = 0x208c
	WHvX64RegisterInterruptSspTableAddr = 0x2093
	WHvX64RegisterTscDeadline           = 0x2095
	WHvX64RegisterTscAdjust             = 0x2096

	WHvRegisterPendingInterruption            = 0x80000000
	WHvRegisterInterruptState                 = 0x80000001
	WHvRegisterPendingEvent                   = 0x80000002
	WHvX64RegisterDeliverabilityNotifications = 0x80000004
	WHvRegisterInternalActivityState          = 0x80000005
)

const (
	startupSuspend        = 1 << 0 // WHV_INTERNAL_ACTIVITY_REGISTER: it waits for SIPI
	interruptShadow       = 1 << 0 // WHV_X64_INTERRUPT_STATE_REGISTER
	interruptionPending   = 1 << 0 // WHV_X64_PENDING_INTERRUPTION_REGISTER
	eventPending          = 1 << 0 // WHV_X64_PENDING_EXCEPTION_EVENT and _EXT_INT_EVENT
	interruptNotification = 1 << 1 // WHV_X64_DELIVERABILITY_NOTIFICATIONS_REGISTER
)

// HRESULTs that are branched on, winerror.h.
const (
	WHV_E_INSUFFICIENT_BUFFER = 0x80370301
	WHV_E_UNKNOWN_PROPERTY    = 0x80370302
)

// value is WHV_REGISTER_VALUE: 128 bits of many forms. Windows wants it on a
// 16-byte boundary, where Go's allocator puts slices of it.
type value struct {
	_         structs.HostLayout
	low, high uint64
}

// segment is WHV_X64_SEGMENT_REGISTER; attributes are as accel.Segment has them.
type segment struct {
	_                    structs.HostLayout
	base                 uint64
	limit                uint32
	selector, attributes uint16
}

// vpContext is WHV_VP_EXIT_CONTEXT: the processor at its exit.
type vpContext struct {
	_           structs.HostLayout
	state       uint16 // WHV_X64_VP_EXECUTION_STATE
	lengthCR8   uint8  // InstructionLength 3:0, Cr8 7:4
	_           uint8
	_           uint32
	cs          segment
	rip, rflags uint64
}

const (
	stateCPL = 3 << 0
	stateLMA = 1 << 4
)

func (c *vpContext) length() uint64 { return uint64(c.lengthCR8 & 15) }

// long reports whether the processor runs 64-bit code.
func (c *vpContext) long() bool { return c.state&stateLMA != 0 && c.cs.attributes&(1<<13) != 0 }

// runExit is WHV_RUN_VP_EXIT_CONTEXT.
type runExit struct {
	_      structs.HostLayout
	reason uint32
	_      uint32
	vp     vpContext
	union  [22]uint64
}

// The members of runExit's union that are looked at.
type (
	exitMemory struct { // WHV_MEMORY_ACCESS_CONTEXT
		_      structs.HostLayout
		count  uint8
		_      [3]byte
		bytes  [16]byte
		access uint32 // AccessType 1:0, GpaUnmapped 2, GvaValid 3
		gpa    uint64
		gva    uint64
	}
	exitIO struct { // WHV_X64_IO_PORT_ACCESS_CONTEXT
		_                  structs.HostLayout
		count              uint8
		_                  [3]byte
		bytes              [16]byte
		access             uint32 // IsWrite 0, AccessSize 3:1, StringOp 4, RepPrefix 5
		port               uint16
		_                  [3]uint16
		rax, rcx, rsi, rdi uint64
		ds, es             segment
	}
	exitMSRAccess struct { // WHV_X64_MSR_ACCESS_CONTEXT
		_        structs.HostLayout
		write    uint32
		index    uint32
		rax, rdx uint64
	}
	exitCPUIDAccess struct { // WHV_X64_CPUID_ACCESS_CONTEXT
		_                                              structs.HostLayout
		rax, rcx, rdx, rbx                             uint64
		defaultRAX, defaultRCX, defaultRDX, defaultRBX uint64
	}
	exitVPException struct { // WHV_VP_EXCEPTION_CONTEXT
		_         structs.HostLayout
		count     uint8
		_         [3]byte
		bytes     [16]byte
		info      uint32 // ErrorCodeValid 0, SoftwareException 1
		vector    uint8
		_         [3]byte
		code      uint32
		parameter uint64
	}
)

// interruptControl is WHV_INTERRUPT_CONTROL. kind holds Type 7:0,
// DestinationMode 11:8 and TriggerMode 15:12; 0 is fixed, physical, edge.
type interruptControl struct {
	_                   structs.HostLayout
	kind                uint64
	destination, vector uint32
}

// msrAction is WHV_MSR_ACTION_ENTRY.
type msrAction struct {
	_           structs.HostLayout
	index       uint32
	read, write uint8
	_           uint16
}

// cpuidOutput is WHV_CPUID_OUTPUT.
type cpuidOutput struct {
	_                  structs.HostLayout
	eax, ebx, ecx, edx uint32
}
