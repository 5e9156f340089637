package whp

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hxen-project/hxen/hv/accel"
)

func TestOpenSaysWhatIsMissing(t *testing.T) {
	for code, v := range map[uint32]uint64{
		WHvCapabilityCodeHypervisorPresent:       0,
		WHvCapabilityCodeFeatures:                featurePartialUnmap,
		WHvCapabilityCodeExtendedVmExits:         exitCpuid | exitHypercall,
		WHvCapabilityCodeProcessorClockFrequency: 0,
	} {
		f := newFake()
		f.caps[code] = v
		if _, err := open(f); err == nil {
			t.Errorf("opened with capability %#x of %#x", code, v)
		}
	}
	f := newFake()
	f.caps[WHvCapabilityCodeExtendedVmExits] = exitCpuid | exitMsr | exitException
	f.caps[WHvCapabilityCodeExceptionExitBitmap] = 1 << 3
	if _, err := open(f); err == nil || !strings.Contains(err.Error(), "hypercalls") {
		t.Errorf("without any way for hypercalls: %v", err)
	}
}

func TestPartition(t *testing.T) {
	f := newFake()
	f.refuse[WHvPartitionPropertyCodeMsrActionList] = hresult(WHV_E_UNKNOWN_PROPERTY)
	r := newRig(t, f, accel.Config{VCPUs: 2, MSRs: []uint32{0x40000000}})
	for code, want := range map[uint32][]byte{
		WHvPartitionPropertyCodeProcessorCount:                  {2, 0, 0, 0},
		WHvPartitionPropertyCodeLocalApicEmulationMode:          {2, 0, 0, 0},
		WHvPartitionPropertyCodeExtendedVmExits:                 {exitCpuid | exitMsr | exitException | exitHypercall, 0, 0, 0, 0, 0, 0, 0},
		WHvPartitionPropertyCodeExceptionExitBitmap:             {1 << 6, 0, 0, 0, 0, 0, 0, 0},
		WHvPartitionPropertyCodeX64MsrExitBitmap:                {1, 0, 0, 0, 0, 0, 0, 0},
		WHvPartitionPropertyCodeSyntheticProcessorFeaturesBanks: {1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
	} {
		if got := f.properties[code]; !bytes.Equal(got, want) {
			t.Errorf("property %#x is %x, want %x", code, got, want)
		}
	}
	if a := f.regs[1][WHvRegisterInternalActivityState].low; a != startupSuspend {
		t.Errorf("processor 1 begins with activity %#x", a)
	}
	if c := r.m.Caps(); c.Call != [3]byte{0x0f, 0x01, 0xc1} || c.TSCHz != 2e9 || !c.LAPIC || c.Patched {
		t.Errorf("%+v", c)
	}
	if _, err := r.h.NewVM(accel.Config{VCPUs: 1, TSCHz: 2_001_000_000}); err == nil {
		t.Error("a machine with another TSC was made")
	}
	if m, err := r.h.NewVM(accel.Config{VCPUs: 1, TSCHz: 2_000_100_000}); err != nil || m.Caps().TSCHz != 2_000_100_000 {
		t.Errorf("a host that was measured anew does not take its own guest: %v", err)
	}
	f.refuse[WHvPartitionPropertyCodeX64MsrExitBitmap] = hresult(0x80070005)
	if _, err := r.h.NewVM(accel.Config{VCPUs: 1}); err == nil {
		t.Error("a refused property was overlooked")
	}
	old := newFake()
	old.refuse[WHvPartitionPropertyCodeLocalApicEmulationMode] = errors.New("only xAPIC")
	if h, err := open(old); err != nil {
		t.Error(err)
	} else if _, err := h.NewVM(accel.Config{VCPUs: 1}); err == nil {
		t.Error("a machine without a LAPIC was made")
	}
}

func TestPorts(t *testing.T) {
	r := newRig(t, newFake(), accel.Config{VCPUs: 1})
	io := func(write uint32, size uint32) func(*runExit) {
		return func(e *runExit) {
			at(e, WHvRunVpExitReasonX64IoPortAccess, 2)
			*e.io() = exitIO{access: write | size<<1, port: 0x99, rax: 0xaaaaaaaa55667788}
		}
	}
	g := &guest{}
	for _, c := range []struct {
		write, size uint32
		want        access
		rax         uint64
	}{
		{1, 1, access{0x99, 1, 0x88, true}, 0}, {1, 2, access{0x99, 2, 0x7788, true}, 0}, {1, 4, access{0x99, 4, 0x55667788, true}, 0},
		{0, 1, access{0x99, 1, 0x01010101, false}, 0xaaaaaaaa55667701},
		{0, 2, access{0x99, 2, 0x02020202, false}, 0xaaaaaaaa55660202},
		{0, 4, access{0x99, 4, 0x03030303, false}, 0x03030303},
	} {
		g.ios = nil
		r.run(t, g, io(c.write, c.size))
		if !slices.Equal(g.ios, []access{c.want}) || r.reg(WHvX64RegisterRip) != 0x1002 {
			t.Errorf("%+v: saw %+v, rip %#x", c, g.ios, r.reg(WHvX64RegisterRip))
		}
		if c.write == 0 && r.reg(WHvX64RegisterRax) != c.rax {
			t.Errorf("%+v: rax %#x", c, r.reg(WHvX64RegisterRax))
		}
	}
	r.f.script = []func(*runExit){io(1, 3)}
	if _, err := r.v.Run(g); err == nil || errors.Is(err, accel.ErrGuest) {
		t.Errorf("an access of 3 bytes: %v", err)
	}
}

func TestStrings(t *testing.T) {
	r := newRig(t, newFake(), accel.Config{VCPUs: 1})
	mem := r.ram.Bytes()
	for i := range 8 {
		mem[0x2000-4+i] = byte(i)
	}
	str := func(write, size uint32, rcx, si uint64, flags uint64) func(*runExit) {
		return func(e *runExit) {
			at(e, WHvRunVpExitReasonX64IoPortAccess, 2)
			e.vp.rflags = flags
			x := e.io()
			*x = exitIO{count: 2, access: write | size<<1 | ioString | ioRep, port: 7, rcx: rcx, rsi: si, rdi: si}
			copy(x.bytes[:], []byte{0xf3, 0x6e})
		}
	}
	g := &guest{}
	r.run(t, g, str(1, 2, 4, 0x2000-4, 2)) // over a page's end
	if want := []access{{7, 2, 0x0100, true}, {7, 2, 0x0302, true}, {7, 2, 0x0504, true}, {7, 2, 0x0706, true}}; !slices.Equal(g.ios, want) {
		t.Errorf("wrote %+v", g.ios)
	}
	if r.reg(WHvX64RegisterRsi) != 0x2004 || r.reg(WHvX64RegisterRcx) != 0 || r.reg(WHvX64RegisterRip) != 0x1002 {
		t.Errorf("left at %#x, %d to go, rip %#x", r.reg(WHvX64RegisterRsi), r.reg(WHvX64RegisterRcx), r.reg(WHvX64RegisterRip))
	}
	r.run(t, &guest{}, str(0, 1, 3, 0x3002, 2|1<<10)) // downwards
	if !bytes.Equal(mem[0x3000:0x3004], []byte{3, 2, 1, 0}) || r.reg(WHvX64RegisterRdi) != 0x2fff {
		t.Errorf("read %x, left at %#x", mem[0x3000:0x3004], r.reg(WHvX64RegisterRdi))
	}
	// A long one lets others in between.
	g = &guest{}
	r.run(t, g, str(1, 1, 1<<40, 0x4000, 2))
	if len(g.ios) != batch || r.reg(WHvX64RegisterRcx) != 1<<40-batch || r.reg(WHvX64RegisterRip) != 0x1000 {
		t.Errorf("%d elements, %#x to go, rip %#x", len(g.ios), r.reg(WHvX64RegisterRcx), r.reg(WHvX64RegisterRip))
	}
	// A page that is not there: its fault, after what could be done.
	r.f.absent[0x5] = WHvTranslateGvaResultPageNotPresent
	g = &guest{}
	r.run(t, g, str(0, 4, 3, 0x4ff8, 2))
	if len(g.ios) != 2 || r.reg(WHvX64RegisterRcx) != 1 || r.reg(WHvX64RegisterRip) != 0x1000 {
		t.Errorf("%d elements before the fault, %d to go", len(g.ios), r.reg(WHvX64RegisterRcx))
	}
	if e := r.f.regs[0][WHvRegisterPendingEvent]; e.low != 1|1<<8|14<<16|2<<32 || e.high != 0x5000 {
		t.Errorf("the fault came as %#x, %#x", e.low, e.high)
	}
}

func TestHypercalls(t *testing.T) {
	r := newRig(t, newFake(), accel.Config{VCPUs: 1})
	for i, name := range []uint32{WHvX64RegisterRdi, WHvX64RegisterRsi, WHvX64RegisterRdx, WHvX64RegisterR8 + 2, WHvX64RegisterR8} {
		r.f.regs[0][name] = value{low: uint64(i+1)<<32 | uint64(i+1)}
	}
	r.f.regs[0][WHvX64RegisterRax] = value{low: 34}
	r.f.regs[0][WHvX64RegisterRbx] = value{low: 1<<32 | 9}
	call := func(e *runExit) { at(e, WHvRunVpExitReasonHypercall, 0) }
	g := &guest{}
	r.run(t, g, call)
	want := accel.Hypercall{Number: 34, Long: true, Args: [5]uint64{1<<32 | 1, 2<<32 | 2, 3<<32 | 3, 4<<32 | 4, 5<<32 | 5}}
	if len(g.calls) != 1 || g.calls[0] != want || r.reg(WHvX64RegisterRax) != ^uint64(37) || r.reg(WHvX64RegisterRip) != 0x1003 {
		t.Errorf("%+v, rax %#x, rip %#x", g.calls, r.reg(WHvX64RegisterRax), r.reg(WHvX64RegisterRip))
	}
	// From 32-bit code, by way of #UD, whose exit did not tell the bytes.
	copy(r.ram.Bytes()[0x11000:], []byte{0x0f, 0x01, 0xd9})
	r.f.regs[0][WHvX64RegisterRax] = value{low: 34}
	g = &guest{}
	r.run(t, g, func(e *runExit) {
		at(e, WHvRunVpExitReasonException, 0)
		e.vp.cs = segment{base: 0x10000, attributes: 0xc09b}
		e.exception().vector = vectorUD
	})
	want = accel.Hypercall{Number: 34, Args: [5]uint64{9, 0, 3, 2, 1}}
	want.Args[1] = r.reg(WHvX64RegisterRcx)
	if len(g.calls) != 1 || g.calls[0] != want || r.reg(WHvX64RegisterRax) != 0xffffffda {
		t.Errorf("%+v, rax %#x", g.calls, r.reg(WHvX64RegisterRax))
	}
	// Another unknown instruction is the guest's.
	g = &guest{}
	r.f.regs[0][WHvX64RegisterRip] = value{low: 1}
	r.run(t, g, func(e *runExit) {
		at(e, WHvRunVpExitReasonException, 0)
		x := e.exception()
		x.vector, x.count, x.bytes = vectorUD, 3, [16]byte{0x0f, 0x0b, 0x90}
	})
	if len(g.calls) != 0 || r.f.regs[0][WHvRegisterPendingEvent].low != 1|6<<16 || r.reg(WHvX64RegisterRip) != 1 {
		t.Errorf("ud2: %d calls, event %#x", len(g.calls), r.f.regs[0][WHvRegisterPendingEvent].low)
	}
	// Parked: the call is complete.
	r.f.script = []func(*runExit){call}
	r.f.regs[0][WHvX64RegisterRip] = value{}
	if exit, err := r.v.Run(&guest{park: true}); exit != accel.Parked || err != nil || r.reg(WHvX64RegisterRip) != 0x1003 {
		t.Errorf("%v, %v, rip %#x", exit, err, r.reg(WHvX64RegisterRip))
	}
}

func TestMSRs(t *testing.T) {
	r := newRig(t, newFake(), accel.Config{VCPUs: 1, MSRs: []uint32{0x40000000}})
	msr := func(index uint32, write uint32) func(*runExit) {
		return func(e *runExit) {
			at(e, WHvRunVpExitReasonX64MsrAccess, 2)
			*e.msr() = exitMSRAccess{write: write, index: index, rax: 0xffff000055667788, rdx: 0xffff000011223344}
		}
	}
	g := &guest{msrs: map[uint32]uint64{0x40000000: 0}}
	r.run(t, g, msr(0x40000000, 1))
	if g.msrs[0x40000000] != 0x1122334455667788 || r.reg(WHvX64RegisterRip) != 0x1002 {
		t.Errorf("wrote %#x", g.msrs[0x40000000])
	}
	r.run(t, g, msr(0x40000000, 0))
	if r.reg(WHvX64RegisterRax) != 0x55667788 || r.reg(WHvX64RegisterRdx) != 0x11223344 {
		t.Errorf("read %#x, %#x", r.reg(WHvX64RegisterRax), r.reg(WHvX64RegisterRdx))
	}
	g.msrs[0x123] = 1 // not routed
	for _, c := range []func(*runExit){msr(0x123, 0), msr(0x123, 1)} {
		r.f.regs[0][WHvX64RegisterRip] = value{}
		r.f.regs[0][WHvRegisterPendingEvent] = value{}
		r.run(t, g, c)
		if r.f.regs[0][WHvRegisterPendingEvent].low != 1|1<<8|13<<16 || r.reg(WHvX64RegisterRip) != 0 {
			t.Errorf("event %#x, rip %#x", r.f.regs[0][WHvRegisterPendingEvent].low, r.reg(WHvX64RegisterRip))
		}
	}
}

func TestCPUID(t *testing.T) {
	r := newRig(t, newFake(), accel.Config{VCPUs: 1})
	r.v.ids = []accel.CPUID{{Leaf: 1, EAX: 5, EBX: 7 << 24, ECX: 0xffffffff &^ (1 << 5), EDX: 0xffffffff},
		{Leaf: 4, Indexed: true, EAX: 1}, {Leaf: 0x40000000, EAX: 0x40000004, EBX: 0x566e6558}, {Leaf: 0xd, Indexed: true, EBX: 1}}
	for _, c := range []struct{ leaf, sub, eax, ebx, ecx, edx uint32 }{
		// The platform's features, our ids, hypervisor, x2APIC and HTT; OSXSAVE as it is now.
		{1, 0, 5, 7 << 24, 1<<31 | 1<<21 | 0x0f, htt | 0xf},
		{4, 0, 1, 0, 0, 0},
		{4, 9, 0, 0, 0, 0}, // ours, and past its end
		{0x40000000, 0, 0x40000004, 0x566e6558, 0, 0},
		{0x40000003, 0, 0, 0, 0, 0}, // never another hypervisor's
		{0xd, 0, 0x111, 0x222, 0x0f | 1<<5, 0xf},
		{0x16, 0, 0x111, 0x222, 0x0f | 1<<5, 0xf}, // the platform's
	} {
		r.run(t, &guest{}, func(e *runExit) {
			at(e, WHvRunVpExitReasonX64Cpuid, 2)
			*e.cpuid() = exitCPUIDAccess{rax: uint64(c.leaf), rcx: uint64(c.sub), defaultRAX: 0x111, defaultRBX: 0x222, defaultRCX: 0x0f | 1<<5, defaultRDX: 0xf}
		})
		got := [4]uint64{r.reg(WHvX64RegisterRax), r.reg(WHvX64RegisterRbx), r.reg(WHvX64RegisterRcx), r.reg(WHvX64RegisterRdx)}
		if want := [4]uint64{uint64(c.eax), uint64(c.ebx), uint64(c.ecx), uint64(c.edx)}; got != want || r.reg(WHvX64RegisterRip) != 0x1002 {
			t.Errorf("leaf %#x.%d: %#x, want %#x", c.leaf, c.sub, got, want)
		}
	}
	// A platform that tells is believed.
	f := newFake()
	f.platform = map[uint32]cpuidOutput{0: {eax: 1, ebx: 0x68747541}, 1: {eax: 9}, 0x80000000: {eax: 0x80000000}}
	if c := newRig(t, f, accel.Config{VCPUs: 1}).m.Caps(); len(c.CPUID) != 3 || c.Call[2] != 0xd9 {
		t.Errorf("%+v", c)
	}
}

func TestMemoryThatIsNotThere(t *testing.T) {
	r := newRig(t, newFake(), accel.Config{VCPUs: 1})
	memory := func(gpa uint64, kind uint32, code ...byte) func(*runExit) {
		return func(e *runExit) {
			at(e, WHvRunVpExitReasonMemoryAccess, 0)
			m := e.memory()
			*m = exitMemory{count: uint8(min(len(code), 15)), access: kind, gpa: gpa}
			copy(m.bytes[:], code)
			copy(r.ram.Bytes()[0x1000:], code)
		}
	}
	for _, c := range []struct {
		code []byte
		rip  uint64
		name uint32
		want uint64 // of a register that had 0x1122334455667788
	}{
		{[]byte{0x8a, 0x03}, 2, WHvX64RegisterRax, 0x11223344556677ff},                          // mov (%rbx),%al
		{[]byte{0x8a, 0x23}, 2, WHvX64RegisterRax, 0x112233445566ff88},                          // mov (%rbx),%ah
		{[]byte{0x66, 0x8b, 0x43, 2}, 4, WHvX64RegisterRax, 0x112233445566ffff},                 // mov 2(%rbx),%ax
		{[]byte{0x8b, 0x8c, 0x24, 1, 0, 0, 0}, 7, WHvX64RegisterRcx, 0xffffffff},                // mov 1(%rsp),%ecx
		{[]byte{0x4c, 0x8b, 0x3d, 1, 0, 0, 0}, 7, WHvX64RegisterR15, ^uint64(0)},                // mov 1(%rip),%r15
		{[]byte{0x0f, 0xb6, 0x0b}, 3, WHvX64RegisterRcx, 0xff},                                  // movzbl (%rbx),%ecx
		{[]byte{0x48, 0x0f, 0xbf, 0x0b}, 4, WHvX64RegisterRcx, ^uint64(0)},                      // movswq (%rbx),%rcx
		{[]byte{0x88, 0x03}, 2, WHvX64RegisterRax, 0x1122334455667788},                          // mov %al,(%rbx)
		{[]byte{0xc7, 0x03, 1, 2, 3, 4}, 6, WHvX64RegisterRax, 0x1122334455667788},              // movl $..,(%rbx)
		{[]byte{0x66, 0xc7, 0x03, 1, 2}, 5, WHvX64RegisterRax, 0x1122334455667788},              // movw $..,(%rbx)
		{[]byte{0xa1, 1, 2, 3, 4, 5, 6, 7, 8}, 9, WHvX64RegisterRax, 0xffffffff},                // movabs ..,%eax
		{[]byte{0x67, 0x48, 0x8b, 0x04, 0x25, 0, 0, 0, 0x40}, 9, WHvX64RegisterRax, ^uint64(0)}, // addr32 mov 0x40000000,%rax
	} {
		for n := range uint32(16) {
			r.f.regs[0][n] = value{low: 0x1122334455667788}
		}
		r.run(t, &guest{}, memory(0x40000000, WHvMemoryAccessRead, c.code...))
		if r.reg(WHvX64RegisterRip) != 0x1000+c.rip || r.reg(c.name) != c.want {
			t.Errorf("% x: rip %#x, register %d %#x, want %#x", c.code, r.reg(WHvX64RegisterRip), c.name, r.reg(c.name), c.want)
		}
	}
	for what, s := range map[string]func(*runExit){
		"code":               memory(0x40000000, WHvMemoryAccessExecute),
		"another operation":  memory(0x40000000, WHvMemoryAccessRead, 0x03, 0x03), // add (%rbx),%eax
		"a register":         memory(0x40000000, WHvMemoryAccessRead, 0x8b, 0xc3),
		"a register's state": func(e *runExit) { at(e, WHvRunVpExitReasonInvalidVpRegisterValue, 0) },
		"a feature":          func(e *runExit) { at(e, WHvRunVpExitReasonUnsupportedFeature, 0) },
	} {
		r.f.script = []func(*runExit){s}
		if _, err := r.v.Run(&guest{}); !errors.Is(err, accel.ErrGuest) {
			t.Errorf("%s: %v, want the guest's own fault", what, err)
		}
	}
	// Memory that has come meanwhile is tried again, and not for ever.
	r.f.regs[0][WHvX64RegisterRip] = value{}
	r.run(t, &guest{}, memory(0x2000, WHvMemoryAccessRead, 0x8b, 0x03))
	if r.reg(WHvX64RegisterRip) != 0 {
		t.Error("an access to memory that is there was emulated")
	}
	r.f.script = slices.Repeat([]func(*runExit){memory(0x2000, WHvMemoryAccessRead)}, patience+1)
	if _, err := r.v.Run(&guest{}); !errors.Is(err, errTwice) || errors.Is(err, accel.ErrGuest) {
		t.Errorf("%v", err)
	}
	r.f.script = []func(*runExit){func(e *runExit) { at(e, WHvRunVpExitReasonUnrecoverableException, 0) }}
	if exit, err := r.v.Run(&guest{}); exit != accel.Shutdown || err != nil {
		t.Errorf("a triple fault: %v, %v", exit, err)
	}
	r.f.script = []func(*runExit){func(e *runExit) { at(e, 0x777, 0) }}
	if _, err := r.v.Run(&guest{}); err == nil || errors.Is(err, accel.ErrGuest) {
		t.Errorf("an unknown exit: %v", err)
	}
}

func TestCallback(t *testing.T) {
	r := newRig(t, newFake(), accel.Config{VCPUs: 1})
	r.f.regs[0][WHvX64RegisterRflags] = value{low: 2} // interrupts off
	r.f.regs[0][WHvRegisterInternalActivityState] = value{low: 2}
	for range 3 {
		if err := r.v.Raise(0xf3, false); err != nil {
			t.Fatal(err)
		}
	}
	looked := 0
	window := func(e *runExit) {
		looked++
		if r.reg(WHvX64RegisterDeliverabilityNotifications) != interruptNotification || r.reg(WHvRegisterPendingEvent) != 0 {
			t.Errorf("notifications %#x, event %#x", r.reg(WHvX64RegisterDeliverabilityNotifications), r.reg(WHvRegisterPendingEvent))
		}
		r.f.regs[0][WHvX64RegisterRflags] = value{low: 0x202}
		at(e, WHvRunVpExitReasonX64InterruptWindow, 0)
	}
	given := func(e *runExit) {
		looked++
		if r.reg(WHvRegisterPendingEvent) != 1|5<<1|0xf3<<8 || r.reg(WHvRegisterInternalActivityState) != 0 {
			t.Errorf("event %#x, activity %#x", r.reg(WHvRegisterPendingEvent), r.reg(WHvRegisterInternalActivityState))
		}
		r.f.regs[0][WHvRegisterPendingEvent] = value{} // taken
		at(e, WHvRunVpExitReasonCanceled, 0)
	}
	once := func(e *runExit) {
		looked++
		if r.reg(WHvRegisterPendingEvent) != 0 {
			t.Error("it came twice")
		}
		at(e, WHvRunVpExitReasonX64Halt, 0)
	}
	r.run(t, &guest{}, window, given, once)
	if looked != 3 {
		t.Errorf("%d runs", looked)
	}
	if err := r.v.Raise(0x30, true); err != nil || !slices.Equal(r.f.interrupts, []interruptControl{{vector: 0x30}}) {
		t.Errorf("%+v, %v", r.f.interrupts, err)
	}
}

func TestKick(t *testing.T) {
	r := newRig(t, newFake(), accel.Config{VCPUs: 1})
	r.v.Kick()
	r.v.Kick()
	if exit, err := r.v.Run(&guest{}); exit != accel.Interrupted || err != nil {
		t.Fatalf("%v, %v", exit, err)
	}
	<-r.f.cancel // the kick's, that no run used up
	r.f.ran = make(chan struct{})
	ended := make(chan error)
	go func() {
		_, err := r.v.Run(&guest{})
		ended <- err
	}()
	<-r.f.ran
	r.v.nudge() // as Raise does: it goes in again
	<-r.f.ran
	r.v.Kick()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("the kick was lost")
	}
	if err := r.v.Close(); err != nil {
		t.Error(err)
	}
	r.v.Kick() // late, and harmless
	if len(r.f.cancel) != 0 {
		t.Error("a closed processor was cancelled")
	}
}

