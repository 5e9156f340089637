//go:build linux && amd64

package kvm

import (
	"fmt"
	"os"
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
func ioctlPtr[T any](fd int, request uintptr, v *T) (int, error) {
	r, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(unsafe.Pointer(v)))
	if errno != 0 {
		return -1, errno
	}
	return int(r), nil
}

// ioctlBytes hands the kernel b, which must be as long as request takes.
func ioctlBytes(fd int, request uintptr, b []byte) error {
	_, err := ioctlPtr(fd, request, unsafe.SliceData(b))
	return err
}

// run enters the guest; 0, or the errno of KVM_RUN.
func run(fd int) unix.Errno {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), KVM_RUN, 0)
	return errno
}

// tscOffsetAttr names the offset as device attribute: v is read or written.
func tscOffsetAttr(fd int, request uintptr, v *uint64) error {
	_, err := ioctlPtr(fd, request, &deviceAttr{
		group: KVM_VCPU_TSC_CTRL, attr: KVM_VCPU_TSC_OFFSET, addr: uint64(uintptr(unsafe.Pointer(v)))})
	return err
}

// address is where mapped memory lies; the garbage collector does not move it.
func address(b []byte) uint64 { return uint64(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) }

// mapRun maps a processor's struct kvm_run and what follows it.
func mapRun(fd, size int) (*runArea, []byte, error) {
	area, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, nil, fmt.Errorf("map the processor: %w", err)
	}
	if len(area) < int(unsafe.Sizeof(runArea{})) {
		return nil, nil, fmt.Errorf("the processor's page has %d bytes", len(area))
	}
	return (*runArea)(unsafe.Pointer(unsafe.SliceData(area))), area, nil
}

func (r *runArea) io() *exitIO               { return (*exitIO)(unsafe.Pointer(&r.exit)) }
func (r *runArea) mmio() *exitMMIO           { return (*exitMMIO)(unsafe.Pointer(&r.exit)) }
func (r *runArea) msr() *exitMSR             { return (*exitMSR)(unsafe.Pointer(&r.exit)) }
func (r *runArea) xen() *exitXen             { return (*exitXen)(unsafe.Pointer(&r.exit)) }
func (r *runArea) internal() *exitInternal   { return (*exitInternal)(unsafe.Pointer(&r.exit)) }
func (r *runArea) failEntry() *exitFailEntry { return (*exitFailEntry)(unsafe.Pointer(&r.exit)) }

// mapFixed replaces the pages of b: by the file's from off, or by fresh zeros if
// f is nil.
func mapFixed(b []byte, f *os.File, off int64) error {
	fd, flags := -1, unix.MAP_PRIVATE|unix.MAP_FIXED|unix.MAP_NORESERVE
	if f != nil {
		fd = int(f.Fd())
	} else {
		flags |= unix.MAP_ANON
	}
	_, err := unix.MmapPtr(fd, off, unsafe.Pointer(unsafe.SliceData(b)), uintptr(len(b)), unix.PROT_READ|unix.PROT_WRITE, flags)
	return err
}

// bytesOf is the memory of a kernel structure.
func bytesOf[T any](v *T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(v)), unsafe.Sizeof(*v))
}
