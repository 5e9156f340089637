// Package proc starts, finds and ends processes, and holds the locks that say
// which of them live.
//
//	TryLock(path) (*Lock, error)                 hold path; ErrLocked if somebody does
//	(*Lock) File() *os.File                      for ExtraFiles: the child holds it too
//	(*Lock) Close() error
//	Held(path) (bool, error)                     does anybody hold it?
//	WaitFree(ctx, path) error                    until nobody does
//	Start(Command) (*Process, error)             Detach, or DieWithParent
//	Find(pid, startTime) (*Process, bool)        a recorded process, if it still is that one
//	(*Process) PID, StartTime, Done, Wait, Terminate, Kill
//	Self() (pid int, startTime string, err error)
//	Use(pid) (Usage, error)                      CPU time and memory
//	PeerPID(conn) (pid int, err error)           Windows: who is at the other end of a TCP connection
//
// A lock, not a process id, says whether something runs: ids are used again.
// A process id is only ever used together with the time its process started.
//
// The package knows nothing of guests, workers or QEMU.
package proc

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"
)

// Command is a program to start.
type Command struct {
	Path string   // a program file, or a name that is looked up in PATH
	Args []string // without the program's name
	Env  []string // nil: this process's
	Dir  string   // empty: this process's

	// Nil is the null device. A detached process gets files only: there is nobody
	// left to copy for it once this process has gone.
	Stdin          io.Reader
	Stdout, Stderr io.Writer

	// ExtraFiles become descriptors 3, 4, ...; nil entries are left out. Windows
	// has no such thing and refuses them (see Lock.File, which is nil there).
	ExtraFiles []*os.File

	// TimerSlack is how late the process's timers may be, so that they come together
	// and wake the processor less often. 0 is Linux's usual 50 microseconds; the
	// other systems do not have it.
	TimerSlack time.Duration

	// Detach starts the process in a session of its own, without a terminal: it
	// outlives this process.
	Detach bool

	// DieWithParent has the system kill the process when this one ends, however it
	// ends. Linux: the parent-death signal. Windows: a job object, which takes the
	// process's own children too. macOS has no such thing: a guard process waits
	// for this one's end, and two deaths within the same instant, ours right after
	// starting the child, can leave the child behind.
	DieWithParent bool
}

// killWait bounds Kill: a process that hangs in the kernel cannot be killed,
// and nobody should wait for it for ever.
const killWait = 10 * time.Second

// outputWait is how long Wait goes on reading the output of a process that has
// ended, when something it left behind still holds the pipe.
const outputWait = 2 * time.Second

// Process is a process that Start started or Find found. Its methods are safe
// for concurrent use.
type Process struct {
	pid   int
	start string
	os    *os.Process // names the very process where the system can (pidfd, handle)

	watch sync.Once // starts the watch of a found process
	done  chan struct{}
	code  int   // valid after done
	err   error // valid after done
}

// Start starts a program.
func Start(c Command) (*Process, error) {
	p, err := start(c)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Path, err)
	}
	return p, nil
}

func start(c Command) (*Process, error) {
	if c.Detach && c.DieWithParent {
		return nil, errors.New("a process cannot both outlive this one and die with it")
	}
	if c.Detach {
		for _, s := range []any{c.Stdin, c.Stdout, c.Stderr} {
			if _, isFile := s.(*os.File); s != nil && !isFile {
				return nil, fmt.Errorf("a detached process can use files only, not %T", s)
			}
		}
	}
	cmd := exec.Command(c.Path, c.Args...)
	cmd.Env, cmd.Dir = c.Env, c.Dir
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.Stdin, c.Stdout, c.Stderr
	cmd.WaitDelay = outputWait
	for _, f := range c.ExtraFiles {
		if f != nil {
			cmd.ExtraFiles = append(cmd.ExtraFiles, f)
		}
	}
	release, err := launch(cmd, c)
	if err != nil {
		return nil, err
	}
	p := &Process{pid: cmd.Process.Pid, os: cmd.Process, done: make(chan struct{})}
	p.watch.Do(func() {}) // a child is watched from here
	// Nobody has waited for it yet, so even if it has ended its id still is its own.
	id, ierr := identify(p.pid)
	p.start = id.start
	go func() {
		err := cmd.Wait()
		release()
		p.ended(cmd.ProcessState, err)
	}()
	if ierr != nil {
		_ = p.Kill()
		return nil, fmt.Errorf("tell when it started: %w", ierr)
	}
	return p, nil
}

