package kvm

import (
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hxen-project/hxen/hv/accel"
)

// timer is a timerfd. Go's own timers would wake a thread with the precision of a
// millisecond, one more for each change, and later by the process's timer slack.
type timer struct {
	fd   int
	file *os.File
	f    func()
}

func (m *vm) NewTimer(f func()) accel.Timer {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil { // too many open files
		return accel.NewTimer(f)
	}
	t := &timer{fd: fd, file: os.NewFile(uintptr(fd), "timer"), f: f}
	conn, err := t.file.SyscallConn()
	if err != nil {
		t.file.Close()
		return accel.NewTimer(f)
	}
	go t.serve(conn)
	return t
}

// serve is called back at the beginning and whenever the timer was due since. It
// need not be read then: the poller tells each time once, and Set clears the count.
// At the beginning the poller forgets what it has seen, but a read tells.
func (t *timer) serve(conn syscall.RawConn) {
	begun := false
	_ = conn.Read(func(uintptr) bool { // until Close
		if !begun {
			begun = true
			var count [8]byte
			if n, _ := unix.Read(t.fd, count[:]); n <= 0 {
				return false
			}
		}
		t.f()
		return false
	})
}

func (t *timer) Set(d time.Duration) { t.set(max(d, 1)) } // 0 would stop it

func (t *timer) Stop() { t.set(0) }

func (t *timer) set(d time.Duration) {
	// It fails for no valid file and time.
	_ = unix.TimerfdSettime(t.fd, 0, &unix.ItimerSpec{Value: unix.NsecToTimespec(int64(d))}, nil)
}

// Close does not wait, as closing a file does, for a call of f that is on its way: it
// may wait for a lock of the caller's.
func (t *timer) Close() { go t.file.Close() }
