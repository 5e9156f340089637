// Package hostsvc runs a function as the system's service managers expect it:
// systemd and its like, launchd, the Windows service control manager, or nobody
// (a terminal, a program that started us on demand).
//
//	Run(ctx, name, run) error
//
// It knows nothing of what the service does.
package hostsvc

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/kardianos/service"
)

// Run calls run and returns its error when it has returned. run's context ends
// when the manager asks the service to stop, on SIGTERM and on SIGINT, and when
// ctx ends; run then takes the time it needs. A second signal ends the program
// at once, as a user expects who presses Ctrl-C twice.
//
// The manager is told that the service runs as soon as run has been called, so
// slow work at the start belongs behind the first answer. Call Run once per
// program and end the program after it. name is the service's registered name.
func Run(ctx context.Context, name string, run func(context.Context) error) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // the second signal has its usual effect

	p := newProgram(ctx, run)
	s, err := service.New(p, &service.Config{
		Name: name,
		// What Unix systems wait for between Start and Stop.
		Option: service.KeyValue{"RunWait": func() { <-p.done }},
	})
	if err != nil {
		return fmt.Errorf("service %s: %w", name, err)
	}
	left := make(chan error, 1)
	go func() { left <- s.Run() }()
	select {
	case err = <-left:
	case <-p.done:
		// A Windows service that leaves before the manager has its answer to a stop
		// counts as crashed and is started again. Without a stop there is nobody to
		// answer: on a Windows terminal s.Run would wait for Ctrl-C for ever.
		select {
		case <-p.stopping:
			err = <-left
		default:
		}
	}
	if err != nil && !p.ended() {
		return fmt.Errorf("service %s: %w", name, err)
	}
	<-p.done
	return p.err
}

// program is what the manager starts and stops.
type program struct {
	ctx      context.Context
	cancel   context.CancelFunc
	run      func(context.Context) error
	stopping chan struct{} // closed by Stop, which is called once
	done     chan struct{} // closed when run has returned
	err      error         // of run; valid after done
}

func newProgram(ctx context.Context, run func(context.Context) error) *program {
	ctx, cancel := context.WithCancel(ctx)
	return &program{ctx: ctx, cancel: cancel, run: run,
		stopping: make(chan struct{}), done: make(chan struct{})}
}

// Start is called by the manager's side and must not wait.
func (p *program) Start(service.Service) error {
	go func() {
		defer close(p.done)
		defer p.cancel()
		p.err = p.run(p.ctx)
	}()
	return nil
}

// Stop is called by the manager's side and returns when run has returned.
func (p *program) Stop(service.Service) error {
	close(p.stopping)
	p.cancel()
	<-p.done
	return nil
}

func (p *program) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}
