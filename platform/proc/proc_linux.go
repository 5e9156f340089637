package proc

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// forker runs functions on one thread that lives as long as this process.
// Linux sends the parent-death signal when the *thread* that forked ends
// (prctl(2), PR_SET_PDEATHSIG), and Go ends threads as it likes: children that
// die with their parent are forked here only.
var forker = sync.OnceValue(func() chan<- func() {
	jobs := make(chan func())
	go func() {
		runtime.LockOSThread() // never unlocked: the thread stays this goroutine's
		for job := range jobs {
			job()
		}
	}()
	return jobs
})

// launch starts cmd. What it returns is called when the child has ended.
func launch(cmd *exec.Cmd, c Command) (release func(), err error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: c.Detach}
	if !c.DieWithParent {
		return func() {}, startWith(cmd, c.TimerSlack)
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	started := make(chan error)
	forker() <- func() { started <- startWith(cmd, c.TimerSlack) }
	return func() {}, <-started
}

// usualSlack is what Linux gives its first process (prctl(2), PR_SET_TIMERSLACK).
const usualSlack = 50 * time.Microsecond

// startWith starts cmd, which inherits the timer slack of the thread that forks.
func startWith(cmd *exec.Cmd, slack time.Duration) error {
	if slack == 0 {
		slack = usualSlack // not this process's own
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// Timers that are more exact, or less, are nothing to fail for.
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(slack), 0, 0, 0)
	defer func() { _ = unix.Prctl(unix.PR_SET_TIMERSLACK, 0, 0, 0, 0) }() // 0: as the thread began
	return cmd.Start()
}

// Boot tells this boot of the host from every other.
func Boot() (string, error) { return bootID() }

// bootID differs for every boot: start times count from it.
var bootID = sync.OnceValues(func() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b)), err
})

// clockTick is the unit of times in /proc: USER_HZ is 100 on every Linux that
// Go runs on (proc_pid_stat(5)).
const clockTick = time.Second / 100

// stat is what is used of /proc/PID/stat, proc_pid_stat(5).
type stat struct {
	state      byte   // field 3
	utime      uint64 // field 14, in clock ticks
	stime      uint64 // field 15
	start      uint64 // field 22, in clock ticks since boot
	rssInPages int64  // field 24
}

func readStat(pid int) (stat, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return stat{}, err
	}
	return parseStat(b)
}

func parseStat(b []byte) (s stat, err error) {
	// The name in parentheses is the process's own choice and may hold anything,
	// parentheses and spaces too: what counts begins after the last one.
	i := bytes.LastIndexByte(b, ')')
	f := strings.Fields(string(b[i+1:]))
	const first = 3 // the first field after the name
	if i < 0 || len(f) <= 24-first || len(f[0]) != 1 || f[0][0] < 'A' {
		return s, errors.New("/proc/PID/stat has another form than expected")
	}
	s.state = f[0][0]
	for _, n := range []struct {
		field int
		to    *uint64
	}{{14, &s.utime}, {15, &s.stime}, {22, &s.start}} {
		if *n.to, err = strconv.ParseUint(f[n.field-first], 10, 64); err != nil {
			return s, fmt.Errorf("/proc/PID/stat field %d: %w", n.field, err)
		}
	}
	if s.rssInPages, err = strconv.ParseInt(f[24-first], 10, 64); err != nil {
		return s, fmt.Errorf("/proc/PID/stat field 24: %w", err)
	}
	return s, nil
}

func identify(pid int) (identity, error) {
	boot, err := bootID()
	if err != nil {
		return identity{}, err
	}
	s, err := readStat(pid)
	if err != nil {
		return identity{}, err
	}
	return identity{start: boot + "/" + strconv.FormatUint(s.start, 10), ended: ended(s)}, nil
}

// ended says of a zombie or dead process that it is only a memory.
func ended(s stat) bool { return s.state == 'Z' || s.state == 'X' }

func usage(pid int) (Usage, error) {
	s, err := readStat(pid)
	if err != nil {
		return Usage{}, err
	}
	if ended(s) {
		return Usage{}, os.ErrProcessDone
	}
	return Usage{
		CPU: time.Duration(s.utime+s.stime) * clockTick,
		RSS: uint64(max(s.rssInPages, 0)) * uint64(os.Getpagesize()),
	}, nil
}

// waitFound waits for a process that is not our child: a pidfd becomes readable
// when its process ends (pidfd_open(2)), and the runtime's poller waits for it
// without a thread.
func waitFound(p *Process) (int, error) {
	fd, err := unix.PidfdOpen(p.pid, unix.PIDFD_NONBLOCK)
	if err != nil { // Linux before 5.10, or just gone
		pollGone(p)
		return -1, nil
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	defer f.Close()
	if !alive(p.pid, p.start) {
		return -1, nil // the pidfd may be somebody else's by now
	}
	raw, err := f.SyscallConn()
	if err == nil {
		err = raw.Read(func(fd uintptr) bool {
			fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			n, err := unix.Poll(fds, 0)
			return err == nil && n == 1
		})
	}
	if err != nil {
		pollGone(p)
	}
	return -1, nil
}
