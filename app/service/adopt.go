package service

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/hxen-project/hxen/app/control"
	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/platform/proc"
)

// link is the service's hold on one run of a guest: the control connection to
// its worker. A lost connection is replaced by a new link to the same run.
type link struct {
	conn *control.Conn
	run  *run // shared by all links to the same run

	// Guarded by Service.mu.
	progress progressFunc    // of the launch or save under way; nil if there is none
	taken    bool            // the guest has been taken over through this link
	early    []control.Event // what came before that
}

// run is one life of a guest, from start to halt.
type run struct {
	ended    chan struct{} // closed when the guest is halted
	rebooted chan struct{} // holds a token after a reboot that nobody has waited for
	moved    chan struct{} // holds a token after a change of power state, likewise
}

// connect dials a guest's worker and follows its events. progress may be nil.
func (s *Service) connect(ctx context.Context, g *guest, progress progressFunc) (*link, error) {
	c, err := s.dial(ctx, g.files.Ctl(), g.uuid)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, dialWait)
	defer cancel()
	events, err := c.Subscribe(ctx, 0)
	if err != nil {
		c.Close()
		return nil, err
	}
	l := &link{conn: c, progress: progress, run: &run{ended: make(chan struct{}), rebooted: make(chan struct{}, 1), moved: make(chan struct{}, 1)}}
	stop := context.AfterFunc(s.ctx, func() { c.Close() }) // the guest runs on
	s.tasks.Go(func() {
		defer stop()
		s.follow(g, l, events)
	})
	return l, nil
}

// follow takes in a worker's events until the connection ends.
func (s *Service) follow(g *guest, l *link, events <-chan control.Event) {
	exited := false
	for e := range events {
		if e.Progress != nil {
			s.mu.Lock()
			tell := l.progress
			s.mu.Unlock()
			if p := e.Progress; tell != nil {
				tell(p.Stage, float64(p.Done)/float64(max(p.Total, p.Done, 1)))
			}
			continue
		}
		exited = exited || e.Exit != nil
		s.mu.Lock()
		if l.taken {
			s.happened(g, l, e)
		} else {
			l.early = append(l.early, e)
		}
		s.mu.Unlock()
	}
	s.mu.Lock()
	lost := g.link == l && !exited && s.ctx.Err() == nil
	s.mu.Unlock()
	if lost {
		s.lost(g, l)
	}
}

// running takes a guest over as running, with all that its worker has said
// before.
func (s *Service) running(g *guest, l *link, st control.Status) {
	s.mu.Lock()
	if old := g.link; old != nil {
		l.run = old.run
	}
	g.link, g.active, g.domid, g.power = l, true, st.DomID, st.State
	l.taken, l.progress = true, nil
	g.unplugged = missing(g.spec, st.Spec)
	st.Spec, g.status = nil, st
	for _, e := range l.early {
		s.happened(g, l, e)
	}
	l.early = nil
	s.publish(g)
	s.publishResidents()
	s.networksChanged()
	s.watchRuns()
	over := closedNow(l.conn.Done()) && g.link == l
	s.mu.Unlock()
	if over {
		s.tasks.Go(func() { s.lost(g, l) })
	}
	s.tasks.Go(func() { s.keepTrue(g, l) })
}

// happened applies one event to a guest. s.mu is held.
func (s *Service) happened(g *guest, l *link, e control.Event) {
	if g.link != l {
		return
	}
	if e.Exit != nil {
		s.tasks.Go(func() { s.finish(g, l, e.Exit) })
		return
	}
	if e.Event == nil {
		return
	}
	switch e.Event.Kind {
	case hv.EventState:
		if e.Event.State == hv.Running && g.power == hv.Paused {
			g.notice = "" // what it was paused for is over, or will come again
		}
		if e.Event.State == hv.Running || e.Event.State == hv.Paused {
			g.power = e.Event.State
			leave(l.run.moved)
		}
	case hv.EventReboot:
		g.info, g.notice = nil, ""
		leave(l.run.rebooted)
	case hv.EventMedia:
		s.tasks.Go(func() { s.keepTrue(g, l) })
	case hv.EventDisplay:
		g.status.Display = e.Event.Display
	case hv.EventIOError, hv.EventNotice:
		g.notice = e.Event.Text
	}
	s.publish(g)
}

// leave puts a token into a channel that holds one.
func leave(token chan struct{}) {
	select {
	case token <- struct{}{}:
	default:
	}
}

