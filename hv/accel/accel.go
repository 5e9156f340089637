// Package accel is the port from the native engine to the host's hypervisor:
// memory, processors and their exits. It holds types and contracts only; KVM,
// Windows Hypervisor Platform and Hypervisor.framework stand behind it in
// platform/accel. It knows nothing of Xen's hypercalls, of devices or of any
// system.
//
// The order of life: Open a Hypervisor, NewRAM, NewVM, Map, then one OS thread
// per processor, which calls NewVCPU and keeps that VCPU for itself. Data leaves
// the guest through the Handler's callbacks inside VCPU.Run; only control comes
// out of Run, so that one run loop serves every host.
package accel

import (
	"errors"
	"os"
)

// ErrGuest is wrapped by the errors of VCPU.Run that the guest brought upon
// itself: code in memory that is not there, an instruction that cannot be
// emulated. It ends the guest as a crash; it is no fault of the host.
var ErrGuest = errors.New("the guest did what no machine can go on from")

// Hypervisor makes machines. Its methods are safe for concurrent use.
type Hypervisor interface {
	// Name is the accelerator's name as QEMU has it: kvm, whpx, hvf.
	Name() string
	NewRAM(RAMConfig) (RAM, error)
	NewVM(Config) (VM, error)
	// Close comes after everything that was made has been closed.
	Close() error
}

// RAMConfig describes memory to be made.
type RAMConfig struct {
	Size uint64 // bytes, a multiple of 4096
	// File, if not nil, gives the first content, from Offset (a multiple of 4096)
	// to its end or to Size; the rest is zero. It is mapped privately: nothing is
	// written to it. It may be closed afterwards and must not be truncated.
	File   *os.File
	Offset int64
	// Sparse says that few of its pages will be touched: it gets no huge ones.
	Sparse bool
}

// RAM is memory for guests, zero at first, page by page taken from the host when
// it is touched. It begins at a 2 MiB boundary, and huge pages are asked for.
type RAM interface {
	// Bytes is the memory itself. A guest may change it at any time.
	Bytes() []byte
	// Discard gives whole pages back to the host; they read as zero afterwards.
	// A guest may run meanwhile.
	Discard(off, n uint64) error
	// Close frees the memory. No VM may have it mapped, and Bytes is void.
	Close() error
}

// Config describes a machine to be made.
type Config struct {
	VCPUs int    // the most processors it will have, 1 to 254
	TSCHz uint64 // frequency of the guest's time-stamp counter; 0: the host's
	// Patched asks for Caps.Patched also where hypercalls would be trapped: a guest
	// that was saved elsewhere has been patched. Caps tells what has come of it.
	Patched bool
	// MSRs are the model-specific registers whose reads and writes go to
	// Handler.MSR; the others are the hypervisor's own affair.
	MSRs []uint32
}

// Caps is what a machine can do, fixed for its life.
type Caps struct {
	// CPUID is what the hypervisor and the processor can show to a guest: the
	// base from which the leaves for NewVCPU are made.
	CPUID []CPUID
	// TSCHz is the frequency of the guest's time-stamp counter.
	TSCHz uint64
	// LAPIC says that the host has a local APIC for every processor, ids being
	// those of NewVCPU: HLT waits inside Run, INIT and SIPI start processors, and
	// Raise with eoi delivers through it.
	LAPIC bool
	// EOIExits says that the guest leaves Run's guest code to end an interrupt of its
	// LAPIC: Raise without eoi then costs it less.
	EOIExits bool
	// Call is the one instruction that reaches Handler.Hypercall, for hypercall
	// pages: vmcall or vmmcall, or "out %eax,$Port; nop".
	Call [3]byte
	// Patched says that vmcall and vmmcall do not reach Handler.Hypercall: they
	// must be replaced by Call in the guest's memory. Handler.LongMode tells when
	// new code may have appeared.
	Patched bool
	// Port is the 8-bit port of Call when Patched.
	Port uint8
}

// VM is a machine: a guest-physical address space and its processors. Its
// methods are safe for concurrent use, also inside Handler.
type VM interface {
	Caps() Caps
	// Map puts n bytes of r from off at the guest-physical address gpa, also while
	// processors run. gpa, off and n are multiples of 4096; what is mapped already
	// is not mapped over.
	Map(gpa uint64, r RAM, off, n uint64) error
	// Unmap takes away what one Map put there: the same gpa and n. When it has
	// returned, no processor sees the memory any more.
	Unmap(gpa, n uint64) error
	// NewVCPU makes processor id (0 to VCPUs-1, also its APIC id), on the thread
	// that will run it. cpuid is all that it will see. Processor 0 starts where
	// SetRegs says; with a LAPIC the others wait for INIT and SIPI.
	NewVCPU(id int, cpuid []CPUID) (VCPU, error)
	// NewTimer makes a timer for f, as exact as the system has them.
	NewTimer(f func()) Timer
	// NewBell makes a bell for f, for the threads of processors to ring.
	NewBell(f func()) Bell
	// Close ends the machine. Its processors are closed before.
	Close() error
}

