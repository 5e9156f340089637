package hvtest

import (
	"bytes"
	"context"
	"image/png"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hxen-project/hxen/hv"
)

// Guard is how long any step of the Machine suite may take before the test says
// that it hangs. It measures nothing.
const Guard = 5 * time.Minute

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
			l.end()
			l.nothingLeft()
		})
	}
	t.Run("held at its first instruction", func(t *testing.T) {
		l := launch(t, rig, true)
		if got := l.heard(); got != "" {
			t.Errorf("a held guest said %q", got)
		}
		l.do("resume", l.m.Resume)
		l.state(hv.Running)
		l.expect("READY\r\n")
		l.end()
		l.nothingLeft()
	})
	t.Run("killed from outside", func(t *testing.T) {
		if rig.Kill == nil {
			t.Skip("this engine runs inside the test")
		}
		l := launch(t, rig, false)
		rig.Kill(t, l.m)
		reason, err := l.wait()
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

// live is a running guest whose console and events are read.
type live struct {
	t   *testing.T
	rig Rig
	m   hv.Machine
	con io.ReadWriter

	mu     sync.Mutex
	more   *sync.Cond
	text   bytes.Buffer // guarded by mu; unread output of the console
	events []hv.Event   // guarded by mu; unread
	closed bool         // guarded by mu; the events have ended
	late   bool         // guarded by mu; Guard has run out
}

func launch(t *testing.T, rig Rig, hold bool) *live {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Guard)
	defer cancel()
	m, err := rig.Launch(ctx, t, hold)
	if err != nil {
		t.Fatalf("launch: %v", err)
	}
	l := &live{t: t, rig: rig, m: m}
	l.more = sync.NewCond(&l.mu)
	t.Cleanup(func() { _ = m.Close() })
	go func() {
		for e := range m.Events() {
			l.mu.Lock()
			l.events = append(l.events, e)
			l.more.Broadcast()
			l.mu.Unlock()
		}
		l.mu.Lock()
		l.closed = true
		l.more.Broadcast()
		l.mu.Unlock()
	}()
	c, ok := m.(hv.Consoler)
	if !ok {
		t.Fatal("the machine has no console, which this suite talks to")
	}
	l.con = c.Console()
	go func() {
		buf := make([]byte, 256)
		for {
			n, err := l.con.Read(buf)
			l.mu.Lock()
			l.text.Write(buf[:n])
			l.more.Broadcast()
			l.mu.Unlock()
			if err != nil {
				if err != io.EOF {
					t.Errorf("the console ended with %v, want EOF", err)
				}
				return
			}
		}
	}()
	if !hold {
		l.expect("READY\r\n")
	}
	return l
}

// until waits for what under mu.
func (l *live) until(what string, ok func() bool) {
	l.t.Helper()
	guard := time.AfterFunc(Guard, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.late = true
		l.more.Broadcast()
	})
	defer guard.Stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	for !ok() {
		if l.late {
			l.t.Fatalf("%s never came; console %q, events %v", what, l.text.String(), l.events)
		}
		l.more.Wait()
	}
}

// expect waits for text on the console and takes everything up to it.
func (l *live) expect(text string) {
	l.t.Helper()
	l.until(text, func() bool {
		i := strings.Index(l.text.String(), text)
		if i >= 0 {
			l.text.Next(i + len(text))
		}
		return i >= 0
	})
}

// event waits for an event and takes everything up to it.
func (l *live) event(what string, is func(hv.Event) bool) (found hv.Event) {
	l.t.Helper()
	l.until(what, func() bool {
		for i, e := range l.events {
			if is(e) {
				found, l.events = e, l.events[i+1:]
				return true
			}
		}
		if l.closed {
			l.t.Fatalf("the events ended without %s", what)
		}
		return false
	})
	return found
}

func (l *live) state(s hv.PowerState) {
	l.t.Helper()
	l.event(string(s), func(e hv.Event) bool { return e.Kind == hv.EventState && e.State == s })
}

// heard is what the guest has said so far and nobody has read.
func (l *live) heard() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *live) say(text string) {
	l.t.Helper()
	if _, err := io.WriteString(l.con, text); err != nil {
		l.t.Fatalf("write to the console: %v", err)
	}
}

func (l *live) do(what string, f func(context.Context) error) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), Guard)
	defer cancel()
	if err := f(ctx); err != nil {
		l.t.Fatalf("%s: %v", what, err)
	}
}

func (l *live) stop(how hv.StopHow) {
	l.t.Helper()
	l.do("stop", func(ctx context.Context) error { return l.m.Stop(ctx, how) })
}

// wait returns how the machine ended and checks the order of the ends: the
// events have ended before Wait returns.
func (l *live) wait() (hv.ExitReason, error) {
	l.t.Helper()
	type end struct {
		reason hv.ExitReason
		err    error
	}
	got := make(chan end, 1)
	go func() {
		r, err := l.m.Wait()
		got <- end{r, err}
	}()
	select {
	case e := <-got:
		if _, open := <-l.m.Events(); open {
			l.t.Error("Wait returned before the events had ended")
		}
		return e.reason, e.err
	case <-time.After(Guard):
		l.t.Fatal("Wait never returned")
		panic("unreachable")
	}
}

