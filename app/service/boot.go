package service

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/app/control"
	"github.com/hxen-project/hxen/app/service/rpc"
	"github.com/hxen-project/hxen/hv"
)

// lookAgain is how often what a guest waits for is looked for.
const lookAgain = 2 * time.Second

// registerStart adds the fields that say when a guest starts with the host.
func (s *Service) registerStart(srv *rpc.Server) {
	number := func(field string, set func(*hv.Spec, int)) {
		srv.RegisterSetter(api.ClassVM, field, func(_ *rpc.Call, ref api.Ref, n int64) error {
			if n < 0 || n > hv.MaxOrder {
				return api.NewError(api.ErrValueNotSupported, field, fmt.Sprint(n), fmt.Sprintf("it must be 0 to %d", hv.MaxOrder))
			}
			return s.annotate(ref, func(spec *hv.Spec) error { set(spec, int(n)); return nil })
		})
	}
	number("order", func(spec *hv.Spec, n int) { spec.Order = n })
	number("start_delay", func(spec *hv.Spec, n int) { spec.StartDelay = &n })
}

// toStart is one guest of the start order, as it was when that was made.
type toStart struct {
	g     *guest
	pause time.Duration // until the next
}

// bootGuests starts guests with the host, once for each of its boots: first those
// that were saved because it stopped, then those that are to start with it, in
// their order.
func (s *Service) bootGuests() {
	if s.opt.Boot == "" {
		return
	}
	if last, err := os.ReadFile(s.store.Boot()); err == nil && strings.TrimSpace(string(last)) == s.opt.Boot {
		return
	}
	list := s.startOrder()
	for i, one := range list {
		s.startByItself(one.g)
		if i+1 < len(list) && one.pause > 0 {
			s.say(list[i+1:], fmt.Sprintf("it starts after %q", one.g.name))
			select {
			case <-time.After(one.pause):
			case <-s.ctx.Done():
				return
			}
		}
	}
	if s.ctx.Err() != nil || s.stop.begun() {
		return
	}
	if err := writeFile(s.store.Boot(), []byte(s.opt.Boot+"\n")); err != nil {
		s.log.Error("remember that guests were started", "err", err)
	}
}

// startOrder is who starts with the host.
func (s *Service) startOrder() []toStart {
	s.mu.Lock()
	defer s.mu.Unlock()
	var saved, auto []*guest
	for _, g := range s.sorted() {
		if !g.sound() {
			continue
		}
		_, err := os.Stat(g.files.GoesOn())
		switch {
		case g.power == hv.Suspended && err == nil:
			saved = append(saved, g)
		case g.spec.Autostart && (g.power == hv.Halted || g.power == hv.Suspended):
			auto = append(auto, g)
		}
	}
	var out []toStart
	for _, list := range [][]*guest{saved, auto} {
		slices.SortStableFunc(list, func(a, b *guest) int { return cmp.Compare(a.spec.Order, b.spec.Order) })
		for _, g := range list {
			out = append(out, toStart{g, time.Duration(g.spec.StartPause()) * time.Second})
		}
	}
	return out
}

// say shows why guests have not started yet; "" for no reason any more.
func (s *Service) say(list []toStart, why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, one := range list {
		s.wait(one.g, why)
	}
}

// wait shows why a guest has not started yet. s.mu is held.
func (s *Service) wait(g *guest, why string) {
	if g.waiting != why && s.guests[g.uuid] == g {
		g.waiting = why
		s.publish(g)
	}
}

// startByItself starts a guest, or has it wait for what it needs while the others
// go on.
func (s *Service) startByItself(g *guest) {
	missing := s.missing(g)
	if missing == "" {
		s.startWithHost(g)
		return
	}
	s.log.Info("a guest waits", "guest", g.name, "for", missing)
	s.tasks.Go(func() {
		tick := time.NewTicker(lookAgain)
		defer tick.Stop()
		for ; missing != ""; missing = s.missing(g) {
			s.mu.Lock()
			s.wait(g, missing)
			s.mu.Unlock()
			select {
			case <-tick.C:
			case <-s.ctx.Done():
				return
			}
		}
		s.startWithHost(g)
	})
}

// missing says what a guest that is to start by itself has to wait for; "" for
// nothing, also when it is not to start any more.
func (s *Service) missing(g *guest) string {
	s.mu.Lock()
	spec, off := g.spec, g.power == hv.Halted || g.power == hv.Suspended
	_, marked := os.Stat(g.files.GoesOn())
	off = off && s.guests[g.uuid] == g && spec != nil && (spec.Autostart || marked == nil)
	s.mu.Unlock()
	switch {
	case !off || spec.WaitFor == "" || s.stop.begun():
		return ""
	case spec.WaitFor == hv.WaitNetwork:
		if !online() {
			return "the computer has no network yet"
		}
	default:
		if _, err := os.Stat(spec.WaitFor); err != nil {
			return fmt.Sprintf("%s is not there yet", spec.WaitFor)
		}
	}
	return ""
}

// online reports whether the host has an address that others could reach.
func online() bool {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return true // then it cannot be waited for
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() {
			return true
		}
	}
	return false
}

// startWithHost starts one guest, or lets it go on. What keeps it from that is
// shown as how it ended.
func (s *Service) startWithHost(g *guest) {
	s.mu.Lock()
	s.wait(g, "")
	_, marked := os.Stat(g.files.GoesOn())
	want := g.sound() && (g.spec.Autostart || marked == nil)
	op, how := hv.OpStart, launchHow{}
	if g.power == hv.Suspended {
		op, how.restore = hv.OpResume, true
	}
	s.mu.Unlock()
	if !want || s.stop.begun() {
		return
	}
	g, end, err := s.begin(g.ref(), op, "")
	if err != nil {
		return // it runs, or somebody else deals with it
	}
	defer end()
	if err := s.start(s.ctx, g, how, nil); err != nil {
		s.log.Error("start a guest with the host", "guest", g.name, "err", err)
		s.mu.Lock()
		g.last = &control.Exit{Reason: hv.ExitFailed, Text: "it could not be started with the computer: " + words(err), At: time.Now().UTC()}
		s.publish(g)
		s.mu.Unlock()
		return
	}
	s.log.Info("started a guest with the host", "guest", g.name)
}

// words are an error's, for a user.
func words(err error) string {
	if e, ok := errors.AsType[*api.Error](err); ok && e.Code == api.ErrStartFailed && len(e.Params) >= 3 {
		text := e.Params[1] + ": " + e.Params[2]
		if len(e.Params) > 3 && e.Params[3] != "" {
			text += "; " + e.Params[3]
		}
		return text
	}
	return err.Error()
}
