package whp

import (
	"errors"
	"testing"

	"github.com/hxen-project/hxen/hv/accel"
)

// fake is a host without a hypervisor: RunVirtualProcessor returns what the
// script says, and everything else is a table.
type fake struct {
	caps       map[uint32]uint64
	properties map[uint32][]byte
	refuse     map[uint32]error // properties
	regs       map[uint32]map[uint32]value
	mapped     map[uint64]uint64 // by address
	log        []string
	script     []func(*runExit) // of processor 0
	ran        chan struct{}    // if there: told of each run, and the run lasts until it is cancelled
	cancel     chan struct{}
	absent     map[uint64]uint32 // pages of linear addresses that do not translate, and why
	interrupts []interruptControl
	tsc        uint64                 // the host's
	offset     uint64                 // of the guest's
	platform   map[uint32]cpuidOutput // what the platform tells of leaves; nil: an old one
	lapic      []byte
	xsave      []byte
}

func newFake() *fake {
	return &fake{
		caps: map[uint32]uint64{
			WHvCapabilityCodeHypervisorPresent: 1, WHvCapabilityCodeFeatures: featureLocalApicEmulation | featurePartialUnmap,
			WHvCapabilityCodeExtendedVmExits:     exitCpuid | exitMsr | exitException | exitHypercall,
			WHvCapabilityCodeExceptionExitBitmap: ^uint64(0), WHvCapabilityCodeProcessorClockFrequency: 2e9,
		},
		properties: map[uint32][]byte{}, refuse: map[uint32]error{}, regs: map[uint32]map[uint32]value{}, mapped: map[uint64]uint64{},
		absent: map[uint64]uint32{}, cancel: make(chan struct{}, 1), lapic: make([]byte, 4096), xsave: make([]byte, 5000), // more than is asked with first
	}
}

func (f *fake) GetCapability(code uint32, b []byte) error {
	v, ok := f.caps[code]
	if !ok {
		return hresult(0x80370300)
	}
	copy(b, le.AppendUint64(nil, v))
	return nil
}

func (f *fake) CreatePartition() (partition, error) { return 77, nil }
func (f *fake) SetPartitionProperty(_ partition, code uint32, b []byte) error {
	if err := f.refuse[code]; err != nil {
		return err
	}
	f.properties[code] = append([]byte(nil), b...)
	return nil
}
func (f *fake) SetupPartition(partition) error       { return nil }
func (f *fake) DeletePartition(partition) error      { return nil }
func (f *fake) SuspendPartitionTime(partition) error { f.log = append(f.log, "suspend"); return nil }
func (f *fake) ResumePartitionTime(partition) error  { f.log = append(f.log, "resume"); return nil }

func (f *fake) MapGpaRange(_ partition, mem []byte, gpa uint64, _ uint32) error {
	f.mapped[gpa] = uint64(len(mem))
	f.log = append(f.log, "map")
	return nil
}

func (f *fake) UnmapGpaRange(_ partition, gpa, n uint64) error {
	for at, size := range f.mapped { // whole, or a part of one
		if gpa >= at && gpa+n <= at+size {
			f.log = append(f.log, "unmap")
			if at == gpa && size == n {
				delete(f.mapped, at)
			}
			return nil
		}
	}
	return errors.New("not mapped")
}

func (f *fake) TranslateGva(_ partition, _ uint32, gva uint64, _ uint32) (uint32, uint64, error) {
	return f.absent[gva/page], gva, nil
}

func (f *fake) CreateVirtualProcessor(_ partition, vp uint32) error {
	f.regs[vp] = map[uint32]value{}
	return nil
}
func (f *fake) DeleteVirtualProcessor(partition, uint32) error { return nil }

func (f *fake) RunVirtualProcessor(_ partition, _ uint32, exit *runExit) error {
	if f.ran != nil {
		f.ran <- struct{}{}
		<-f.cancel
		*exit = runExit{reason: WHvRunVpExitReasonCanceled}
		return nil
	}
	if len(f.script) == 0 {
		return errors.New("the script is over")
	}
	*exit = runExit{}
	next := f.script[0]
	f.script = f.script[1:]
	next(exit)
	return nil
}

func (f *fake) CancelRunVirtualProcessor(partition, uint32) error {
	select {
	case f.cancel <- struct{}{}:
	default:
	}
	return nil
}

func (f *fake) GetVirtualProcessorRegisters(_ partition, vp uint32, names []uint32, values []value) error {
	if address(values2bytes(values))%16 != 0 {
		return errors.New("values are not on a 16-byte boundary")
	}
	for i, n := range names {
		if n == WHvX64RegisterXss {
			return hresult(0x80350005) // this processor has none
		}
		values[i] = f.regs[vp][n]
		if n == WHvX64RegisterTsc {
			values[i].low = f.tsc + f.offset
		}
	}
	return nil
}

func (f *fake) SetVirtualProcessorRegisters(_ partition, vp uint32, names []uint32, values []value) error {
	if address(values2bytes(values))%16 != 0 {
		return errors.New("values are not on a 16-byte boundary")
	}
	for i, n := range names {
		f.regs[vp][n] = values[i]
		if n == WHvX64RegisterTsc {
			f.offset = values[i].low - f.tsc
		}
	}
	return nil
}

func (f *fake) RequestInterrupt(_ partition, c *interruptControl) error {
	f.interrupts = append(f.interrupts, *c)
	return nil
}

