package service

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/hxen-project/hxen/app/control"
	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/platform/hostsvc"
)

// StopDeadline is how long all guests together may take when the host stops.
const StopDeadline = 300 * time.Second

const (
	// saveShare is the part of a guest's time that is left for saving one that does
	// not shut down: a third.
	saveShare = 3
	// lastResort is kept of the whole time to power off what is left.
	lastResort = 10 * time.Second
)

// errLeave is why a service ends whose guests go on.
var errLeave = errors.New("another service takes over")

// hostStop is the stop of all guests with the host, which happens at most once.
type hostStop struct {
	once sync.Once
	mu   sync.Mutex // guards the fields below
	on   bool
	over bool // all guests have been stopped
	hold *hostsvc.Inhibitor
}

func (h *hostStop) begun() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.on
}

// watchHost listens to what happens to the host.
func (s *Service) watchHost() {
	if s.opt.Watch == nil {
		return
	}
	hold, err := s.opt.Watch(s.ctx, func(e hostsvc.HostEvent) {
		switch e {
		case hostsvc.HostStops:
			s.tasks.Go(s.stopWithHost)
		case hostsvc.HostWakes:
			s.tasks.Go(s.wake)
		}
	})
	if err != nil {
		s.log.Warn("the host does not tell when it stops or sleeps", "err", err)
	}
	s.stop.mu.Lock()
	defer s.stop.mu.Unlock()
	if s.stop.hold = hold; s.stop.over {
		_ = hold.Release() // it took the answer too long
	}
}

// hostMayStop is called when the service is to end: guests go on, unless the host
// stops.
func (s *Service) hostMayStop(asked context.Context) {
	if s.stop.begun() || !errors.Is(context.Cause(asked), errLeave) && s.opt.Stops != nil && s.opt.Stops() {
		s.stopWithHost()
	}
}

// stopWithHost stops every guest by its policy, and returns when all have ended.
func (s *Service) stopWithHost() {
	s.stop.once.Do(func() {
		s.stop.mu.Lock()
		s.stop.on = true
		s.stop.mu.Unlock()
		// The next boot is another, whatever its number.
		if err := os.Remove(s.store.Boot()); err != nil && !os.IsNotExist(err) {
			s.log.Warn("forget the boot of the host", "err", err)
		}
		s.stopAll(time.Now().Add(StopDeadline))
	})
	s.stop.mu.Lock()
	defer s.stop.mu.Unlock()
	s.stop.over = true
	if err := s.stop.hold.Release(); err != nil {
		s.log.Warn("let the host stop", "err", err)
	}
}

// stopAll stops the guests that run, in the reverse of their start order: those
// of one place at the same time, those that were started by hand first.
func (s *Service) stopAll(deadline time.Time) {
	// Some may have been on their way up when it began.
	for pass := 0; pass < stopPasses; pass++ {
		groups := s.stopOrder()
		if len(groups) == 0 {
			break
		}
		s.stopGroups(groups, deadline)
	}
	s.log.Info("all guests have been stopped", "remaining", time.Until(deadline).Round(time.Second))
}

// stopPasses is how often the guests that run are looked for.
const stopPasses = 3

func (s *Service) stopGroups(groups [][]*guest, deadline time.Time) {
	for i, group := range groups {
		left := time.Until(deadline) - lastResort
		share := max(left/time.Duration(len(groups)-i), 0)
		s.log.Info("stopping guests with the host", "guests", len(group), "places left", len(groups)-i, "remaining", left.Round(time.Second))
		if s.opt.Busy != nil {
			s.opt.Busy(fmt.Sprintf("stopping %d guests, %v left", len(group), left.Round(time.Second)))
		}
		ctx, cancel := context.WithTimeoutCause(s.ctx, share, errors.New("the time for stopping guests is over"))
		var all sync.WaitGroup
		for _, g := range group {
			all.Go(func() { s.stopGuest(ctx, g, share) })
		}
		all.Wait()
		cancel()
	}
}

