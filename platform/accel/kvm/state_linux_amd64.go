package kvm

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/hxen-project/hxen/hv/accel"
)

// stateVersion is the first byte of State.Data.
const stateVersion = 1

// saved is a processor at rest, in the kernel's own structures.
type saved struct {
	tsc    uint64
	mp     uint32 // struct kvm_mp_state
	regs   regs
	sregs  sregs
	xcrs   [392]byte  // struct kvm_xcrs
	debug  [128]byte  // struct kvm_debugregs
	lapic  [1024]byte // struct kvm_lapic_state
	events [64]byte   // struct kvm_vcpu_events
	xsave  []byte     // struct kvm_xsave, as long as the processor has it
	msrs   []msr
}

// fixed are the parts of one length, in the order of State.Data.
func (s *saved) fixed() [][]byte {
	return [][]byte{bytesOf(&s.tsc), bytesOf(&s.mp), bytesOf(&s.regs), bytesOf(&s.sregs), s.xcrs[:], s.debug[:], s.lapic[:], s.events[:]}
}

// savedMSRs are the registers that a guest's kernel sets up (SDM 4, APM 2 A),
// less the TSC, which is saved as what it reads. Those that this processor does
// not have are left out.
var savedMSRs = []uint32{
	0x3b,                // TSC_ADJUST
	0x48,                // SPEC_CTRL
	0x174, 0x175, 0x176, // SYSENTER_CS, _ESP, _EIP
	0x1a0,                                                                                                          // MISC_ENABLE
	0x200, 0x201, 0x202, 0x203, 0x204, 0x205, 0x206, 0x207, 0x208, 0x209, 0x20a, 0x20b, 0x20c, 0x20d, 0x20e, 0x20f, // variable MTRRs
	0x250, 0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f, // fixed MTRRs
	0x277,                                           // PAT
	0x2ff,                                           // MTRR_DEF_TYPE
	0x6a0, 0x6a2, 0x6a4, 0x6a5, 0x6a6, 0x6a7, 0x6a8, // U_CET, S_CET, PL0..3_SSP, INTERRUPT_SSP_TABLE
	0x6e0,                                          // TSC_DEADLINE, after the LAPIC and the TSC
	0xda0,                                          // XSS
	0xc0000081, 0xc0000082, 0xc0000083, 0xc0000084, // STAR, LSTAR, CSTAR, SFMASK
	0xc0000102, 0xc0000103, // KERNEL_GS_BASE, TSC_AUX
}

func (v *vcpu) State() (accel.State, error) {
	if err := v.store(); err != nil {
		return accel.State{}, err
	}
	s := &saved{tsc: v.TSC(), xsave: make([]byte, v.xsaveSize())}
	v.loaded = false
	if err := v.load(); err != nil {
		return accel.State{}, err
	}
	s.regs, s.sregs = v.area.regs, v.area.sregs
	xsave := uintptr(KVM_GET_XSAVE)
	if len(s.xsave) > 4096 {
		xsave = KVM_GET_XSAVE2
	}
	_, err := ioctlPtr(v.fd, KVM_GET_MP_STATE, &s.mp)
	if err := errors.Join(err,
		ioctlBytes(v.fd, KVM_GET_XCRS, s.xcrs[:]), ioctlBytes(v.fd, KVM_GET_DEBUGREGS, s.debug[:]),
		ioctlBytes(v.fd, KVM_GET_LAPIC, s.lapic[:]), ioctlBytes(v.fd, KVM_GET_VCPU_EVENTS, s.events[:]),
		ioctlBytes(v.fd, xsave, s.xsave)); err != nil {
		return accel.State{}, fmt.Errorf("save processor %d: %w", v.id, err)
	}
	for _, index := range savedMSRs {
		if value, err := v.readMSR(index); err == nil {
			s.msrs = append(s.msrs, msr{index: index, data: value})
		}
	}
	return accel.State{Backend: v.vm.h.Name(), Data: s.encode()}, nil
}

// xsaveSize is how long this machine's struct kvm_xsave is.
func (v *vcpu) xsaveSize() int { return max(4096, check(v.vm.fd, KVM_CAP_XSAVE2)) }