// ended records how a process ended.
func (p *Process) ended(st *os.ProcessState, err error) {
	p.code = -1
	switch {
	case st == nil:
		p.err = fmt.Errorf("wait for process %d: %w", p.pid, err)
	case st.Exited():
		p.code = st.ExitCode()
	default:
		p.err = fmt.Errorf("process %d ended by %s", p.pid, st)
	}
	close(p.done)
}

// Find returns the process with this id if it is the one that started at
// startTime and it still runs; so an id that is in use again is never taken for
// the process that was recorded. An empty startTime finds nothing.
func Find(pid int, startTime string) (*Process, bool) {
	if pid <= 0 || startTime == "" {
		return nil, false
	}
	// First take hold of whatever has the id now, then ask when it started: what
	// is held cannot change any more.
	op, err := os.FindProcess(pid)
	if err != nil {
		return nil, false
	}
	if !alive(pid, startTime) {
		_ = op.Release()
		return nil, false
	}
	return &Process{pid: pid, start: startTime, os: op, code: -1, done: make(chan struct{})}, true
}

// Self is this process's id and start time, for others to Find.
func Self() (pid int, startTime string, err error) {
	pid = os.Getpid()
	id, err := identify(pid)
	if err != nil {
		return 0, "", fmt.Errorf("tell when this process started: %w", err)
	}
	return pid, id.start, nil
}

// identity says which process an id means now.
type identity struct {
	start string // when it started, in the system's finest words
	ended bool   // it is only a memory that its parent has not asked for yet
}

func alive(pid int, startTime string) bool {
	id, err := identify(pid)
	return err == nil && !id.ended && id.start == startTime
}

// PID is the process's id.
func (p *Process) PID() int { return p.pid }

// StartTime tells this process from others that get the same id, before or
// after a reboot. It is opaque.
func (p *Process) StartTime() string { return p.start }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} {
	p.watch.Do(func() {
		go func() {
			p.code, p.err = waitFound(p)
			close(p.done)
		}()
	})
	return p.done
}

// Wait waits for the end of the process and returns its exit code. The code is
// -1 when a signal ended it, which the error names, and for a process that was
// found, not started: its code is told to its parent only (Windows tells it).
func (p *Process) Wait() (code int, err error) {
	<-p.Done()
	return p.code, p.err
}

// Terminate asks the process to end (SIGTERM) and does not wait. Windows has no
// such request and answers errors.ErrUnsupported.
func (p *Process) Terminate() error {
	if err := p.signal(terminate); err != nil {
		return fmt.Errorf("ask process %d to end: %w", p.pid, err)
	}
	return nil
}

// Kill ends the process and waits until it is gone. One that has ended already
// is no error.
func (p *Process) Kill() error {
	if err := p.signal((*os.Process).Kill); err != nil {
		return fmt.Errorf("kill process %d: %w", p.pid, err)
	}
	t := time.NewTimer(killWait)
	defer t.Stop()
	select {
	case <-p.Done():
		return nil
	case <-t.C:
		return fmt.Errorf("process %d was killed but is still there after %v: it hangs in the system", p.pid, killWait)
	}
}

func (p *Process) signal(send func(*os.Process) error) error {
	select {
	case <-p.done:
		return nil
	default:
	}
	if !alive(p.pid, p.start) {
		return nil
	}
	if err := send(p.os); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

// pollGone waits for the end of a process where the system does not tell it to
// others than the parent.
func pollGone(p *Process) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for alive(p.pid, p.start) {
		<-tick.C
	}
}

// Usage is what a process has used.
type Usage struct {
	CPU time.Duration // user and system time since it started
	RSS uint64        // bytes of memory that it has in RAM
}

// Use tells what a process uses.
func Use(pid int) (Usage, error) {
	u, err := usage(pid)
	if err != nil {
		return Usage{}, fmt.Errorf("usage of process %d: %w", pid, err)
	}
	return u, nil
}