// keepTrue writes into the guest's settings what its run has settled: the pinned
// machine type, and which media are in its drives.
func (s *Service) keepTrue(g *guest, l *link) {
	var st control.Status
	ctx, cancel := context.WithTimeout(s.ctx, callWait)
	defer cancel()
	if err := l.conn.Call(ctx, control.VerbStatus, nil, &st); err != nil {
		return // a connection that ends is seen by follow
	}
	s.mu.Lock()
	spec, sound := g.spec, g.sound()
	s.mu.Unlock()
	if !sound || st.Spec == nil {
		return
	}
	pin := spec.Machine == "" && st.Info.Machine != ""
	if !pin && !mediaDiffer(spec, st.Spec) {
		return
	}
	err := s.update(g, func(spec *hv.Spec) error {
		if spec.Machine == "" {
			spec.Machine = st.Info.Machine
		}
		for i := range spec.Disks {
			for _, now := range st.Spec.Disks {
				if d := &spec.Disks[i]; d.IsCD() && d.UUID == now.UUID {
					d.VDI, d.Path, d.Format = now.VDI, now.Path, now.Format
				}
			}
		}
		return nil
	})
	if err != nil {
		s.log.Error("keep a guest's settings true", "guest", g.name, "err", err)
	}
}

func mediaDiffer(a, b *hv.Spec) bool {
	for _, x := range a.Disks {
		for _, y := range b.Disks {
			if x.IsCD() && x.UUID == y.UUID && x.Path != y.Path {
				return true
			}
		}
	}
	return false
}

// adopt takes over every guest that runs already. It returns when each of them
// is adopted or known to be gone, or when the deadline of ctx has come; what is
// not settled by then goes on in the background, shown as its state.json says.
func (s *Service) adopt(ctx context.Context) {
	var all sync.WaitGroup
	s.mu.Lock()
	for _, g := range s.guests {
		held, err := proc.Held(g.files.Lock())
		if err != nil {
			s.log.Error("tell whether a guest runs", "guest", g.name, "err", err)
		}
		if !held {
			continue
		}
		g.active, g.power = true, hv.Running
		if st := readState(g.dir); st != nil && st.Exit == nil {
			g.domid = st.DomID
			if st.State == hv.Paused {
				g.power = hv.Paused
			}
		}
		all.Add(1)
		s.tasks.Go(func() {
			defer all.Done()
			s.adoptGuest(g)
		})
	}
	s.mu.Unlock()
	settled := make(chan struct{})
	go func() { all.Wait(); close(settled) }()
	select {
	case <-settled:
	case <-ctx.Done():
	}
}

// adoptGuest dials the worker of a guest whose lock is held, or ends what holds it.
func (s *Service) adoptGuest(g *guest) {
	l, st, err := s.greet(g)
	if err == nil {
		s.running(g, l, st)
		s.log.Info("adopted a running guest", "guest", g.name, "domid", st.DomID)
		return
	}
	if s.ctx.Err() != nil {
		return
	}
	s.log.Warn("a guest's worker does not answer; ending it", "guest", g.name, "err", err)
	exit := s.endRun(g, "the guest's worker did not answer when the service started, so the guest was ended")
	s.halted(g, nil, exit)
}

// greet connects to a worker and asks what it runs. A worker that runs nothing
// is told to end and is an error.
func (s *Service) greet(g *guest) (*link, control.Status, error) {
	var st control.Status
	l, err := s.connect(s.ctx, g, nil)
	if err != nil {
		return nil, st, err
	}
	ctx, cancel := context.WithTimeout(s.ctx, dialWait)
	defer cancel()
	err = l.conn.Call(ctx, control.VerbStatus, nil, &st)
	if err == nil && st.State == hv.Halted && !st.Launching {
		_ = l.conn.Call(ctx, control.VerbStop, nil, nil)
		err = fmt.Errorf("the worker runs no guest")
	}
	if err != nil {
		l.conn.Close()
		return nil, st, err
	}
	if st.Launching {
		st.State = hv.Running // the exit event tells if the launch fails
	}
	return l, st, nil
}

// lost deals with a connection that ended while its guest ran: the worker may be
// alive (then it is adopted anew) or dead.
func (s *Service) lost(g *guest, old *link) {
	if held, err := proc.Held(g.files.Lock()); err == nil && held {
		if l, st, err := s.greet(g); err == nil {
			s.running(g, l, st)
			return
		}
	}
	if s.ctx.Err() != nil {
		return
	}
	s.halted(g, old, s.endRun(g, "the guest's worker process ended unexpectedly, and the guest with it"))
}

// endRun ends the recorded processes of a guest that cannot be reached, waits
// until its lock is free, and returns how it ended: in the words of its
// state.json, else in these.
func (s *Service) endRun(g *guest, text string) *control.Exit {
	s.kill(g)
	for ctx, stuck := s.ctx, false; ; stuck = true {
		wait, cancel := context.WithTimeout(ctx, endWait)
		err := proc.WaitFree(wait, g.files.Lock())
		cancel()
		if err == nil || ctx.Err() != nil {
			break
		}
		if !stuck {
			s.log.Error("a guest's processes cannot be ended", "guest", g.name, "err", err)
			s.mu.Lock()
			g.notice = "the guest's processes cannot be ended: something still holds its lock; its log (worker.log) says more"
			s.publish(g)
			s.mu.Unlock()
		}
		s.kill(g)
	}
	s.mu.Lock()
	domid, pulled := g.domid, g.pulled
	s.mu.Unlock()
	if st := readState(g.dir); st != nil && st.Exit != nil && (st.DomID == domid || domid < 0) {
		return st.Exit
	}
	if pulled {
		return &control.Exit{Reason: hv.ExitDestroyed, Text: "the guest did not answer and was powered off", At: time.Now().UTC()}
	}
	return &control.Exit{Reason: hv.ExitFailed, Stage: "worker", Text: text, Cure: "start it again", At: time.Now().UTC()}
}

