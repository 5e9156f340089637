package native

import (
	"fmt"

	"github.com/hxen-project/hxen/hv/accel"
	"github.com/hxen-project/hxen/hv/guestmem"
	"github.com/hxen-project/hxen/hv/xenabi"
)

// A guest's physical addresses, all of them. RAM begins at 0, leaves out what
// lies from lowEnd to highStart, and goes on behind.
const (
	// What the kernel is started with, and what of it the start info points to; it
	// ends in the first page if the command line is short.
	modlistOff = 0x40
	memmapOff  = 0x80
	cmdlineOff = 0x100
	bootSize   = cmdlineOff + maxCmdline + 1

	// It lies behind the kernel and its ramdisk, where Xen's tools have it, too:
	// NetBSD takes the start info for the end of what it was loaded with. Where that
	// is past the first GiB, of which Linux has page tables then, or past the
	// guest's memory, it lies here.
	bootLow = 0x90000
	bootMax = 1 << 30

	lowEnd = 0xf0000000

	// Memory of the hypervisor's own: tables, and pages that HVM parameters name.
	specialAt   = 0xfc000000
	acpiAt      = specialAt
	acpiSize    = 0x10000
	storeAt     = specialAt + 0x20000
	consoleAt   = specialAt + 0x21000
	genIDAt     = specialAt + 0x22000
	specialSize = 0x40000

	highStart = 1 << 32

	// maxCmdline fits into a page with its end; Linux itself takes less.
	maxCmdline      = 4095
	maxLinuxCmdline = 2047
)

// A guest's ports.
const (
	portPIT          = 0x42 // counter 2 of the 8254
	portSleepControl = 0x600
	portSleepStatus  = 0x601
	portReset        = 0x602
	resetValue       = 1
)

// layout is where one guest's RAM lies.
type layout struct{ low, high uint64 } // bytes from 0, and from highStart

func newLayout(memory uint64) (layout, error) {
	if memory < 1<<20 || memory%guestmem.PageSize != 0 {
		return layout{}, fmt.Errorf("a guest with %d bytes of memory cannot be: it takes at least 1 MiB, in whole pages of 4 KiB", memory)
	}
	low := min(memory, lowEnd)
	return layout{low, memory - low}, nil
}

// e820 is the map that the guest is told.
func (l layout) e820() []xenabi.MemmapEntry {
	m := []xenabi.MemmapEntry{
		{Addr: 0, Size: l.low, Type: xenabi.XEN_HVM_MEMMAP_TYPE_RAM},
		{Addr: acpiAt, Size: acpiSize, Type: xenabi.XEN_HVM_MEMMAP_TYPE_ACPI},
		{Addr: acpiAt + acpiSize, Size: specialSize - acpiSize, Type: xenabi.XEN_HVM_MEMMAP_TYPE_RESERVED},
	}
	if l.high > 0 {
		m = append(m, xenabi.MemmapEntry{Addr: highStart, Size: l.high, Type: xenabi.XEN_HVM_MEMMAP_TYPE_RAM})
	}
	return m
}

// offset is where in the RAM n bytes at gpa lie.
func (l layout) offset(gpa, n uint64) (off uint64, ok bool) {
	switch {
	case gpa <= l.low && n <= l.low-gpa:
		return gpa, true
	case gpa >= highStart && gpa-highStart <= l.high && n <= l.high-(gpa-highStart):
		return l.low + gpa - highStart, true
	}
	return 0, false
}

// slots are the ranges that have memory from the start.
func (l layout) slots() []guestmem.Range {
	s := []guestmem.Range{{GPA: 0, N: l.low}, {GPA: specialAt, N: specialSize}}
	if l.high > 0 {
		s = append(s, guestmem.Range{GPA: highStart, N: l.high})
	}
	return s
}

// reserved never gets memory on the guest's demand: the APICs, pages that the
// host's hypervisor keeps there, and what firmware has at the end of 4 GiB.
func reserved() guestmem.Range {
	return guestmem.Range{GPA: specialAt + specialSize, N: highStart - specialAt - specialSize}
}

// holes are the parts of n bytes at gpa that are neither in slots nor reserved.
func (l layout) holes(gpa, n uint64) (out []guestmem.Range) {
	taken := []guestmem.Range{{GPA: 0, N: l.low}, {GPA: specialAt, N: specialSize}, reserved(), {GPA: highStart, N: l.high}}
	end := gpa + n
	for _, t := range taken { // by address
		if t.N == 0 || t.GPA+t.N <= gpa || t.GPA >= end {
			continue
		}
		if t.GPA > gpa {
			out = append(out, guestmem.Range{GPA: gpa, N: t.GPA - gpa})
		}
		gpa = min(end, t.GPA+t.N)
	}
	if gpa < end {
		out = append(out, guestmem.Range{GPA: gpa, N: end - gpa})
	}
	return out
}

// physicalLimit is the end of what the processor can address (SDM 2A, CPUID
// leaf 0x80000008); without the leaf it has 36 bits.
func physicalLimit(ids []accel.CPUID) uint64 {
	for _, l := range ids {
		if bits := l.EAX & 0xff; l.Leaf == 0x80000008 && bits >= 36 && bits <= 52 {
			return 1 << bits
		}
	}
	return 1 << 36
}

// rest is how much RAM there is from gpa on, without a gap.
func (l layout) rest(gpa uint64) uint64 {
	switch {
	case gpa < l.low:
		return l.low - gpa
	case gpa >= highStart && gpa-highStart < l.high:
		return highStart + l.high - gpa
	}
	return 0
}
