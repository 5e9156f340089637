package whp

import (
	"errors"
	"fmt"
	"slices"

	"github.com/hxen-project/hxen/hv/accel"
)

// stateVersion is the first byte of State.Data.
const stateVersion = 1

// savedNames are the registers that make a processor beside its XSAVE area, its
// LAPIC and its TSC. Those that this platform or processor does not have are
// left out. The LAPIC's base comes first: its page is read by it.
var savedNames = slices.Concat([]uint32{WHvX64RegisterApicBase}, regNames,
	span(WHvX64RegisterCr8, WHvX64RegisterXCr0),                                                                        // and the debug registers
	span(WHvX64RegisterKernelGsBase, WHvX64RegisterKernelGsBase), span(WHvX64RegisterApicBase+1, WHvX64RegisterSfmask), // PAT, SYSENTER, STAR
	span(WHvX64RegisterMsrMtrrDefType, WHvX64RegisterMsrMtrrDefType),
	span(WHvX64RegisterMsrMtrrPhysBase0, WHvX64RegisterMsrMtrrPhysBase0+0xf), span(WHvX64RegisterMsrMtrrPhysMask0, WHvX64RegisterMsrMtrrPhysMask0+0xf),
	span(WHvX64RegisterMsrMtrrFix64k00000, WHvX64RegisterTscAux),
	span(WHvX64RegisterSpecCtrl, WHvX64RegisterSpecCtrl), span(WHvX64RegisterXss, WHvX64RegisterInterruptSspTableAddr),
	span(WHvX64RegisterTscDeadline, WHvX64RegisterTscAdjust),
	[]uint32{WHvRegisterPendingInterruption, WHvRegisterInterruptState, WHvRegisterPendingEvent, WHvRegisterInternalActivityState})

func span(from, to uint32) []uint32 {
	var out []uint32
	for n := from; n <= to; n++ {
		out = append(out, n)
	}
	return out
}

// saved is a processor at rest.
type saved struct {
	tsc    uint64
	lapic  []byte
	xsave  []byte
	names  []uint32
	values []value
}

func (v *vcpu) State() (accel.State, error) {
	s := &saved{tsc: v.TSC()}
	var err error
	if s.lapic, err = grow(v.host().GetVirtualProcessorInterruptControllerState2, v); err == nil {
		s.xsave, err = grow(v.host().GetVirtualProcessorXsaveState, v)
	}
	if err != nil {
		return accel.State{}, fmt.Errorf("save processor %d: %w", v.id, err)
	}
	one := make([]value, 1)
	for i, name := range savedNames {
		err := v.host().GetVirtualProcessorRegisters(v.vm.part, v.id, savedNames[i:i+1], one)
		switch {
		case err == nil:
			s.names, s.values = append(s.names, name), append(s.values, one[0])
		case slices.Contains(regNames, name):
			return accel.State{}, fmt.Errorf("save processor %d: register %#x: %w", v.id, name, err)
		}
	}
	return accel.State{Backend: v.vm.h.Name(), Data: s.encode()}, nil
}

// grow asks with a buffer that is large enough.
func grow(get func(p partition, vp uint32, b []byte) (int, error), v *vcpu) ([]byte, error) {
	b := make([]byte, page)
	for {
		n, err := get(v.vm.part, v.id, b)
		switch {
		case err == nil && n <= len(b):
			return b[:n], nil
		case errors.Is(err, hresult(WHV_E_INSUFFICIENT_BUFFER)) && n > len(b) && n <= maxArea:
			b = make([]byte, n)
		case err == nil:
			err = fmt.Errorf("the Windows Hypervisor Platform wrote %d bytes into %d", n, len(b))
			fallthrough
		default:
			return nil, err
		}
	}
}

// maxArea is more than any LAPIC's page or XSAVE area.
const maxArea = 1 << 20

func (v *vcpu) SetState(st accel.State) error {
	if name := v.vm.h.Name(); st.Backend != name {
		return fmt.Errorf("restore processor %d: it was saved under %s, and this is %s", v.id, st.Backend, name)
	}
	s, err := decodeState(st.Data)
	if err != nil {
		return fmt.Errorf("restore processor %d: %w", v.id, err)
	}
	if v.id == 0 {
		if err := v.vm.setTSC(func(uint64) uint64 { return s.tsc }); err != nil {
			return err
		}
	}
	v.known = false
	one := make([]value, 1)
	for i, name := range s.names {
		one[0] = s.values[i]
		err := v.host().SetVirtualProcessorRegisters(v.vm.part, v.id, s.names[i:i+1], one)
		if err != nil && slices.Contains(regNames, name) {
			return fmt.Errorf("restore processor %d: register %#x: %w", v.id, name, err)
		}
		if name == WHvX64RegisterApicBase {
			if err := v.host().SetVirtualProcessorInterruptControllerState2(v.vm.part, v.id, s.lapic); err != nil {
				return fmt.Errorf("restore processor %d: LAPIC: %w", v.id, err)
			}
		}
	}
	if err := v.host().SetVirtualProcessorXsaveState(v.vm.part, v.id, s.xsave); err != nil {
		return fmt.Errorf("restore processor %d: extended state: %w", v.id, err)
	}
	return nil
}

func (s *saved) encode() []byte {
	out := le.AppendUint64([]byte{stateVersion}, s.tsc)
	for _, area := range [][]byte{s.lapic, s.xsave} {
		out = append(le.AppendUint32(out, uint32(len(area))), area...)
	}
	for i, name := range s.names {
		out = le.AppendUint32(out, name)
		out = le.AppendUint64(le.AppendUint64(out, s.values[i].low), s.values[i].high)
	}
	return out
}

var errState = errors.New("the saved state is damaged, or of another version")

// decodeState reads what encode wrote. Its values are for the platform to judge;
// only registers that State writes are let through.
func decodeState(b []byte) (*saved, error) {
	if len(b) < 9 || b[0] != stateVersion {
		return nil, errState
	}
	s := &saved{tsc: le.Uint64(b[1:])}
	b = b[9:]
	for _, area := range []*[]byte{&s.lapic, &s.xsave} {
		if len(b) < 4 {
			return nil, errState
		}
		n := uint64(le.Uint32(b))
		if b = b[4:]; n > uint64(len(b)) || n > maxArea {
			return nil, errState
		}
		*area, b = slices.Clone(b[:n]), b[n:]
	}
	if len(b)%20 != 0 || len(b) == 0 {
		return nil, errState
	}
	for ; len(b) > 0; b = b[20:] {
		name := le.Uint32(b)
		if !slices.Contains(savedNames, name) {
			return nil, errState
		}
		s.names = append(s.names, name)
		s.values = append(s.values, value{low: le.Uint64(b[4:]), high: le.Uint64(b[12:])})
	}
	return s, nil
}