func (f *fake) GetVirtualProcessorCpuidOutput(_ partition, _, leaf, _ uint32) (cpuidOutput, error) {
	if f.platform == nil {
		return cpuidOutput{}, errors.New("no such function")
	}
	return f.platform[leaf], nil
}

func (f *fake) GetVirtualProcessorInterruptControllerState2(_ partition, _ uint32, b []byte) (int, error) {
	return area(f.lapic, b)
}
func (f *fake) SetVirtualProcessorInterruptControllerState2(_ partition, _ uint32, b []byte) error {
	f.lapic = append([]byte(nil), b...)
	return nil
}
func (f *fake) GetVirtualProcessorXsaveState(_ partition, _ uint32, b []byte) (int, error) {
	return area(f.xsave, b)
}
func (f *fake) SetVirtualProcessorXsaveState(_ partition, _ uint32, b []byte) error {
	f.xsave = append([]byte(nil), b...)
	return nil
}

func area(from, b []byte) (int, error) {
	if len(b) < len(from) {
		return len(from), hresult(WHV_E_INSUFFICIENT_BUFFER)
	}
	return copy(b, from), nil
}

func (f *fake) Alloc(size, align uint64) ([]byte, func() error, error) {
	whole := make([]byte, size+align)
	skip := uint64(-address(whole)) % align
	return whole[skip : skip+size : skip+size], func() error { return nil }, nil
}

func (f *fake) Renew(mem []byte) error {
	f.log = append(f.log, "renew")
	clear(mem)
	return nil
}

func (f *fake) CPUID(leaf, sub uint32) cpuidOutput {
	switch leaf {
	case 0:
		return cpuidOutput{eax: 0xd, ebx: 0x756e6547, ecx: 0x6c65746e, edx: 0x49656e69}
	case 1:
		return cpuidOutput{eax: 0x306a9, ecx: 0x7fffffff, edx: 0xffffffff}
	case 7:
		if sub == 0 {
			return cpuidOutput{eax: 1, ebx: ^uint32(0)}
		}
	case 0x80000000:
		return cpuidOutput{eax: 0x80000008}
	}
	return cpuidOutput{}
}

func (f *fake) RDTSC() uint64 { f.tsc += 10; return f.tsc }

// guest records what its machine's processor hands out.
type guest struct {
	ios   []access
	in    uint32
	calls []accel.Hypercall
	msrs  map[uint32]uint64
	park  bool
	then  func() // at each callback
}

type access struct {
	port  uint16
	size  int
	value uint32
	write bool
}

func (g *guest) PIO(port uint16, data []byte, write bool) {
	var b [4]byte
	if write {
		copy(b[:], data)
	} else {
		g.in++
		le.PutUint32(b[:], 0x01010101*g.in)
		copy(data, b[:])
	}
	g.ios = append(g.ios, access{port, len(data), le.Uint32(b[:]), write})
	g.did()
}

func (g *guest) Hypercall(h *accel.Hypercall) bool {
	g.calls = append(g.calls, *h)
	h.Result = ^uint64(37)
	g.did()
	return g.park
}

func (g *guest) MSR(index uint32, v *uint64, write bool) bool {
	old, ok := g.msrs[index]
	if write {
		g.msrs[index] = *v
	} else {
		*v = old
	}
	return ok
}

func (g *guest) LongMode() {}

func (g *guest) did() {
	if g.then != nil {
		g.then()
	}
}

// rig is a machine of one processor over a fake, with 1 MiB of memory at 0.
type rig struct {
	f   *fake
	h   *hypervisor
	m   *vm
	v   *vcpu
	ram accel.RAM
}

func newRig(t *testing.T, f *fake, c accel.Config) *rig {
	t.Helper()
	h, err := open(f)
	if err != nil {
		t.Fatal(err)
	}
	m, err := h.NewVM(c)
	if err != nil {
		t.Fatal(err)
	}
	r, err := h.NewRAM(accel.RAMConfig{Size: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Map(0, r, 0, 1<<20); err != nil {
		t.Fatal(err)
	}
	v, err := m.NewVCPU(0, m.Caps().CPUID)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(v.Close(), m.Close(), r.Close(), h.Close()); err != nil {
			t.Error(err)
		}
	})
	return &rig{f, h, m.(*vm), v.(*vcpu), r}
}

// stop is the exit that a kick from outside leads to.
func (r *rig) stop(e *runExit) {
	r.v.kicked.Store(true)
	e.reason = WHvRunVpExitReasonCanceled
}

// at fills an exit's processor: 64-bit code at RIP 0x1000, an instruction of n bytes.
func at(e *runExit, reason uint32, n uint8) {
	e.reason = reason
	e.vp = vpContext{state: stateLMA, lengthCR8: n | 0x50, rip: 0x1000, rflags: 0x202}
	e.vp.cs.attributes = 0xa09b
}

// reg is a register of processor 0.
func (r *rig) reg(name uint32) uint64 { return r.f.regs[0][name].low }

// run runs the script, whose end is a kick.
func (r *rig) run(t *testing.T, g *guest, script ...func(*runExit)) {
	t.Helper()
	r.f.script = append(script, r.stop)
	exit, err := r.v.Run(g)
	if err != nil || exit != accel.Interrupted || len(r.f.script) > 0 {
		t.Fatalf("Run: %v, %v, with %d exits left", exit, err, len(r.f.script))
	}
}
