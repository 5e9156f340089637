package xen

import (
	"time"

	"github.com/hxen-project/hxen/hv/accel"
	"github.com/hxen-project/hxen/hv/xenabi"
)

// maxWatchdogs is how many a domain has (NR_DOMAIN_WATCHDOG_TIMERS in Xen).
const maxWatchdogs = 2

// watchdog is a timer that its guest, if it is well, sets again before it runs out
// (Linux: xen_wdt). Domain.mu guards it. Under Xen it counts also while the guest is
// paused or the host sleeps, and then ends guests that could do nothing: ours counts
// the host's own time, and stands still with the guest's processors.
type watchdog struct {
	seconds uint32      // 0: not in use
	timer   accel.Timer // nil: it stands still
	turn    uint64      // counts arms, so that an expiry on its way is known as old
}

// watchdogOp is SCHEDOP_watchdog, sched.h: id 0 takes one, and its number is the
// result; a timeout of 0 gives it back.
func (d *Domain) watchdogOp(a xenabi.Watchdog) int64 {
	if a.ID > maxWatchdogs {
		return -xenabi.XEN_EINVAL
	}
	if a.ID > 0 {
		w := &d.watchdogs[a.ID-1]
		if w.seconds == 0 {
			return -xenabi.XEN_EINVAL
		}
		d.setWatchdog(w, a.Timeout)
		return 0
	}
	if a.Timeout == 0 {
		return -xenabi.XEN_EINVAL
	}
	for i := range d.watchdogs {
		if w := &d.watchdogs[i]; w.seconds == 0 {
			d.setWatchdog(w, a.Timeout)
			return int64(i + 1)
		}
	}
	return -xenabi.XEN_ENOSPC
}

// setWatchdog gives it its whole time; 0 seconds: it is in use no more.
func (d *Domain) setWatchdog(w *watchdog, seconds uint32) {
	w.stop()
	w.seconds = seconds
	if seconds == 0 || d.still || d.closed {
		return
	}
	turn := w.turn
	w.timer = d.cfg.NewTimer(func() {
		d.mu.Lock()
		old := w.turn != turn
		d.mu.Unlock()
		if !old {
			d.cfg.Shutdown(xenabi.SHUTDOWN_watchdog)
		}
	})
	w.timer.Set(time.Duration(seconds) * time.Second)
}

func (w *watchdog) stop() {
	w.turn++
	if w.timer != nil {
		w.timer.Close()
		w.timer = nil
	}
}

// Still tells that the guest's processors stand still or go on, for what counts
// their time only. What goes on has its whole time again.
func (d *Domain) Still(still bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.still = still
	for i := range d.watchdogs {
		d.setWatchdog(&d.watchdogs[i], d.watchdogs[i].seconds)
	}
}
