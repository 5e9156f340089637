package hostsvc

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/windows/svc"
)

// What the service control manager has told.
var (
	hostStops atomic.Bool

	listening sync.Mutex      // guards listener
	listener  func(HostEvent) // nil until WatchHost
)

// WatchHost tells what the service control manager hands to RunManaged.
func WatchHost(ctx context.Context, _ string, tell func(HostEvent)) (*Inhibitor, error) {
	listening.Lock()
	defer listening.Unlock()
	listener = tell
	context.AfterFunc(ctx, func() {
		listening.Lock()
		defer listening.Unlock()
		listener = nil
	})
	return &Inhibitor{}, nil
}

func happened(e HostEvent) {
	listening.Lock()
	tell := listener
	listening.Unlock()
	if tell != nil {
		tell(e)
	}
}

// HostStopping tells whether the service was stopped because the computer is.
func HostStopping(context.Context, bool) (stopping, known bool) { return hostStops.Load(), true }

// Power events, WM_POWERBROADCAST in winuser.h.
const (
	pbtSuspend         = 0x4
	pbtResumeAutomatic = 0x12
)

// stopHint is how long the manager is told to wait for the next sign of life.
const stopHint = 20 * time.Second

// RunManaged is Run for a service that the service control manager has started.
// Unlike kardianos' handler it asks for the notice before a shutdown, which gives
// guests minutes instead of seconds.
func RunManaged(ctx context.Context, name string, run func(context.Context) error) error {
	p := newProgram(ctx, run)
	if err := svc.Run(name, handler{p}); err != nil {
		return err
	}
	<-p.done
	return p.err
}

type handler struct{ p *program }

// Execute answers the manager until the service has ended.
func (h handler) Execute(_ []string, requests <-chan svc.ChangeRequest, status chan<- svc.Status) (bool, uint32) {
	const accepts = svc.AcceptStop | svc.AcceptPreShutdown | svc.AcceptPowerEvent
	status <- svc.Status{State: svc.StartPending}
	_ = h.p.Start(nil)
	status <- svc.Status{State: svc.Running, Accepts: accepts}
	beat := time.NewTicker(stopHint / 2)
	defer beat.Stop()
	stopping, point := false, uint32(0)
	for {
		select {
		case r := <-requests:
			switch r.Cmd {
			case svc.Interrogate:
				status <- r.CurrentStatus
			case svc.PowerEvent:
				switch r.EventType {
				case pbtSuspend:
					happened(HostSleeps)
				case pbtResumeAutomatic:
					happened(HostWakes)
				}
			case svc.Stop, svc.Shutdown, svc.PreShutdown:
				if r.Cmd != svc.Stop {
					hostStops.Store(true)
				}
				if !stopping {
					stopping = true
					h.p.cancel()
				}
				status <- svc.Status{State: svc.StopPending, WaitHint: uint32(stopHint.Milliseconds())}
			}
		case <-beat.C:
			if stopping { // each sign of life must differ from the last
				point++
				status <- svc.Status{State: svc.StopPending, CheckPoint: point, WaitHint: uint32(stopHint.Milliseconds())}
			}
		case <-h.p.done:
			status <- svc.Status{State: svc.StopPending}
			if h.p.err != nil {
				return true, 1
			}
			return false, 0
		}
	}
}
