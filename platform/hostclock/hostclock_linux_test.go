package hostclock

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestSlept(t *testing.T) {
	var mono, boot unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot)
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &mono)
	most := time.Duration(boot.Nano() - mono.Nano())
	if s := Slept(); s < 0 || s > most+time.Minute || s < most-time.Minute {
		t.Errorf("the host has slept %v, where its clocks differ by %v", s, most)
	}
}

// TestWatch sets the date to what it is, which tells as a sleep does.
func TestWatch(t *testing.T) {
	woken, err := Watch()
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-woken:
		t.Error("told of a sleep at once")
	default:
	}
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_REALTIME, &now)
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &now); err != nil {
		t.Skipf("the date cannot be set by this user: %v", err)
	}
	select {
	case _, ok := <-woken:
		if !ok {
			t.Error("the watch has ended")
		}
	case <-time.After(time.Minute):
		t.Error("not told that the date was set")
	}
}
