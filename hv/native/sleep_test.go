package native

import (
	"io"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/hvtest"
	"github.com/hxen-project/hxen/hv/xenabi"
)

// TestMissing: what a guest's counter lacks after the host's sleep is what it was
// not counting, whatever it drifts.
func TestMissing(t *testing.T) {
	const hz = 2_600_000_000
	at := time.Now()
	ticks := func(d time.Duration) uint64 { return uint64(d) / 1000 * (hz / 1e6) }
	for _, c := range []struct {
		name           string
		awake, slept   time.Duration
		counted, wants time.Duration
	}{
		{"no sleep", time.Hour, 0, time.Hour, 0},
		{"no sleep, but drift", time.Hour, 0, time.Hour - 300*time.Millisecond, 0},
		{"it stood still", time.Hour, 30 * time.Second, time.Hour + 100*time.Millisecond, 30 * time.Second},
		{"it stood still a night", time.Minute, 8 * time.Hour, time.Minute, 8 * time.Hour},
		{"it went on", time.Hour, 30 * time.Second, time.Hour + 30*time.Second, 0},
		{"it went on a week", time.Hour, 168 * time.Hour, 169*time.Hour - 5*time.Second, 0},
		{"it began anew", time.Hour, time.Minute, -time.Hour, 0},
	} {
		from := moment{awake: at, slept: 5 * time.Second, tsc: 1 << 62}
		now := moment{awake: at.Add(c.awake), slept: 5*time.Second + c.slept}
		if now.tsc = from.tsc + ticks(c.counted); c.counted < 0 {
			now.tsc = from.tsc - ticks(-c.counted)
		}
		if got := from.missing(now, hz); got != ticks(c.wants) {
			t.Errorf("%s: %d ticks are missing, want %d", c.name, got, ticks(c.wants))
		}
	}
}

// TestResync: the fake's counter seems to stand still in a sleep of the host's;
// afterwards guests find that the time has passed, and what was due has come.
func TestResync(t *testing.T) {
	const sleep = 1000 * time.Hour
	var slept atomic.Int64
	c := testConfig(t, nil)
	c.VCPUs = 2
	c.Slept = func() time.Duration { return time.Duration(slept.Load()) }
	m := start(t, c, func(c *hvtest.FakeCPU) {
		_, bound := op(c, xenabi.HYPERVISOR_event_channel_op, xenabi.EVTCHNOP_bind_virq, xenabi.EvtchnBindVIRQ{VIRQ: xenabi.VIRQ_TIMER})
		c.Call(true, xenabi.HYPERVISOR_set_timer_op, uint64(sleep))
		print(c, "asleep")
		poll(c, uint64(bound.Port))
		for c.TSC() < uint64(sleep) { // polls may end early
			poll(c, uint64(bound.Port))
		}
		shutdown(c, xenabi.SHUTDOWN_poweroff)
	})
	said := make([]byte, 6)
	if _, err := io.ReadFull(m.Console(), said); err != nil || string(said) != "asleep" {
		t.Fatalf("the guest said %q, %v", said, err)
	}
	if err := m.Resync(); err != nil || m.domain.Now() > uint64(sleep) {
		t.Fatalf("without a sleep it is %d, %v", m.domain.Now(), err)
	}
	if !m.Pause() {
		t.Error("it was paused")
	}
	slept.Add(int64(sleep))
	if err := m.Resync(); err != nil || m.domain.Now() < uint64(sleep) || m.domain.Now() > uint64(2*sleep) {
		t.Fatalf("after a sleep of %d it is %d, %v", sleep, m.domain.Now(), err)
	}
	if m.Pause() {
		t.Error("it was not paused any more")
	}
	m.Resume()
	if reason := wait(t, m); reason != hv.ExitPoweroff {
		t.Errorf("it ended as %s", reason)
	}
	if err := m.Resync(); err == nil {
		t.Error("the clock of a guest that has ended was set")
	}
}
