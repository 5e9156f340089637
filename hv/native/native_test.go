package native

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/accel"
	"github.com/hxen-project/hxen/hv/guestmem"
	"github.com/hxen-project/hxen/hv/hvtest"
	"github.com/hxen-project/hxen/hv/xenabi"
)

// The guests' own memory.
const (
	argsAt = 0x200000
	memMiB = 16 // the fake's guests have; not a multiple of guestmem.GrowSize
)

var le = binary.LittleEndian

// testConfig is a machine that starts a fake's program at entry.
func testConfig(t testing.TB, code []byte) Config {
	t.Helper()
	b := tinyELF(64, note("Xen\x00", 18, entry4()), code)
	k, err := ParseELF(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	for i := range k.Segments { // what has no content in the file lies at 16 MiB
		if k.Segments[i].FileSize == 0 {
			k.Segments[i].Paddr, k.Top = 0x300000, 0x302000
		}
	}
	return Config{
		Name: "test", UUID: [16]byte{1, 2, 15: 16}, VCPUs: 1, Memory: memMiB << 20,
		KernelFile: bytes.NewReader(b), Kernel: k, Log: slog.New(slog.DiscardHandler),
	}
}

// start runs program as a guest.
func start(t testing.TB, c Config, program func(*hvtest.FakeCPU)) *Machine {
	t.Helper()
	m, err := Start(&hvtest.FakeAccel{Programs: map[uint64]func(*hvtest.FakeCPU){entry: program}}, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// wait is Wait with a guard against machines that hang.
func wait(t testing.TB, m *Machine) hv.ExitReason {
	t.Helper()
	guard := time.AfterFunc(5*time.Minute, func() { panic("the machine hangs") })
	defer guard.Stop()
	reason, err := m.Wait()
	if err != nil {
		t.Errorf("Wait: %v", err)
	}
	return reason
}

func load[T any](c *hvtest.FakeCPU, gpa uint64) (v T) {
	c.Load(gpa, xenabi.Bytes(&v))
	return v
}

// op makes a hypercall with a structure, and returns its result and what has
// become of the structure.
func op[T any](c *hvtest.FakeCPU, number, command uint64, v T) (int64, T) {
	c.Store(argsAt, xenabi.Bytes(&v))
	result := int64(c.Call(true, number, command, argsAt))
	return result, load[T](c, argsAt)
}

func param(c *hvtest.FakeCPU, index uint32) uint64 {
	_, p := op(c, xenabi.HYPERVISOR_hvm_op, xenabi.HVMOP_get_param, xenabi.HVMParam{Domid: xenabi.DOMID_SELF, Index: index})
	return p.Value
}

func send(c *hvtest.FakeCPU, port uint64) {
	op(c, xenabi.HYPERVISOR_event_channel_op, xenabi.EVTCHNOP_send, xenabi.EvtchnPort{Port: uint32(port)})
}

func shutdown(c *hvtest.FakeCPU, reason uint32) {
	op(c, xenabi.HYPERVISOR_sched_op, xenabi.SCHEDOP_shutdown, xenabi.Shutdown{Reason: reason})
}

// poll waits for an event.
func poll(c *hvtest.FakeCPU, port uint64) {
	c.Store(argsAt+0x100, le.AppendUint32(nil, uint32(port)))
	op(c, xenabi.HYPERVISOR_sched_op, xenabi.SCHEDOP_poll, xenabi.Poll{Ports: argsAt + 0x100, NrPorts: 1})
}

// print writes to the console; what fits.
func print(c *hvtest.FakeCPU, text string) {
	at := param(c, xenabi.HVM_PARAM_CONSOLE_PFN) << 12
	prod := c.Add(at+xenabi.XenconsOutProd, 0) // atomically, as indices are
	for i := range len(text) {
		c.Store(at+xenabi.XenconsOut+uint64(prod%2048), []byte{text[i]})
		prod++
	}
	c.Add(at+xenabi.XenconsOutProd, uint32(len(text)))
	send(c, param(c, xenabi.HVM_PARAM_CONSOLE_EVTCHN))
}

// TestStart has a guest look at what it was started with, and tell it on its
// console.
func TestStart(t *testing.T) {
	initrd := bytes.Repeat([]byte("initrd!"), 70000)
	config := testConfig(t, []byte("the kernel"))
	config.Cmdline, config.Initrd = "console=hvc0", &Image{bytes.NewReader(initrd), uint64(len(initrd))}
	m := start(t, config, func(c *hvtest.FakeCPU) {
		info := load[xenabi.StartInfo](c, c.Regs().RBX)
		if info.Magic != 0x336ec578 || info.Version != 1 || info.NrModules != 1 || info.MemmapEntries != 3 {
			print(c, "start info is wrong; ")
		}
		module := load[xenabi.ModlistEntry](c, info.ModlistPaddr)
		if at := c.Regs().RBX; at%4096 != 0 || at < module.Paddr+module.Size || info.CmdlinePaddr>>12 != at>>12 || info.MemmapPaddr>>12 != at>>12 {
			print(c, "the start info is not one page behind kernel and ramdisk; ")
		}
		got := make([]byte, module.Size)
		if c.Load(module.Paddr, got); !bytes.Equal(got, initrd) || module.Paddr < 0x302000 {
			print(c, "initrd is wrong; ")
		}
		ram := load[xenabi.MemmapEntry](c, info.MemmapPaddr)
		if ram.Size != memMiB<<20 || ram.Type != 1 {
			print(c, "memmap is wrong; ")
		}
		if load[[8]byte](c, info.RSDPPaddr) != [8]byte([]byte("RSD PTR ")) {
			print(c, "no ACPI; ")
		}
		if c.CPUID(0x40000000, 0).EBX != 0x566e6558 {
			print(c, "no Xen; ")
		}
		if c.In(0x42, 1) != 0 || c.In(0x61, 1) != 0xff || c.In(0xcf8, 4) != 0xffffffff {
			print(c, "ports are wrong; ")
		}
		cmdline := load[[12]byte](c, info.CmdlinePaddr)
		kernel := load[[10]byte](c, 0x100000)
		print(c, string(cmdline[:])+" "+string(kernel[:]))
		shutdown(c, xenabi.SHUTDOWN_poweroff)
	})
	said, err := io.ReadAll(m.Console())
	if err != nil || string(said) != "console=hvc0 the kernel" {
		t.Errorf("the guest said %q, %v", said, err)
	}
	if reason := wait(t, m); reason != hv.ExitPoweroff {
		t.Errorf("it ended as %s", reason)
	}
}

// TestConsole has a guest answer to its input.
func TestConsole(t *testing.T) {
	m := start(t, testConfig(t, nil), func(c *hvtest.FakeCPU) {
		at, port := param(c, xenabi.HVM_PARAM_CONSOLE_PFN)<<12, param(c, xenabi.HVM_PARAM_CONSOLE_EVTCHN)
		for c.Add(at+xenabi.XenconsInProd, 0) < 5 {
			poll(c, port)
		}
		in := load[[5]byte](c, at+xenabi.XenconsIn)
		print(c, "you said "+string(in[:]))
		c.Store(argsAt, []byte("; over"))
		c.Call(true, xenabi.HYPERVISOR_console_io, xenabi.CONSOLEIO_write, 6, argsAt)
		shutdown(c, xenabi.SHUTDOWN_poweroff)
	})
	if _, err := m.Console().Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	said, err := io.ReadAll(m.Console())
	// The two ways may come in any order, each whole.
	if s := string(said); err != nil || !strings.Contains(s, "you said hello") || !strings.Contains(s, "; over") || len(s) != 20 {
		t.Errorf("the guest said %q, %v", said, err)
	}
}

// TestXenStore has a guest ask for its own number.
func TestXenStore(t *testing.T) {
	m := start(t, testConfig(t, nil), func(c *hvtest.FakeCPU) {
		at, port := param(c, xenabi.HVM_PARAM_STORE_PFN)<<12, param(c, xenabi.HVM_PARAM_STORE_EVTCHN)
		var msg []byte
		for _, w := range []uint32{2, 7, 0, 6} { // XS_READ, request 7
			msg = le.AppendUint32(msg, w)
		}
		c.Store(at+xenabi.XenstoreReq, append(msg, "domid\x00"...))
		c.Add(at+xenabi.XenstoreReqProd, 22)
		send(c, port)
		for c.Add(at+xenabi.XenstoreRspProd, 0) < 17 {
			poll(c, port)
		}
		answer := load[[17]byte](c, at+xenabi.XenstoreRsp)
		print(c, string(answer[16:]))
		shutdown(c, xenabi.SHUTDOWN_poweroff)
	})
	if said, err := io.ReadAll(m.Console()); err != nil || string(said) != "1" {
		t.Errorf("the guest's number is %q, %v; want 1", said, err)
	}
}

func TestEnds(t *testing.T) {
	for _, c := range []struct {
		name    string
		program func(*hvtest.FakeCPU)
		want    hv.ExitReason
	}{
		{"poweroff by ACPI", func(c *hvtest.FakeCPU) { c.Out(portSleepControl, 1, SleepEnable|SleepTypeS5<<2) }, hv.ExitPoweroff},
		{"reset by ACPI", func(c *hvtest.FakeCPU) { c.Out(portReset, 1, resetValue) }, hv.ExitReboot},
		{"reboot", func(c *hvtest.FakeCPU) { shutdown(c, xenabi.SHUTDOWN_reboot) }, hv.ExitReboot},
		{"panic", func(c *hvtest.FakeCPU) { shutdown(c, xenabi.SHUTDOWN_crash) }, hv.ExitCrash},
		{"soft reset", func(c *hvtest.FakeCPU) { shutdown(c, xenabi.SHUTDOWN_soft_reset) }, hv.ExitCrash},
		{"suspend, unasked", func(c *hvtest.FakeCPU) {
			shutdown(c, xenabi.SHUTDOWN_suspend) // it goes on
			shutdown(c, xenabi.SHUTDOWN_poweroff)
		}, hv.ExitPoweroff},
		{"triple fault", (*hvtest.FakeCPU).TripleFault, hv.ExitCrash},
		{"impossible code", func(c *hvtest.FakeCPU) { c.Crash("nonsense") }, hv.ExitCrash},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := testConfig(t, nil)
			config.VCPUs = 2 // one never starts, and has to end all the same
			if reason := wait(t, start(t, config, c.program)); reason != c.want {
				t.Errorf("it ended as %s, want %s", reason, c.want)
			}
		})
	}
}

// TestStop takes the power from guests wherever they are.
func TestStop(t *testing.T) {
	for name, program := range map[string]func(*hvtest.FakeCPU){
		"running": func(c *hvtest.FakeCPU) {
			print(c, ".")
			for {
				c.Step()
			}
		},
		"halted": func(c *hvtest.FakeCPU) { print(c, "."); c.Halt() },
		"parked": func(c *hvtest.FakeCPU) {
			print(c, ".")
			for {
				poll(c, param(c, xenabi.HVM_PARAM_STORE_EVTCHN))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := start(t, testConfig(t, nil), program)
			if _, err := m.Console().Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			m.end(hv.ExitDestroyed, nil)
			if reason := wait(t, m); reason != hv.ExitDestroyed {
				t.Errorf("it ended as %s", reason)
			}
			if _, err := m.Console().Write([]byte("x")); !errors.Is(err, io.ErrClosedPipe) {
				t.Errorf("its console takes input: %v", err)
			}
		})
	}
}

// TestAsk has the guest's wish list say what was asked for.
func TestAsk(t *testing.T) {
	m := start(t, testConfig(t, nil), func(c *hvtest.FakeCPU) { c.Halt() })
	for reboot, want := range map[bool]string{false: "poweroff", true: "reboot"} {
		if err := m.Ask(reboot); err != nil {
			t.Error(err)
		}
		if got, err := m.client.Read("/local/domain/1/control/shutdown"); err != nil || got != want {
			t.Errorf("control/shutdown is %q, %v; want %q", got, err, want)
		}
	}
}

// TestGrow has a guest put grant frames where it has no memory, as Linux does.
func TestGrow(t *testing.T) {
	m := start(t, testConfig(t, nil), func(c *hvtest.FakeCPU) {
		for _, gfn := range []uint64{memMiB << 8, 0x7fff, specialAt >> 12, 0xfee00, 1 << 20} {
			result, _ := op(c, xenabi.HYPERVISOR_memory_op, xenabi.XENMEM_add_to_physmap,
				xenabi.AddToPhysmap{Domid: xenabi.DOMID_SELF, Space: xenabi.XENMAPSPACE_grant_table, Gpfn: gfn})
			what := "memory"
			if load[uint32](c, gfn<<12+8) == 0xffffffff {
				what = "nothing"
			}
			if result != 0 {
				what += " refused"
			}
			print(c, what+"; ")
		}
		shutdown(c, xenabi.SHUTDOWN_poweroff)
	})
	const want = "memory; memory; memory; nothing refused; memory; "
	if said, err := io.ReadAll(m.Console()); err != nil || string(said) != want {
		t.Errorf("got %q, %v; want %q", said, err, want)
	}
}

// TestProcessors has processor 0 start another, which ends the guest.
func TestProcessors(t *testing.T) {
	config := testConfig(t, nil)
	config.VCPUs = 3
	m := start(t, config, func(c *hvtest.FakeCPU) {
		c.Start(2, func(c *hvtest.FakeCPU) {
			if c.CPUID(0x40000004, 0).EBX == 2 {
				shutdown(c, xenabi.SHUTDOWN_reboot)
			}
		})
		c.Halt()
	})
	if reason := wait(t, m); reason != hv.ExitReboot {
		t.Errorf("it ended as %s", reason)
	}
}

func TestRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"memory":     {func(c *Config) { c.Memory = 4097 }, "at least 1 MiB, in whole pages"},
		"kernel":     {func(c *Config) { c.Memory = 2 << 20 }, "the kernel needs memory up to 4 MiB"},
		"initrd":     {func(c *Config) { c.Initrd = &Image{bytes.NewReader(nil), 15 << 20} }, "too small for its kernel and its initial ramdisk of 15 MiB"},
		"cut":        {func(c *Config) { c.Initrd = &Image{bytes.NewReader(nil), 1} }, "read the initial ramdisk: EOF"},
		"command":    {func(c *Config) { c.Cmdline = strings.Repeat("x", 4096) }, "at most 4095"},
		"zero":       {func(c *Config) { c.Cmdline = "a\x00b" }, "zero byte"},
		"processors": {func(c *Config) { c.VCPUs = 0 }, "0 processors"},
		"place":      {func(c *Config) { c.Memory, c.Kernel.Segments[0].Paddr = 0x303000, 0x8ffff }, "the kernel lies at 0x8ffff"},
		"program":    {func(c *Config) { c.Kernel.Entry = 1 }, "make processor 0"},
	} {
		t.Run(name, func(t *testing.T) {
			config := testConfig(t, make([]byte, 16))
			c.change(&config)
			m, err := Start(&hvtest.FakeAccel{Programs: map[uint64]func(*hvtest.FakeCPU){entry: (*hvtest.FakeCPU).Halt}}, config)
			if err == nil {
				m.Close()
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v; want words of %q", err, c.want)
			}
		})
	}
}

