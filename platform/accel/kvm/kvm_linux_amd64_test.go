package kvm

import (
	"bufio"
	"bytes"
	_ "embed"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/hxen-project/hxen/hv/accel"
)

// kernelNumbers is compiled in, as the lab has no files but this program.
//
//go:embed testdata/kvm.txt
var kernelNumbers string

func TestRAMIsAligned(t *testing.T) {
	r, err := (&hypervisor{}).NewRAM(accel.RAMConfig{Size: 4096})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if at := address(r.Bytes()); at%hugePage != 0 {
		t.Errorf("guest memory begins at %#x", at)
	}
	for _, size := range []uint64{0, 100, 1 << 60} {
		if r, err := (&hypervisor{}).NewRAM(accel.RAMConfig{Size: size}); err == nil {
			r.Close()
			t.Errorf("got memory of %d bytes", size)
		}
	}
}

func TestScaleTSC(t *testing.T) {
	for _, c := range []struct{ host, guestKHz, hostKHz, want uint64 }{
		{12345, 2_000_000, 2_000_000, 12345},
		{1 << 40, 1_000_000, 2_000_000, 1 << 39},
		{1 << 60, 3_000_000, 1_500_000, 1 << 61},
		{10_000_000_000, 2_500_000, 2_000_000, 12_500_000_000},
	} {
		if got := scaleTSC(c.host, tscRatio(c.guestKHz, c.hostKHz)); got != c.want {
			t.Errorf("%d at %d/%d kHz is %d, want %d", c.host, c.guestKHz, c.hostKHz, got, c.want)
		}
	}
}

// FuzzDecode: what decodes encodes to the same.
func FuzzDecode(f *testing.F) {
	full := &saved{tsc: 5, xsave: make([]byte, 4096), msrs: []msr{{index: 0x277, data: 7}}}
	f.Add(full.encode())
	f.Add([]byte{stateVersion})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := decode(b)
		if err == nil && !bytes.Equal(s.encode(), b) {
			t.Errorf("%d bytes decode and do not encode to themselves", len(b))
		}
	})
}

func TestSegments(t *testing.T) {
	for _, attr := range []uint16{0xc093, 0xa09b, 0x8b, 0xf0f3, 0} {
		a := accel.Segment{Base: 1, Limit: 2, Selector: 3, Attr: attr}
		if s := toSegment(&a); fromSegment(&s) != a || (s.unusable == 0) != (attr&0x80 != 0) {
			t.Errorf("%+v became %+v", a, s)
		}
	}
}

