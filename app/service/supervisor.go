package service

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/app/control"
	"github.com/hxen-project/hxen/app/service/rpc"
	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/platform/localsock"
	"github.com/hxen-project/hxen/platform/proc"
)

// How long the service waits for its processes. They are hang guards: each wait
// ends as soon as there is an answer.
const (
	readyWait   = 20 * time.Second // a program to lock its folder and listen
	dialWait    = 2 * time.Second  // a live process to say hello
	callWait    = 15 * time.Second // a live process to do a quick thing
	launchLimit = 3 * time.Minute  // a worker to launch its guest
	turnWait    = time.Minute      // a guest until it is launched beside more than there are processors
	endWait     = 10 * time.Second // a process that was told to end
)

// startFailed is a failed start in XenAPI's form.
func startFailed(g *guest, stage, text, cure string) error {
	return api.NewError(api.ErrStartFailed, string(g.ref()), stage, text, cure)
}

// asStartFailed turns what a worker or network says into that form; what
// already is in XenAPI's words stays as it is.
func asStartFailed(g *guest, stage string, err error) error {
	if e, ok := errors.AsType[*api.Error](err); ok {
		return e
	}
	if e, ok := errors.AsType[*control.Error](err); ok {
		if e.Stage != "" {
			stage = e.Stage
		}
		return startFailed(g, stage, e.Text, e.Cure)
	}
	if e, ok := errors.AsType[*hv.StageError](err); ok {
		return startFailed(g, e.Stage, e.Err.Error(), e.Cure)
	}
	return startFailed(g, stage, err.Error(), "")
}

// progressFunc tells a task what is being done and how much of it, 0 to 1.
type progressFunc func(stage string, done float64)

// progressOf passes progress on to a call's task.
func progressOf(t *rpc.Task) progressFunc {
	stage := ""
	return func(now string, done float64) {
		if now != stage {
			stage = now
			t.Stage(now)
		}
		t.Progress(done)
	}
}

// launchHow is how a guest is started.
type launchHow struct {
	paused  bool // leave it paused before it runs
	restore bool // go on from its saved state
	force   bool // also where the date of a disk was changed since
}

// start starts a guest that the caller has claimed. ctx cancels it, and then
// nothing of it is left.
func (s *Service) start(ctx context.Context, g *guest, how launchHow, progress progressFunc) error {
	spec, host, err := s.preflight(ctx, g)
	if err != nil {
		s.release(g)
		return err
	}
	if err = s.launch(ctx, g, spec, host, how, progress); err == nil {
		return nil
	}
	s.release(g)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// release says that the guest's disks are in nobody's hands again.
func (s *Service) release(g *guest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g.link == nil {
		g.active = false
	}
	s.networksChanged()
}

// launch has a new worker run the guest and takes the guest over as running.
func (s *Service) launch(ctx context.Context, g *guest, spec *hv.Spec, host hostVerdict, how launchHow, progress progressFunc) error {
	networks, err := s.attachNetworks(ctx, g, spec)
	if err != nil {
		return asStartFailed(g, "network", err)
	}
	s.mu.Lock()
	seen := s.highestDomID()
	s.mu.Unlock()
	domid, err := s.store.nextDomID(seen)
	if err != nil {
		return asStartFailed(g, "store", err)
	}
	release, err := s.takeTurn(ctx, progress)
	if err != nil {
		return err
	}
	defer release()
	worker, err := s.startProgram(ctx, s.opt.Worker, g.dir, g.files.Log())
	if err != nil {
		return asStartFailed(g, "worker", err)
	}
	l, err := s.connect(ctx, g, progress)
	if err == nil {
		limit := launchLimit
		if how.restore {
			limit += restoreWait(g)
		}
		ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("the guest did not start within %v", limit))
		defer cancel()
		var st control.Status
		err = l.conn.Call(ctx, control.VerbLaunch, control.Launch{
			Spec: *spec, DomID: domid, Paused: how.paused, Restore: how.restore, Force: how.force, Networks: networks, Accel: host.accel, QEMU: host.qemu,
		}, &st)
		if err == nil {
			s.running(g, l, st)
			return nil
		}
		l.conn.Close()
	}
	s.abandon(g, worker)
	return asStartFailed(g, "worker", err)
}