// kill ends the worker and the device model that state.json names, if they
// still are those processes.
func (s *Service) kill(g *guest) {
	st := readState(g.dir)
	if st == nil {
		return
	}
	for _, r := range []control.Process{st.Worker, st.Model} {
		if p, ok := proc.Find(r.PID, r.Start); ok {
			if err := p.Kill(); err != nil {
				s.log.Error("end a process of a guest", "guest", g.name, "err", err)
			}
		}
	}
}

// finish ends a run that its worker has told to be over: the worker is on its
// way out, and the guest is halted when the lock is free.
func (s *Service) finish(g *guest, l *link, exit *control.Exit) {
	ctx, cancel := context.WithTimeout(s.ctx, endWait)
	defer cancel()
	if err := proc.WaitFree(ctx, g.files.Lock()); err != nil {
		if s.ctx.Err() != nil {
			return
		}
		s.endRun(g, exit.Text)
	}
	s.halted(g, l, exit)
}

// halted says that a guest's run is over. l is the link it ran on, nil if there
// was none.
func (s *Service) halted(g *guest, l *link, exit *control.Exit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g.link != l || s.ctx.Err() != nil {
		return
	}
	ran := time.Since(g.status.Started)
	g.seen = max(g.seen, g.domid)
	g.link, g.active, g.power, g.domid = nil, false, g.rest(), -1
	g.status, g.last, g.leases, g.info, g.samples = control.Status{}, exit, nil, nil, samples{}
	s.measure(g)
	s.publish(g)
	s.publishResidents()
	s.networksChanged()
	s.log.Info("a guest has ended", "guest", g.name, "reason", exit.Reason, "text", exit.Text)
	if l == nil {
		return
	}
	close(l.run.ended)
	l.conn.Close()
	if g.sound() && !s.stop.begun() && restarts(g.spec, exit.Reason) {
		s.restart(g, exit, ran)
	}
}

// restarts is the policy that Xen's tool stack keeps: on_poweroff, on_reboot,
// on_crash, on_watchdog.
func restarts(spec *hv.Spec, reason hv.ExitReason) bool {
	switch reason {
	case hv.ExitPoweroff:
		return spec.OnPoweroff == hv.EndRestart
	case hv.ExitReboot:
		return spec.OnReboot != hv.EndDestroy
	case hv.ExitCrash:
		return restartsOn(spec.OnCrash)
	case hv.ExitWatchdog:
		return spec.OnWatchdog == "" || restartsOn(spec.OnWatchdog)
	}
	return false
}

func restartsOn(policy string) bool {
	return policy == hv.EndRestart || policy == hv.EndCoredumpRestart || policy == hv.EndRenameRestart
}

const (
	// restartFloor is how long a run must last not to count as a failed start.
	restartFloor = 10 * time.Second
	// restartCap is how many runs in a row may be shorter before a guest is left alone.
	restartCap = 5
)

// restartPause is how long the n-th restart in a row waits: 0, 2, 4, 8, 16 seconds.
func restartPause(n int) time.Duration {
	if n <= 1 {
		return 0
	}
	return time.Second << (n - 1)
}

// restart starts a guest again by its policy, later each time that it ended at
// once, and no more after some. s.mu is held.
func (s *Service) restart(g *guest, exit *control.Exit, ran time.Duration) {
	if ran >= restartFloor {
		g.restarts = 0
	}
	g.restarts++
	if g.restarts > restartCap {
		again := *exit
		again.Text = strings.TrimPrefix(exit.Text+"; ", "; ") + fmt.Sprintf("it was not restarted once more because it had run for less than %v %d times in a row", restartFloor, restartCap)
		g.last, g.restarts = &again, 0
		s.publish(g)
		return
	}
	pause := restartPause(g.restarts)
	if pause > 0 {
		s.wait(g, fmt.Sprintf("it is restarted in %v, because it had ended at once", pause))
	}
	s.tasks.Go(func() {
		select {
		case <-time.After(pause):
		case <-s.ctx.Done():
			return
		}
		s.mu.Lock()
		s.wait(g, "")
		s.mu.Unlock()
		g, end, err := s.begin(g.ref(), hv.OpStart, "")
		if err != nil {
			return // somebody else has started or deleted it
		}
		defer end()
		if err := s.start(s.ctx, g, launchHow{}, nil); err != nil {
			s.log.Error("restart a guest", "guest", g.name, "err", err)
			s.mu.Lock()
			g.last = &control.Exit{Reason: hv.ExitFailed, Text: "it could not be restarted: " + words(err), At: time.Now().UTC()}
			s.publish(g)
			s.mu.Unlock()
		}
	})
}

func closedNow(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
