package native

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/guestmem"
	"github.com/hxen-project/hxen/hv/hvtest"
	"github.com/hxen-project/hxen/hv/savefile"
	"github.com/hxen-project/hxen/hv/xenabi"
	"github.com/hxen-project/hxen/hv/xenstore"
)

// Where the counting guest keeps things.
const (
	countAt  = 0x400000
	orderAt  = 0x400004 // what the test wants of it
	answerAt = 0x400008
	grownAt  = 0x20000000 // behind its RAM

	orderOff, orderSuspend = 1, 2
)

// count is a guest that counts in memory of both kinds. It may be started in its
// middle: R15 is what it remembers.
func count(c *hvtest.FakeCPU) {
	if c.Regs().R15 == 0 {
		op(c, xenabi.HYPERVISOR_memory_op, xenabi.XENMEM_add_to_physmap,
			xenabi.AddToPhysmap{Domid: xenabi.DOMID_SELF, Space: xenabi.XENMAPSPACE_shared_info, Gpfn: grownAt >> 12})
		c.Regs().R15 = 1
	}
	for {
		c.Add(countAt, 1)
		c.Add(grownAt+0x1000, 1)
		switch load[uint32](c, orderAt) {
		case orderOff:
			shutdown(c, xenabi.SHUTDOWN_poweroff)
		case orderSuspend:
			c.Store(orderAt, make([]byte, 4))
			c.Store(argsAt, xenabi.Bytes(&xenabi.Shutdown{Reason: xenabi.SHUTDOWN_suspend}))
			r := c.Call(true, xenabi.HYPERVISOR_sched_op, xenabi.SCHEDOP_shutdown, argsAt)
			c.Store(answerAt, le.AppendUint32(nil, uint32(r)+100))
		}
		c.Step()
	}
}

