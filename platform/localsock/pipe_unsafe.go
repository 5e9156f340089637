//go:build windows

package localsock

import (
	"errors"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

// Calls that x/sys/windows does not have.
var (
	procImpersonateNamedPipeClient = windows.NewLazySystemDLL("advapi32.dll").NewProc("ImpersonateNamedPipeClient")
	procWaitNamedPipe              = windows.NewLazySystemDLL("kernel32.dll").NewProc("WaitNamedPipeW")
)

func securityAttributes(sd *windows.SECURITY_DESCRIPTOR) *windows.SecurityAttributes {
	sa := &windows.SecurityAttributes{SecurityDescriptor: sd}
	sa.Length = uint32(unsafe.Sizeof(*sa))
	return sa
}

func impersonateClient(h windows.Handle) error {
	if r, _, err := procImpersonateNamedPipeClient.Call(uintptr(h)); r == 0 {
		return err
	}
	return nil
}

// pipeExists reports whether somebody serves the name, without connecting.
func pipeExists(name *uint16) bool {
	const atOnce = 1 // millisecond; 0 would be the server's default
	r, _, err := procWaitNamedPipe.Call(uintptr(unsafe.Pointer(name)), atOnce)
	return r != 0 || !errors.Is(err, windows.ERROR_FILE_NOT_FOUND)
}

// waitNamedPipe returns when an instance is free or the time is over; the
// caller finds out by trying again.
func waitNamedPipe(name *uint16, d time.Duration) {
	procWaitNamedPipe.Call(uintptr(unsafe.Pointer(name)), uintptr(d.Milliseconds()))
}
