package native

import (
	"context"
	"debug/elf"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/hvtest"
	"github.com/hxen-project/hxen/hv/xenabi"
)

// hang is a guest that takes a watchdog and then looks after it no more.
func hang(c *hvtest.FakeCPU) {
	op(c, xenabi.HYPERVISOR_sched_op, xenabi.SCHEDOP_watchdog, xenabi.Watchdog{Timeout: 1})
	for {
		c.Step()
	}
}

// fallen is a guest that leaves a mark in its memory and then falls.
func fallen(how func(*hvtest.FakeCPU)) func(*hvtest.FakeCPU) {
	return func(c *hvtest.FakeCPU) {
		op(c, xenabi.HYPERVISOR_memory_op, xenabi.XENMEM_add_to_physmap,
			xenabi.AddToPhysmap{Domid: xenabi.DOMID_SELF, Space: xenabi.XENMAPSPACE_shared_info, Gpfn: grownAt >> 12})
		c.Store(countAt, []byte("a mark in RAM"))
		c.Store(grownAt+0x1000, []byte("a mark behind it"))
		c.Regs().RBX, c.Regs().CR2 = 0x1234, 0x5678
		how(c)
		for {
			c.Step()
		}
	}
}

func panics(c *hvtest.FakeCPU) { shutdown(c, xenabi.SHUTDOWN_crash) }

// TestFall: what becomes of guests that crash or hang, by each policy.
func TestFall(t *testing.T) {
	for _, c := range []struct {
		crash, watchdog string
		how             func(*hvtest.FakeCPU)
		want            hv.ExitReason
		events          []string
		cores           int
	}{
		{"", "", panics, hv.ExitCrash, []string{"notice", "Halted"}, 0},
		{"", "", hang, hv.ExitWatchdog, []string{"notice", "Halted"}, 0},
		{hv.EndCoredumpRestart, "", panics, hv.ExitCrash, []string{"notice", "Paused", "Halted"}, 1},
		{hv.EndCoredumpDestroy, "", (*hvtest.FakeCPU).TripleFault, hv.ExitCrash, []string{"notice", "Paused", "Halted"}, 1},
		{hv.EndDestroy, hv.EndRenameRestart, hang, hv.ExitWatchdog, []string{"notice", "Paused", "Halted"}, 1},
	} {
		t.Run(fmt.Sprintf("%s %s %s", c.crash, c.watchdog, c.want), func(t *testing.T) {
			s := testSpec(t)
			s.OnCrash, s.OnWatchdog, s.VCPUs = c.crash, c.watchdog, 2
			m, ended := launchFake(t, s, false, fallen(c.how))
			reason, events := ended()
			if reason != c.want || !slices.Equal(states(events), c.events) {
				t.Errorf("it ended as %s; events %+v", reason, events)
			}
			cores, err := filepath.Glob(filepath.Join(m.(*Guest).host.Work, "*"))
			if err != nil || len(cores) != c.cores {
				t.Fatalf("files %q, %v", cores, err)
			}
			for _, path := range cores {
				checkCore(t, path)
			}
		})
	}
}

