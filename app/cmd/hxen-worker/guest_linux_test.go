package main

// Of the guest suite, what needs Linux around it.

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/hxen-project/hxen/hv"
	port "github.com/hxen-project/hxen/hv/accel"
	"github.com/hxen-project/hxen/hv/hvtest"
	"github.com/hxen-project/hxen/hv/native"
	"github.com/hxen-project/hxen/platform/accel"
)

func TestMain(m *testing.M) {
	accel.ProbeChild()
	if arg := os.Getenv(saveChildEnv); arg != "" {
		if err := runSaveChild(arg); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// await is a command of the guest's that waits, a minute at most, until the
// condition, a command too, is met, and fails if it is not.
func await(condition string) string {
	return "n=0; until " + condition + " || [ $n -ge 600 ]; do n=$((n+1)); sleep 0.1; done; " + condition
}

// TestGuestEnds: what a guest was asked for, what it does by itself, and a panic
// are told as what they are.
func TestGuestEnds(t *testing.T) {
	s := guest(kernels(t)[0])
	l := boot(t, s, testHost(t, s))
	reboot := func(e hv.Event) bool { return e.Kind == hv.EventReboot }
	l.Stop(hv.AskReboot)
	l.Event("reboot", reboot)
	l.Expect(hvtest.GuestReady)
	l.Say("reboot -f\n")
	l.Event("reboot", reboot)
	l.Expect(hvtest.GuestReady)
	l.Say("echo c >/proc/sysrq-trigger\n")
	e := l.Event("notice", func(e hv.Event) bool { return e.Kind == hv.EventNotice })
	if !strings.Contains(e.Text, "panicked") {
		t.Errorf("a panic was told as %q", e.Text)
	}
	l.Ended(hv.ExitCrash)
}

// TestGuestTime: date and sleep are right from the start, after a pause and after
// the whole process was stopped; and the clock keeps with the host's.
func TestGuestTime(t *testing.T) {
	longOnly(t) // it takes minutes
	s := guest(kernels(t)[0])
	s.Boot.Initrd = withClocks(t, s.Boot.Initrd)
	s.VCPUs = 2
	began := time.Now()
	l := boot(t, s, testHost(t, s))
	// Until Linux has chosen its clock, late in its start (fs_initcall), its time is
	// made of timer ticks, which begin late and of which it loses those that a busy
	// host delays. So its date falls behind while it starts, and stays there.
	if guest, host := guestTime(t, l); guest.Before(began) || guest.After(host) {
		t.Errorf("the guest's date is %v, where it was started at %v and it is %v now", guest, began, host)
	}
	c := &guestClock{t: t, l: l}
	c.behind = c.offset()
	t.Logf("its date is %v behind after a start of %v", c.behind, time.Since(began))
	checkSleep(t, l)
	c.checkPause()
	c.checkStopped()
	c.checkDrift()
}

// withClocks adds the program that checkDrift runs to a ramdisk: Linux unpacks archives
// that follow each other.
func withClocks(t *testing.T, initrd string) string {
	out := filepath.Join(t.TempDir(), "initrd")
	var all []byte
	for _, name := range []string{initrd, filepath.Join(os.Getenv("HXEN_LAB"), "clocks.initrd")} {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b...)
	}
	if err := os.WriteFile(out, all, 0o600); err != nil {
		t.Fatal(err)
	}
	return out
}

// guestClock compares a guest's date with the host's.
type guestClock struct {
	t      *testing.T
	l      *hvtest.Live
	behind time.Duration // by what it is behind from its start on
}

// checkPause: a paused guest does nothing, and goes on with the right time.
func (c *guestClock) checkPause() {
	t, l := c.t, c.l
	t.Helper()
	l.Do("pause", l.Machine.Pause)
	l.State(hv.Paused)
	l.Say("echo awake; ")
	time.Sleep(time.Second)
	if got := l.Heard(); got != "" {
		t.Errorf("a paused guest said %q", got)
	}
	l.Do("resume", l.Machine.Resume)
	l.State(hv.Running)
	if got := l.Run("sleep 0.1"); got != "awake" {
		t.Errorf("the guest said %q", got)
	}
	c.checkDate()
}

// checkStopped: a host that sleeps has stopped us, too.
func (c *guestClock) checkStopped() {
	t := c.t
	t.Helper()
	stopped := 3
	if !testing.Short() {
		stopped = 30
	}
	began := time.Now()
	// The shell goes on when we do not.
	if out, err := exec.CommandContext(t.Context(), "sh", "-c", fmt.Sprintf("kill -STOP %d; sleep %d; kill -CONT %[1]d", os.Getpid(), stopped)).CombinedOutput(); err != nil {
		t.Fatalf("stop the process: %v, %s", err, out)
	}
	if took := time.Since(began); took < time.Duration(stopped)*time.Second {
		t.Errorf("the process was stopped for %v", took)
	}
	c.checkDate()
	checkSleep(t, c.l)
}

// guestTime is a guest's time of day and the host's when it had come.
func guestTime(t *testing.T, l *hvtest.Live) (guest, host time.Time) {
	t.Helper()
	out := l.Run("echo $EPOCHREALTIME")
	host = time.Now()
	var sec, usec int64
	// The kernel may have said something before: that it was stuck, after a stop.
	out = out[strings.LastIndexByte(out, '\n')+1:]
	if n, err := fmt.Sscanf(out, "%d.%06d", &sec, &usec); n != 2 {
		t.Fatalf("the guest's date is %q: %v", out, err)
	}
	return time.Unix(sec, usec*1000), host
}

// offset is the least delay of many dates that the guest tells, which come late and
// never early.
func (c *guestClock) offset() time.Duration {
	c.t.Helper()
	least := time.Hour
	for range 50 {
		guest, host := guestTime(c.t, c.l)
		least = min(least, host.Sub(guest))
	}
	return least
}

// checkDate: the date is where it was against the host's.
func (c *guestClock) checkDate() {
	c.t.Helper()
	before := time.Now()
	guest, after := guestTime(c.t, c.l)
	guest = guest.Add(c.behind)
	if slack := 10 * time.Millisecond; guest.Before(before.Add(-slack)) || guest.After(after.Add(slack)) {
		c.t.Errorf("the guest's date is %v, between %v and %v of the host's", guest, before, after)
	}
}

// checkSleep: a second of the guest's is a second, for the guest and for us.
func checkSleep(t *testing.T, l *hvtest.Live) {
	t.Helper()
	before := time.Now()
	guest1, _ := guestTime(t, l)
	l.Run("sleep 1")
	guest2, _ := guestTime(t, l)
	if d := guest2.Sub(guest1); d < time.Second || d > time.Since(before) {
		t.Errorf("sleep 1 took %v of the guest's time, %v of the host's around it", d, time.Since(before))
	}
}

// checkDrift holds the guest's clock against the host's for a while: both are read at
// once with the counter that is one for both, so that it does not matter how long an
// answer takes.
func (c *guestClock) checkDrift() {
	t := c.t
	t.Helper()
	program := filepath.Join(os.Getenv("HXEN_LAB"), "clocks")
	read := func() (guest, host moment) {
		out, err := exec.CommandContext(t.Context(), program).Output()
		if err != nil {
			t.Fatal(err)
		}
		return readMoment(t, c.l.Run("/bin/clocks")), readMoment(t, string(out))
	}
	guest1, host1 := read()
	time.Sleep(time.Minute)
	guest2, host2 := read()
	ticks, took := guest2.since(guest1)
	hostTicks, hostTook := host2.since(host1)
	drift := time.Duration(took - ticks*hostTook/hostTicks)
	t.Logf("in %v the guest's clock got ahead by %v", time.Duration(took), drift)
	if max(drift, -drift) > time.Millisecond {
		t.Errorf("the guest's clock drifts from the host's by %v in a minute", drift)
	}
}

// moment is a counter and a date in ns, as hv/hvtest/testdata/clocks.c prints them.
type moment struct{ tsc, date int64 }

func (m moment) since(o moment) (ticks, ns float64) {
	return float64(m.tsc - o.tsc), float64(m.date - o.date)
}

func readMoment(t *testing.T, line string) (m moment) {
	t.Helper()
	line = strings.TrimSpace(line)
	line = line[strings.LastIndexByte(line, '\n')+1:] // the kernel may have said something before
	if n, err := fmt.Sscan(line, &m.tsc, &m.date); n != 2 {
		t.Fatalf("a counter and a date are %q: %v", line, err)
	}
	return m
}

// TestGuestStress: guests boot one after the other on a computer that has more to
// do than it can, which is when an interrupt that gets lost would show.
func TestGuestStress(t *testing.T) {
	if testing.Short() {
		t.Skip("200 boots are for the long form (HXEN_LONG=1)")
	}
	s := guest(kernels(t)[0])
	s.VCPUs = 2
	s.Boot.Cmdline += " cryptomgr.notests" // half of a start's work, and no interrupt in it
	for range 2 * runtime.NumCPU() {
		busy := exec.CommandContext(t.Context(), "sh", "-c", "while :; do :; done")
		if err := busy.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = busy.Wait() })
	}
	for i := range 200 {
		l := boot(t, s, testHost(t, s))
		l.Run("sleep 0.1")
		l.End()
		if t.Failed() {
			t.Fatalf("boot %d failed", i)
		}
		if i%10 == 9 {
			t.Logf("%d guests have booted", i+1)
		}
	}
}