func (s *Service) stopOrder() [][]*guest {
	s.mu.Lock()
	defer s.mu.Unlock()
	place := func(g *guest) int {
		if g.spec == nil || !g.spec.Autostart {
			return hv.MaxOrder + 1
		}
		return g.spec.Order
	}
	groups := map[int][]*guest{}
	for _, g := range s.sorted() {
		if g.link != nil {
			groups[place(g)] = append(groups[place(g)], g)
		}
	}
	var order []int
	for p := range groups {
		order = append(order, p)
	}
	slices.Sort(order)
	slices.Reverse(order)
	var out [][]*guest
	for _, p := range order {
		out = append(out, groups[p])
	}
	return out
}

// stopGuest stops one guest by its policy: one that does not shut down is saved,
// and one that cannot be saved loses its power.
func (s *Service) stopGuest(ctx context.Context, g *guest, share time.Duration) {
	s.mu.Lock()
	how, paused := hv.StopShutdown, g.power == hv.Paused
	if g.spec != nil && g.spec.OnHostStop != "" {
		how = g.spec.OnHostStop
	}
	r := (*run)(nil)
	if g.link != nil {
		r = g.link.run
	}
	s.mu.Unlock()
	if r == nil {
		return
	}
	begun := time.Now()
	if how == hv.StopShutdown && !paused {
		asking, cancel := context.WithTimeout(ctx, share-share/saveShare)
		err := s.askDown(asking, g, r)
		cancel()
		if err == nil {
			s.log.Info("a guest has shut down with the host", "guest", g.name, "took", time.Since(begun).Round(time.Second))
			return
		}
		s.log.Warn("a guest did not shut down with the host; saving it", "guest", g.name, "err", err)
	}
	if how != hv.StopPoweroff {
		err := s.saveForBoot(ctx, g)
		if err == nil {
			s.log.Info("saved a guest with the host", "guest", g.name, "took", time.Since(begun).Round(time.Second))
			return
		}
		s.log.Error("a guest could not be saved with the host; powering it off", "guest", g.name, "err", err)
	}
	if err := s.powerOff(s.ctx, g); err != nil {
		s.log.Error("power a guest off with the host", "guest", g.name, "err", err)
	}
}

// askDown presses the power button until the guest has ended.
func (s *Service) askDown(ctx context.Context, g *guest, r *run) error {
	again := time.NewTicker(askAgain)
	defer again.Stop()
	for {
		if err := s.call(ctx, g, control.VerbPower, control.Power{How: hv.Ask}, nil); err != nil && !closedNow(r.ended) {
			return err
		}
		select {
		case <-r.ended:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-again.C:
		}
	}
}

// saveForBoot saves a guest and marks it to go on with the next boot.
func (s *Service) saveForBoot(ctx context.Context, g *guest) error {
	// The mark first: without a saved state it means nothing.
	if err := writeFile(g.files.GoesOn(), []byte("saved because the host stopped\n")); err != nil {
		return err
	}
	if err := s.suspend(ctx, g, nil); err != nil {
		return errors.Join(err, os.Remove(g.files.GoesOn()))
	}
	return nil
}

// wake tells the guests that the host has slept.
func (s *Service) wake() {
	s.log.Info("the host has slept; setting guests' clocks")
	s.mu.Lock()
	var all []*link
	for _, g := range s.guests {
		if g.link != nil && g.power == hv.Running {
			all = append(all, g.link)
		}
	}
	s.mu.Unlock()
	for _, l := range all {
		s.tasks.Go(func() {
			ctx, cancel := context.WithTimeout(s.ctx, callWait)
			defer cancel()
			if err := l.conn.Call(ctx, control.VerbResync, nil, nil); err != nil && !errors.Is(err, hv.ErrUnsupported) {
				s.log.Warn("set a guest's clock", "err", err)
			}
		})
	}
}
