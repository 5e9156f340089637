//go:build windows

package hostsvc

import (
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

// preshutdownInfo is SERVICE_PRESHUTDOWN_INFO, winsvc.h.
type preshutdownInfo struct{ Timeout uint32 } // milliseconds

// setPreshutdown says how long the service may take when the computer stops.
func setPreshutdown(service windows.Handle, d time.Duration) error {
	info := preshutdownInfo{uint32(d.Milliseconds())}
	return windows.ChangeServiceConfig2(service, windows.SERVICE_CONFIG_PRESHUTDOWN_INFO, (*byte)(unsafe.Pointer(&info)))
}
