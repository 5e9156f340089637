package hvtest

import (
	"bytes"
	"context"
	"image/png"
	"testing"
	"time"

	"github.com/hxen-project/hxen/hv"
)

// Rig is what the Machine suite needs of an engine. The guest that it launches
// has one writable disk and behaves as testdata/guest.s says.
type Rig struct {
	// Launch starts one guest, with hold as hv.Host's; the suite closes it.
	Launch func(ctx context.Context, t *testing.T, hold bool) (hv.Machine, error)
	// Kill ends what runs the guest behind the engine's back; nil if that is the
	// test itself.
	Kill func(t *testing.T, m hv.Machine)
	// Left reports what the engine's guests have left behind: files, processes.
	Left func(t *testing.T) []string
}

// RunMachine is the contract of hv.Machine, as a test that every engine passes.
func RunMachine(t *testing.T, rig Rig) {
	for _, c := range []struct {
		name string
		run  func(*testing.T, *live)
	}{
		{"console echoes", testEcho},
		{"pause and resume", testPause},
		{"reset", testReset},
		{"guest restarts itself", testReboot},
		{"guest powers itself off", testGuestOff},
		{"power button", testAsk},
		{"power off", testPowerOff},
		{"power off while paused", testPowerOffPaused},
		{"guest panics", testPanic},
		{"counters grow", testStats},
		{"screenshot", testScreenshot},
		{"keys reach the guest", testKeys},
		{"verbs after the end", testAfterEnd},
		{"close without reading", testClose},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := launch(t, rig, false)
			c.run(t, l)
			l.End()
			l.nothingLeft()
		})
	}
	t.Run("held at its first instruction", func(t *testing.T) {
		l := launch(t, rig, true)
		if got := l.Heard(); got != "" {
			t.Errorf("a held guest said %q", got)
		}
		l.Do("resume", l.Machine.Resume)
		l.State(hv.Running)
		l.Expect("READY\r\n")
		l.End()
		l.nothingLeft()
	})
	t.Run("killed from outside", func(t *testing.T) {
		if rig.Kill == nil {
			t.Skip("this engine runs inside the test")
		}
		l := launch(t, rig, false)
		rig.Kill(t, l.Machine)
		reason, err := l.Wait()
		if reason != hv.ExitFailed || err == nil {
			t.Errorf("ended as %q, %v; want failed and why", reason, err)
		}
		l.nothingLeft()
	})
	t.Run("launch cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if m, err := rig.Launch(ctx, t, false); err == nil {
			_ = m.Close()
			t.Fatal("a cancelled launch succeeded")
		}
		if left := rig.Left(t); len(left) > 0 {
			t.Errorf("a cancelled launch left %q", left)
		}
	})
}

// live is a guest of the suite.
type live struct {
	*Live
	t   *testing.T
	rig Rig
}

func launch(t *testing.T, rig Rig, hold bool) *live {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Guard)
	defer cancel()
	m, err := rig.Launch(ctx, t, hold)
	if err != nil {
		t.Fatalf("launch: %v", err)
	}
	l := &live{Follow(t, m), t, rig}
	if !hold {
		l.Expect("READY\r\n")
	}
	return l
}

func (l *live) nothingLeft() {
	l.t.Helper()
	if left := l.rig.Left(l.t); len(left) > 0 {
		l.t.Errorf("the guest's end left %q", left)
	}
}

func testEcho(t *testing.T, l *live) {
	l.Say("hello")
	l.Expect("hello")
	if i := l.Machine.Info(); i.Engine == "" || i.Accelerator == "" || i.Version == "" {
		t.Errorf("info %+v lacks something", i)
	}
}

func testPause(t *testing.T, l *live) {
	l.Do("pause", l.Machine.Pause)
	l.State(hv.Paused)
	l.Do("pause again", l.Machine.Pause)
	l.Say("x")
	l.Do("resume", l.Machine.Resume)
	l.State(hv.Running)
	l.Do("resume again", l.Machine.Resume)
	l.Expect("x")
}

func testReset(t *testing.T, l *live) {
	l.Do("reset", l.Machine.Reset)
	l.Expect("READY\r\n")
	l.Say("x")
	l.Expect("x")
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.events {
		if e.Kind == hv.EventReboot {
			t.Errorf("our reset was told as the guest's: %+v", e)
		}
	}
}

func testReboot(t *testing.T, l *live) {
	l.Say("r")
	l.Event("reboot", func(e hv.Event) bool { return e.Kind == hv.EventReboot })
	l.Expect("READY\r\n")
}

func testGuestOff(t *testing.T, l *live) {
	l.Say("q")
	l.Ended(hv.ExitPoweroff)
}

