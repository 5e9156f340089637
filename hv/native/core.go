package native

import (
	"context"
	"debug/elf"
	"encoding/binary"
	"os"
	"structs"

	"github.com/hxen-project/hxen/hv/accel"
	"github.com/hxen-project/hxen/hv/guestmem"
	"github.com/hxen-project/hxen/hv/savefile"
	"github.com/hxen-project/hxen/hv/xenabi"
)

// A guest's memory and registers as an ELF core: what QEMU's dump-guest-memory
// writes, for crash(8) and gdb, and xl's dump-core does not. Memory is at its
// physical addresses. Notes tell each processor's registers: NT_PRSTATUS those that
// a program has (gdb reads them), QEMU's own the control registers too, by which
// crash finds where the kernel lies (target/i386/arch_dump.c in QEMU).

// prStatus is struct elf_prstatus, sys/procfs.h.
type prStatus struct {
	_       structs.HostLayout
	Signal  [3]int32
	Cursig  int16
	_       [2]byte
	Sigpend uint64
	Sighold uint64
	PID     int32
	_       [76]byte // the rest of its ids, and its times
	Reg     userRegs
	FPValid int32
	_       [4]byte
}

// userRegs is struct user_regs_struct, sys/user.h.
type userRegs struct {
	_                                                structs.HostLayout
	R15, R14, R13, R12, RBP, RBX, R11, R10, R9, R8   uint64
	RAX, RCX, RDX, RSI, RDI, OrigRAX, RIP, CS, Flags uint64
	RSP, SS, FSBase, GSBase, DS, ES, FS, GS          uint64
}

// qemuCPU is QEMUCPUState, QEMU's target/i386/arch_dump.c.
type qemuCPU struct {
	_                                         structs.HostLayout
	Version, Size                             uint32
	RAX, RBX, RCX, RDX, RSI, RDI, RSP, RBP    uint64
	R8, R9, R10, R11, R12, R13, R14, R15      uint64
	RIP, Flags                                uint64
	CS, DS, ES, FS, GS, SS, LDT, TR, GDT, IDT qemuSegment
	CR                                        [5]uint64
	KernelGSBase                              uint64
}

type qemuSegment struct {
	_               structs.HostLayout
	Selector, Limit uint32
	Flags, _        uint32 // of a descriptor's second word
	Base            uint64
}

// coreCPU is one processor's notes.
type coreCPU struct {
	status prStatus
	qemu   qemuCPU
}

func newCoreCPU(id int, r accel.Regs) (c coreCPU) {
	c.status = prStatus{PID: int32(id + 1), Reg: userRegs{
		R15: r.R15, R14: r.R14, R13: r.R13, R12: r.R12, RBP: r.RBP, RBX: r.RBX, R11: r.R11, R10: r.R10, R9: r.R9, R8: r.R8,
		RAX: r.RAX, RCX: r.RCX, RDX: r.RDX, RSI: r.RSI, RDI: r.RDI, RIP: r.RIP, CS: uint64(r.CS.Selector), Flags: r.RFLAGS,
		RSP: r.RSP, SS: uint64(r.SS.Selector), FSBase: r.FS.Base, GSBase: r.GS.Base,
		DS: uint64(r.DS.Selector), ES: uint64(r.ES.Selector), FS: uint64(r.FS.Selector), GS: uint64(r.GS.Selector),
	}}
	seg := func(s accel.Segment) qemuSegment {
		return qemuSegment{Selector: uint32(s.Selector), Limit: s.Limit, Flags: uint32(s.Attr) << 8, Base: s.Base}
	}
	table := func(t accel.Table) qemuSegment { return qemuSegment{Limit: uint32(t.Limit), Base: t.Base} }
	c.qemu = qemuCPU{
		Version: 1,
		RAX:     r.RAX, RBX: r.RBX, RCX: r.RCX, RDX: r.RDX, RSI: r.RSI, RDI: r.RDI, RSP: r.RSP, RBP: r.RBP,
		R8: r.R8, R9: r.R9, R10: r.R10, R11: r.R11, R12: r.R12, R13: r.R13, R14: r.R14, R15: r.R15,
		RIP: r.RIP, Flags: r.RFLAGS,
		CS: seg(r.CS), DS: seg(r.DS), ES: seg(r.ES), FS: seg(r.FS), GS: seg(r.GS), SS: seg(r.SS), LDT: seg(r.LDT), TR: seg(r.TR),
		GDT: table(r.GDT), IDT: table(r.IDT),
		CR: [5]uint64{0: r.CR0, 2: r.CR2, 3: r.CR3, 4: r.CR4},
	}
	c.qemu.Size = uint32(len(xenabi.Bytes(&c.qemu)))
	return c
}

// coreNote appends one note (gABI, "Note Section"), padded to 4 bytes as Linux has it.
func coreNote(b []byte, name string, kind uint32, desc []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(len(name)+1))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(desc)))
	b = binary.LittleEndian.AppendUint32(b, kind)
	for _, part := range [][]byte{append([]byte(name), 0), desc} {
		b = append(b, part...)
		b = append(b, make([]byte, -len(b)&3)...)
	}
	return b
}

// coreLoad is memory at gpa, which lies at off of the image that regions tell of.
type coreLoad struct{ gpa, n, off uint64 }

// coreLoads are the guest's memories, in the order of memories.
func (m *Machine) coreLoads() (out []coreLoad) {
	rs, _ := regions(m.memories())
	for _, s := range m.layout.slots() {
		if s.GPA == specialAt {
			out = append(out, coreLoad{s.GPA, s.N, rs[1].off})
			continue
		}
		off, _ := m.layout.offset(s.GPA, s.N)
		out = append(out, coreLoad{s.GPA, s.N, rs[0].off + off})
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, g := range m.grown {
		for _, h := range m.layout.holes(g.gpa, guestmem.GrowSize) {
			out = append(out, coreLoad{h.GPA, h.N, rs[2+i].off + h.GPA - g.gpa})
		}
	}
	return out
}

// writeCore makes the file at path appear whole or not at all. Zero pages are holes
// in it.
func writeCore(ctx context.Context, path string, cpus []coreCPU, loads []coreLoad, mems [][]byte) error {
	return savefile.Whole(ctx, path, func(f *os.File) error { return fillCore(ctx, f, cpus, loads, mems) })
}

func fillCore(ctx context.Context, f *os.File, cpus []coreCPU, loads []coreLoad, mems [][]byte) error {
	var notes []byte
	for i := range cpus {
		notes = coreNote(notes, "CORE", uint32(elf.NT_PRSTATUS), xenabi.Bytes(&cpus[i].status))
	}
	for i := range cpus {
		notes = coreNote(notes, "QEMU", 0, xenabi.Bytes(&cpus[i].qemu))
	}
	const headers, entry = 64, 56 // sizes of elf.Header64 and elf.Prog64
	head := elf.Header64{Type: uint16(elf.ET_CORE), Machine: uint16(elf.EM_X86_64), Version: uint32(elf.EV_CURRENT),
		Phoff: headers, Ehsize: headers, Phentsize: entry, Phnum: uint16(1 + len(loads))}
	copy(head.Ident[:], []byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)})
	from := uint64(headers + entry*(1+len(loads)))
	image := (from + uint64(len(notes)) + chunkSize - 1) / chunkSize * chunkSize
	progs := []elf.Prog64{{Type: uint32(elf.PT_NOTE), Off: from, Filesz: uint64(len(notes))}}
	for _, l := range loads {
		progs = append(progs, elf.Prog64{Type: uint32(elf.PT_LOAD), Off: image + l.off, Vaddr: l.gpa, Paddr: l.gpa, Filesz: l.n, Memsz: l.n})
	}
	b, err := binary.Append(nil, binary.LittleEndian, head)
	if err == nil {
		b, err = binary.Append(b, binary.LittleEndian, progs)
	}
	if err != nil {
		return err
	}
	if _, err := f.WriteAt(append(b, notes...), 0); err != nil {
		return err
	}
	rs, size := regions(mems)
	if err := f.Truncate(int64(image + size)); err != nil {
		return err
	}
	return eachChunk(ctx, size, nil, func(i uint64) error {
		return writeChunk(f, int64(image+i*chunkSize), chunkAt(rs, i*chunkSize), make([]byte, chunkEntry))
	})
}