// TestKernelInterface holds the constants and structures against what a C
// compiler printed from the kernel's headers (testdata/kvm.c says how).
func TestKernelInterface(t *testing.T) {
	have := map[string]uint64{
		"const KVM_GET_API_VERSION": KVM_GET_API_VERSION, "const KVM_CREATE_VM": KVM_CREATE_VM,
		"const KVM_CHECK_EXTENSION": KVM_CHECK_EXTENSION, "const KVM_GET_VCPU_MMAP_SIZE": KVM_GET_VCPU_MMAP_SIZE,
		"const KVM_GET_SUPPORTED_CPUID": KVM_GET_SUPPORTED_CPUID, "const KVM_CREATE_VCPU": KVM_CREATE_VCPU,
		"const KVM_SET_USER_MEMORY_REGION": KVM_SET_USER_MEMORY_REGION, "const KVM_SET_TSS_ADDR": KVM_SET_TSS_ADDR,
		"const KVM_SET_IDENTITY_MAP_ADDR": KVM_SET_IDENTITY_MAP_ADDR, "const KVM_SIGNAL_MSI": KVM_SIGNAL_MSI,
		"const KVM_ENABLE_CAP": KVM_ENABLE_CAP, "const KVM_XEN_HVM_CONFIG": KVM_XEN_HVM_CONFIG,
		"const KVM_X86_SET_MSR_FILTER": KVM_X86_SET_MSR_FILTER, "const KVM_RUN": KVM_RUN,
		"const KVM_GET_REGS": KVM_GET_REGS, "const KVM_SET_REGS": KVM_SET_REGS,
		"const KVM_GET_SREGS": KVM_GET_SREGS, "const KVM_SET_SREGS": KVM_SET_SREGS,
		"const KVM_INTERRUPT": KVM_INTERRUPT, "const KVM_GET_MSRS": KVM_GET_MSRS,
		"const KVM_SET_MSRS": KVM_SET_MSRS, "const KVM_SET_CPUID2": KVM_SET_CPUID2,
		"const KVM_GET_LAPIC": KVM_GET_LAPIC, "const KVM_SET_LAPIC": KVM_SET_LAPIC,
		"const KVM_GET_MP_STATE": KVM_GET_MP_STATE, "const KVM_SET_MP_STATE": KVM_SET_MP_STATE,
		"const KVM_GET_VCPU_EVENTS": KVM_GET_VCPU_EVENTS, "const KVM_SET_VCPU_EVENTS": KVM_SET_VCPU_EVENTS,
		"const KVM_GET_DEBUGREGS": KVM_GET_DEBUGREGS, "const KVM_SET_DEBUGREGS": KVM_SET_DEBUGREGS,
		"const KVM_GET_XSAVE": KVM_GET_XSAVE, "const KVM_SET_XSAVE": KVM_SET_XSAVE,
		"const KVM_GET_XSAVE2": KVM_GET_XSAVE2, "const KVM_GET_XCRS": KVM_GET_XCRS,
		"const KVM_SET_XCRS": KVM_SET_XCRS, "const KVM_SET_TSC_KHZ": KVM_SET_TSC_KHZ,
		"const KVM_GET_TSC_KHZ": KVM_GET_TSC_KHZ, "const KVM_SET_DEVICE_ATTR": KVM_SET_DEVICE_ATTR,
		"const KVM_GET_DEVICE_ATTR": KVM_GET_DEVICE_ATTR, "const KVM_HAS_DEVICE_ATTR": KVM_HAS_DEVICE_ATTR,
		"const KVM_CAP_XEN_HVM": KVM_CAP_XEN_HVM, "const KVM_CAP_TSC_CONTROL": KVM_CAP_TSC_CONTROL,
		"const KVM_CAP_SYNC_REGS": KVM_CAP_SYNC_REGS, "const KVM_CAP_SPLIT_IRQCHIP": KVM_CAP_SPLIT_IRQCHIP,
		"const KVM_CAP_IMMEDIATE_EXIT": KVM_CAP_IMMEDIATE_EXIT, "const KVM_CAP_TSC_DEADLINE_TIMER": KVM_CAP_TSC_DEADLINE_TIMER,
		"const KVM_CAP_X86_USER_SPACE_MSR": KVM_CAP_X86_USER_SPACE_MSR, "const KVM_CAP_X86_MSR_FILTER": KVM_CAP_X86_MSR_FILTER,
		"const KVM_CAP_XSAVE2": KVM_CAP_XSAVE2, "const KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL": KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL,
		"const KVM_MSR_EXIT_REASON_FILTER": KVM_MSR_EXIT_REASON_FILTER, "const KVM_MSR_FILTER_READ": KVM_MSR_FILTER_READ,
		"const KVM_MSR_FILTER_WRITE": KVM_MSR_FILTER_WRITE, "const KVM_MSR_FILTER_MAX_RANGES": KVM_MSR_FILTER_MAX_RANGES,
		"const KVM_VCPU_TSC_CTRL": KVM_VCPU_TSC_CTRL, "const KVM_VCPU_TSC_OFFSET": KVM_VCPU_TSC_OFFSET,
		"const KVM_SYNC_X86_REGS": KVM_SYNC_X86_REGS, "const KVM_SYNC_X86_SREGS": KVM_SYNC_X86_SREGS,
		"const KVM_CPUID_FLAG_SIGNIFCANT_INDEX": KVM_CPUID_FLAG_SIGNIFCANT_INDEX, "const KVM_EXIT_IO": KVM_EXIT_IO,
		"const KVM_EXIT_MMIO": KVM_EXIT_MMIO, "const KVM_EXIT_IRQ_WINDOW_OPEN": KVM_EXIT_IRQ_WINDOW_OPEN,
		"const KVM_EXIT_SHUTDOWN": KVM_EXIT_SHUTDOWN, "const KVM_EXIT_FAIL_ENTRY": KVM_EXIT_FAIL_ENTRY,
		"const KVM_EXIT_INTR": KVM_EXIT_INTR, "const KVM_EXIT_INTERNAL_ERROR": KVM_EXIT_INTERNAL_ERROR,
		"const KVM_EXIT_X86_RDMSR": KVM_EXIT_X86_RDMSR, "const KVM_EXIT_X86_WRMSR": KVM_EXIT_X86_WRMSR,
		"const KVM_EXIT_XEN": KVM_EXIT_XEN, "const KVM_EXIT_IO_OUT": KVM_EXIT_IO_OUT,
		"const KVM_EXIT_XEN_HCALL": KVM_EXIT_XEN_HCALL,
	}
	add := func(cname string, v any, names map[string]string) {
		typ := reflect.TypeOf(v)
		have["size "+cname] = uint64(typ.Size())
		for c, g := range names {
			var at uintptr
			for _, part := range strings.Split(g, ".") {
				f, ok := typ.FieldByName(part)
				if !ok {
					t.Fatalf("%s has no field %s", typ, part)
				}
				at, typ = at+f.Offset, f.Type
			}
			typ = reflect.TypeOf(v)
			have["offset "+cname+"."+c] = uint64(at)
		}
	}
	names := func(list string) map[string]string { // "a b:c": C's name, and ours if it is another
		m := map[string]string{}
		for _, n := range strings.Fields(list) {
			c, g, ok := strings.Cut(n, ":")
			if !ok {
				g = c
			}
			m[c] = g
		}
		return m
	}
	add("kvm_regs", regs{}, names("rax r8 r15 rip rflags:flg"))
	add("kvm_segment", segment{}, names("base limit selector type:typ present dpl db s l g avl unusable"))
	add("kvm_dtable", dtable{}, names("base limit"))
	add("kvm_sregs", sregs{}, names("cs ds es fs gs ss tr ldt:ld gdt idt cr0 cr2 cr3 cr4 cr8 efer apic_base:apicBase interrupt_bitmap:interruptBitmap"))
	add("kvm_userspace_memory_region", memoryRegion{}, names("slot flags guest_phys_addr:guest memory_size:size userspace_addr:userspaceStart"))
	add("kvm_cpuid_entry2", cpuidEntry{}, names("function index flags eax edx"))
	add("kvm_cpuid2", cpuid{}, names("nent entries"))
	add("kvm_enable_cap", enableCap{}, names("cap flags args"))
	add("kvm_xen_hvm_config", xenConfig{}, names("flags msr"))
	add("kvm_msr_filter", msrFilter{}, names("flags ranges"))
	add("kvm_msr_filter_range", msrRange{}, names("flags nmsrs base bitmap"))
	add("kvm_msi", msi{}, names("address_lo:addrLow address_hi:addrHi data flags"))
	add("kvm_msr_entry", msr{}, names("index data"))
	add("kvm_msrs", oneMSR{}, names("nmsrs entries:entry"))
	add("kvm_device_attr", deviceAttr{}, names("flags group attr addr"))
	add("kvm_run", runArea{}, names("request_interrupt_window:control exit_reason:exitReason ready_for_interrupt_injection:ready io:exit "+
		"kvm_valid_regs:validRegs kvm_dirty_regs:dirtyRegs s.regs.regs:regs s.regs.sregs:sregs"))
	have["offset kvm_run.immediate_exit"] = have["offset kvm_run.request_interrupt_window"] + 1 // immediateExit, little endian
	union := func(v any, list string) {
		typ := reflect.TypeOf(v)
		for c, g := range names(list) {
			f, ok := typ.FieldByName(g)
			if !ok {
				t.Fatalf("%s has no field %s", typ, g)
			}
			have["offset kvm_run."+c] = have["offset kvm_run.io"] + uint64(f.Offset)
		}
	}
	union(exitIO{}, "io.direction:direction io.size:size io.port:port io.count:count io.data_offset:dataOffset")
	union(exitMMIO{}, "mmio.phys_addr:gpa mmio.data:data mmio.len:len mmio.is_write:isWrite")
	union(exitMSR{}, "msr.error:err msr.index:index msr.data:data")
	union(exitXen{}, "xen.type:typ xen.u.hcall.longmode:longmode xen.u.hcall.cpl:cpl xen.u.hcall.input:input xen.u.hcall.result:result xen.u.hcall.params:params")
	union(exitInternal{}, "internal.suberror:suberror")
	union(exitFailEntry{}, "fail_entry.hardware_entry_failure_reason:reason")
	s := saved{}
	have["size kvm_xcrs"], have["size kvm_debugregs"] = uint64(len(s.xcrs)), uint64(len(s.debug))
	have["size kvm_lapic_state"], have["size kvm_vcpu_events"] = uint64(len(s.lapic)), uint64(len(s.events))
	have["size kvm_mp_state"], have["size kvm_xsave"] = 4, 4096

	n := 0
	for sc := bufio.NewScanner(strings.NewReader(kernelNumbers)); sc.Scan(); n++ {
		i := strings.LastIndexByte(sc.Text(), ' ')
		want, err := strconv.ParseUint(sc.Text()[i+1:], 0, 64)
		if err != nil {
			t.Fatal(err)
		}
		got, ok := have[sc.Text()[:i]]
		if !ok || got != want {
			t.Errorf("%s: %s", sc.Text(), map[bool]string{true: fmt.Sprintf("%#x here", got), false: "not checked"}[ok])
		}
		delete(have, sc.Text()[:i])
	}
	if n < 100 {
		t.Errorf("only %d lines in testdata/kvm.txt", n)
	}
	for name := range have {
		if strings.HasPrefix(name, "const ") {
			t.Errorf("%s is not in testdata/kvm.txt", name)
		}
	}
}
