package service

import (
	"context"
	"fmt"
	"time"

	"github.com/hxen-project/hxen/app/control"
	"github.com/hxen-project/hxen/hv"
)

const (
	// memoryPace is how often the host's memory is looked at while guests run.
	memoryPace = 2 * time.Second
	// diskPace is at how many of these looks its disks are looked at, too.
	diskPace = 15
)

// watchRuns begins to look at the host's memory, at disks and at what runs the
// guests, until no guest runs any more. A host that runs out of memory ends programs,
// as a rule the largest, and a guest so loses its power: one that stands still takes
// no more. s.mu is held.
func (s *Service) watchRuns() {
	if s.watching {
		return
	}
	s.watching = true
	s.tasks.Go(func() {
		tick := time.NewTicker(memoryPace)
		defer tick.Stop()
		for n := 0; ; n++ {
			select {
			case <-tick.C:
			case <-s.ctx.Done():
				return
			}
			s.mu.Lock()
			any := false
			for _, g := range s.guests {
				any = any || g.link != nil
			}
			s.watching = any
			s.mu.Unlock()
			if !any {
				return
			}
			if s.opt.Host.MemoryShort != nil {
				s.lookAtMemory()
			}
			if n%answerPace == 0 {
				s.askWorkers()
			}
			if n%diskPace == 0 {
				s.lookAtDisks()
			}
		}
	})
}

// lookAtMemory pauses the guest that takes the most, one at each look, while the
// host is short of memory. Its user has it go on when there is some again.
func (s *Service) lookAtMemory() {
	short, free, err := s.opt.Host.MemoryShort()
	if err != nil || !short {
		if err != nil {
			s.log.Debug("tell whether the host is short of memory", "err", err)
		}
		return
	}
	g, l := s.largest()
	if g == nil {
		return
	}
	ctx, cancel := context.WithTimeout(s.ctx, callWait)
	defer cancel()
	if err := l.conn.Call(ctx, control.VerbPause, nil, nil); err != nil {
		s.log.Error("pause a guest as the host is short of memory", "guest", g.name, "err", err)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	g.notice = fmt.Sprintf("this computer has only %s of memory left, and the guest was paused before it could lose its power: close other programs or guests, then resume it", sizeText(int64(free)))
	s.log.Warn("the host is short of memory; paused a guest", "guest", g.name, "free", free)
	s.publish(g)
}

// largest is the running guest that takes the most of the host's memory and that
// nothing is being done with; nil: there is none.
func (s *Service) largest() (found *guest, l *link) {
	s.allFigures(s.ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	var most uint64
	for _, g := range s.guests {
		if g.link == nil || g.power != hv.Running || len(g.ops) > 0 {
			continue
		}
		n := g.samples.last.stats.RSS
		if n == 0 && g.spec != nil { // its worker was too slow to say
			n = g.spec.Memory
		}
		if found == nil || n > most {
			found, l, most = g, g.link, n
		}
	}
	return found, l
}

// lookAtDisks warns of disks that will soon be full, before a guest meets that and
// is paused.
func (s *Service) lookAtDisks() {
	s.mu.Lock()
	var all []*guest
	for _, g := range s.guests {
		if g.link != nil && g.spec != nil {
			all = append(all, g)
		}
	}
	s.mu.Unlock()
	for _, g := range all {
		s.mu.Lock()
		spec := g.spec
		s.mu.Unlock()
		why := ""
		for _, d := range openDisks(g.dir, spec) {
			if free, err := s.opt.Host.DiskFree(d.path); d.write && err == nil && free < diskFloor {
				why = fmt.Sprintf("less than %s are free where %s is: make room there, or the guest is paused when none is left", sizeText(int64(diskFloor)), d.path)
			}
		}
		s.mu.Lock()
		if ours := g.notice == g.lowDisk; ours && why != g.notice && g.link != nil { // any other notice says more
			g.notice = why
			s.publish(g)
		}
		g.lowDisk = why
		s.mu.Unlock()
	}
}
