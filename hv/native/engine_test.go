package native

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/accel"
	"github.com/hxen-project/hxen/hv/hvtest"
	"github.com/hxen-project/hxen/hv/xenabi"
)

// testSpec is a guest whose kernel is what testConfig's is.
func testSpec(t *testing.T) hv.Spec {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kernel")
	b := make([]byte, testConfig(t, nil).KernelFile.(*bytes.Reader).Size())
	if _, err := testConfig(t, nil).KernelFile.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return hv.Spec{
		Version: hv.SpecVersion, UUID: "01020304-0000-4000-8000-000000000010", Name: "test", Type: hv.PVH,
		VCPUs: 1, Memory: 2 * memMiB * hv.MiB, Boot: hv.Boot{Kernel: path},
	}
}

// launchFake launches program as a guest; its last events and words are read by
// the returned function, which waits for its end.
func launchFake(t *testing.T, s hv.Spec, hold bool, program func(*hvtest.FakeCPU)) (m hv.Machine, ended func() (hv.ExitReason, []hv.Event)) {
	t.Helper()
	return launchFakeOn(t, hv.Host{Hold: hold}, s, program)
}

// launchFakeOn is launchFake on a host with more to offer.
func launchFakeOn(t *testing.T, host hv.Host, s hv.Spec, program func(*hvtest.FakeCPU)) (m hv.Machine, ended func() (hv.ExitReason, []hv.Event)) {
	t.Helper()
	host.Dir, host.Cache, host.Work = t.TempDir(), t.TempDir(), t.TempDir()
	engine := New(func() (accel.Hypervisor, error) {
		return &hvtest.FakeAccel{Programs: map[uint64]func(*hvtest.FakeCPU){entry: program}}, nil
	})
	m, err := engine.Launch(t.Context(), s, host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	all := make(chan []hv.Event, 1)
	go func() {
		var events []hv.Event
		for e := range m.Events() {
			events = append(events, e)
		}
		all <- events
	}()
	return m, func() (hv.ExitReason, []hv.Event) {
		guard := time.AfterFunc(hvtest.Guard, func() { panic("the guest hangs") })
		defer guard.Stop()
		events := <-all
		reason, err := m.Wait()
		if err != nil {
			t.Errorf("Wait: %v", err)
		}
		return reason, events
	}
}

func states(events []hv.Event) (out []string) {
	for _, e := range events {
		if e.Kind == hv.EventState {
			out = append(out, string(e.State))
		} else {
			out = append(out, string(e.Kind))
		}
	}
	return out
}

func read1(t *testing.T, m hv.Machine) string {
	t.Helper()
	b := make([]byte, 1)
	if _, err := m.(hv.Consoler).Console().Read(b); err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestGuestRestarts: a guest that restarts goes on as another machine on the
// same line, unless it is not to.
func TestGuestRestarts(t *testing.T) {
	for policy, want := range map[string][]string{
		"":        {"reboot", "Halted"},
		"destroy": {"reboot", "Halted"},
	} {
		s := testSpec(t)
		s.OnReboot = policy
		lives := 0
		m, ended := launchFake(t, s, false, func(c *hvtest.FakeCPU) {
			lives++
			print(c, string(rune('0'+lives)))
			if lives == 1 {
				shutdown(c, xenabi.SHUTDOWN_reboot)
			}
			shutdown(c, xenabi.SHUTDOWN_poweroff)
		})
		said, err := io.ReadAll(m.(hv.Consoler).Console())
		if err != nil {
			t.Error(err)
		}
		reason, events := ended()
		wantSaid, wantReason := "12", hv.ExitPoweroff
		if policy == "destroy" {
			wantSaid, wantReason = "1", hv.ExitReboot
		}
		if string(said) != wantSaid || reason != wantReason || !slices.Equal(states(events), want) {
			t.Errorf("on_reboot %q: it said %q, ended as %s with events %v", policy, said, reason, states(events))
		}
	}
}

// TestGuestReset: our reset is no restart of the guest's, and leaves a paused
// guest paused.
func TestGuestReset(t *testing.T) {
	m, ended := launchFake(t, testSpec(t), false, func(c *hvtest.FakeCPU) { print(c, "."); c.Halt() })
	read1(t, m)
	ctx := t.Context()
	if err := m.Reset(ctx); err != nil {
		t.Fatal(err)
	}
	read1(t, m)
	if err := m.Pause(ctx); err != nil {
		t.Fatal(err)
	}
	if err := m.Reset(ctx); err != nil {
		t.Fatal(err)
	}
	if err := m.Resume(ctx); err != nil {
		t.Fatal(err)
	}
	read1(t, m)
	if err := m.Stop(ctx, hv.PowerOff); err != nil {
		t.Fatal(err)
	}
	reason, events := ended()
	if reason != hv.ExitDestroyed || !slices.Equal(states(events), []string{"Paused", "Running", "Halted"}) {
		t.Errorf("it ended as %s with events %v", reason, states(events))
	}
	for verb, err := range map[string]error{
		"pause": m.Pause(ctx), "resume": m.Resume(ctx), "reset": m.Reset(ctx), "ask": m.Stop(ctx, hv.Ask),
	} {
		if !errors.Is(err, hv.ErrUnavailable) {
			t.Errorf("%s of a guest that has ended: %v", verb, err)
		}
	}
	if err := m.Stop(ctx, hv.PowerOff); err != nil {
		t.Errorf("power off of a guest that is off: %v", err)
	}
}

// TestGuestHeld: a held guest does nothing until it is resumed, and can be taken
// its power before.
func TestGuestHeld(t *testing.T) {
	ran := make(chan struct{})
	m, ended := launchFake(t, testSpec(t), true, func(c *hvtest.FakeCPU) { close(ran); shutdown(c, xenabi.SHUTDOWN_poweroff) })
	select {
	case <-ran:
		t.Error("it ran")
	case <-time.After(50 * time.Millisecond):
	}
	if err := m.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	if reason, events := ended(); reason != hv.ExitPoweroff || !slices.Equal(states(events), []string{"Running", "Halted"}) {
		t.Errorf("it ended as %s with events %v", reason, states(events))
	}
	m, ended = launchFake(t, testSpec(t), true, func(c *hvtest.FakeCPU) {})
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	if reason, _ := ended(); reason != hv.ExitDestroyed {
		t.Errorf("a held guest ended as %s", reason)
	}
}

// TestGuestCrash: a crash is told in words.
func TestGuestCrash(t *testing.T) {
	_, ended := launchFake(t, testSpec(t), false, func(c *hvtest.FakeCPU) { shutdown(c, xenabi.SHUTDOWN_crash) })
	reason, events := ended()
	if reason != hv.ExitCrash || len(events) != 2 || events[0].Kind != hv.EventNotice || !strings.Contains(events[0].Text, "panicked") {
		t.Errorf("it ended as %s with events %v", reason, events)
	}
}

// TestLaunchRefuses: what cannot run is refused with a stage and a sentence.
func TestLaunchRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*hv.Spec)
		open   error
		stage  string
		words  string
	}{
		"type":      {func(s *hv.Spec) { s.Type = hv.HVM }, nil, stageSpec, "pvh"},
		"no kernel": {func(s *hv.Spec) { s.Boot.Kernel, s.Boot.Initrd = "", "" }, nil, stageSpec, "choose one"},
		"kernel gone": {func(s *hv.Spec) { s.Boot.Kernel += "x" }, nil, stageSpec,
			"put it back"},
		"accelerator": {func(*hv.Spec) {}, errors.New("/dev/kvm is not there"), stageAccel, "/dev/kvm"},
		"no kernel in it": {func(s *hv.Spec) { s.Boot.Kernel, s.Boot.Initrd = s.Boot.Initrd, "" }, nil, stageKernel,
			"kernel"},
	} {
		t.Run(name, func(t *testing.T) {
			s := testSpec(t)
			s.Boot.Initrd = filepath.Join(t.TempDir(), "initrd")
			if err := os.WriteFile(s.Boot.Initrd, []byte("an initial ramdisk"), 0o600); err != nil {
				t.Fatal(err)
			}
			c.change(&s)
			_, err := New(func() (accel.Hypervisor, error) { return &hvtest.FakeAccel{}, c.open }).
				Launch(context.Background(), s, hv.Host{Cache: t.TempDir()})
			var se *hv.StageError
			if !errors.As(err, &se) || se.Stage != c.stage || !strings.Contains(err.Error(), c.words) {
				t.Errorf("got %v", err)
			}
		})
	}
}
