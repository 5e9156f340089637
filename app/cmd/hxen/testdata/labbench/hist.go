package main

import (
	"os"
	"strings"
	"syscall"
)

// hists are KVM's tracepoints and what each is counted by; val at the port of
// patched hypercalls (245) is their number.
var hists = [][2]string{{"kvm_exit", "exit_reason"}, {"kvm_pio", "port,rw,val"}, {"kvm_msr", "ecx.hex,write"},
	{"kvm_cpuid", "function"}, {"kvm_inj_virq", "vec"}, {"kvm_userspace_exit", "reason"}, {"kvm_xen_hypercall", "nr"},
	{"kvm_page_fault", "fault_address.hex"}}

// histogram begins, or ends and returns, counts of exits by kind.
func histogram(begin bool) (lines []string) {
	_ = syscall.Mount("trace", "/sys/kernel/tracing", "tracefs", 0, "")
	for _, h := range hists {
		dir := "/sys/kernel/tracing/events/kvm/" + h[0] + "/"
		key := "hist:keys=" + h[1] + ":sort=hitcount.descending:size=2048"
		if begin {
			_ = os.WriteFile(dir+"trigger", []byte(key), 0)
			continue
		}
		b, err := os.ReadFile(dir + "hist")
		if err != nil {
			continue
		}
		n := 0
		for line := range strings.Lines(string(b)) {
			if strings.Contains(line, "hitcount:") && n < 30 {
				lines = append(lines, h[0]+" "+strings.Join(strings.Fields(line), " "))
				n++
			}
		}
		_ = os.WriteFile(dir+"trigger", []byte("!"+key), 0)
	}
	return lines
}
