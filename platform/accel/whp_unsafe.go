//go:build windows

package accel

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/windows"
)

// WHvCapabilityCodeHypervisorPresent, WinHvPlatformDefs.h.
const WHvCapabilityCodeHypervisorPresent = 0

var errNoPlatform = errors.New("winhvplatform.dll is missing")

var procWHvGetCapability = windows.NewLazySystemDLL("winhvplatform.dll").NewProc("WHvGetCapability")

// hypervisorPresent calls WHvGetCapability, WinHvPlatform.h.
func hypervisorPresent() (bool, error) {
	if err := procWHvGetCapability.Find(); err != nil {
		return false, fmt.Errorf("%w: %w", errNoPlatform, err)
	}
	var present, written uint32 // BOOL, UINT32
	hr, _, _ := procWHvGetCapability.Call(WHvCapabilityCodeHypervisorPresent,
		uintptr(unsafe.Pointer(&present)), unsafe.Sizeof(present), uintptr(unsafe.Pointer(&written)))
	if int32(hr) < 0 {
		return false, fmt.Errorf("WHvGetCapability: HRESULT %#08x", uint32(hr))
	}
	return present != 0, nil
}