func (v *vcpu) SetState(st accel.State) error {
	if name := v.vm.h.Name(); st.Backend != name {
		return fmt.Errorf("restore processor %d: it was saved under %s, and this is %s", v.id, st.Backend, name)
	}
	s, err := decode(st.Data)
	if err != nil {
		return fmt.Errorf("restore processor %d: %w", v.id, err)
	}
	if size := v.xsaveSize(); len(s.xsave) < size {
		s.xsave = append(s.xsave, make([]byte, size-len(s.xsave))...)
	}
	if err := v.restoreTSC(s.tsc); err != nil {
		return err
	}
	if err := v.restore(s); err != nil {
		return fmt.Errorf("restore processor %d: %w", v.id, err)
	}
	return nil
}

// restore follows the order that KVM's own checks ask for: the LAPIC's base
// (sregs) before the LAPIC, the LAPIC before its timer (MSRs), events last.
func (v *vcpu) restore(s *saved) error {
	v.area.dirtyRegs, v.loaded = 0, false
	for _, step := range []struct {
		name    string
		request uintptr
		data    []byte
	}{
		{"run state", KVM_SET_MP_STATE, bytesOf(&s.mp)},
		{"registers", KVM_SET_REGS, bytesOf(&s.regs)},
		{"segments", KVM_SET_SREGS, bytesOf(&s.sregs)},
		{"extended control registers", KVM_SET_XCRS, s.xcrs[:]},
		{"extended state", KVM_SET_XSAVE, s.xsave},
		{"debug registers", KVM_SET_DEBUGREGS, s.debug[:]},
		{"LAPIC", KVM_SET_LAPIC, s.lapic[:]},
	} {
		if err := ioctlBytes(v.fd, step.request, step.data); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	for _, m := range s.msrs {
		if err := v.writeMSR(m.index, m.data); err != nil {
			return err
		}
	}
	if err := ioctlBytes(v.fd, KVM_SET_VCPU_EVENTS, s.events[:]); err != nil {
		return fmt.Errorf("events: %w", err)
	}
	return nil
}

// restoreTSC has processor 0's counter go on from where it was, and gives the
// others the same offset, so that they stay one clock.
func (v *vcpu) restoreTSC(tsc uint64) error {
	v.vm.mu.Lock()
	defer v.vm.mu.Unlock()
	if v.id > 0 && v.vm.offsetAttr {
		return v.writeOffset(v.vm.offset)
	}
	if err := v.writeTSC(tsc); err != nil {
		return err
	}
	if v.id == 0 {
		v.vm.offset = v.tscOffset.Load()
	}
	return nil
}

func (s *saved) encode() []byte {
	out := []byte{stateVersion}
	for _, part := range s.fixed() {
		out = append(out, part...)
	}
	out = binary.LittleEndian.AppendUint32(out, uint32(len(s.xsave)))
	out = append(out, s.xsave...)
	for _, m := range s.msrs {
		out = binary.LittleEndian.AppendUint32(out, m.index)
		out = binary.LittleEndian.AppendUint64(out, m.data)
	}
	return out
}

var errState = errors.New("the saved state is damaged, or of another version")

// decode reads what encode wrote. Its values are for the kernel to judge.
func decode(b []byte) (*saved, error) {
	if len(b) == 0 || b[0] != stateVersion {
		return nil, errState
	}
	b = b[1:]
	s := &saved{}
	for _, part := range s.fixed() {
		if len(b) < len(part) {
			return nil, errState
		}
		b = b[copy(part, b):]
	}
	if len(b) < 4 {
		return nil, errState
	}
	n := binary.LittleEndian.Uint32(b)
	b = b[4:]
	if n < 4096 || uint64(n) > uint64(len(b)) {
		return nil, errState
	}
	s.xsave, b = append([]byte(nil), b[:n]...), b[n:]
	if len(b)%12 != 0 {
		return nil, errState
	}
	for ; len(b) > 0; b = b[12:] {
		s.msrs = append(s.msrs, msr{index: binary.LittleEndian.Uint32(b), data: binary.LittleEndian.Uint64(b[4:])})
	}
	return s, nil
}
