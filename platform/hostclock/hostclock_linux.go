package hostclock

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Slept is how long the host has slept since it started: what CLOCK_BOOTTIME
// counts and CLOCK_MONOTONIC does not (clock_gettime(2)).
func Slept() time.Duration {
	var mono, boot, after unix.Timespec
	for {
		if unix.ClockGettime(unix.CLOCK_MONOTONIC, &mono) != nil || unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot) != nil ||
			unix.ClockGettime(unix.CLOCK_MONOTONIC, &after) != nil {
			return 0 // kernels before 2.6.39
		}
		// One that was not held up between two looks.
		if after.Nano()-mono.Nano() < int64(time.Millisecond) {
			return max(0, time.Duration(boot.Nano()-mono.Nano())).Round(time.Millisecond)
		}
	}
}

// Watch tells after every sleep of the host's, and after its date was set. The
// channel holds one word; it is closed if no more will come.
func Watch() (<-chan struct{}, error) {
	// A timer of the time of day that never comes, and is cancelled when the time of
	// day jumps, which a sleep has it do (timerfd_create(2), TFD_TIMER_CANCEL_ON_SET).
	fd, err := unix.TimerfdCreate(unix.CLOCK_REALTIME, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch the host's clock: %w", err)
	}
	never := unix.ItimerSpec{Value: unix.Timespec{Sec: 1 << 40}}
	if err := unix.TimerfdSettime(fd, unix.TFD_TIMER_ABSTIME|unix.TFD_TIMER_CANCEL_ON_SET, &never, nil); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("watch the host's clock: %w", err)
	}
	woken := make(chan struct{}, 1)
	go func() {
		defer close(woken)
		timer := os.NewFile(uintptr(fd), "the host's clock")
		defer timer.Close()
		for {
			if _, err := timer.Read(make([]byte, 8)); !errors.Is(err, unix.ECANCELED) {
				return
			}
			select {
			case woken <- struct{}{}:
			default:
			}
		}
	}()
	return woken, nil
}
