package native

import (
	"bytes"
	"errors"
	"testing"

	"github.com/hxen-project/hxen/hv/accel"
	"github.com/hxen-project/hxen/hv/guestmem"
	"github.com/hxen-project/hxen/hv/hvtest"
	"github.com/hxen-project/hxen/hv/xenabi"
)

var out = [3]byte{0xe7, 0xf5, 0x90}

// Where hypercalls does what.
const (
	callsAMD, callsIntel = 4, 20 // the two instructions; both behind endbr64
	callsChoose          = 32
)

// hypercalls is how Linux calls Xen; long has the jumps with 32-bit distances,
// gap what a frame pointer costs.
func hypercalls(long, gap bool) []byte {
	b := bytes.Repeat([]byte{0xcc}, callsChoose)
	for at, instr := range map[int][]byte{callsAMD: vmmcall, callsIntel: vmcall} {
		copy(b[at-4:], endbr64)
		copy(b[at:], instr)
		b[at+3] = 0xc3
	}
	rel := func(target int) []byte { return le.AppendUint32(nil, uint32(int32(target-len(b)-4))) }
	b = append(b, hvmPush...)
	if gap {
		b = append(b, 0x50, 0x55, 0x48, 0x89, 0xe5) // push %rax; push %rbp; mov %rsp,%rbp
	}
	b = append(b, 0xe8, 1, 2, 3, 4)
	b = append(b, lea...)
	b = append(b, rel(callsAMD-4)...)
	b = append(b, hvmCmp...)
	if gap {
		b = append(b, 0x5d, 0x58) // pop %rbp; pop %rax
	}
	b = append(b, hvmPop...)
	if long {
		b = append(b, 0x0f, 0x84)
		b = append(b, rel(callsAMD-4)...)
		b = append(b, 0xe9)
		return append(b, rel(callsIntel-4)...)
	}
	b = append(b, 0x74, byte(callsAMD-4-len(b)-2))
	return append(b, 0xeb, byte(callsIntel-4-len(b)-2))
}

// patched puts code at addresses of size bytes of memory and patches it.
func patched(t *testing.T, size uint64, code []byte, at ...uint64) ([]byte, error) {
	t.Helper()
	host := guestmem.Host(int(size / guestmem.PageSize))
	m := guestmem.New(guestmem.Config{})
	if err := m.Add(0x1000000, host); err != nil {
		t.Fatal(err)
	}
	for _, a := range at {
		copy(host[a:], code)
	}
	err := patchRange(m, []guestmem.Range{{GPA: 0x1000000, N: size}}, out)
	return host, err
}

func TestPatch(t *testing.T) {
	for _, long := range []bool{false, true} {
		for _, gap := range []bool{false, true} {
			code := hypercalls(long, gap)
			// At a page's end every byte of the signature is once the last.
			for at := uint64(0x1000 - len(code) - 1); at < 0x1000+2; at++ {
				mem, err := patched(t, 0x3000, code, at)
				if err != nil {
					t.Fatalf("at %#x: %v", at, err)
				}
				want := bytes.Clone(code)
				copy(want[callsAMD:], out[:])
				copy(want[callsIntel:], out[:])
				if got := mem[at : at+uint64(len(code))]; !bytes.Equal(got, want) {
					t.Fatalf("at %#x: patched to\n% x, want\n% x", at, got, want)
				}
			}
		}
	}
}

// TestPatchRefused changes each byte that counts: nothing is patched then.
func TestPatchRefused(t *testing.T) {
	code := hypercalls(true, false)
	body := callsChoose + len(hvmPush)
	for i := range code {
		free := i < callsAMD-4 || i >= callsAMD+3 && i < callsIntel-4 || i >= callsIntel+3 && i < callsChoose ||
			i > body && i < body+5 // whatever the call goes to
		if free || i == body || i >= callsAMD-4 && i < callsAMD || i >= callsIntel-4 && i < callsIntel {
			continue
		}
		bad := bytes.Clone(code)
		bad[i] ^= 0x08
		mem, err := patched(t, 0x4000, bad, 0x1000)
		if !errors.Is(err, errSignature) {
			t.Errorf("with byte %d changed: %v", i, err)
		}
		if !bytes.Equal(mem[0x1000:0x1000+len(bad)], bad) {
			t.Errorf("with byte %d changed, it was patched", i)
		}
	}
	mem, err := patched(t, 0x4000, code, 0x1000, 0x2000)
	if err != nil || bytes.Equal(mem[0x1000:0x1000+len(code)], code) || !bytes.Equal(mem[0x2000:0x2000+len(code)], code) {
		t.Errorf("of two places: not the first alone is patched: %v", err)
	}
	if _, err := patched(t, 0x4000, []byte("no calls at all"), 0x1000); !errors.Is(err, errNoCalls) {
		t.Errorf("without hypercalls: %v", err)
	}
	for n := range len(code) - 1 { // at the end of memory
		if _, err := patched(t, 0x4000, code[:n+1], uint64(0x4000-n-1)); err == nil {
			t.Errorf("%d bytes of it were enough", n+1)
		}
	}
}

// keeping is an accelerator that keeps vmcall to itself.
type keeping struct{ *hvtest.FakeAccel }

type keepingVM struct{ accel.VM }

func (k keeping) NewVM(c accel.Config) (accel.VM, error) {
	vm, err := k.FakeAccel.NewVM(c)
	return keepingVM{vm}, err
}

func (m keepingVM) Caps() accel.Caps {
	c := m.VM.Caps()
	c.Patched, c.Call, c.Port = true, out, out[1]
	return c
}

// TestStartPatched starts kernels where hypercalls must be patched.
func TestStartPatched(t *testing.T) {
	good := hypercalls(false, false)
	bad := bytes.Clone(good)
	bad[callsChoose]++
	say := func(c *hvtest.FakeCPU) {
		if load[[3]byte](c, 0x100000+callsAMD) == out && load[[3]byte](c, 0x100000+callsIntel) == out {
			shutdown(c, xenabi.SHUTDOWN_poweroff)
		}
		shutdown(c, xenabi.SHUTDOWN_crash)
	}
	h := keeping{&hvtest.FakeAccel{Programs: map[uint64]func(*hvtest.FakeCPU){entry: say}}}
	if _, err := Start(h, testConfig(t, bad)); !errors.Is(err, errSignature) {
		t.Errorf("a kernel with unknown calls: %v", err)
	}
	m, err := Start(h, testConfig(t, good))
	if err != nil {
		t.Fatal(err)
	}
	if reason := wait(t, m); reason != "poweroff" {
		t.Errorf("the guest found its calls unpatched: %s", reason)
	}
}

// TestLazyPatch has a kernel appear after the start, as a boot loader brings it.
func TestLazyPatch(t *testing.T) {
	var m *Machine
	ready := make(chan struct{})
	h := keeping{&hvtest.FakeAccel{Programs: map[uint64]func(*hvtest.FakeCPU){entry: func(c *hvtest.FakeCPU) {
		<-ready
		m.cpus[0].LongMode() // there is nothing yet
		c.Store(0x180000, hypercalls(true, true))
		m.cpus[0].LongMode()
		if load[[3]byte](c, 0x180000+callsAMD) != out {
			shutdown(c, xenabi.SHUTDOWN_crash)
		}
		shutdown(c, xenabi.SHUTDOWN_poweroff)
	}}}}
	m, err := Start(h, testConfig(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	close(ready)
	if reason := wait(t, m); reason != "poweroff" {
		t.Errorf("the late kernel was not patched: %s", reason)
	}
}
