package selftest

import (
	_ "embed"
	"encoding/binary"

	"github.com/hxen-project/hxen/hv/accel"
)

// code is testdata/guest.s, assembled; its head says how.
//
//go:embed testdata/guest.bin
var code []byte

// The entries of guest.s, in its order.
const (
	EntryPIO = iota
	EntryString
	EntryCPUID
	EntryMSR
	EntryGP
	EntryHalt
	EntrySpin
	EntryCall64
	EntryCall32
	EntryLAPIC
	EntryEOI
	EntryCallback
	EntryNoEOI
	EntryClosed
	EntryMapped
	EntryUnbacked
	EntryTriple
	EntrySMP
	EntryStarted
	EntryTSC
	EntryWild
	EntryEFER
	EntryCount
	entries
)

// The guest's memory.
const (
	memSize   = 4 << 20
	gdtAt     = 0x1000
	idtAt     = 0x2000
	pml4At    = 0x3000
	pdptAt    = 0x4000
	pdAt      = 0x5000 // four pages, for 4 GiB
	callsAt   = 0x9000 // as XEN-ABI 6.3 has it
	startedAt = 0xa000
	countAt   = 0xb000
	stackAt   = 0xf000 // downwards
	codeAt    = 0x10000
	dataAt    = 0x20000
	holeAt    = 0x40000000
)

const (
	portIO   = 0x1234
	portTell = 0x98
	portDone = 0x99

	vectorGP    = 13
	vectorEvent = 0xf3
)

var le = binary.LittleEndian

// Entry is the guest-physical address where an entry begins.
func Entry(n int) uint64 { return codeAt + le.Uint64(code[n*8:]) }

// load fills the guest's memory: tables, hypercall page and code.
func load(mem []byte, caps accel.Caps) {
	// Flat descriptors, SDM 3A 3.4.5.
	for i, d := range []uint64{0, 0x00af9b000000ffff, 0x00cf93000000ffff, 0x00cf9b000000ffff} {
		le.PutUint64(mem[gdtAt+8*i:], d)
	}
	gate(mem, vectorGP, EntryGP)
	// Page tables, SDM 3A 4.5: 4 GiB one to one in pages of 2 MiB.
	le.PutUint64(mem[pml4At:], pdptAt|3)
	for i := range uint64(4) {
		le.PutUint64(mem[pdptAt+8*i:], pdAt+i<<12|3)
		for j := range uint64(512) {
			le.PutUint64(mem[pdAt+i<<12+8*j:], i<<30|j<<21|1<<7|3)
		}
	}
	for n := range uint32(128) {
		stub := mem[callsAt+32*n : callsAt+32*n+32]
		stub[0] = 0xb8 // mov $n,%eax
		le.PutUint32(stub[1:], n)
		copy(stub[5:], caps.Call[:])
		stub[8] = 0xc3 // ret
	}
	copy(mem[codeAt:], code)
	copy(mem[startedAt:], code[Entry(EntryStarted)-codeAt:])
}

// gate has vector n begin at entry: a 64-bit interrupt gate, SDM 3A 6.14.1.
func gate(mem []byte, n, entry int) {
	at := Entry(entry)
	g := mem[idtAt+16*n:]
	le.PutUint64(g, at&0xffff|8<<16|0x8e00<<32|at>>16&0xffff<<48)
	le.PutUint64(g[8:], at>>32)
}

const (
	attrData   = 0xc093
	attrCode32 = 0xc09b
	attrCode64 = 0xa09b
	attrTSS    = 0x008b
)

// longMode is a processor in 64-bit mode, interrupts off.
func longMode(rip uint64) accel.Regs {
	data := accel.Segment{Limit: 0xffffffff, Selector: 16, Attr: attrData}
	return accel.Regs{
		RIP: rip, RSP: stackAt, RFLAGS: 2,
		CS: accel.Segment{Limit: 0xffffffff, Selector: 8, Attr: attrCode64},
		DS: data, ES: data, FS: data, GS: data, SS: data,
		TR:  accel.Segment{Limit: 0x67, Attr: attrTSS},
		GDT: accel.Table{Base: gdtAt, Limit: 4*8 - 1}, IDT: accel.Table{Base: idtAt, Limit: 256*16 - 1},
		CR0:  0x80010033, // PG, WP, NE, ET, MP, PE
		CR3:  pml4At,
		CR4:  0x620, // PAE, OSFXSR, OSXMMEXCPT
		EFER: 0x500, // LMA, LME
	}
}

// flat32 is a processor as PVH starts it (XEN-ABI 3): protected mode, no paging.
func flat32(rip uint64) accel.Regs {
	r := longMode(rip)
	r.CS = accel.Segment{Limit: 0xffffffff, Selector: 24, Attr: attrCode32}
	r.CR0, r.CR3, r.CR4, r.EFER = 0x11, 0, 0, 0
	return r
}

// leaves are what the hypervisor can show, with leaves of our own that differ by
// processor, where Xen's are.
func leaves(caps accel.Caps, id int) []accel.CPUID {
	var out []accel.CPUID
	for _, e := range caps.CPUID {
		switch {
		case e.Leaf>>16 == 0x4000:
			continue
		case e.Leaf == 1:
			e.EBX = e.EBX&0x00ffffff | uint32(id)<<24
		case e.Leaf == 0xb || e.Leaf == 0x1f:
			e.EDX = uint32(id)
		}
		out = append(out, e)
	}
	return append(out,
		accel.CPUID{Leaf: 0x40000000, EAX: 0x40000001, EBX: 0x566e6558, ECX: 0x65584d4d, EDX: 0x4d4d566e},
		accel.CPUID{Leaf: 0x40000001, Indexed: true, EAX: 0x1000 + uint32(id), EBX: 2, ECX: 3, EDX: 4},
		accel.CPUID{Leaf: 0x40000001, Sub: 1, Indexed: true, EAX: 0x2000 + uint32(id)})
}
