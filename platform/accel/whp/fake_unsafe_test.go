package whp

import "unsafe"

// values2bytes is the memory of register values.
func values2bytes(v []value) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(v))), len(v)*16)
}
