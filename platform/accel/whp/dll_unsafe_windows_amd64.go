package whp

import (
	"errors"
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/windows"
)

// windowsHost is the real thing.
type windowsHost struct{}

var dll = windows.NewLazySystemDLL("winhvplatform.dll")

var (
	procGetCapability    = dll.NewProc("WHvGetCapability")
	procCreatePartition  = dll.NewProc("WHvCreatePartition")
	procSetProperty      = dll.NewProc("WHvSetPartitionProperty")
	procSetupPartition   = dll.NewProc("WHvSetupPartition")
	procDeletePartition  = dll.NewProc("WHvDeletePartition")
	procSuspendTime      = dll.NewProc("WHvSuspendPartitionTime")
	procResumeTime       = dll.NewProc("WHvResumePartitionTime")
	procMapGpaRange      = dll.NewProc("WHvMapGpaRange")
	procUnmapGpaRange    = dll.NewProc("WHvUnmapGpaRange")
	procTranslateGva     = dll.NewProc("WHvTranslateGva")
	procCreateVP         = dll.NewProc("WHvCreateVirtualProcessor")
	procDeleteVP         = dll.NewProc("WHvDeleteVirtualProcessor")
	procRunVP            = dll.NewProc("WHvRunVirtualProcessor")
	procCancelVP         = dll.NewProc("WHvCancelRunVirtualProcessor")
	procGetRegisters     = dll.NewProc("WHvGetVirtualProcessorRegisters")
	procSetRegisters     = dll.NewProc("WHvSetVirtualProcessorRegisters")
	procRequestInterrupt = dll.NewProc("WHvRequestInterrupt")
	procCpuidOutput      = dll.NewProc("WHvGetVirtualProcessorCpuidOutput")
	procGetController    = dll.NewProc("WHvGetVirtualProcessorInterruptControllerState2")
	procSetController    = dll.NewProc("WHvSetVirtualProcessorInterruptControllerState2")
	procGetXsave         = dll.NewProc("WHvGetVirtualProcessorXsaveState")
	procSetXsave         = dll.NewProc("WHvSetVirtualProcessorXsaveState")
)

// call makes a call; a function that this Windows lacks is an error.
func call(p *windows.LazyProc, args ...uintptr) error {
	if err := p.Find(); err != nil {
		return err
	}
	hr, _, _ := syscall.SyscallN(p.Addr(), args...)
	return result(hr)
}

func result(hr uintptr) error {
	if int32(hr) < 0 {
		return hresult(uint32(hr))
	}
	return nil
}

// The pointers below are turned into numbers in the arguments of call and
// SyscallN; their memory is kept by its owner, which outlives the call, and does
// not move: it is on the heap, or the callee's alone.

//go:uintptrescapes
func callPtr(p *windows.LazyProc, args ...uintptr) error { return call(p, args...) }

func (windowsHost) GetCapability(code uint32, b []byte) error {
	var written uint32
	return callPtr(procGetCapability, uintptr(code), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), uintptr(unsafe.Pointer(&written)))
}

func (windowsHost) CreatePartition() (partition, error) {
	var p partition
	err := callPtr(procCreatePartition, uintptr(unsafe.Pointer(&p)))
	return p, err
}