func testAsk(t *testing.T, l *live) {
	l.Say("x") // the answer tells that the guest looks at its power button
	l.Expect("x")
	l.Stop(hv.Ask)
	l.Ended(hv.ExitPoweroff)
}

func testPowerOff(t *testing.T, l *live) {
	l.Stop(hv.PowerOff)
	l.Ended(hv.ExitDestroyed)
}

func testPowerOffPaused(t *testing.T, l *live) {
	l.Do("pause", l.Machine.Pause)
	l.State(hv.Paused)
	l.Stop(hv.PowerOff)
	l.Ended(hv.ExitDestroyed)
}

func testPanic(t *testing.T, l *live) {
	l.Say("c")
	l.Event("notice", func(e hv.Event) bool { return e.Kind == hv.EventNotice && e.Text != "" })
	l.Ended(hv.ExitCrash)
}

func testStats(t *testing.T, l *live) {
	stats := func() (s hv.Stats) {
		l.Do("stats", func(ctx context.Context) (err error) {
			s, err = l.Machine.Stats(ctx)
			return err
		})
		return s
	}
	before := stats()
	if before.Memory == 0 || before.RSS == 0 || len(before.Disks) != 1 {
		t.Fatalf("counters %+v lack something", before)
	}
	for range 20 {
		l.Say("d")
		l.Expect("D")
		l.Say("w")
		l.Expect("W")
	}
	after := stats()
	for id, a := range after.Disks {
		b := before.Disks[id]
		if a.Reads < b.Reads+20 || a.ReadBytes < b.ReadBytes+20*512 || a.Writes < b.Writes+20 || a.WriteBytes < b.WriteBytes+20*512 {
			t.Errorf("disk counters went from %+v to %+v over 20 reads and writes of a sector", b, a)
		}
	}
	// The system's clock of CPU time ticks in hundredths of a second.
	for deadline := time.Now().Add(Guard); after.CPU <= before.CPU; after = stats() {
		if time.Now().After(deadline) {
			t.Fatalf("CPU time stays at %v", after.CPU)
		}
		l.Say("x")
		l.Expect("x")
	}
}

func testScreenshot(t *testing.T, l *live) {
	s, ok := l.Machine.(hv.Screenshotter)
	if !ok {
		t.Skip("this engine takes no screenshots")
	}
	var b bytes.Buffer
	l.Do("screenshot", func(ctx context.Context) error { return s.Screenshot(ctx, &b) })
	img, err := png.Decode(&b)
	if err != nil {
		t.Fatal(err)
	}
	lit := 0
	for y := img.Bounds().Min.Y; y < img.Bounds().Max.Y; y++ {
		for x := img.Bounds().Min.X; x < img.Bounds().Max.X; x++ {
			if r, g, b, _ := img.At(x, y).RGBA(); r|g|b != 0 {
				lit++
			}
		}
	}
	if lit == 0 {
		t.Errorf("the screen of %v is black", img.Bounds())
	}
}

func testKeys(t *testing.T, l *live) {
	k, ok := l.Machine.(hv.Keyer)
	if !ok {
		t.Skip("this engine presses no keys")
	}
	l.Say("x") // the answer tells that the BIOS has left the keyboard to the guest
	l.Expect("x")
	// KEY_LEFTCTRL, KEY_A: the guest's BIOS has chosen scan code set 1 for it.
	l.Do("keys", func(ctx context.Context) error { return k.SendKeys(ctx, []uint16{29, 30}) })
	for _, code := range []string{"K1d", "K1e", "K9e", "K9d"} {
		l.Expect(code)
	}
	ctx, cancel := context.WithTimeout(t.Context(), Guard)
	defer cancel()
	if err := k.SendKeys(ctx, []uint16{0}); err == nil {
		t.Error("a key that is none was pressed")
	}
}

func testAfterEnd(t *testing.T, l *live) {
	l.Stop(hv.PowerOff)
	l.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), Guard)
	defer cancel()
	_, statsErr := l.Machine.Stats(ctx)
	for verb, err := range map[string]error{
		"pause": l.Machine.Pause(ctx), "resume": l.Machine.Resume(ctx), "reset": l.Machine.Reset(ctx),
		"ask": l.Machine.Stop(ctx, hv.Ask), "stats": statsErr,
	} {
		if err == nil {
			t.Errorf("%s works on a guest that has ended", verb)
		}
	}
	if err := l.Machine.Stop(ctx, hv.PowerOff); err != nil {
		t.Errorf("power off of a guest that is off: %v", err)
	}
}

// testClose pauses and resumes so that events wait, and closes at once.
func testClose(t *testing.T, l *live) {
	l.Do("pause", l.Machine.Pause)
	l.Do("resume", l.Machine.Resume)
	for range 2 {
		if err := l.Machine.Close(); err != nil {
			t.Fatalf("close: %v", err)
		}
	}
}
