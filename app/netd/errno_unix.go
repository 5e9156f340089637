//go:build unix

package netd

import "syscall"

const (
	errInUse     = syscall.EADDRINUSE
	errAccess    = syscall.EACCES
	errNoAddress = syscall.EADDRNOTAVAIL
)