// takeTurn waits until few enough guests are being launched: many at once are all
// late, and so is everything else on the computer. One that takes long to launch,
// because it stands still or reads its memory from a file, does not hold up the
// others for good.
func (s *Service) takeTurn(ctx context.Context, progress progressFunc) (release func(), err error) {
	if len(s.launching) == cap(s.launching) && progress != nil {
		progress("waiting for the start of other guests", 0)
	}
	late := time.NewTimer(turnWait)
	defer late.Stop()
	select {
	case s.launching <- struct{}{}:
		return func() { <-s.launching }, nil
	case <-late.C:
		return func() {}, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// abandon ends a worker whose launch came to nothing, with all it started.
func (s *Service) abandon(g *guest, worker *proc.Process) {
	if err := worker.Kill(); err != nil {
		s.log.Error("end a worker that failed to launch", "guest", g.name, "err", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), endWait)
	defer cancel()
	if err := proc.WaitFree(ctx, g.files.Lock()); err != nil {
		s.log.Error("a guest's lock is still held after its worker has ended", "guest", g.name, "err", err)
	}
}

// startProgram starts hxen-worker or hxen-netd on a folder, detached, and
// returns when it says that it serves.
func (s *Service) startProgram(ctx context.Context, program, dir, log string) (*proc.Process, error) {
	logFile, err := openProgramLog(log)
	if err != nil {
		return nil, err
	}
	defer logFile.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	p, err := proc.Start(proc.Command{
		Path: program, Args: []string{"--dir", dir, "--run", s.run}, Env: smallHeap(s.opt.Env), TimerSlack: workerSlack,
		Stdout: w, Stderr: logFile, Detach: true,
	})
	w.Close()
	if err != nil {
		return nil, err
	}
	if err := awaitReady(ctx, r); err != nil {
		_ = p.Kill()
		return nil, err
	}
	return p, nil
}

// programLog is how large a program's log may be when the program starts.
const programLog = 1 << 20

// openProgramLog opens the log of a program that is to be started. One that has grown
// is put aside, in the place of an older one: here, because a program holds its log open
// as its standard error, and Windows renames no file that is open. If somebody else has
// it open, it goes on growing.
func openProgramLog(path string) (*os.File, error) {
	if st, err := os.Stat(path); err == nil && st.Size() > programLog {
		_ = os.Rename(path, path+".1")
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the log: %w", err)
	}
	return f, nil
}

// awaitReady reads the one line that a program says: "ready", or why not.
func awaitReady(ctx context.Context, r *os.File) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyWait, fmt.Errorf("it was not ready within %v", readyWait))
	defer cancel()
	type answer struct {
		line string
		err  error
	}
	got := make(chan answer, 1)
	go func() {
		line, err := bufio.NewReader(io.LimitReader(r, 4096)).ReadString('\n')
		got <- answer{strings.TrimSpace(line), err}
	}()
	select {
	case a := <-got:
		switch {
		case a.line == "ready":
			return nil
		case a.line != "":
			return errors.New(a.line)
		default:
			return fmt.Errorf("it ended before it was ready; its log says more: %w", a.err)
		}
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// dial opens a control connection and checks that the right process answers.
func (s *Service) dial(ctx context.Context, socket, uuid string) (*control.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialWait)
	defer cancel()
	nc, err := localsock.Dial(ctx, socket)
	if err != nil {
		return nil, err
	}
	deadline, _ := ctx.Deadline()
	_ = nc.SetDeadline(deadline)
	c, err := control.NewConn(nc, "hxen", s.opt.Version)
	if err != nil {
		return nil, err
	}
	_ = nc.SetDeadline(time.Time{})
	if c.Peer.UUID != uuid {
		c.Close()
		return nil, fmt.Errorf("%s is served for %q, not for %s", socket, c.Peer.UUID, uuid)
	}
	return c, nil
}

// call asks the worker of a running guest. Its errors are in XenAPI's words.
func (s *Service) call(ctx context.Context, g *guest, verb string, params, result any) error {
	s.mu.Lock()
	l := g.link
	s.mu.Unlock()
	if l == nil {
		return api.NewError(api.ErrVMBadPowerState, string(g.ref()), "running", "halted")
	}
	ctx, cancel := context.WithTimeoutCause(ctx, callWait, fmt.Errorf("the guest's worker did not answer within %v", callWait))
	defer cancel()
	err := l.conn.Call(ctx, verb, params, result)
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*control.Error](err); ok {
		if errors.Is(e, hv.ErrUnsupported) || errors.Is(e, hv.ErrUnavailable) {
			return api.NewError(api.ErrOperationNotAllowed, e.Error())
		}
		return refuse(e.Stage, e.Text, e.Cure)
	}
	return fmt.Errorf("ask the worker of guest %q: %w", g.name, err)
}

// highestDomID is the highest number in use. s.mu is held.
func (s *Service) highestDomID() int {
	n := 0
	for _, g := range s.guests {
		n = max(n, g.domid, g.seen)
	}
	return n
}

// workerSlack is how late a worker's timers may be: Go's monitor thread wakes every
// 20 microseconds while a guest runs, which would stop the guest each time. A pvh
// guest's own timers are exact (platform/accel/kvm), and so is QEMU's process.
const workerSlack = 4 * time.Millisecond

// smallHeap is an environment (nil: this process's) in which a Go program's heap
// has no huge pages: with them, where Linux gives them to all ("always"), a program
// that uses two megabytes holds eight.
func smallHeap(env []string) []string {
	if env == nil {
		env = os.Environ()
	}
	setting := "GODEBUG=disablethp=1"
	for _, e := range env {
		if own, ok := strings.CutPrefix(e, "GODEBUG="); ok && own != "" {
			setting = "GODEBUG=disablethp=1," + own
		}
	}
	return append(slices.Clip(env), setting)
}
