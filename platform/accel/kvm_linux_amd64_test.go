package accel

import (
	"bufio"
	"fmt"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

// TestKernelInterface holds the constants and structures against what a C
// compiler printed from linux/kvm.h (testdata/kvm.c says how).
func TestKernelInterface(t *testing.T) {
	have := map[string]uint64{
		"const KVM_GET_API_VERSION": KVM_GET_API_VERSION, "const KVM_CREATE_VM": KVM_CREATE_VM,
		"const KVM_GET_VCPU_MMAP_SIZE": KVM_GET_VCPU_MMAP_SIZE, "const KVM_GET_SUPPORTED_CPUID": KVM_GET_SUPPORTED_CPUID,
		"const KVM_SET_CPUID2": KVM_SET_CPUID2, "const KVM_CREATE_VCPU": KVM_CREATE_VCPU,
		"const KVM_SET_USER_MEMORY_REGION": KVM_SET_USER_MEMORY_REGION, "const KVM_SET_TSS_ADDR": KVM_SET_TSS_ADDR,
		"const KVM_RUN": KVM_RUN, "const KVM_SET_REGS": KVM_SET_REGS, "const KVM_GET_SREGS": KVM_GET_SREGS,
		"const KVM_SET_SREGS": KVM_SET_SREGS, "const KVM_EXIT_IO": KVM_EXIT_IO, "const KVM_EXIT_HLT": KVM_EXIT_HLT,
		"const KVM_EXIT_SHUTDOWN": KVM_EXIT_SHUTDOWN, "const KVM_EXIT_FAIL_ENTRY": KVM_EXIT_FAIL_ENTRY,
		"const KVM_EXIT_INTERNAL_ERROR": KVM_EXIT_INTERNAL_ERROR, "const KVM_EXIT_IO_OUT": KVM_EXIT_IO_OUT,
	}
	add := func(cname string, v any, names map[string]string) {
		typ := reflect.TypeOf(v)
		have["size "+cname] = uint64(typ.Size())
		for c, g := range names {
			f, ok := typ.FieldByName(g)
			if !ok {
				t.Fatalf("%s has no field %s", typ, g)
			}
			have["offset "+cname+"."+c] = uint64(f.Offset)
		}
	}
	same := func(names ...string) map[string]string {
		m := map[string]string{}
		for _, n := range names {
			m[n] = n
		}
		return m
	}
	with := func(m map[string]string, c, g string) map[string]string { m[c] = g; return m }
	add("kvm_regs", regs{}, map[string]string{"rip": "rip", "rflags": "flg"})
	add("kvm_segment", segment{}, with(same("base", "limit", "selector", "present", "dpl", "db", "s", "l", "g", "unusable"), "type", "typ"))
	add("kvm_dtable", dtable{}, same("limit"))
	add("kvm_sregs", sregs{}, with(with(with(same("cs", "ds", "es", "fs", "gs", "ss", "tr", "gdt", "idt",
		"cr0", "cr2", "cr3", "cr4", "cr8", "efer"), "ldt", "ld"), "apic_base", "apicBase"), "interrupt_bitmap", "interruptBitmap"))
	add("kvm_userspace_memory_region", memoryRegion{}, map[string]string{"slot": "slot", "flags": "flags",
		"guest_phys_addr": "guest", "memory_size": "size", "userspace_addr": "userspaceStart"})
	add("kvm_cpuid2", cpuid{}, same("nent", "entries"))
	have["size kvm_cpuid_entry2"] = uint64(reflect.TypeOf(cpuid{}.entries[0]).Size())
	add("kvm_run", runArea{}, map[string]string{"exit_reason": "exitReason", "io.direction": "direction", "io.size": "size",
		"io.port": "port", "io.count": "count", "io.data_offset": "dataOffset"})

	f, err := os.Open("testdata/kvm.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n := 0
	for sc := bufio.NewScanner(f); sc.Scan(); n++ {
		i := strings.LastIndexByte(sc.Text(), ' ')
		want, err := strconv.ParseUint(sc.Text()[i+1:], 0, 64)
		if err != nil {
			t.Fatal(err)
		}
		got, ok := have[sc.Text()[:i]]
		if !ok || got != want {
			t.Errorf("%s: %s", sc.Text(), map[bool]string{true: fmt.Sprintf("%#x here", got), false: "not checked"}[ok])
		}
	}
	if n < 50 {
		t.Errorf("only %d lines in testdata/kvm.txt", n)
	}
}
