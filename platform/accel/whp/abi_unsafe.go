package whp

import "unsafe"

func (e *runExit) memory() *exitMemory         { return (*exitMemory)(unsafe.Pointer(&e.union)) }
func (e *runExit) io() *exitIO                 { return (*exitIO)(unsafe.Pointer(&e.union)) }
func (e *runExit) msr() *exitMSRAccess         { return (*exitMSRAccess)(unsafe.Pointer(&e.union)) }
func (e *runExit) cpuid() *exitCPUIDAccess     { return (*exitCPUIDAccess)(unsafe.Pointer(&e.union)) }
func (e *runExit) exception() *exitVPException { return (*exitVPException)(unsafe.Pointer(&e.union)) }

// address is where memory of a host lies; the garbage collector does not move it.
func address(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }
