package accel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"

	"github.com/hxen-project/hxen/hv/accel"
)

// Guest memory: four pages of use, and page tables that map the first 2 MiB.
const (
	memSize  = 0x8000
	realAt   = 0x1000
	longAt   = 0x2000
	dataAt   = 0x3000 // longCode writes here
	pml4At   = 0x4000
	pdptAt   = 0x5000
	pdAt     = 0x6000
	outPort  = 0x10
	longSum  = 1000 * 1001 / 2
	pagePW   = 3    // present, writable: SDM 3A 4.5
	pageHuge = 0x80 // a 2 MiB page
)

// realCode is real mode: mov $'x',%al; out %al,$0x10; hlt.
var realCode = []byte{0xb0, 'x', 0xe6, outPort, 0xf4}

// longCode adds 1000 + 999 + ... + 1 in 64-bit mode, every number through memory
// and the SSE2 registers: what runs guests by emulating a few instructions does
// not get through it.
var longCode = []byte{
	0x66, 0x0f, 0xef, 0xc0, // pxor %xmm0,%xmm0
	0xbf, dataAt & 0xff, dataAt >> 8, 0, 0, // mov $dataAt,%edi
	0xb9, 0xe8, 0x03, 0, 0, // mov $1000,%ecx
	0x89, 0x0f, // again: mov %ecx,(%rdi)
	0x89, 0x4f, 0x04, // mov %ecx,4(%rdi)
	0xf3, 0x0f, 0x7e, 0x0f, // movq (%rdi),%xmm1
	0x66, 0x0f, 0xfe, 0xc1, // paddd %xmm1,%xmm0
	0xff, 0xc9, // dec %ecx
	0x75, 0xef, // jnz again
	0x66, 0x0f, 0x7e, 0xc0, // movd %xmm0,%eax
	0xe7, outPort, // out %eax,$0x10
	0xf4, // hlt
}

// runGuest makes a machine of one processor and 32 KiB through the back end that
// pvh guests run on, runs realCode and longCode in it and looks at their answers;
// how says how hypercalls are carried. It is called in the child only, whose end
// frees everything.
func runGuest(stage func(string)) (how string, err error) {
	runtime.LockOSThread() // a processor belongs to its thread
	stage("creating a machine")
	h, err := open()
	if err != nil {
		return "", err
	}
	ram, err := h.NewRAM(accel.RAMConfig{Size: memSize})
	if err != nil {
		return "", err
	}
	m, err := h.NewVM(accel.Config{VCPUs: 1})
	if err != nil {
		return "", err
	}
	if err := m.Map(0, ram, 0, memSize); err != nil {
		return "", err
	}
	v, err := m.NewVCPU(0, m.Caps().CPUID)
	if err != nil {
		return "", err
	}
	r, err := v.Regs()
	if err != nil {
		return "", err
	}
	mem := ram.Bytes()
	copy(mem[realAt:], realCode)
	copy(mem[longAt:], longCode)
	binary.LittleEndian.PutUint64(mem[pml4At:], pdptAt|pagePW)
	binary.LittleEndian.PutUint64(mem[pdptAt:], pdAt|pagePW)
	binary.LittleEndian.PutUint64(mem[pdAt:], pagePW|pageHuge)

	stage("starting 16-bit code")
	r.RIP, r.RFLAGS = realAt, 2 // bit 1 is always set
	r.CS.Base, r.CS.Selector = 0, 0
	if err := expect(v, r, 1, 'x'); err != nil {
		return "", fmt.Errorf("16-bit code: %w", err)
	}
	stage("starting 64-bit code")
	if err := expect(v, longMode(r), 4, longSum); err != nil {
		return "", fmt.Errorf("64-bit code: %w", err)
	}
	if m.Caps().Patched {
		return "hypercalls are patched into the guest, as this kernel does not hand them on", nil
	}
	return "the system hands hypercalls on", nil
}

// longMode is a processor in 64-bit mode over the page tables at pml4At: SDM 3A
// 10.8.5 and, for CR4.OSFXSR, 2.5.
func longMode(r accel.Regs) accel.Regs {
	const (
		cr0PE, cr0MP, cr0ET, cr0NE, cr0WP, cr0PG = 1, 1 << 1, 1 << 4, 1 << 5, 1 << 16, 1 << 31
		cr4PAE, cr4OSFXSR, cr4OSXMMEXCPT         = 1 << 5, 1 << 9, 1 << 10
		eferLME, eferLMA                         = 1 << 8, 1 << 10
	)
	r.CR0 = cr0PE | cr0MP | cr0ET | cr0NE | cr0WP | cr0PG
	r.CR3 = pml4At
	r.CR4 = cr4PAE | cr4OSFXSR | cr4OSXMMEXCPT
	r.EFER = eferLME | eferLMA
	flat := accel.Segment{Limit: 0xffffffff, Selector: 16, Attr: 0xc093} // SDM 3A 3.4.5: data, 4 GiB
	r.DS, r.ES, r.FS, r.GS, r.SS = flat, flat, flat, flat, flat
	r.CS = accel.Segment{Limit: 0xffffffff, Selector: 8, Attr: 0xa09b} // 64-bit code
	r.RIP, r.RFLAGS = longAt, 2
	return r
}

// expect runs a processor until its code writes size bytes to the port.
func expect(v accel.VCPU, r accel.Regs, size int, want uint32) error {
	if err := v.SetRegs(r); err != nil {
		return err
	}
	a := &answer{v: v}
	for !a.told {
		exit, err := v.Run(a)
		switch {
		case errors.Is(err, accel.ErrGuest):
			return errors.New("it ended in an emulation failure instead of answering")
		case err != nil:
			return err
		case exit == accel.Shutdown:
			return errors.New("it ended in a triple fault instead of answering")
		case exit != accel.Interrupted:
			return fmt.Errorf("it ended by %v instead of answering", exit)
		}
	}
	if a.port != outPort || a.size != size || a.value != want {
		return fmt.Errorf("it answered %#x with %d bytes at port %#x instead of %#x with %d at %#x", a.value, a.size, a.port, want, size, outPort)
	}
	return nil
}

// answer is what the guest's first access to a port said.
type answer struct {
	v     accel.VCPU
	told  bool
	port  uint16
	size  int
	value uint32
}

func (a *answer) PIO(port uint16, data []byte, write bool) {
	if a.told || !write {
		return
	}
	var b [4]byte
	a.told, a.port, a.size = true, port, copy(b[:], data)
	a.value = binary.LittleEndian.Uint32(b[:])
	a.v.Kick()
}

func (a *answer) Hypercall(*accel.Hypercall) bool { return false }
func (a *answer) MSR(uint32, *uint64, bool) bool  { return false }
func (a *answer) LongMode()                       {}
