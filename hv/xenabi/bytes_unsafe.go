package xenabi

import "unsafe"

// Bytes is the memory of one of this package's structures, as it lies in a
// guest's memory too: hosts are little endian and every structure has the
// ABI's layout with its padding written out. T holds no pointers.
func Bytes[T any](p *T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(p)), unsafe.Sizeof(*p))
}