// TestGuestSignature: a kernel whose calls to Xen are not found is refused in
// words where they would not reach us.
func TestGuestSignature(t *testing.T) {
	k := kernels(t)[0]
	kept, err := filepath.Glob(filepath.Join(k, "cache", "*.elf"))
	if err != nil || len(kept) != 1 {
		t.Fatalf("unpacked kernels in %s: %q, %v", k, kept, err)
	}
	b, err := os.ReadFile(kept[0])
	if err != nil {
		t.Fatal(err)
	}
	// push rax, rcx, rdx, rdi, rsi, r11, r10, r9, r8: how xen_hypercall_hvm begins.
	at := strings.Index(string(b), "\x50\x51\x52\x57\x56\x41\x53\x41\x52\x41\x51\x41\x50\xe8")
	if at < 0 {
		t.Fatal("the kernel has no such function")
	}
	b[at+3], b[at+4] = b[at+4], b[at+3]
	s := guest(k)
	s.Boot.Kernel = filepath.Join(t.TempDir(), "vmlinux")
	if err := os.WriteFile(s.Boot.Kernel, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if !patched(t) {
		t.Skip("this computer hands calls on unchanged, so no signature is needed")
	}
	m, err := native.New(accel.Open).Launch(t.Context(), s, testHost(t, s))
	if err == nil {
		_ = m.Close()
		t.Fatal("it was started")
	}
	if se, ok := errors.AsType[*hv.StageError](err); !ok || !strings.Contains(se.Error(), "calls Xen in a way that is not known") {
		t.Errorf("it was refused with %v", err)
	}
}

// patched reports whether hypercalls reach us only if they are patched.
func patched(t *testing.T) bool {
	t.Helper()
	h, err := accel.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	m, err := h.NewVM(port.Config{VCPUs: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	return m.Caps().Patched
}
