package kvm

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// polled is a descriptor of the kernel's, an eventfd's or a timerfd's, whose events
// Go's poller waits for: the thread that sleeps there has it at once, where a
// goroutine that another one wakes is handed over by threads that look for work, and
// sleep in between by the process's timer slack.
type polled struct {
	fd   int
	file *os.File
}

// poll has f called for each event, of which several may be one. ok is false, and fd
// closed, if it cannot be waited for.
func poll(fd int, f func()) (p polled, ok bool) {
	p = polled{fd, os.NewFile(uintptr(fd), "event")}
	conn, err := p.file.SyscallConn()
	if err != nil {
		p.file.Close()
		return p, false
	}
	go p.serve(conn, f)
	return p, true
}

// serve is called back at the beginning and after each event. Those need not be read
// then: the poller tells each once. At the beginning the poller forgets what it has
// seen, but a read tells.
func (p polled) serve(conn syscall.RawConn, f func()) {
	begun := false
	_ = conn.Read(func(uintptr) bool { // until Close
		if !begun {
			begun = true
			var count [8]byte
			if n, _ := unix.Read(p.fd, count[:]); n <= 0 {
				return false
			}
		}
		f()
		return false
	})
}

// Close does not wait, as closing a file does, for a call of f that is on its way: it
// may wait for a lock of the caller's.
func (p polled) Close() { go p.file.Close() }