func TestMemory(t *testing.T) {
	for _, partial := range []bool{true, false} {
		f := newFake()
		if !partial {
			f.caps[WHvCapabilityCodeFeatures] = featureLocalApicEmulation
		}
		r := newRig(t, f, accel.Config{VCPUs: 1})
		for _, c := range []struct{ gpa, n uint64 }{{0, 1 << 20}, {0xff000, 4096}, {0x1000, 4096}} {
			if err := r.m.Map(c.gpa, r.ram, 0, c.n); err == nil {
				t.Errorf("mapped over what is there: %+v", c)
			}
		}
		if err := r.m.Map(1<<32, r.ram, 0x10000, 0x10000); err != nil { // the same memory again
			t.Fatal(err)
		}
		mem := r.ram.Bytes()
		mem[0x11000], mem[0x12000], mem[0x1f000] = 1, 2, 3
		f.log = nil
		if err := r.ram.Discard(0x11000, 0x1000); err != nil {
			t.Fatal(err)
		}
		if mem[0x11000] != 0 || mem[0x12000] != 2 {
			t.Error("discarded wrongly")
		}
		if want := []string{"unmap", "unmap", "renew", "map", "map"}; !slices.Equal(f.log, want) {
			t.Errorf("partial unmap %v: %q", partial, f.log)
		}
		if err := r.m.Unmap(1<<32, 0x1000); err == nil {
			t.Error("unmapped a part")
		}
		if err := r.m.Unmap(1<<32, 0x10000); err != nil {
			t.Error(err)
		}
		f.log = nil
		if err := r.ram.Discard(0x11000, 0x1000); err != nil || len(f.log) != 3 {
			t.Errorf("%v, %q", err, f.log)
		}
		if address(mem)%hugePage != 0 {
			t.Errorf("memory begins at %#x", address(mem))
		}
		if err := r.ram.Discard(1<<20, 4096); err == nil {
			t.Error("discarded past the end")
		}
	}
}