func word(t testing.TB, m *Machine, gpa uint64) uint32 {
	t.Helper()
	n, err := m.mem.Load32(gpa)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// counts waits until a word of the guest's is there and n or more.
func counts(t testing.TB, m *Machine, gpa uint64, n uint32) {
	t.Helper()
	for begun := time.Now(); ; runtime.Gosched() {
		got, err := m.mem.Load32(gpa)
		if err == nil && got >= n {
			return
		}
		if time.Since(begun) > hvtest.Guard {
			t.Fatalf("the guest does not count: %d, %v", got, err)
		}
	}
}

func order(t testing.TB, m *Machine, what uint32) {
	t.Helper()
	if err := m.mem.Store32(orderAt, what); err != nil {
		t.Fatal(err)
	}
}

// restored starts what is in the file.
func restored(t testing.TB, c Config, path string) (*Machine, error) {
	t.Helper()
	s, err := OpenSaved(path)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	c.Saved, c.Kernel, c.KernelFile = s, nil, nil
	m, err := Start(&hvtest.FakeAccel{Programs: map[uint64]func(*hvtest.FakeCPU){entry: count}}, c)
	if err == nil {
		t.Cleanup(func() { m.Close() })
	}
	return m, err
}

// savedFile is a file with the counting guest, and its count.
func savedFile(t testing.TB) (path string, n uint32) {
	t.Helper()
	c := testConfig(t, nil)
	c.VCPUs = 2
	m := start(t, c, count)
	counts(t, m, grownAt+0x1000, 10)
	m.Pause()
	n = word(t, m, countAt)
	path = filepath.Join(t.TempDir(), "guest.save")
	last := int64(0)
	if err := m.Save(t.Context(), path, func(done, total int64) { last = done * 100 / total }); err != nil {
		t.Fatal(err)
	}
	if reason := wait(t, m); reason != hv.ExitSaved {
		t.Errorf("the saved guest ended as %s", reason)
	}
	if last != 100 {
		t.Errorf("progress ended at %d %%", last)
	}
	return path, n
}

// TestSave has a guest go on from a file, again and again, with its memory, also
// what it made appear, its XenStore and its place with Xen.
func TestSave(t *testing.T) {
	path, n := savedFile(t)
	c := testConfig(t, nil)
	c.VCPUs = 2
	for range 2 {
		c.Hold = true
		m, err := restored(t, c, path)
		if err != nil {
			t.Fatal(err)
		}
		if got := word(t, m, countAt); got != n {
			t.Fatalf("it was saved at %d and goes on at %d", n, got)
		}
		if w, err := m.mem.Load64(grownAt + 32 + 24); err != nil || w == 0 {
			t.Errorf("shared_info has no clock: %v", err)
		}
		if name, err := m.client.Read(xenstore.Home(domid) + "/name"); err != nil || name != "test" {
			t.Errorf("XenStore says its name is %q, %v", name, err)
		}
		m.Resume()
		counts(t, m, countAt, n+10)
		counts(t, m, grownAt+0x1000, n+10)
		m.Pause()
		n = word(t, m, countAt)
		if err := m.Save(t.Context(), path, nil); err != nil {
			t.Fatal(err)
		}
	}
	c.Hold = false
	m, err := restored(t, c, path)
	if err != nil {
		t.Fatal(err)
	}
	order(t, m, orderOff)
	if reason := wait(t, m); reason != hv.ExitPoweroff {
		t.Errorf("it ended as %s", reason)
	}
	if left, _ := filepath.Glob(path + "*"); len(left) != 1 {
		t.Errorf("there is %q", left)
	}
}

// TestSaveAsks: a guest that can suspend itself does so, and finds on its return
// that everything is as it was.
func TestSaveAsks(t *testing.T) {
	m := start(t, testConfig(t, nil), count)
	counts(t, m, grownAt+0x1000, 1)
	control := xenstore.Home(domid) + "/control/"
	if err := m.client.Write(control+"feature-suspend", "1"); err != nil {
		t.Fatal(err)
	}
	w, err := m.client.Watch(control + "shutdown")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for range w.C {
			if s, _ := m.client.Read(control + "shutdown"); s == "suspend" {
				_ = m.mem.Store32(orderAt, orderSuspend)
				return
			}
		}
	}()
	path := filepath.Join(t.TempDir(), "guest.save")
	if err := m.Save(t.Context(), path, nil); err != nil {
		t.Fatal(err)
	}
	c := testConfig(t, nil)
	c.Hold = true
	next, err := restored(t, c, path)
	if err != nil {
		t.Fatal(err)
	}
	n := word(t, next, countAt)
	if got := next.cpus[0].call.Nr; got != 0 {
		t.Errorf("a call %d was made already", got)
	}
	next.Resume()
	counts(t, next, countAt, n+1)
}

