//go:build linux && amd64

package accel

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

func ioctl(fd int, request, arg uintptr) (int, error) {
	r, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, arg)
	if errno != 0 {
		return -1, errno
	}
	return int(r), nil
}

// ioctlPtr hands the kernel a pointer to v, which must be what request takes.
func ioctlPtr[T any](fd int, request uintptr, v *T) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(unsafe.Pointer(v)))
	if errno != 0 {
		return errno
	}
	return nil
}

// address is where mapped memory lies; the garbage collector does not move it.
func address(b []byte) uint64 { return uint64(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) }

// readRunArea copies the start of struct kvm_run; area is at least a page.
func readRunArea(area []byte) runArea {
	return *(*runArea)(unsafe.Pointer(unsafe.SliceData(area)))
}
