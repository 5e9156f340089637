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
	_, availPageFile     uint64 // memory and page files together
	_                    [3]uint64
}

// Memory tells how many bytes of RAM there are, and how many of them could be
// used without swapping.
func Memory() (total, free uint64, err error) {
	m, err := readMemory()
	return m.totalPhys, m.availPhys, err
}

// MemoryShort reports whether programs will soon get no memory any more, also not
// in a page file.
func MemoryShort() (short bool, free uint64, err error) {
	m, err := readMemory()
	return err == nil && m.availPageFile < shortOf(m.totalPhys), m.availPageFile, err
}

func readMemory() (memoryStatus, error) {
	m := memoryStatus{length: uint32(unsafe.Sizeof(memoryStatus{}))}
	if r, _, err := procGlobalMemoryStatusEx.Call(uintptr(unsafe.Pointer(&m))); r == 0 {
		return m, fmt.Errorf("ask for the memory (GlobalMemoryStatusEx): %w", err)
	}
	return m, nil
}

// firmwareVirtualization asks for PF_VIRT_FIRMWARE_ENABLED, winnt.h.
func firmwareVirtualization() bool {
	const PF_VIRT_FIRMWARE_ENABLED = 21
	r, _, _ := procIsProcessorFeaturePresent.Call(PF_VIRT_FIRMWARE_ENABLED)
	return r != 0
}
