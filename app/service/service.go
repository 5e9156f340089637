// Package service is the daemon: it keeps the store of guests, starts a worker
// for each guest that runs and adopts those that run already, holds the networks
// up, and answers XenAPI on the local socket. It may be killed at any time: what
// runs goes on, and the next service takes it over.
//
// It knows nothing of how a guest runs (app/worker, hv), of pixels or of
// windows, and nothing of this computer but what main hands it in Host.
//
//	service.go     Options, Run
//	store.go       files: identity, domids, atomic writes; scan.go reads the guests
//	guest.go       one guest: operations under way, settings
//	create.go      making guests; trash.go deleting them; media.go images and drives
//	preflight.go   why a start cannot go well; pvh.go what pvh guests add to it
//	supervisor.go  starting workers; adopt.go events, adoption, how runs end
//	netd.go        networks; stats.go figures
//	methods.go     what clients can call; records_*.go what they see
package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/app/service/rpc"
	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/platform/hostsvc"
	"github.com/hxen-project/hxen/platform/localsock"
	"github.com/hxen-project/hxen/platform/paths"
	"github.com/hxen-project/hxen/platform/proc"
)

// Host is what main knows of this computer. The functions are called when
// somebody asks or starts a guest; only MemoryShort now and then while guests run.
type Host struct {
	CPUs     int
	CPUModel string
	Memory   func() (total, free uint64, err error) // bytes
	// MemoryShort reports whether the host is about to run out of memory, of which
	// so many bytes are left.
	MemoryShort func() (short bool, free uint64, err error)
	DiskFree    func(path string) (uint64, error) // bytes, on the file system of path
	// QEMU and Accel are the probes' verdicts; they remember them, and look again
	// when what they looked at has changed.
	QEMU        func(context.Context) hv.QEMUInfo
	QEMUVersion func(context.Context) string
	Accel       func(context.Context) []hv.AccelInfo
}

// Options are what a service needs.
type Options struct {
	Store        paths.Store
	Version      string
	Worker, Netd string   // programs
	Env          []string // of the programs; nil: this process's
	Host         Host
	Log          *slog.Logger
	// Ready is called once, when clients are answered.
	Ready func()
	// Boot tells one boot of the host from another. Guests that are to start with
	// the host start once for each; "" if the service was started for other reasons.
	Boot string
	// Stops tells, when the service is to end, whether the host stops: guests are
	// then stopped first. Nil: never. Busy is told with what that goes on.
	Stops func() bool
	Busy  func(string)
	// Watch tells what happens to the host, until ctx ends; nil: nothing.
	Watch func(ctx context.Context, tell func(hostsvc.HostEvent)) (*hostsvc.Inhibitor, error)
}

// Service is the daemon.
type Service struct {
	opt   Options
	log   *slog.Logger
	store *store
	id    identity
	run   string // the runtime folder
	db    *rpc.DB
	ctx   context.Context         // ends when the service stops
	end   context.CancelCauseFunc // has the service end; guests go on
	stop  hostStop
	tasks sync.WaitGroup // goroutines of its own

	launching chan struct{} // holds one for each guest that is being launched, see takeTurn

	netGrace     time.Duration
	shutdownWait time.Duration

	naming    sync.Mutex // held while a name is chosen. Lock order: naming, recording or a guest's saving, mu
	recording sync.Mutex // held while a medium's record is made or dropped

	mu       sync.Mutex // guards the maps and what guest, network and medium say it does
	guests   map[string]*guest
	media    map[string]*medium
	networks map[string]*network
	watching bool                          // somebody looks at the host's memory
	shown    map[string]map[api.Ref]string // parts of guests in db, by guest: class by reference
}

// ServedError says that another service serves the store.
type ServedError struct{ Store string }

func (e *ServedError) Error() string {
	return fmt.Sprintf("the guests in %s are served by another hxen service already: use it, or end it first", e.Store)
}