func (l *live) ended(want hv.ExitReason) {
	l.t.Helper()
	l.state(hv.Halted)
	if reason, err := l.wait(); reason != want || err != nil {
		l.t.Errorf("ended as %q, %v; want %q", reason, err, want)
	}
}

func (l *live) end() {
	l.t.Helper()
	if err := l.m.Close(); err != nil {
		l.t.Errorf("close: %v", err)
	}
	l.wait()
}

func (l *live) nothingLeft() {
	l.t.Helper()
	if left := l.rig.Left(l.t); len(left) > 0 {
		l.t.Errorf("the guest's end left %q", left)
	}
}

func testEcho(t *testing.T, l *live) {
	l.say("hello")
	l.expect("hello")
	if i := l.m.Info(); i.Engine == "" || i.Accelerator == "" || i.Version == "" {
		t.Errorf("info %+v lacks something", i)
	}
}

func testPause(t *testing.T, l *live) {
	l.do("pause", l.m.Pause)
	l.state(hv.Paused)
	l.do("pause again", l.m.Pause)
	l.say("x")
	l.do("resume", l.m.Resume)
	l.state(hv.Running)
	l.do("resume again", l.m.Resume)
	l.expect("x")
}

func testReset(t *testing.T, l *live) {
	l.do("reset", l.m.Reset)
	l.expect("READY\r\n")
	l.say("x")
	l.expect("x")
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.events {
		if e.Kind == hv.EventReboot {
			t.Errorf("our reset was told as the guest's: %+v", e)
		}
	}
}

func testReboot(t *testing.T, l *live) {
	l.say("r")
	l.event("reboot", func(e hv.Event) bool { return e.Kind == hv.EventReboot })
	l.expect("READY\r\n")
}

func testGuestOff(t *testing.T, l *live) {
	l.say("q")
	l.ended(hv.ExitPoweroff)
}

func testAsk(t *testing.T, l *live) {
	l.say("x") // the answer tells that the guest looks at its power button
	l.expect("x")
	l.stop(hv.Ask)
	l.ended(hv.ExitPoweroff)
}

func testPowerOff(t *testing.T, l *live) {
	l.stop(hv.PowerOff)
	l.ended(hv.ExitDestroyed)
}

func testPowerOffPaused(t *testing.T, l *live) {
	l.do("pause", l.m.Pause)
	l.state(hv.Paused)
	l.stop(hv.PowerOff)
	l.ended(hv.ExitDestroyed)
}

func testPanic(t *testing.T, l *live) {
	l.say("c")
	l.event("notice", func(e hv.Event) bool { return e.Kind == hv.EventNotice && e.Text != "" })
	l.ended(hv.ExitCrash)
}

func testStats(t *testing.T, l *live) {
	stats := func() (s hv.Stats) {
		l.do("stats", func(ctx context.Context) (err error) {
			s, err = l.m.Stats(ctx)
			return err
		})
		return s
	}
	before := stats()
	if before.Memory == 0 || before.RSS == 0 || len(before.Disks) != 1 {
		t.Fatalf("counters %+v lack something", before)
	}
	for range 20 {
		l.say("d")
		l.expect("D")
		l.say("w")
		l.expect("W")
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
		l.say("x")
		l.expect("x")
	}
}

func testScreenshot(t *testing.T, l *live) {
	s, ok := l.m.(hv.Screenshotter)
	if !ok {
		t.Skip("this engine takes no screenshots")
	}
	var b bytes.Buffer
	l.do("screenshot", func(ctx context.Context) error { return s.Screenshot(ctx, &b) })
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
	k, ok := l.m.(hv.Keyer)
	if !ok {
		t.Skip("this engine presses no keys")
	}
	l.say("x") // the answer tells that the BIOS has left the keyboard to the guest
	l.expect("x")
	// KEY_LEFTCTRL, KEY_A: the guest's BIOS has chosen scan code set 1 for it.
	l.do("keys", func(ctx context.Context) error { return k.SendKeys(ctx, []uint16{29, 30}) })
	for _, code := range []string{"K1d", "K1e", "K9e", "K9d"} {
		l.expect(code)
	}
	ctx, cancel := context.WithTimeout(t.Context(), Guard)
	defer cancel()
	if err := k.SendKeys(ctx, []uint16{0}); err == nil {
		t.Error("a key that is none was pressed")
	}
}

func testAfterEnd(t *testing.T, l *live) {
	l.stop(hv.PowerOff)
	l.wait()
	ctx, cancel := context.WithTimeout(t.Context(), Guard)
	defer cancel()
	_, statsErr := l.m.Stats(ctx)
	for verb, err := range map[string]error{
		"pause": l.m.Pause(ctx), "resume": l.m.Resume(ctx), "reset": l.m.Reset(ctx),
		"ask": l.m.Stop(ctx, hv.Ask), "stats": statsErr,
	} {
		if err == nil {
			t.Errorf("%s works on a guest that has ended", verb)
		}
	}
	if err := l.m.Stop(ctx, hv.PowerOff); err != nil {
		t.Errorf("power off of a guest that is off: %v", err)
	}
}

// testClose pauses and resumes so that events wait, and closes at once.
func testClose(t *testing.T, l *live) {
	l.do("pause", l.m.Pause)
	l.do("resume", l.m.Resume)
	for range 2 {
		if err := l.m.Close(); err != nil {
			t.Fatalf("close: %v", err)
		}
	}
}
