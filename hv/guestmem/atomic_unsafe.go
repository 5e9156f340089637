package guestmem

import (
	"sync/atomic"
	"unsafe"
)

// The functions here take slices that hold the word and start at a multiple
// of its size: slots are page aligned (aligned, checked by Add) and Page.word
// checked the offset. Hosts and guests are both little endian.

func aligned(mem []byte, to uintptr) bool {
	return len(mem) > 0 && uintptr(unsafe.Pointer(&mem[0]))&(to-1) == 0
}

func load32(mem []byte) uint32     { return atomic.LoadUint32((*uint32)(unsafe.Pointer(&mem[0]))) }
func store32(mem []byte, v uint32) { atomic.StoreUint32((*uint32)(unsafe.Pointer(&mem[0])), v) }
func load64(mem []byte) uint64     { return atomic.LoadUint64((*uint64)(unsafe.Pointer(&mem[0]))) }
func store64(mem []byte, v uint64) { atomic.StoreUint64((*uint64)(unsafe.Pointer(&mem[0])), v) }

func or64(mem []byte, bits uint64) uint64 {
	return atomic.OrUint64((*uint64)(unsafe.Pointer(&mem[0])), bits)
}

func and64(mem []byte, bits uint64) uint64 {
	return atomic.AndUint64((*uint64)(unsafe.Pointer(&mem[0])), bits)
}

func cas32(mem []byte, old, next uint32) bool {
	return atomic.CompareAndSwapUint32((*uint32)(unsafe.Pointer(&mem[0])), old, next)
}