// Run serves the store until ctx ends. Guests run on after that.
func Run(ctx context.Context, opt Options) error {
	asked, ask := context.WithCancelCause(ctx) // ends when the service is to end
	defer ask(nil)
	// Guests may have to be stopped after that.
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	s, lock, err := open(ctx, opt)
	if err != nil {
		return err
	}
	defer lock.Close()
	defer s.tasks.Wait()
	defer cancel()
	owner := s.store.Owner()
	l, err := localsock.Listen(paths.Socket(s.run), owner)
	if err != nil {
		return fmt.Errorf("open the service's socket: %w", err)
	}
	s.end = ask
	srv := rpc.New(s.db, rpc.Options{Log: s.log, Host: s.hostRef(), Owner: owner})
	s.register(srv)
	s.takeOver()
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	s.log.Info("serving", "store", opt.Store.Root, "guests", len(s.guests), "version", opt.Version)
	if opt.Ready != nil {
		opt.Ready()
	}
	s.tasks.Go(s.watchHost)
	s.tasks.Go(s.bootGuests)
	select {
	case err = <-served:
	case <-asked.Done():
		s.hostMayStop(asked)
		end, done := context.WithTimeout(context.Background(), stopWait)
		defer done()
		if err := srv.Shutdown(end); err != nil {
			s.log.Warn("calls under way were cancelled", "err", err)
		}
		err = <-served
	}
	if err != nil {
		return err
	}
	s.log.Info("stopped; guests that run go on")
	return nil
}

const (
	stopWait  = 3 * time.Second // what calls under way get when the service stops
	adoptWait = 5 * time.Second // how long a start waits for workers that do not answer
	leaveWait = time.Second     // how long a start waits for a killed service to be gone
)

// open takes the store, and reads all that is in it.
func open(ctx context.Context, opt Options) (*Service, *proc.Lock, error) {
	st := &store{Store: opt.Store, log: opt.Log}
	if err := os.MkdirAll(opt.Store.Root, 0o700); err != nil {
		return nil, nil, fmt.Errorf("make the store: %w", err)
	}
	lock, err := proc.TryLock(opt.Store.Lock())
	if errors.Is(err, proc.ErrLocked) {
		// The service before this one may be on its way out.
		wait, cancel := context.WithTimeout(ctx, leaveWait)
		defer cancel()
		if proc.WaitFree(wait, opt.Store.Lock()) == nil {
			lock, err = proc.TryLock(opt.Store.Lock())
		}
	}
	if errors.Is(err, proc.ErrLocked) {
		return nil, nil, &ServedError{opt.Store.Root}
	}
	if err != nil {
		return nil, nil, fmt.Errorf("take the store: %w", err)
	}
	s := &Service{
		opt: opt, log: opt.Log, store: st, db: rpc.NewDB(), ctx: ctx,
		netGrace: netGrace, shutdownWait: shutdownWait, launching: make(chan struct{}, max(2, runtime.NumCPU())),
		guests: map[string]*guest{}, networks: map[string]*network{}, shown: map[string]map[api.Ref]string{},
	}
	if err := s.load(); err != nil {
		lock.Close()
		return nil, nil, err
	}
	return s, lock, nil
}

func (s *Service) load() error {
	var err error
	if s.id, err = s.store.prepare(); err != nil {
		return err
	}
	if s.run, err = s.store.ClaimRunDir(); err != nil {
		return err
	}
	if err := localsock.EnsureDir(s.run); err != nil {
		return err
	}
	found, err := s.store.scan()
	if err != nil {
		return err
	}
	if s.media, err = s.store.readMedia(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.loadNetworks(); err != nil {
		return err
	}
	for _, f := range found {
		g := newGuest(f, s.run)
		if g.problem != "" {
			s.log.Warn("a guest cannot be used", "dir", g.dir, "why", g.problem)
		}
		s.guests[g.uuid] = g
	}
	s.settleMedia()
	s.publishHost()
	for _, g := range s.guests {
		s.publish(g)
	}
	for _, m := range s.media {
		s.lookAt(m)
		s.publishMedia(m)
	}
	s.publishSets()
	return nil
}

// takeOver adopts what runs, and lets networks that nobody needs end.
func (s *Service) takeOver() {
	ctx, cancel := context.WithTimeout(s.ctx, adoptWait)
	defer cancel()
	s.adopt(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.networks {
		if held, err := proc.Held(n.files.Lock()); err == nil && held {
			s.keep(n)
		}
	}
	s.networksChanged()
}

// startTool runs a program that ends with the service.
func (s *Service) startTool(c hv.Command) (hv.Process, error) {
	return proc.Start(proc.Command{
		Path: c.Path, Args: c.Args, Env: c.Env, Dir: c.Dir, Stdout: c.Stdout, Stderr: c.Stderr,
		ExtraFiles: c.Files, DieWithParent: true,
	})
}
