// Command hxen-worker runs one guest. The service starts it, detached, and
// dials its control socket; it is not meant to be started by hand.
//
//	hxen-worker --dir GUESTDIR --run RUNDIR
//
// It takes the lock of the guest's folder, listens, prints "ready" (or one
// sentence on what failed), closes its standard output and waits for the launch.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"github.com/hxen-project/hxen/app/control"
	"github.com/hxen-project/hxen/app/worker"
	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/native"
	"github.com/hxen-project/hxen/hv/qemu"
	"github.com/hxen-project/hxen/platform/accel"
	"github.com/hxen-project/hxen/platform/hostclock"
	"github.com/hxen-project/hxen/platform/localsock"
	"github.com/hxen-project/hxen/platform/paths"
	"github.com/hxen-project/hxen/platform/proc"
)

// version is set by the linker.
var version = "dev"

func main() {
	dir := flag.String("dir", "", "the guest's folder")
	run := flag.String("run", "", "the runtime folder for sockets")
	dial := flag.String("dial", "", "dial the sockets of networks in this runtime folder, and open what is granted, for the process at descriptor 3")
	bootMenu := flag.Bool("boot-menu", false, "tell what the disks of the guest on standard input can boot, and end")
	showVersion := flag.Bool("version", false, "print the version and end")
	flag.Parse()
	if *showVersion {
		fmt.Println("hxen-worker", version)
		return
	}
	// The worker of a QEMU guest does little and must stay small.
	debug.SetGCPercent(40)
	if *dial != "" {
		if err := serveDialer(*dial, *dir); err != nil {
			os.Exit(1)
		}
		return
	}
	if *bootMenu {
		if err := serveBootMenu(*dir, *run); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if err := serve(*dir, *run); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func serve(dir, run string) error {
	if !filepath.IsAbs(dir) || run == "" {
		return fmt.Errorf("hxen-worker: --dir and --run are needed; use \"hxen start NAME\" instead of starting it by hand")
	}
	g := paths.GuestDir(dir, run)
	if err := os.MkdirAll(g.Worker(), 0o700); err != nil {
		return fmt.Errorf("make the worker's folder: %w", err)
	}
	lock, err := proc.TryLock(g.Lock())
	if errors.Is(err, proc.ErrLocked) {
		return fmt.Errorf("%s: the guest is running already", dir)
	}
	if err != nil {
		return fmt.Errorf("lock the guest's folder: %w", err)
	}
	defer lock.Close()
	// The service has put it aside if it had grown: it is our standard error, too.
	logFile, err := os.OpenFile(g.Log(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open the log: %w", err)
	}
	defer logFile.Close()
	log := slog.New(slog.NewTextHandler(logFile, nil))
	listener, err := localsock.Listen(g.Ctl())
	if err != nil {
		return fmt.Errorf("listen for the service: %w", err)
	}
	pid, start, err := proc.Self()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	signal.Ignore(syscall.SIGHUP)
	cache, err := paths.Cache()
	if err != nil { // a service without a home: the guest's folder serves one guest
		cache = g.Worker()
	}
	children := &started{times: map[int]string{}}
	walls := &walls{guest: g, log: log}
	doors := &doors{sealed: func() bool { return walls.dialer.Load() != nil }}
	woken, err := hostclock.Watch()
	if err != nil {
		log.Warn("guests' clocks may be wrong after this computer has slept", "err", err)
	}
	ready()
	return worker.Run(ctx, worker.Options{
		UUID: filepath.Base(dir), Version: version,
		Engines:   map[hv.GuestType]hv.Engine{hv.HVM: qemu.New(), hv.PVH: native.New(accel.Open)},
		Host:      host(g, lock, cache, children, doors, walls, log),
		StateFile: g.State(), ConsoleLog: g.ConsoleLog(),
		SavedFile: g.Saved(), SavedFiles: []string{g.Saved(), g.SavedScreen(), g.GoesOn(), g.Clone()}, CloneFile: g.Clone(),
		Listener: listener, Allowed: allowed,
		Self:       control.Process{PID: pid, Start: start},
		ModelStart: children.timeOf,
		NICSocket:  g.Net,
		Relay: func(nic hv.NIC, socket, frames string) (worker.NetRelay, error) {
			return doors.relay(nic, socket, frames, walls.dial, log)
		},
		Confine: walls.confine,
		Woken:   woken,
	})
}

// ready tells whoever started us, who may be gone at any time after.
func ready() {
	fmt.Println("ready")
	os.Stdout.Close()
}

func allowed(nc net.Conn) error {
	p, err := localsock.Peer(nc)
	if err != nil {
		return err
	}
	return localsock.Allowed(p)
}

// started remembers the start times of the processes that the engine started,
// so that the service can end them safely if this worker dies.
type started struct {
	mu    sync.Mutex // guards times
	times map[int]string
}

func (s *started) start(c proc.Command) (*proc.Process, error) {
	p, err := proc.Start(c)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.times[p.PID()] = p.StartTime()
	return p, nil
}

func (s *started) timeOf(pid int) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.times[pid]
}

// host is the port from the engine to this machine.
func host(g paths.Guest, lock *proc.Lock, cache string, children *started, doors *doors, walls *walls, log *slog.Logger) hv.Host {
	h := hv.Host{
		Dir: g.Dir, Cache: cache, Work: g.Worker(), RunDir: g.Run, Short: g.ID, Log: log, Dial: doors.dial,
		Start: func(c hv.Command) (hv.Process, error) {
			return children.start(proc.Command{
				Path: c.Path, Args: c.Args, Env: c.Env, Dir: c.Dir,
				Stdout: c.Stdout, Stderr: c.Stderr, ExtraFiles: c.Files, DieWithParent: true,
			})
		},
		OpenDisk: func(path string, readonly bool) (hv.DiskFile, error) {
			f, err := walls.openDisk(path, readonly)
			if err != nil {
				return nil, err // not a nil *diskfile.File
			}
			return f, nil
		},
		PeerPID: proc.PeerPID,
		Slept:   hostclock.Slept,
		Usage: func(pid int) (time.Duration, uint64, error) {
			u, err := proc.Use(pid)
			return u.CPU, u.RSS, err
		},
	}
	if f := lock.File(); f != nil {
		h.Inherit = []*os.File{f}
	}
	return h
}

// doors are where the engine's cards meet their relays, by socket.
type doors struct {
	sealed func() bool // reports whether sockets can be made no more; nil: never

	mu  sync.Mutex
	all map[string]*worker.Door // guarded by mu
}

// relay listens for the engine's card and carries its frames to netd.
func (d *doors) relay(nic hv.NIC, socket, frames string, dialer func(context.Context, string) (net.Conn, error), log *slog.Logger) (worker.NetRelay, error) {
	var l net.Listener
	if d.sealed == nil || !d.sealed() {
		var err error
		if l, err = localsock.Listen(socket); err != nil {
			return nil, fmt.Errorf("listen for card %s: %w", nic.MAC, err)
		}
	}
	door := worker.NewDoor(l)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.all == nil {
		d.all = map[string]*worker.Door{}
	}
	d.all[socket] = door
	hello := control.FramesHello{Protocol: control.Protocol, NIC: nic.UUID, MAC: nic.MAC}
	dial := func(ctx context.Context) (net.Conn, error) { return dialer(ctx, frames) }
	return worker.NewRelay(door, dial, hello, log), nil
}

// dial connects a card of an engine in this process to its relay.
func (d *doors) dial(ctx context.Context, socket string) (net.Conn, error) {
	d.mu.Lock()
	door := d.all[socket]
	d.mu.Unlock()
	if door == nil {
		return nil, fmt.Errorf("there is no card's socket %s", socket)
	}
	return door.Dial(ctx)
}
