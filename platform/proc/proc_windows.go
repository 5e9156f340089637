package proc

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/windows"
)

// terminate: a process without a console window and without a message loop has
// no ear for a request.
func terminate(*os.Process) error { return errors.ErrUnsupported }

// launch starts cmd. What it returns is called when the child has ended.
func launch(cmd *exec.Cmd, c Command) (release func(), err error) {
	if len(cmd.ExtraFiles) > 0 {
		return nil, fmt.Errorf("extra files: %w", errors.ErrUnsupported)
	}
	none := func() {}
	switch {
	case c.Detach:
		return none, startDetached(cmd)
	case c.DieWithParent:
		return startInJob(cmd)
	default:
		cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: windows.CREATE_NO_WINDOW}
		return none, cmd.Start()
	}
}

// startDetached starts cmd without a console and, where our own job allows it,
// outside of that job: a job may end all its processes at once.
func startDetached(cmd *exec.Cmd) error {
	const flags = windows.DETACHED_PROCESS | windows.CREATE_NEW_PROCESS_GROUP
	free := *cmd
	free.SysProcAttr = &syscall.SysProcAttr{CreationFlags: flags | windows.CREATE_BREAKAWAY_FROM_JOB}
	err := free.Start()
	if err == nil {
		*cmd = free
		return nil
	}
	if !errors.Is(err, windows.ERROR_ACCESS_DENIED) {
		return err
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: flags}
	return cmd.Start()
}

// startInJob starts cmd in a job of its own that the system ends when its last
// handle closes. That handle is ours and no child inherits it, so it closes when
// the child has ended or when we do. The child does nothing before it is in the job.
func startInJob(cmd *exec.Cmd) (release func(), err error) {
	job, err := newKillJob()
	if err != nil {
		return nil, fmt.Errorf("job: %w", err)
	}
	release = func() { windows.CloseHandle(job) }
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: windows.CREATE_NO_WINDOW | windows.CREATE_SUSPENDED}
	if err := cmd.Start(); err != nil {
		release()
		return nil, err
	}
	err = assign(job, cmd.Process.Pid)
	if err == nil {
		err = resume(cmd.Process.Pid)
	}
	if err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		release()
		return nil, fmt.Errorf("job: %w", err)
	}
	return release, nil
}

func assign(job windows.Handle, pid int) error {
	h, err := windows.OpenProcess(windows.PROCESS_SET_QUOTA|windows.PROCESS_TERMINATE, false, uint32(pid))
	if err != nil {
		return err
	}
	defer windows.CloseHandle(h)
	return windows.AssignProcessToJobObject(job, h)
}

// identify holds the process while it asks, so that the answers belong together.
func identify(pid int) (identity, error) {
	h, err := windows.OpenProcess(windows.PROCESS_QUERY_LIMITED_INFORMATION|windows.SYNCHRONIZE, false, uint32(pid))
	if err != nil {
		return identity{}, err
	}
	defer windows.CloseHandle(h)
	var made, exit, kernel, user windows.Filetime
	if err := windows.GetProcessTimes(h, &made, &exit, &kernel, &user); err != nil {
		return identity{}, err
	}
	r, err := windows.WaitForSingleObject(h, 0)
	if err != nil {
		return identity{}, err
	}
	return identity{start: strconv.FormatUint(ticks(made), 10), ended: r == windows.WAIT_OBJECT_0}, nil
}

// ticks are units of 100 ns.
func ticks(t windows.Filetime) uint64 {
	return uint64(t.HighDateTime)<<32 | uint64(t.LowDateTime)
}

func usage(pid int) (Usage, error) {
	h, err := windows.OpenProcess(windows.PROCESS_QUERY_LIMITED_INFORMATION|windows.PROCESS_VM_READ|windows.SYNCHRONIZE, false, uint32(pid))
	if err != nil {
		return Usage{}, err
	}
	defer windows.CloseHandle(h)
	if r, err := windows.WaitForSingleObject(h, 0); err != nil || r == windows.WAIT_OBJECT_0 {
		return Usage{}, errors.Join(err, os.ErrProcessDone)
	}
	var made, exit, kernel, user windows.Filetime
	if err := windows.GetProcessTimes(h, &made, &exit, &kernel, &user); err != nil {
		return Usage{}, err
	}
	rss, err := workingSet(h)
	if err != nil {
		return Usage{}, err
	}
	return Usage{CPU: time.Duration(ticks(kernel)+ticks(user)) * 100, RSS: rss}, nil
}

// waitFound waits through the handle that Find took.
func waitFound(p *Process) (int, error) {
	st, err := p.os.Wait()
	if err != nil {
		pollGone(p)
		return -1, nil
	}
	return st.ExitCode(), nil
}
