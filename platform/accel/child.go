package accel

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hxen-project/hxen/platform/proc"
)

// childVar marks the child process that runs guest code.
const childVar = "HXEN_PROBE_CHILD"

// worked begins the last line of a child in which everything went well; how
// hypercalls reach the host follows. The lines before it name the stages as they
// begin.
const worked = "guest code ran: "

// Exit codes of the child; 1 is also what a killed process has on Windows.
const (
	exitFailed = 11
	exitBusy   = 12 // another hypervisor holds the processor's virtualisation
	exitHung   = 13
)

// ProbeChild returns at once, except in the child process that Probe starts: it
// runs the guest code there and ends the process. Every program that calls Probe
// calls it first in main, before it looks at arguments or opens anything.
func ProbeChild() {
	if os.Getenv(childVar) == "" {
		return
	}
	// Nobody may be left to end us when guest code hangs.
	time.AfterFunc((patience+1)*deadline, func() { os.Exit(exitHung) })
	how, err := runGuest(func(stage string) { fmt.Println(stage) })
	switch {
	case err == nil:
		fmt.Println(worked + how)
		os.Exit(0)
	case errors.Is(err, syscall.EBUSY):
		os.Exit(exitBusy)
	default:
		fmt.Println(err)
		os.Exit(exitFailed)
	}
}

var (
	errBusy      = errors.New("another hypervisor is active")
	errNoVerdict = errors.New("the probe could not be made")
	errStarved   = errors.New("it had next to no processor time")
)

// patience is how many times the deadline a child gets that was starved before.
const patience = 4

// runChild runs guest code in a child of this program; how is runGuest's. A computer
// that has just started may be too busy with other programs for the first try. An
// error says what went wrong, as the last part of a sentence: errBusy, something
// that wraps errNoVerdict, or what the guest code did.
func runChild(ctx context.Context, limit time.Duration) (how string, err error) {
	if os.Getenv(childVar) != "" {
		// Without this a program whose main forgot ProbeChild would start itself
		// again and again.
		return "", fmt.Errorf("%w: its child did not call accel.ProbeChild", errNoVerdict)
	}
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("%w: %w", errNoVerdict, err)
	}
	if how, err = watch(ctx, limit, exec.Command(self)); errors.Is(err, errStarved) {
		how, err = watch(ctx, patience*limit, exec.Command(self))
	}
	return how, err
}

// watch starts the child and returns when it has ended, or has had its time.
func watch(ctx context.Context, limit time.Duration, cmd *exec.Cmd) (how string, err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return "", fmt.Errorf("%w: %w", errNoVerdict, err)
	}
	defer r.Close() // ends the reader too, whatever the child does
	cmd.Env = append(os.Environ(), childVar+"=1")
	cmd.Dir = string(os.PathSeparator)
	cmd.Stdout, cmd.Stderr = w, w
	err = cmd.Start()
	w.Close()
	if err != nil {
		return "", fmt.Errorf("%w: %w", errNoVerdict, err)
	}
	said := &lastLine{line: "its start"}
	ended := make(chan error, 1)
	go func() { // lives as long as a child that cannot be killed
		said.read(r)
		ended <- cmd.Wait()
	}()
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case err = <-ended:
	case <-t.C:
		used, err := proc.Use(cmd.Process.Pid)
		_ = cmd.Process.Kill()
		if err == nil && starved(used.CPU, ended, limit) {
			return "", fmt.Errorf("it hung for %v after %s (%w)", limit, said, errStarved)
		}
		return "", fmt.Errorf("it hung for %v after %s", limit, said)
	case <-ctx.Done():
		_ = cmd.Process.Kill()
		return "", fmt.Errorf("%w: %w", errNoVerdict, ctx.Err())
	}
	switch code := cmd.ProcessState.ExitCode(); {
	case err == nil && strings.HasPrefix(said.String(), worked):
		return strings.TrimPrefix(said.String(), worked), nil
	case code == exitBusy:
		return "", errBusy
	case code == exitFailed:
		return "", errors.New(said.String())
	case code == 0: // another program than one that calls ProbeChild
		return "", fmt.Errorf("%w: its child answered %q", errNoVerdict, said)
	default:
		return "", fmt.Errorf("it ended by %s after %s", cmd.ProcessState, said)
	}
}

// starved reports whether a child that was killed had waited rather than worked: a
// hypervisor that hangs uses the processor up, as a rule, or cannot be killed.
func starved(used time.Duration, ended <-chan error, limit time.Duration) bool {
	select {
	case <-ended:
		return used < limit/3
	case <-time.After(limit / 10):
		return false
	}
}

// lastLine is what the child said last.
type lastLine struct {
	mu   sync.Mutex
	line string // guarded by mu
}

func (l *lastLine) read(r io.Reader) {
	sc := bufio.NewScanner(r)
	for sc.Scan() {
		l.mu.Lock()
		l.line = sc.Text()
		l.mu.Unlock()
	}
}

func (l *lastLine) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.line
}