func (windowsHost) SetPartitionProperty(p partition, code uint32, b []byte) error {
	return callPtr(procSetProperty, uintptr(p), uintptr(code), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
}

func (windowsHost) SetupPartition(p partition) error  { return call(procSetupPartition, uintptr(p)) }
func (windowsHost) DeletePartition(p partition) error { return call(procDeletePartition, uintptr(p)) }

func (windowsHost) SuspendPartitionTime(p partition) error { return call(procSuspendTime, uintptr(p)) }
func (windowsHost) ResumePartitionTime(p partition) error  { return call(procResumeTime, uintptr(p)) }

func (windowsHost) MapGpaRange(p partition, mem []byte, gpa uint64, flags uint32) error {
	return call(procMapGpaRange, uintptr(p), address(mem), uintptr(gpa), uintptr(len(mem)), uintptr(flags))
}

func (windowsHost) UnmapGpaRange(p partition, gpa, n uint64) error {
	return call(procUnmapGpaRange, uintptr(p), uintptr(gpa), uintptr(n))
}

func (windowsHost) TranslateGva(p partition, vp uint32, gva uint64, flags uint32) (code uint32, gpa uint64, err error) {
	var r [2]uint32 // WHV_TRANSLATE_GVA_RESULT
	err = callPtr(procTranslateGva, uintptr(p), uintptr(vp), uintptr(gva), uintptr(flags), uintptr(unsafe.Pointer(&r)), uintptr(unsafe.Pointer(&gpa)))
	return r[0], gpa, err
}

func (windowsHost) CreateVirtualProcessor(p partition, vp uint32) error {
	return call(procCreateVP, uintptr(p), uintptr(vp), 0)
}

func (windowsHost) DeleteVirtualProcessor(p partition, vp uint32) error {
	return call(procDeleteVP, uintptr(p), uintptr(vp))
}

func (windowsHost) RunVirtualProcessor(p partition, vp uint32, exit *runExit) error {
	return callPtr(procRunVP, uintptr(p), uintptr(vp), uintptr(unsafe.Pointer(exit)), unsafe.Sizeof(*exit))
}

func (windowsHost) CancelRunVirtualProcessor(p partition, vp uint32) error {
	return call(procCancelVP, uintptr(p), uintptr(vp), 0)
}

func (windowsHost) GetVirtualProcessorRegisters(p partition, vp uint32, names []uint32, values []value) error {
	return callPtr(procGetRegisters, uintptr(p), uintptr(vp), uintptr(unsafe.Pointer(unsafe.SliceData(names))), uintptr(len(names)), uintptr(unsafe.Pointer(unsafe.SliceData(values))))
}

func (windowsHost) SetVirtualProcessorRegisters(p partition, vp uint32, names []uint32, values []value) error {
	return callPtr(procSetRegisters, uintptr(p), uintptr(vp), uintptr(unsafe.Pointer(unsafe.SliceData(names))), uintptr(len(names)), uintptr(unsafe.Pointer(unsafe.SliceData(values))))
}

func (windowsHost) RequestInterrupt(p partition, c *interruptControl) error {
	return callPtr(procRequestInterrupt, uintptr(p), uintptr(unsafe.Pointer(c)), unsafe.Sizeof(*c))
}

func (windowsHost) GetVirtualProcessorCpuidOutput(p partition, vp, leaf, sub uint32) (cpuidOutput, error) {
	var o cpuidOutput
	err := callPtr(procCpuidOutput, uintptr(p), uintptr(vp), uintptr(leaf), uintptr(sub), uintptr(unsafe.Pointer(&o)))
	return o, err
}

func (windowsHost) GetVirtualProcessorInterruptControllerState2(p partition, vp uint32, b []byte) (int, error) {
	return getArea(procGetController, p, vp, b)
}

func (windowsHost) SetVirtualProcessorInterruptControllerState2(p partition, vp uint32, b []byte) error {
	return callPtr(procSetController, uintptr(p), uintptr(vp), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
}

func (windowsHost) GetVirtualProcessorXsaveState(p partition, vp uint32, b []byte) (int, error) {
	return getArea(procGetXsave, p, vp, b)
}

func (windowsHost) SetVirtualProcessorXsaveState(p partition, vp uint32, b []byte) error {
	return callPtr(procSetXsave, uintptr(p), uintptr(vp), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
}

func getArea(proc *windows.LazyProc, p partition, vp uint32, b []byte) (int, error) {
	var n uint32
	err := callPtr(proc, uintptr(p), uintptr(vp), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), uintptr(unsafe.Pointer(&n)))
	return int(n), err
}

// Alloc commits its memory: Windows promises all of it at once, in its paging
// file if need be, and takes pages when they are touched.
func (windowsHost) Alloc(size, align uint64) ([]byte, func() error, error) {
	base, err := windows.VirtualAlloc(0, uintptr(size+align), windows.MEM_RESERVE, windows.PAGE_NOACCESS)
	if err != nil {
		return nil, nil, fmt.Errorf("VirtualAlloc: %w", err)
	}
	free := func() error { return windows.VirtualFree(base, 0, windows.MEM_RELEASE) }
	at, err := windows.VirtualAlloc((base+uintptr(align)-1)&^(uintptr(align)-1), uintptr(size), windows.MEM_COMMIT, windows.PAGE_READWRITE)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("VirtualAlloc: %w", err), free())
	}
	return unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(nil), at)), size), free, nil
}

func (windowsHost) Renew(mem []byte) error {
	at, n := address(mem), uintptr(len(mem))
	if err := windows.VirtualFree(at, n, windows.MEM_DECOMMIT); err != nil {
		return fmt.Errorf("VirtualFree: %w", err)
	}
	if _, err := windows.VirtualAlloc(at, n, windows.MEM_COMMIT, windows.PAGE_READWRITE); err != nil {
		return fmt.Errorf("VirtualAlloc: %w", err)
	}
	return nil
}

func (windowsHost) CPUID(leaf, sub uint32) (o cpuidOutput) {
	o.eax, o.ebx, o.ecx, o.edx = cpuid(leaf, sub)
	return o
}

func (windowsHost) RDTSC() uint64 { return rdtsc() }