// TestSaveFails: the guest goes on as if nothing had been, and there is no file.
func TestSaveFails(t *testing.T) {
	m := start(t, testConfig(t, nil), count)
	counts(t, m, grownAt+0x1000, 1)
	dir := t.TempDir()
	path := filepath.Join(dir, "guest.save")
	if err := os.WriteFile(path, []byte("an older one"), 0o600); err != nil {
		t.Fatal(err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancelLate := context.WithCancel(t.Context())
	for what, save := range map[string]func() error{
		"cancelled before":    func() error { return m.Save(cancelled, path, nil) },
		"cancelled meanwhile": func() error { return m.Save(late, path, func(int64, int64) { cancelLate() }) },
		"no folder":           func() error { return m.Save(t.Context(), filepath.Join(dir, "none", "x"), nil) },
	} {
		if err := save(); err == nil {
			t.Fatalf("%s: saved", what)
		}
		counts(t, m, countAt, word(t, m, countAt)+10)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "an older one" {
		t.Errorf("the older file is %q, %v", b, err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 1 {
		t.Errorf("there is %q", left)
	}
	ends := func(int64, int64) { m.end(hv.ExitDestroyed, nil) }
	if err := m.Save(t.Context(), path, ends); !errors.Is(err, errEnded) {
		t.Errorf("of a guest that ends meanwhile: %v", err)
	}
	if err := m.Save(t.Context(), path, nil); !errors.Is(err, hv.ErrUnavailable) {
		t.Errorf("of a guest that has ended: %v", err)
	}
}

// TestRestoreRefuses files that are cut, damaged, foreign, or of another guest.
func TestRestoreRefuses(t *testing.T) {
	path, _ := savedFile(t)
	s, err := OpenSaved(path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	size := int64(s.image.Off + s.image.N)
	start := make([]byte, s.image.Off+8<<20)
	if _, err := s.file.ReadAt(start, 0); err != nil {
		t.Fatal(err)
	}
	flip := func(at uint64) func([]byte) []byte {
		return func(b []byte) []byte { b[at] ^= 1; return b }
	}
	for _, c := range []struct {
		what, want string
		damage     func(start []byte) []byte // of the file; the rest is a hole
	}{
		{"empty", "no saved guest", func([]byte) []byte { return nil }},
		{"foreign", "no saved guest", func([]byte) []byte { return []byte("#!/bin/sh\necho hello\n") }},
		{"newer", "version 3", func(b []byte) []byte { b[8] = 3; return b }},
		{"header", "damaged", flip(20)},
		{"state", "damaged", flip(guestmem.PageSize + 100)},
		{"memory", "damaged", flip(s.image.Off + countAt)},
		{"cut in the header", "damaged", func(b []byte) []byte { return b[:30] }},
		{"cut in the memory", "too early", func(b []byte) []byte { return b[:len(b)-chunkSize] }},
	} {
		bad, b := filepath.Join(t.TempDir(), "bad"), c.damage(bytes.Clone(start))
		if err := os.WriteFile(bad, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if len(b) == len(start) {
			if err := os.Truncate(bad, size); err != nil {
				t.Fatal(err)
			}
		}
		config := testConfig(t, nil)
		config.VCPUs = 2
		if _, err := restored(t, config, bad); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.what, err, c.want)
		}
	}
	if _, err := restored(t, testConfig(t, nil), path); err == nil || !strings.Contains(err.Error(), "2 processors") {
		t.Errorf("with another number of processors: %v", err)
	}
}

// FuzzRestore starts whatever a file says that is whole.
func FuzzRestore(f *testing.F) {
	st := saved{VCPUs: 1, Memory: 1 << 20, Backend: "fake", TSCHz: 1e9}
	seed, err := json.Marshal(st)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	path, _ := savedFile(f)
	s, err := OpenSaved(path)
	if err != nil {
		f.Fatal(err)
	}
	s.Close()
	s.state.Memory, s.state.VCPUs, s.state.Processors, s.state.Domain.VCPUs = 1<<20, 1, s.state.Processors[:1], s.state.Domain.VCPUs[:1]
	if seed, err = json.Marshal(s.state); err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, state []byte) {
		var st saved
		if json.Unmarshal(state, &st) != nil || st.Memory > 4<<20 || len(st.Grown) > 1 {
			return
		}
		size := (st.Memory+chunkSize-1)/chunkSize*chunkSize + chunkSize + uint64(len(st.Grown))*guestmem.GrowSize
		table := make([]byte, size/chunkSize*chunkEntry)
		path := filepath.Join(dir, "fuzz")
		err := savefile.Write(t.Context(), path, saveEngine, func(f *os.File) (savefile.Parts, error) {
			at := uint64(savefile.Begin + len(state))
			_, err := f.WriteAt(state, savefile.Begin)
			_, terr := f.WriteAt(table, int64(at))
			return savefile.Parts{
				{Off: savefile.Begin, N: uint64(len(state)), Sum: savefile.Sum(0, state)},
				{Off: at, N: uint64(len(table)), Sum: savefile.Sum(0, table)},
				{Off: 16 << 20, N: size},
			}, errors.Join(err, terr, f.Truncate(int64(16<<20+size)))
		})
		if err != nil {
			t.Fatal(err)
		}
		c := testConfig(t, nil)
		c.VCPUs, c.Memory, c.Hold = 1, 1<<20, true
		if m, err := restored(t, c, path); err == nil {
			m.Close()
		}
	})
}
