package netd

import "syscall"

// Winsock's error codes (winsock2.h); package syscall's names are other numbers.
const (
	errInUse     = syscall.Errno(10048) // WSAEADDRINUSE
	errAccess    = syscall.Errno(10013) // WSAEACCES
	errNoAddress = syscall.Errno(10049) // WSAEADDRNOTAVAIL
)

// noAccess is what errAccess means for a port. Windows asks no rights for low ones: it
// keeps ranges for itself (netsh interface ipv4 show excludedportrange tcp), and a
// program may share its port with nobody.
const noAccess = " is kept by Windows or by another program: forward another port"