// checkCore reads a core of fallen's as gdb and crash do.
func checkCore(t *testing.T, path string) {
	t.Helper()
	core, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer core.Close()
	at := func(gpa uint64) string {
		b := make([]byte, 16)
		for _, p := range core.Progs {
			if p.Type == elf.PT_LOAD && gpa-p.Paddr < p.Filesz {
				if _, err := p.ReadAt(b, int64(gpa-p.Paddr)); err != nil {
					t.Error(err)
				}
			}
		}
		return strings.TrimRight(string(b), "\x00")
	}
	if a, b := at(countAt), at(grownAt+0x1000); a != "a mark in RAM" || b != "a mark behind it" {
		t.Errorf("memory is %q and %q", a, b)
	}
	if core.Type != elf.ET_CORE || core.Machine != elf.EM_X86_64 || core.Progs[0].Type != elf.PT_NOTE {
		t.Fatalf("%s is no core: %+v", path, core.FileHeader)
	}
	notes := make([]byte, core.Progs[0].Filesz)
	if _, err := core.Progs[0].ReadAt(notes, 0); err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for len(notes) > 0 {
		name, desc := le.Uint32(notes), le.Uint32(notes[4:])
		who := string(notes[12 : 12+name-1])
		notes = notes[12+(name+3)&^3:]
		var status prStatus
		var qemu qemuCPU
		switch who {
		case "CORE":
			if copy(xenabi.Bytes(&status), notes[:desc]); seen[who] == 0 && status.Reg.RBX != 0x1234 {
				t.Errorf("RBX is %#x", status.Reg.RBX)
			}
		case "QEMU":
			if copy(xenabi.Bytes(&qemu), notes[:desc]); qemu.Version != 1 || qemu.Size != desc || seen[who] == 0 && qemu.CR[2] != 0x5678 {
				t.Errorf("QEMU's note says %+v", qemu)
			}
		}
		seen[who]++
		notes = notes[(desc+3)&^3:]
	}
	if seen["CORE"] != 2 || seen["QEMU"] != 2 {
		t.Errorf("notes of two processors: %v", seen)
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 && runtime.GOOS != "windows" { // Windows has lists instead
		t.Errorf("the core may be read by others: %v, %v", fi, err)
	}
}

// TestPreserve: a guest that is kept stands still until somebody has it go on, or
// takes its power.
func TestPreserve(t *testing.T) {
	s := testSpec(t)
	s.OnCrash = hv.EndPreserve
	m, ended := launchFake(t, s, false, fallen(func(c *hvtest.FakeCPU) {
		panics(c)
		print(c, "on")
		panics(c)
	}))
	waitPaused(t, m)
	if err := m.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := read1(t, m); got != "o" {
		t.Errorf("it said %q", got)
	}
	waitPaused(t, m)
	if err := m.Stop(context.Background(), hv.PowerOff); err != nil {
		t.Fatal(err)
	}
	reason, events := ended()
	if want := []string{"notice", "Paused", "Running", "notice", "Paused", "Halted"}; reason != hv.ExitDestroyed || !slices.Equal(states(events), want) {
		t.Errorf("it ended as %s; events %+v", reason, events)
	}
}

// waitPaused waits until a guest has fallen.
func waitPaused(t *testing.T, m hv.Machine) {
	t.Helper()
	g := m.(*Guest).machine
	for !g.fallen.Load() || !g.gate.held() {
		runtime.Gosched()
	}
}

// TestCoreLayout holds the notes against what a C compiler has printed.
func TestCoreLayout(t *testing.T) {
	b, err := os.ReadFile("testdata/core.txt")
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for _, l := range []struct {
		c   string
		typ reflect.Type
	}{{"elf_prstatus", reflect.TypeFor[prStatus]()}, {"user_regs_struct", reflect.TypeFor[userRegs]()}} {
		fmt.Fprintf(&got, "%s %d\n", l.c, l.typ.Size())
		for f := range l.typ.Fields() {
			if f.Name != "_" {
				fmt.Fprintf(&got, "%s %d\n", l.c, f.Offset)
			}
		}
	}
	var want strings.Builder
	for line := range strings.Lines(string(b)) { // the fields stand in our order
		name, n, _ := strings.Cut(line, " ")
		s, _, _ := strings.Cut(name, ".")
		fmt.Fprintf(&want, "%s %s", s, n)
	}
	if got.String() != want.String() {
		t.Errorf("laid out as\n%swant\n%s", got.String(), want.String())
	}
	if n := reflect.TypeFor[qemuCPU]().Size(); n != 440 { // as QEMU's own dumps have it
		t.Errorf("QEMUCPUState has %d bytes", n)
	}
}
