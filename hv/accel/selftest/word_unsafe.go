package selftest

import "unsafe"

// word is the aligned word at the start of b, which guest and host share.
func word(b []byte) *uint32 { return (*uint32)(unsafe.Pointer(unsafe.SliceData(b[:4]))) }
