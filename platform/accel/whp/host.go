package whp

import "fmt"

// partition is WHV_PARTITION_HANDLE.
type partition uintptr

// hresult is a failed HRESULT.
type hresult uint32

func (h hresult) Error() string {
	switch h {
	case 0x80370300:
		return "the platform does not know this capability (0x80370300)"
	case WHV_E_UNKNOWN_PROPERTY:
		return "the platform does not know this property (0x80370302)"
	case 0x8007000e:
		return "there is not enough memory (0x8007000e)"
	case 0x80070005:
		return "access is denied (0x80070005)"
	}
	return fmt.Sprintf("HRESULT %#08x", uint32(h))
}

// host is what the back end needs of Windows: the functions of
// winhvplatform.dll, by name and argument as WinHvPlatform.h has them, memory,
// and two instructions of the processor. Errors of the platform are hresults.
// Its methods are safe for concurrent use.
type host interface {
	// GetCapability fills b from its start and leaves what the platform does not
	// know as it is.
	GetCapability(code uint32, b []byte) error
	CreatePartition() (partition, error)
	SetPartitionProperty(p partition, code uint32, b []byte) error
	SetupPartition(partition) error
	DeletePartition(partition) error
	SuspendPartitionTime(partition) error
	ResumePartitionTime(partition) error

	MapGpaRange(p partition, mem []byte, gpa uint64, flags uint32) error
	UnmapGpaRange(p partition, gpa, n uint64) error
	// TranslateGva returns a WHV_TRANSLATE_GVA_RESULT_CODE and the address.
	TranslateGva(p partition, vp uint32, gva uint64, flags uint32) (code uint32, gpa uint64, err error)

	CreateVirtualProcessor(p partition, vp uint32) error
	DeleteVirtualProcessor(p partition, vp uint32) error
	RunVirtualProcessor(p partition, vp uint32, exit *runExit) error
	CancelRunVirtualProcessor(p partition, vp uint32) error
	GetVirtualProcessorRegisters(p partition, vp uint32, names []uint32, values []value) error
	SetVirtualProcessorRegisters(p partition, vp uint32, names []uint32, values []value) error
	RequestInterrupt(partition, *interruptControl) error
	// GetVirtualProcessorCpuidOutput is missing before Windows 10 21H2.
	GetVirtualProcessorCpuidOutput(p partition, vp, leaf, sub uint32) (cpuidOutput, error)

	// The LAPIC's page, and the XSAVE area; the getters tell how long it is,
	// WHV_E_INSUFFICIENT_BUFFER included.
	GetVirtualProcessorInterruptControllerState2(p partition, vp uint32, b []byte) (int, error)
	SetVirtualProcessorInterruptControllerState2(p partition, vp uint32, b []byte) error
	GetVirtualProcessorXsaveState(p partition, vp uint32, b []byte) (int, error)
	SetVirtualProcessorXsaveState(p partition, vp uint32, b []byte) error

	// Alloc returns size bytes of zeros at an address that is a multiple of align.
	Alloc(size, align uint64) (mem []byte, free func() error, err error)
	// Renew gives whole pages of Alloc's memory back and takes fresh zeros.
	Renew(mem []byte) error

	// CPUID and RDTSC are the instructions, on the processor that runs this.
	CPUID(leaf, sub uint32) cpuidOutput
	RDTSC() uint64
}
