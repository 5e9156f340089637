package native

import (
	"bytes"
	"encoding/binary"
	"errors"

	"github.com/hxen-project/hxen/hv/guestmem"
)

// Linux since XSA-466 makes its hypercalls in two tiny functions, one with
// vmmcall and one with vmcall. The function that chooses between them
// (xen_hypercall_hvm, arch/x86/xen/xen-head.S) is assembler and always the same:
// it saves the registers, calls what sets the choice, loads the address of the
// first, compares, restores the registers, and jumps to the one or the other.
var (
	hvmPush = []byte{0x50, 0x51, 0x52, 0x57, 0x56, 0x41, 0x53, 0x41, 0x52, 0x41, 0x51, 0x41, 0x50}
	hvmCmp  = []byte{0x48, 0x39, 0xc1}
	hvmPop  = []byte{0x41, 0x58, 0x41, 0x59, 0x41, 0x5a, 0x41, 0x5b, 0x5e, 0x5f, 0x5a, 0x59, 0x58}
	lea     = []byte{0x48, 0x8d, 0x0d} // lea rel32(%rip),%rcx
	endbr64 = []byte{0xf3, 0x0f, 0x1e, 0xfa}
	vmmcall = []byte{0x0f, 0x01, 0xd9}
	vmcall  = []byte{0x0f, 0x01, 0xc1}
)

const (
	patchBody = 128 // the comparison is no farther than this from the pushes
	patchSpan = 192 // what one candidate takes at most
)

var (
	errSignature = errors.New("the kernel calls Xen in a way that is not known, and this computer cannot hand the calls on unchanged; " +
		"use Debian's or another newer kernel, or run hxen on a host with Linux 6.12 or newer")
	errNoCalls = errors.New("there are no hypercalls")
)

// patchRange replaces a kernel's two hypercall instructions by call, both or
// none, in the first place where all of their function agrees: behind it there may be
// what a boot loader has left of the same kernel. errNoCalls: no hypercall instruction
// is there at all, as with a kernel that uses a hypercall page.
func patchRange(mem *guestmem.Memory, ranges []guestmem.Range, call [3]byte) error {
	for _, r := range ranges {
		for at, end := r.GPA, r.GPA+r.N; at < end; at++ {
			var ok bool
			if at, ok = mem.Index(at, end-at, hvmPush); !ok {
				break
			}
			if a, b, ok := callSites(mem, at); ok {
				return errors.Join(mem.Write(a, call[:]), mem.Write(b, call[:]))
			}
		}
	}
	for _, r := range ranges {
		for _, call := range [][]byte{vmmcall, vmcall} {
			if _, ok := mem.Index(r.GPA, r.N, call); ok {
				return errSignature
			}
		}
	}
	return errNoCalls
}

// callSites decodes the choosing function at gpa and returns where the two
// instructions lie; ok only if all of it agrees.
func callSites(mem *guestmem.Memory, gpa uint64) (a, b uint64, ok bool) {
	code := make([]byte, patchSpan)
	if mem.Read(gpa, code) != nil {
		return 0, 0, false
	}
	cmp := bytes.Index(code[:patchBody], hvmCmp)
	if cmp < len(hvmPush)+len(lea)+4 || !bytes.Equal(code[cmp-7:cmp-4], lea) {
		return 0, 0, false
	}
	loaded := gpa + uint64(cmp) + relative(code[cmp-4:])
	after := cmp + len(hvmCmp)
	pop := bytes.Index(code[after:after+16+len(hvmPop)], hvmPop)
	if pop < 0 {
		return 0, 0, false
	}
	at := after + pop + len(hvmPop)
	a, n, ok := jump(code[at:], 0x74, gpa+uint64(at))
	if !ok || a != loaded {
		return 0, 0, false
	}
	at += n
	b, _, ok = jump(code[at:], 0xeb, gpa+uint64(at))
	if !ok {
		return 0, 0, false
	}
	a, okA := instruction(mem, a, vmmcall)
	b, okB := instruction(mem, b, vmcall)
	return a, b, okA && okB
}

// relative is a rel32, sign-extended.
func relative(b []byte) uint64 { return uint64(int64(int32(binary.LittleEndian.Uint32(b)))) }

// jump decodes jz (short 0x74) or jmp (short 0xeb) at address at.
func jump(b []byte, short byte, at uint64) (target uint64, n int, ok bool) {
	switch {
	case b[0] == short:
		return at + 2 + uint64(int64(int8(b[1]))), 2, true
	case short == 0x74 && b[0] == 0x0f && b[1] == 0x84:
		return at + 6 + relative(b[2:]), 6, true
	case short == 0xeb && b[0] == 0xe9:
		return at + 5 + relative(b[1:]), 5, true
	}
	return 0, 0, false
}

// instruction checks that want is at gpa, behind endbr64 or not.
func instruction(mem *guestmem.Memory, gpa uint64, want []byte) (uint64, bool) {
	var b [7]byte
	if mem.Read(gpa, b[:]) != nil {
		return 0, false
	}
	if bytes.HasPrefix(b[:], endbr64) {
		return gpa + 4, bytes.HasPrefix(b[4:], want)
	}
	return gpa, bytes.HasPrefix(b[:], want)
}
