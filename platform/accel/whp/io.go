package whp

import (
	"fmt"

	"github.com/hxen-project/hxen/hv/accel"
)

// Bits of exitIO.access.
const (
	ioWrite  = 1 << 0
	ioString = 1 << 4
	ioRep    = 1 << 5
)

// batch is how many elements of a string instruction are served before the
// processor goes back to the guest, to be stopped there.
const batch = 512

func (v *vcpu) serveIO(h accel.Handler) error {
	e := v.exit.io()
	size := uint64(e.access >> 1 & 7)
	if size != 1 && size != 2 && size != 4 {
		return fmt.Errorf("run processor %d: the Windows Hypervisor Platform tells of a port access of %d bytes", v.id, size)
	}
	if e.access&(ioString|ioRep) != 0 {
		return v.serveString(h, size)
	}
	data := make([]byte, 4)
	if e.access&ioWrite != 0 {
		le.PutUint32(data, uint32(e.rax))
		h.PIO(e.port, data[:size:size], true)
		return v.goOn(v.exit.vp.length())
	}
	h.PIO(e.port, data[:size:size], false)
	return v.goOn(v.exit.vp.length(), reg{WHvX64RegisterRax, merge(e.rax, uint64(le.Uint32(data)), size)})
}

// merge puts the low size bytes of a number into a register: 4 clear the upper
// half (SDM 1 3.4.1.1).
func merge(old, n, size uint64) uint64 {
	switch size {
	case 1:
		return old&^0xff | n&0xff
	case 2:
		return old&^0xffff | n&0xffff
	case 4:
		return n & 0xffffffff
	}
	return n
}

// stringIO is an INS or OUTS on its way.
type stringIO struct {
	write      bool
	size       uint64
	base       uint64 // of the segment
	index      uint32 // register that walks: RSI or RDI
	at, count  uint64
	step, mask uint64 // mask is of the size of addresses
	wide       uint64 // size of addresses in bytes
}

// serveString goes through the elements of a string instruction one by one. On
// a page that is not there the guest gets its fault, with what has been done
// told in the registers.
func (v *vcpu) serveString(h accel.Handler, size uint64) error {
	e := *v.exit.io()
	s, err := v.decodeString(&e, size)
	if err != nil {
		return err
	}
	data := make([]byte, 4)
	for n := 0; s.count > 0 && n < batch; n++ {
		b := data[:size:size]
		gva := s.base + s.at&s.mask
		if !v.exit.vp.long() {
			gva &= 0xffffffff
		}
		p, fault, err := v.translate(gva, size, !s.write)
		if err != nil || fault {
			if err == nil {
				err = v.settle(&e, s, false)
			}
			return err
		}
		if s.write {
			v.move(p, b, false)
			h.PIO(e.port, b, true)
		} else {
			h.PIO(e.port, b, false)
			v.move(p, b, true)
		}
		s.at += s.step
		s.count--
	}
	return v.settle(&e, s, s.count == 0)
}

// settle writes back where a string instruction has come to.
func (v *vcpu) settle(e *exitIO, s *stringIO, done bool) error {
	old := e.rdi
	if s.index == WHvX64RegisterRsi {
		old = e.rsi
	}
	set := []reg{{s.index, merge(old, s.at&s.mask, s.wide)}}
	if e.access&ioRep != 0 {
		set = append(set, reg{WHvX64RegisterRcx, merge(e.rcx, s.count, s.wide)})
	}
	n := uint64(0)
	if done {
		n = v.exit.vp.length()
	}
	return v.goOn(n, set...)
}