func TestLayout(t *testing.T) {
	const gib = 1 << 30
	l, err := newLayout(6 * gib)
	if err != nil {
		t.Fatal(err)
	}
	if l.low+l.high != 6*gib || len(l.e820()) != 4 || len(l.slots()) != 3 {
		t.Errorf("%+v %+v", l, l.e820())
	}
	for _, c := range []struct {
		gpa, n, off uint64
		ok          bool
	}{
		{0, 4096, 0, true}, {lowEnd - 1, 1, lowEnd - 1, true}, {lowEnd - 1, 2, 0, false}, {specialAt, 1, 0, false},
		{highStart, 4096, lowEnd, true}, {highStart + l.high - 1, 1, 6*gib - 1, true}, {highStart + l.high - 1, 2, 0, false},
		{1 << 63, 1 << 63, 0, false}, {0, 1 << 63, 0, false},
	} {
		if off, ok := l.offset(c.gpa, c.n); off != c.off || ok != c.ok {
			t.Errorf("offset(%#x, %#x) = %#x, %v", c.gpa, c.n, off, ok)
		}
	}
	small := layout{low: 100 << 20}
	for _, c := range []struct {
		l    layout
		gpa  uint64
		want []guestmem.Range
	}{
		{small, 0, []guestmem.Range{{GPA: 100 << 20, N: 28 << 20}}},
		{small, 128 << 20, []guestmem.Range{{GPA: 128 << 20, N: 128 << 20}}},
		{small, 0xf8000000, []guestmem.Range{{GPA: 0xf8000000, N: 64 << 20}}},
		{l, highStart, nil},
		{l, lowEnd, []guestmem.Range{{GPA: lowEnd, N: 128 << 20}}},
	} {
		if got := c.l.holes(c.gpa, guestmem.GrowSize); !slices.Equal(got, c.want) {
			t.Errorf("holes at %#x: %#x, want %#x", c.gpa, got, c.want)
		}
	}
	if got := physicalLimit([]accel.CPUID{{Leaf: 0x80000008, EAX: 0x3028}}); got != 1<<40 {
		t.Errorf("the limit of 40 bits is %#x", got)
	}
	if got := physicalLimit(nil); got != 1<<36 {
		t.Errorf("the limit of nothing is %#x", got)
	}
}
