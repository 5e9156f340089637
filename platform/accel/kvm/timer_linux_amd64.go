package kvm

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/hxen-project/hxen/hv/accel"
)

// timer is a timerfd. Go's own timers would wake a thread with the precision of a
// millisecond, one more for each change, and later by the process's timer slack.
type timer struct{ polled }

func (m *vm) NewTimer(f func()) accel.Timer {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err == nil {
		if p, ok := poll(fd, f); ok {
			return timer{p}
		}
	}
	return accel.NewTimer(f) // too many open files
}

func (t timer) Set(d time.Duration) { t.set(max(d, 1)) } // 0 would stop it

func (t timer) Stop() { t.set(0) }

func (t timer) set(d time.Duration) {
	// It fails for no valid file and time.
	_ = unix.TimerfdSettime(t.fd, 0, &unix.ItimerSpec{Value: unix.NsecToTimespec(int64(d))}, nil)
}

// bell is an eventfd.
type bell struct{ polled }

func (m *vm) NewBell(f func()) accel.Bell {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err == nil {
		if p, ok := poll(fd, f); ok {
			return bell{p}
		}
	}
	return accel.NewBell(f) // too many open files
}

var one = []byte{1, 0, 0, 0, 0, 0, 0, 0}

// Ring adds to the count, which never gets full. It goes through the file, as the
// bell may be closed meanwhile, and its number another file's.
func (b bell) Ring() { _, _ = b.file.Write(one) }
