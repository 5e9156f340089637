package xen

import (
	"slices"
	"testing"

	"github.com/hxen-project/hxen/hv/xenabi"
)

const second = 1_000_000_000 // of the lab's TSC

func (l *lab) watchdog(id, timeout uint32) int64 {
	return call(l, 0, &xenabi.Watchdog{ID: id, Timeout: timeout}, xenabi.HYPERVISOR_sched_op, xenabi.SCHEDOP_watchdog)
}

// TestWatchdog is the contract of sched.h's SCHEDOP_watchdog, as xen_wdt and
// xenwatchdogd use it.
func TestWatchdog(t *testing.T) {
	for _, long := range []bool{true, false} {
		l := newLab(t, 1, long)
		l.want("one of no time", l.watchdog(0, 0), -xenabi.XEN_EINVAL)
		l.want("one that is not there", l.watchdog(2, 5), -xenabi.XEN_EINVAL)
		l.want("one that cannot be", l.watchdog(3, 5), -xenabi.XEN_EINVAL)
		l.want("the first", l.watchdog(0, 10), 1)
		l.want("the second", l.watchdog(0, 100), 2)
		l.want("a third", l.watchdog(0, 10), -xenabi.XEN_ENOSPC)
		l.advance(9 * second)
		l.want("set again", l.watchdog(1, 10), 0)
		l.advance(9 * second)
		if len(l.shutdown) != 0 {
			t.Fatal("a watchdog that was set again ran out")
		}
		l.want("given back", l.watchdog(1, 0), 0)
		l.want("taken again", l.watchdog(0, 10), 1)
		l.advance(10 * second)
		if !slices.Equal(l.shutdown, []uint32{xenabi.SHUTDOWN_watchdog}) {
			t.Errorf("long %v: shut down with %v", long, l.shutdown)
		}
	}
}

// TestWatchdogRests: who cannot run does not hang, and has his whole time when he can.
func TestWatchdogRests(t *testing.T) {
	l := newLab(t, 1, true)
	l.want("take", l.watchdog(0, 10), 1)
	l.advance(9 * second)
	l.Still(true)
	l.advance(100 * second)
	next := l.carry(1) // saved and restored meanwhile
	next.advance(9 * second)
	next.Still(true)
	next.Still(false)
	next.advance(9 * second)
	if len(l.shutdown)+len(next.shutdown) != 0 {
		t.Fatalf("shut down with %v and %v", l.shutdown, next.shutdown)
	}
	next.advance(second)
	if !slices.Equal(next.shutdown, []uint32{xenabi.SHUTDOWN_watchdog}) {
		t.Errorf("shut down with %v", next.shutdown)
	}
}