// decodeString finds the operands of INS and OUTS (SDM 2A).
func (v *vcpu) decodeString(e *exitIO, size uint64) (*stringIO, error) {
	b, err := v.instruction(e.bytes[:min(e.count, 15)], 1)
	if err != nil {
		return nil, err
	}
	p := prefixes(b, v.mode())
	s := &stringIO{write: e.access&ioWrite != 0, size: size, count: 1, wide: p.address, step: size, mask: 1<<(8*p.address) - 1}
	if p.address == 8 {
		s.mask = ^uint64(0)
	}
	if e.access&ioRep != 0 {
		s.count = e.rcx & s.mask
	}
	if v.exit.vp.rflags&(1<<10) != 0 { // DF
		s.step = -size
	}
	if !s.write {
		s.index, s.at, s.base = WHvX64RegisterRdi, e.rdi, e.es.base
		if v.exit.vp.long() {
			s.base = 0
		}
		return s, nil
	}
	s.index, s.at, s.base = WHvX64RegisterRsi, e.rsi, e.ds.base
	if p.segment != 0 || v.exit.vp.long() {
		if s.base, err = v.segmentBase(p.segment); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// segmentBase is the base that a prefix leads to; 0 is DS.
func (v *vcpu) segmentBase(prefix byte) (uint64, error) {
	r, err := v.Regs()
	if err != nil {
		return 0, err
	}
	switch {
	case prefix == 0x64:
		return r.FS.Base, nil
	case prefix == 0x65:
		return r.GS.Base, nil
	case v.exit.vp.long():
		return 0, nil
	}
	return map[byte]accel.Segment{0x26: r.ES, 0x2e: r.CS, 0x36: r.SS}[prefix].Base, nil
}

// mode is how wide code is here: 16, 32 or 64 bits.
func (v *vcpu) mode() int {
	switch {
	case v.exit.vp.long():
		return 64
	case v.exit.vp.cs.attributes&(1<<14) != 0:
		return 32
	}
	return 16
}

// instruction returns the bytes at RIP: those that the exit told if they are
// enough, else what lies in memory, at most 15.
func (v *vcpu) instruction(told []byte, enough int) ([]byte, error) {
	if len(told) >= enough {
		return told, nil
	}
	at := v.exit.vp.rip
	if !v.exit.vp.long() {
		at = (v.exit.vp.cs.base + at) & 0xffffffff
	}
	b := make([]byte, 15)
	n := min(uint64(len(b)), page-at%page)
	for from := uint64(0); from < uint64(len(b)); from, n = from+n, uint64(len(b))-n {
		code, gpa, err := v.host().TranslateGva(v.vm.part, v.id, at+from, WHvTranslateGvaFlagValidateExecute)
		if err != nil {
			return nil, fmt.Errorf("find the instruction of processor %d: %w", v.id, err)
		}
		if code != WHvTranslateGvaResultSuccess {
			return b[:from], nil
		}
		v.vm.copy(gpa, b[from:from+n], false)
	}
	return b, nil
}

// piece is where a part of an access lies.
type piece struct {
	gpa uint64
	n   uint64
}

// translate finds up to two pages of an access. With fault the guest has been
// given a page fault.
func (v *vcpu) translate(gva, size uint64, write bool) (p [2]piece, fault bool, err error) {
	flags, code := uint32(WHvTranslateGvaFlagValidateRead), uint32(0)
	if write {
		flags, code = WHvTranslateGvaFlagValidateWrite, 1<<1
	}
	if v.exit.vp.state&stateCPL == 3 {
		code |= 1 << 2
	}
	for i, at := 0, gva; size > 0; i++ {
		n := min(size, page-at%page)
		result, gpa, err := v.host().TranslateGva(v.vm.part, v.id, at, flags)
		if err != nil {
			return p, false, fmt.Errorf("translate an address of processor %d: %w", v.id, err)
		}
		switch result {
		case WHvTranslateGvaResultPageNotPresent:
			return p, true, v.raise(vectorPF, true, code, at)
		case WHvTranslateGvaResultPrivilegeViolation:
			return p, true, v.raise(vectorPF, true, code|1, at)
		}
		p[i] = piece{gpa, n}
		at, size = at+n, size-n
	}
	return p, false, nil
}

const vectorPF = 14

// move copies between b and the guest's memory.
func (v *vcpu) move(p [2]piece, b []byte, write bool) {
	for _, at := range p {
		v.vm.copy(at.gpa, b[:at.n], write)
		b = b[at.n:]
	}
}
