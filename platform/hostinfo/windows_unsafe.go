//go:build windows

package hostinfo

import (
	"fmt"
	"structs"
	"unsafe"

	"golang.org/x/sys/windows"
)

var (
	kernel32                      = windows.NewLazySystemDLL("kernel32.dll")
	procGlobalMemoryStatusEx      = kernel32.NewProc("GlobalMemoryStatusEx")
	procIsProcessorFeaturePresent = kernel32.NewProc("IsProcessorFeaturePresent")
)

// memoryStatus is MEMORYSTATUSEX, sysinfoapi.h.
type memoryStatus struct {
	_                    structs.HostLayout
	length, load         uint32
	totalPhys, availPhys uint64
	_                    [5]uint64
}

// Memory tells how many bytes of RAM there are, and how many of them could be
// used without swapping.
func Memory() (total, free uint64, err error) {
	m := memoryStatus{length: uint32(unsafe.Sizeof(memoryStatus{}))}
	if r, _, err := procGlobalMemoryStatusEx.Call(uintptr(unsafe.Pointer(&m))); r == 0 {
		return 0, 0, fmt.Errorf("ask for the memory (GlobalMemoryStatusEx): %w", err)
	}
	return m.totalPhys, m.availPhys, nil
}

// firmwareVirtualization asks for PF_VIRT_FIRMWARE_ENABLED, winnt.h.
func firmwareVirtualization() bool {
	const PF_VIRT_FIRMWARE_ENABLED = 21
	r, _, _ := procIsProcessorFeaturePresent.Call(PF_VIRT_FIRMWARE_ENABLED)
	return r != 0
}
