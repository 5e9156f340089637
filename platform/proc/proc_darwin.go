package proc

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// guardScript reads the child's id and then waits for a second line. The line
// comes when the child has ended; end of file comes when this process has, and
// then the child is killed.
const guardScript = `read -r pid || exit 0; read -r _ || kill -KILL "$pid"`

// launch starts cmd. What it returns is called when the child has ended.
func launch(cmd *exec.Cmd, c Command) (release func(), err error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: c.Detach}
	if !c.DieWithParent {
		return func() {}, cmd.Start()
	}
	// The guard comes first, so that only the time between the child's start and
	// the write of its id is uncovered.
	guard := exec.Command("/bin/sh", "-c", guardScript)
	guard.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // signals of our terminal are not for it
	tell, err := guard.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("guard: %w", err)
	}
	if err := guard.Start(); err != nil {
		return nil, fmt.Errorf("guard: %w", err)
	}
	dismiss := func() {
		tell.Close()
		_ = guard.Wait()
	}
	if err := cmd.Start(); err != nil {
		dismiss()
		return nil, err
	}
	if _, err := fmt.Fprintln(tell, cmd.Process.Pid); err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		dismiss()
		return nil, fmt.Errorf("guard: %w", err)
	}
	return func() {
		_, _ = io.WriteString(tell, "ended\n")
		dismiss()
	}, nil
}

// zombie is SZOMB of sys/proc.h.
const zombie = 5

func identify(pid int) (identity, error) {
	k, err := unix.SysctlKinfoProc("kern.proc.pid", pid)
	if errors.Is(err, unix.EIO) { // no entry of the right size: no such process
		return identity{}, os.ErrProcessDone
	}
	if err != nil {
		return identity{}, fmt.Errorf("sysctl kern.proc.pid: %w", err)
	}
	t := k.Proc.P_starttime
	return identity{
		start: fmt.Sprintf("%d.%06d", t.Sec, t.Usec),
		ended: k.Proc.P_stat == zombie,
	}, nil
}

// usage asks ps: the kernel's own call for it (proc_pidinfo) is reached through
// C only.
func usage(pid int) (Usage, error) {
	out, err := exec.Command("/bin/ps", "-o", "time=,rss=", "-p", strconv.Itoa(pid)).Output()
	if err != nil {
		return Usage{}, fmt.Errorf("ps: %w", err)
	}
	f := strings.Fields(string(out))
	if len(f) != 2 {
		return Usage{}, fmt.Errorf("ps answers %q", out)
	}
	// Minutes, seconds and hundredths: 123:45.67.
	minutes, seconds, ok := strings.Cut(f[0], ":")
	m, err1 := strconv.ParseUint(minutes, 10, 32)
	s, err2 := strconv.ParseFloat(seconds, 64)
	kib, err3 := strconv.ParseUint(f[1], 10, 54)
	if err := errors.Join(err1, err2, err3); err != nil || !ok {
		return Usage{}, fmt.Errorf("ps answers %q: %w", out, err)
	}
	return Usage{
		CPU: time.Duration(m)*time.Minute + time.Duration(s*float64(time.Second)),
		RSS: kib << 10,
	}, nil
}

// waitFound waits for a process that is not our child with kqueue(2), NOTE_EXIT.
func waitFound(p *Process) (int, error) {
	kq, err := unix.Kqueue()
	if err != nil {
		pollGone(p)
		return -1, nil
	}
	defer unix.Close(kq)
	ev := []unix.Kevent_t{{
		Ident: uint64(p.pid), Filter: unix.EVFILT_PROC,
		Flags: unix.EV_ADD | unix.EV_ONESHOT, Fflags: unix.NOTE_EXIT,
	}}
	if _, err := unix.Kevent(kq, ev, nil, nil); err != nil {
		pollGone(p)
		return -1, nil
	}
	if !alive(p.pid, p.start) {
		return -1, nil // the event may be somebody else's
	}
	for {
		n, err := unix.Kevent(kq, nil, ev, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n == 0 {
			pollGone(p)
		}
		return -1, nil
	}
}
