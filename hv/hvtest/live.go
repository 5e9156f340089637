package hvtest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hxen-project/hxen/hv"
)

// Guard is how long any step of a test with a machine may take before the test
// says that it hangs. It measures nothing.
const Guard = 5 * time.Minute

// Live is a running guest whose console and events are read. Its methods fail
// the test when what they wait for takes longer than Guard.
type Live struct {
	Machine hv.Machine
	Guard   time.Duration
	t       testing.TB
	con     io.ReadWriter

	mu     sync.Mutex
	more   *sync.Cond
	text   bytes.Buffer // guarded by mu; unread output of the console
	events []hv.Event   // guarded by mu; unread
	closed bool         // guarded by mu; the events have ended
	silent bool         // guarded by mu; the console has ended
	late   bool         // guarded by mu; Guard has run out
}

// Follow begins to read what a machine says. It is closed with the test.
func Follow(t testing.TB, m hv.Machine) *Live {
	t.Helper()
	l := &Live{Machine: m, Guard: Guard, t: t}
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
			l.silent = err != nil
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
	return l
}

// until waits for what under mu.
func (l *Live) until(what string, ok func() bool) {
	l.t.Helper()
	guard := time.AfterFunc(l.Guard, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.late = true
		l.more.Broadcast()
	})
	defer guard.Stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	for !ok() {
		if l.closed && l.silent {
			l.t.Fatalf("the guest has ended, and %s never came; console %q, events %v", what, l.text.String(), l.events)
		}
		if l.late {
			stacks := make([]byte, 1<<20)
			l.t.Fatalf("%s never came; console %q, events %v; who waits for what:\n%s", what, l.text.String(), l.events,
				stacks[:runtime.Stack(stacks, true)])
		}
		l.more.Wait()
	}
}

// Expect waits for text on the console, takes everything up to its end, and
// returns what came before it.
func (l *Live) Expect(text string) (before string) {
	l.t.Helper()
	l.until(text, func() bool {
		i := strings.Index(l.text.String(), text)
		if i >= 0 {
			before = string(l.text.Next(i))
			l.text.Next(len(text))
		}
		return i >= 0
	})
	return before
}

// Run has a guest of GuestInitrd's run a command and returns what it printed. A
// command that fails fails the test.
func (l *Live) Run(command string) string {
	l.t.Helper()
	l.Say(command + "\n")
	out := strings.ReplaceAll(l.Expect(GuestDone), "\r\n", "\n")
	if status := l.Expect("\r\n"); status != "0" {
		l.t.Fatalf("%q in the guest ended with status %s; it said %q", command, status, out)
	}
	return strings.TrimSuffix(out, "\n")
}

// Event waits for an event and takes everything up to it.
func (l *Live) Event(what string, is func(hv.Event) bool) (found hv.Event) {
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

// State waits for a power state.
func (l *Live) State(s hv.PowerState) {
	l.t.Helper()
	l.Event(string(s), func(e hv.Event) bool { return e.Kind == hv.EventState && e.State == s })
}

// Heard is what the guest has said so far and nobody has read.
func (l *Live) Heard() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// Say types on the console.
func (l *Live) Say(text string) {
	l.t.Helper()
	if _, err := io.WriteString(l.con, text); err != nil { // until tells more, if the guest has ended
		l.until(fmt.Sprintf("a console that takes %q (%v)", text, err), func() bool { return false })
	}
}

// Do calls one of the machine's methods, which must succeed.
func (l *Live) Do(what string, f func(context.Context) error) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), l.Guard)
	defer cancel()
	if err := f(ctx); err != nil {
		l.t.Fatalf("%s: %v", what, err)
	}
}

// Stop stops the machine; unless how is hv.PowerOff, it may go on a while.
func (l *Live) Stop(how hv.StopHow) {
	l.t.Helper()
	l.Do("stop", func(ctx context.Context) error { return l.Machine.Stop(ctx, how) })
}

// Wait returns how the machine ended and checks the order of the ends: the
// events have ended before Wait returns.
func (l *Live) Wait() (hv.ExitReason, error) {
	l.t.Helper()
	type end struct {
		reason hv.ExitReason
		err    error
	}
	got := make(chan end, 1)
	go func() {
		r, err := l.Machine.Wait()
		got <- end{r, err}
	}()
	select {
	case e := <-got:
		if _, open := <-l.Machine.Events(); open {
			l.t.Error("Wait returned before the events had ended")
		}
		return e.reason, e.err
	case <-time.After(l.Guard):
		l.t.Fatal("Wait never returned")
		panic("unreachable")
	}
}

// Ended waits for the machine's end, which must be this one.
func (l *Live) Ended(want hv.ExitReason) {
	l.t.Helper()
	l.State(hv.Halted)
	if reason, err := l.Wait(); reason != want || err != nil {
		l.t.Errorf("ended as %q, %v; want %q", reason, err, want)
	}
}

// End takes the machine's power.
func (l *Live) End() {
	l.t.Helper()
	if err := l.Machine.Close(); err != nil {
		l.t.Errorf("close: %v", err)
	}
	l.Wait()
}
