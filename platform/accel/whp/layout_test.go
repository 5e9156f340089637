package whp

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/hxen-project/hxen/hv/hvtest"
)

// TestLayout has a C compiler for Windows hold every constant and structure
// against mingw-w64's WinHvPlatformDefs.h.
func TestLayout(t *testing.T) {
	hvtest.Require(t, "mingw")
	var c strings.Builder
	c.WriteString("#include <stddef.h>\n#include <windows.h>\n#include <winhvplatform.h>\n")
	is := func(what string, n uint64) {
		fmt.Fprintf(&c, "_Static_assert((%s) == %#xULL, \"%s\");\n", what, n, what)
	}
	source, err := os.ReadFile("abi.go")
	if err != nil {
		t.Fatal(err)
	}
	constants := regexp.MustCompile(`(?m)^\t(WHv\w+) += (\w+)`).FindAllStringSubmatch(string(source), -1)
	if len(constants) < 90 {
		t.Fatalf("only %d constants in abi.go", len(constants))
	}
	for _, m := range constants {
		fmt.Fprintf(&c, "_Static_assert((UINT32)%s == %s, \"%s\");\n", m[1], m[2], m[1])
	}
	layout := func(cname string, v any, fields string) { // "C:ours C:ours"
		typ := reflect.TypeOf(v)
		is("sizeof("+cname+")", uint64(typ.Size()))
		for _, f := range strings.Fields(fields) {
			cfield, ours, _ := strings.Cut(f, ":")
			field, ok := typ.FieldByName(ours)
			if !ok {
				t.Fatalf("%s has no field %s", typ, ours)
			}
			is("offsetof("+cname+", "+cfield+")", uint64(field.Offset))
		}
	}
	layout("WHV_REGISTER_VALUE", value{}, "Reg128.Low64:low Reg128.High64:high Table.Base:high Segment.Base:low ExceptionEvent.ExceptionParameter:high")
	layout("WHV_X64_SEGMENT_REGISTER", segment{}, "Base:base Limit:limit Selector:selector Attributes:attributes")
	layout("WHV_VP_EXIT_CONTEXT", vpContext{}, "ExecutionState:state Cs:cs Rip:rip Rflags:rflags")
	layout("WHV_RUN_VP_EXIT_CONTEXT", runExit{}, "ExitReason:reason VpContext:vp IoPortAccess:union MemoryAccess:union MsrAccess:union CpuidAccess:union VpException:union")
	layout("WHV_MEMORY_ACCESS_CONTEXT", exitMemory{}, "InstructionByteCount:count InstructionBytes:bytes AccessInfo:access Gpa:gpa Gva:gva")
	layout("WHV_X64_IO_PORT_ACCESS_CONTEXT", exitIO{}, "InstructionByteCount:count InstructionBytes:bytes AccessInfo:access PortNumber:port Rax:rax Rcx:rcx Rsi:rsi Rdi:rdi Ds:ds Es:es")
	layout("WHV_X64_MSR_ACCESS_CONTEXT", exitMSRAccess{}, "AccessInfo:write MsrNumber:index Rax:rax Rdx:rdx")
	layout("WHV_X64_CPUID_ACCESS_CONTEXT", exitCPUIDAccess{}, "Rax:rax Rcx:rcx Rdx:rdx Rbx:rbx DefaultResultRax:defaultRAX DefaultResultRcx:defaultRCX DefaultResultRdx:defaultRDX DefaultResultRbx:defaultRBX")
	layout("WHV_VP_EXCEPTION_CONTEXT", exitVPException{}, "InstructionByteCount:count InstructionBytes:bytes ExceptionInfo:info ExceptionType:vector ErrorCode:code ExceptionParameter:parameter")
	layout("WHV_INTERRUPT_CONTROL", interruptControl{}, "Destination:destination Vector:vector")
	layout("WHV_MSR_ACTION_ENTRY", msrAction{}, "Index:index ReadAction:read WriteAction:write")
	layout("WHV_CPUID_OUTPUT", cpuidOutput{}, "Eax:eax Ebx:ebx Ecx:ecx Edx:edx")
	is("sizeof(WHV_SYNTHETIC_PROCESSOR_FEATURES_BANKS)", 16)
	is("sizeof(WHV_TRANSLATE_GVA_RESULT)", 8)
	// Bit fields have no offset: a variable with that field alone tells.
	bits := []struct {
		typ, field string
		want       uint64
	}{
		{"WHV_CAPABILITY_FEATURES", "PartialUnmap", featurePartialUnmap},
		{"WHV_CAPABILITY_FEATURES", "LocalApicEmulation", featureLocalApicEmulation},
		{"WHV_EXTENDED_VM_EXITS", "X64CpuidExit", exitCpuid},
		{"WHV_EXTENDED_VM_EXITS", "X64MsrExit", exitMsr},
		{"WHV_EXTENDED_VM_EXITS", "ExceptionExit", exitException},
		{"WHV_EXTENDED_VM_EXITS", "HypercallExit", exitHypercall},
		{"WHV_X64_MSR_EXIT_BITMAP", "UnhandledMsrs", msrUnhandled},
		{"WHV_INTERNAL_ACTIVITY_REGISTER", "StartupSuspend", startupSuspend},
		{"WHV_X64_INTERRUPT_STATE_REGISTER", "InterruptShadow", interruptShadow},
		{"WHV_X64_PENDING_INTERRUPTION_REGISTER", "InterruptionPending", interruptionPending},
		{"WHV_X64_DELIVERABILITY_NOTIFICATIONS_REGISTER", "InterruptNotification", interruptNotification},
		{"WHV_X64_PENDING_EXCEPTION_EVENT", "EventPending", eventPending},
		{"WHV_X64_PENDING_EXCEPTION_EVENT", "EventType", 1 << 1},
		{"WHV_X64_PENDING_EXCEPTION_EVENT", "DeliverErrorCode", 1 << 8},
		{"WHV_X64_PENDING_EXCEPTION_EVENT", "Vector", 1 << 16},
		{"WHV_X64_PENDING_EXCEPTION_EVENT", "ErrorCode", 1 << 32},
		{"WHV_X64_PENDING_EXT_INT_EVENT", "EventPending", eventPending},
		{"WHV_X64_PENDING_EXT_INT_EVENT", "EventType", 1 << 1},
		{"WHV_X64_PENDING_EXT_INT_EVENT", "Vector", 1 << 8},
		{"WHV_X64_VP_EXECUTION_STATE", "Cpl", stateCPL / 3},
		{"WHV_X64_VP_EXECUTION_STATE", "EferLma", stateLMA},
		{"WHV_X64_IO_PORT_ACCESS_INFO", "IsWrite", ioWrite},
		{"WHV_X64_IO_PORT_ACCESS_INFO", "AccessSize", 1 << 1},
		{"WHV_X64_IO_PORT_ACCESS_INFO", "StringOp", ioString},
		{"WHV_X64_IO_PORT_ACCESS_INFO", "RepPrefix", ioRep},
		{"WHV_X64_MSR_ACCESS_INFO", "IsWrite", 1},
		{"WHV_MEMORY_ACCESS_INFO", "AccessType", 1},
		{"WHV_VP_EXCEPTION_INFO", "ErrorCodeValid", 1},
		{"WHV_INTERRUPT_CONTROL", "Type", 1},
	}
	for i, b := range bits {
		fmt.Fprintf(&c, "const %s bit%d = {.%s = 1};\n", b.typ, i, b.field)
	}
	cmd := exec.Command("x86_64-w64-mingw32-gcc", "-std=gnu11", "-DWIN32_LEAN_AND_MEAN", "-S", "-o", "-", "-xc", "-")
	cmd.Stdin = strings.NewReader(c.String())
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr.Bytes())
	}
	for i, b := range bits {
		if got := variable(string(out), fmt.Sprintf("bit%d", i)); got != b.want {
			t.Errorf("%s.%s is bit %#x, here %#x", b.typ, b.field, got, b.want)
		}
	}
}

// variable reads the first eight bytes of a variable in a compiler's assembly.
func variable(asm, name string) uint64 {
	_, body, _ := strings.Cut(asm, "\n"+name+":\n")
	var at, n uint64
	for line := range strings.Lines(body) {
		word, arg, _ := strings.Cut(strings.Join(strings.Fields(line), " "), " ")
		size, known := map[string]uint64{".byte": 1, ".word": 2, ".long": 4, ".quad": 8, ".space": 0}[word]
		v, err := strconv.ParseInt(arg, 10, 64)
		if !known || err != nil || at >= 8 {
			break
		}
		if word == ".space" {
			at += uint64(v)
			continue
		}
		n |= uint64(v) << (8 * at)
		at += size
	}
	return n
}