// VCPU is one processor. It belongs to the OS thread that made it (a goroutine
// locked by runtime.LockOSThread), except for Kick, Raise and TSC, which may be
// called from anywhere; after Close, Kick does nothing.
type VCPU interface {
	// Regs and SetRegs read and write the registers, between Runs and inside
	// Handler. Inside Handler.PIO and Handler.Hypercall, RIP may still be at the
	// instruction that is being served, or past it; leave RIP alone there, and RAX
	// where the callback gives the result.
	Regs() (Regs, error)
	SetRegs(Regs) error
	// Run runs guest code until something has to be decided outside. Interrupted
	// may come without a Kick. When Run has returned, what the guest was doing is
	// complete: State tells the whole processor.
	Run(Handler) (Exit, error)
	// Kick makes Run return Interrupted soon. It is sticky: a Kick while Run is not
	// running ends the next Run before or soon after its first instruction; one
	// Run uses up all Kicks before its return. What was made visible before Kick is
	// therefore seen after that return.
	Kick()
	// Raise interrupts the guest. With eoi it is an edge of a fixed interrupt at
	// the processor's LAPIC, which the guest ends by EOI; while the guest has its
	// LAPIC switched off it is lost. Without eoi it is Xen's domain-wide callback:
	// the vector is injected past the LAPIC when the guest next takes interrupts,
	// and there is no EOI. Vectors that the guest has not taken yet do not add up.
	Raise(vector uint8, eoi bool) error
	// TSC is the guest's time-stamp counter now. It is cheap (no system call), and
	// the only clock for the guest's timers.
	TSC() uint64
	// ShiftTSC has the guest's TSC jump ahead by ticks; all processors are shifted
	// alike, while they stand still. After the host has slept TSC may be wrong until
	// this was called, with 0 ticks at least.
	ShiftTSC(ticks uint64) error
	// State and SetState carry the processor, its LAPIC and its TSC, into another
	// process or host of the same kind. All processors stand still meanwhile. The
	// guest's TSC goes on from where it was at State; processor 0 is set first. A
	// callback that the guest has not taken is not in it: raise it again.
	State() (State, error)
	SetState(State) error
	Close() error
}

// Handler serves the guest. Its methods are called on the processor's thread
// inside Run; they may lock, and must not wait for the guest or for Run.
type Handler interface {
	// PIO serves one access of 1, 2 or 4 bytes: data is what the guest writes, or
	// what it shall read. Repeated string instructions come element by element.
	PIO(port uint16, data []byte, write bool)
	// Hypercall fills in Result. With park, Run then returns Parked.
	Hypercall(*Hypercall) (park bool)
	// MSR serves an access to one of Config.MSRs; false raises #GP in the guest.
	MSR(index uint32, v *uint64, write bool) bool
	// LongMode is called when Patched, after the guest has written EFER: a kernel
	// does so before its first hypercall.
	LongMode()
}

// Hypercall is one call as the guest made it, in registers.
type Hypercall struct {
	Number uint64
	Args   [5]uint64 // RDI RSI RDX R10 R8, or EBX ECX EDX ESI EDI
	Long   bool      // the caller runs 64-bit code
	CPL    uint8     // its privilege level, 0 for kernels
	Result uint64    // for RAX or EAX
}

// Exit is why Run returned.
type Exit uint8

const (
	Interrupted Exit = iota // by Kick, or for no reason
	Parked                  // Handler.Hypercall asked for it
	Halted                  // HLT; only without a LAPIC in the host
	Shutdown                // the processor gave up: a triple fault
)

func (e Exit) String() string {
	switch e {
	case Interrupted:
		return "interrupted"
	case Parked:
		return "parked"
	case Halted:
		return "halted"
	case Shutdown:
		return "shutdown"
	}
	return "unknown exit"
}

// CPUID is one leaf. Sub counts only where Indexed.
type CPUID struct {
	Leaf, Sub          uint32
	Indexed            bool
	EAX, EBX, ECX, EDX uint32
}

// Regs are the registers of an x86-64 processor that kernels are started with
// and page tables are walked by.
type Regs struct {
	RAX, RBX, RCX, RDX, RSI, RDI, RSP, RBP uint64
	R8, R9, R10, R11, R12, R13, R14, R15   uint64
	RIP, RFLAGS                            uint64
	CS, DS, ES, FS, GS, SS, TR, LDT        Segment
	GDT, IDT                               Table
	CR0, CR2, CR3, CR4, EFER               uint64
}

// Segment is a segment register with its hidden part. Attr are the access rights
// as in a descriptor (SDM 3A 3.4.5): type 3:0, S 4, DPL 6:5, present 7, AVL 12,
// L 13, D/B 14, G 15. Not present is unusable.
type Segment struct {
	Base     uint64
	Limit    uint32
	Selector uint16
	Attr     uint16
}

// Long reports whether the processor runs 64-bit code: EFER.LMA and CS.L.
func (r *Regs) Long() bool { return r.EFER&(1<<10) != 0 && r.CS.Attr&(1<<13) != 0 }

// Table is GDTR or IDTR.
type Table struct {
	Base  uint64
	Limit uint16
}

// State is one processor as a back end keeps it.
type State struct {
	Backend string // Hypervisor.Name of the back end that can read Data
	Data    []byte
}