func TestState(t *testing.T) {
	r := newRig(t, newFake(), accel.Config{VCPUs: 2})
	want := accel.Regs{RAX: 1, R15: 15, RIP: 0x1234, RFLAGS: 2, CR0: 0x80000011, EFER: 0x500,
		CS:  accel.Segment{Base: 5, Limit: 6, Selector: 7, Attr: 0xa09b},
		GDT: accel.Table{Base: 0x9000, Limit: 31}, IDT: accel.Table{Base: 0xa000, Limit: 4095}}
	if err := r.v.SetRegs(want); err != nil {
		t.Fatal(err)
	}
	r.f.regs[0][WHvX64RegisterDr0+3] = value{low: 33}
	r.f.lapic[0x20], r.f.xsave[4999] = 1, 2
	s, err := r.v.State()
	if err != nil {
		t.Fatal(err)
	}
	other := newRig(t, newFake(), accel.Config{VCPUs: 2})
	if err := other.v.SetState(s); err != nil {
		t.Fatal(err)
	}
	if got, err := other.v.Regs(); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	if !bytes.Equal(other.f.lapic, r.f.lapic) || !bytes.Equal(other.f.xsave, r.f.xsave) || other.reg(WHvX64RegisterDr0+3) != 33 {
		t.Error("a part was lost")
	}
	tsc := other.f.regs[0][WHvX64RegisterTsc].low
	if tsc == 0 || other.f.regs[1][WHvX64RegisterTsc].low != tsc || !slices.Equal(other.f.log[len(other.f.log)-2:], []string{"suspend", "resume"}) {
		t.Errorf("TSC %d and %d, %q", tsc, other.f.regs[1][WHvX64RegisterTsc].low, other.f.log)
	}
	before := other.v.TSC()
	if err := errors.Join(other.v.ShiftTSC(0), other.v.ShiftTSC(1e9)); err != nil {
		t.Error(err)
	}
	if d := other.v.TSC() - before; d < 1e9 || d > 2e9 {
		t.Errorf("shifted by %d", d)
	}
	for _, wrong := range []accel.State{{Backend: "kvm", Data: s.Data}, {Backend: s.Backend}, {Backend: s.Backend, Data: s.Data[:len(s.Data)/2]}} {
		if other.v.SetState(wrong) == nil {
			t.Errorf("a state of %q with %d bytes was taken", wrong.Backend, len(wrong.Data))
		}
	}
}

func FuzzState(f *testing.F) {
	f.Add((&saved{lapic: []byte{1}, xsave: []byte{2, 3}, names: []uint32{WHvX64RegisterRax}, values: []value{{low: 4}}}).encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := decodeState(b); err == nil && !bytes.Equal(s.encode(), b) {
			t.Errorf("%d bytes decode and do not encode to themselves", len(b))
		}
	})
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte{0x66, 0x8b, 0x43, 2}, uint8(2))
	f.Add([]byte{0xf3, 0x6e}, uint8(0))
	f.Fuzz(func(t *testing.T, b []byte, mode uint8) {
		b = b[:min(len(b), 15)]
		m, ok := decode(b, 16<<(mode%3))
		if ok && (m.length == 0 || m.length > uint64(len(b)) || m.register > 15 || m.load && m.size == 0) {
			t.Errorf("% x: %+v", b, m)
		}
	})
}
