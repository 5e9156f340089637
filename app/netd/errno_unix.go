//go:build unix

package netd

import "syscall"

const (
	errInUse     = syscall.EADDRINUSE
	errAccess    = syscall.EACCES
	errNoAddress = syscall.EADDRNOTAVAIL
)

// noAccess is what errAccess means for a port.
const noAccess = " is reserved for the administrator: forward a port of 1024 or above"
