package netd

import "syscall"

// Winsock's error codes (winsock2.h); package syscall's names are other numbers.
const (
	errInUse     = syscall.Errno(10048) // WSAEADDRINUSE
	errAccess    = syscall.Errno(10013) // WSAEACCES
	errNoAddress = syscall.Errno(10049) // WSAEADDRNOTAVAIL
)
