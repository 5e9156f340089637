package proc

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The parent-death signal comes when the forking thread ends, so the thread that
// calls Start must not be the one that forks.
func TestChildOutlivesTheThreadThatAsked(t *testing.T) {
	kids := make(chan talk)
	var tid int
	var ask func()
	ask = func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with this goroutine
		if tid = unix.Gettid(); tid == os.Getpid() {
			go ask() // all but the main thread, which stays for ever
			<-t.Context().Done()
			return
		}
		c := self("echo")
		c.DieWithParent = true
		kids <- startChild(t, c)
	}
	go ask()
	k := <-kids
	k.line(t)
	for end := time.Now().Add(hang); ; {
		if _, err := os.Stat(fmt.Sprintf("/proc/self/task/%d", tid)); os.IsNotExist(err) {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the thread does not end: the test proves nothing")
		}
		runtime.Gosched()
	}
	if _, err := io.WriteString(k.in, "alive?\n"); err != nil {
		t.Fatal(err)
	}
	if s := k.line(t); s != "alive?" {
		t.Errorf("child says %q", s)
	}
}

func TestParseStat(t *testing.T) {
	const tail = " S 1 2 3 4 5 6 7 8 9 10 100 50 13 14 15 16 17 18 12345 20 77 22\n"
	for _, name := range []string{"(cat)", "(a b)", "(:) R 1 (x))", "(\n)"} {
		s, err := parseStat([]byte("42 " + name + tail))
		want := stat{state: 'S', utime: 100, stime: 50, start: 12345, rssInPages: 77}
		if err != nil || s != want {
			t.Errorf("%q: %+v, %v", name, s, err)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	own, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(own)
	f.Add([]byte("1 (x) S 1"))
	f.Add([]byte(")"))
	f.Add([]byte(")\x00 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0"))
	f.Add([]byte(""))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := parseStat(b); err == nil && s.state == 0 {
			t.Errorf("accepted %q without a state", b)
		}
	})
}

// A child's timers are as exact as it was asked for, and not as its parent's.
func TestTimerSlack(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, 7000, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Prctl(unix.PR_SET_TIMERSLACK, 0, 0, 0, 0) }()
	for slack, want := range map[time.Duration]string{0: "50000\n", 3 * time.Millisecond: "3000000\n"} {
		for _, dies := range []bool{false, true} {
			var said bytes.Buffer
			p, err := Start(Command{Path: "cat", Args: []string{"/proc/self/timerslack_ns"}, Stdout: &said, TimerSlack: slack, DieWithParent: dies})
			if err != nil {
				t.Fatal(err)
			}
			if code, err := p.Wait(); code != 0 || err != nil || said.String() != want {
				t.Errorf("slack of %v (dies with its parent: %v): %q, want %q; %d, %v", slack, dies, said.String(), want, code, err)
			}
		}
	}
}
