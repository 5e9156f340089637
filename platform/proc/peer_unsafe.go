//go:build windows

package proc

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/windows"
)

var procGetExtendedTcpTable = windows.NewLazySystemDLL("iphlpapi.dll").NewProc("GetExtendedTcpTable")

// tcpTable is the system's table of IPv4 connections with the processes that have
// them, as MIB_TCPTABLE_OWNER_PID (tcpmib.h).
func tcpTable() ([]byte, error) {
	const (
		afInet         = 2
		withPID        = 4 // TCP_TABLE_OWNER_PID_CONNECTIONS
		enough, limits = 32 << 10, 64 << 20
	)
	for size := uint32(enough); size < limits; {
		b := make([]byte, size)
		r, _, _ := procGetExtendedTcpTable.Call(uintptr(unsafe.Pointer(&b[0])), uintptr(unsafe.Pointer(&size)), 0, afInet, withPID, 0)
		switch e := windows.Errno(r); e {
		case windows.NO_ERROR:
			return b, nil
		case windows.ERROR_INSUFFICIENT_BUFFER:
			size += enough // it grows while it is asked for
		default:
			return nil, fmt.Errorf("GetExtendedTcpTable: %w", e)
		}
	}
	return nil, fmt.Errorf("GetExtendedTcpTable: %w", windows.ERROR_INSUFFICIENT_BUFFER)
}
