package hvtest

import "unsafe"

// fakeWord is the aligned word at the start of mem.
func fakeWord(mem []byte) *uint32 { return (*uint32)(unsafe.Pointer(unsafe.SliceData(mem[:4]))) }
