package service

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/app/control"
	"github.com/hxen-project/hxen/hv"
)

const (
	// statsAge is how old figures may be before the worker is asked again.
	statsAge = 500 * time.Millisecond
	// statsWait bounds what one worker that is slow can cost a list of all.
	statsWait = 300 * time.Millisecond
	// infoAge is how often a guest's agent is asked, while a client watches: while
	// somebody asks for the guest's figures.
	infoAge = 30 * time.Second
)

// sample is a guest's counters at one time.
type sample struct {
	at    time.Time
	stats hv.Stats
}

// samples are the last two, for rates.
type samples struct {
	before, last sample
	asking       bool
	asked        time.Time // when the agent was asked last
}

// figures asks a running guest's worker for its counters, unless that was done
// just now, and returns the last two samples.
func (s *Service) figures(ctx context.Context, g *guest) samples {
	s.mu.Lock()
	l := g.link
	fresh := l == nil || g.samples.asking || time.Since(g.samples.last.at) < statsAge
	if !fresh {
		g.samples.asking = true
		s.askAgent(g, l)
	}
	got := g.samples
	s.mu.Unlock()
	if fresh {
		return got
	}
	var st hv.Stats
	err := l.conn.Call(ctx, control.VerbStats, nil, &st)
	s.mu.Lock()
	defer s.mu.Unlock()
	if g.link != l {
		return g.samples
	}
	g.samples.asking = false
	if err == nil {
		g.samples.before, g.samples.last = g.samples.last, sample{time.Now(), st}
	}
	return g.samples
}

// askAgent asks the guest's agent in the background when its last answer is
// old. s.mu is held.
func (s *Service) askAgent(g *guest, l *link) {
	if time.Since(g.samples.asked) < infoAge || g.power != hv.Running {
		return
	}
	g.samples.asked = time.Now()
	s.tasks.Go(func() {
		ctx, cancel := context.WithTimeout(s.ctx, callWait)
		defer cancel()
		var info hv.GuestInfo
		err := l.conn.Call(ctx, control.VerbGuestInfo, nil, &info)
		s.mu.Lock()
		defer s.mu.Unlock()
		if err != nil || g.link != l {
			return // no agent in the guest is the usual case
		}
		g.info, g.infoAt = &info, time.Now()
		s.publish(g)
	})
}

// allFigures asks all running guests at once, for a list.
func (s *Service) allFigures(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, statsWait)
	defer cancel()
	var all sync.WaitGroup
	s.mu.Lock()
	for _, g := range s.guests {
		if g.link != nil {
			all.Go(func() { s.figures(ctx, g) })
		}
	}
	s.mu.Unlock()
	all.Wait()
}

// list is xl list's table.
func (s *Service) list(ctx context.Context) []api.ListRow {
	s.allFigures(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]api.ListRow, 0, len(s.guests))
	for _, g := range s.sorted() {
		r := api.ListRow{Name: g.name, UUID: g.uuid, DomID: g.domid, State: xlState(g), Power: string(g.power), Time: g.samples.last.stats.CPU.Seconds()}
		if g.sound() {
			r.Memory, r.VCPUs = int64(g.spec.Memory/hv.MiB), g.spec.VCPUs
		}
		out = append(out, r)
	}
	return out
}

// xlState is xl's six letters "rbpscd".
func xlState(g *guest) string {
	switch {
	case g.power == hv.Running:
		return "r-----"
	case g.power == hv.Paused:
		return "--p---"
	case g.last != nil && g.last.Reason == hv.ExitCrash:
		return "----c-"
	}
	return "------"
}

// dataSources are a guest's figures in XAPI's RRD names.
func (s *Service) dataSources(ctx context.Context, ref api.Ref) ([]api.DataSource, error) {
	s.mu.Lock()
	g, err := s.lookup(ref)
	if err != nil {
		s.mu.Unlock()
		return nil, err
	}
	spec, sound := g.spec, g.sound()
	s.mu.Unlock()
	if !sound {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, callWait)
	defer cancel()
	return sourcesOf(spec, s.figures(ctx, g)), nil
}

// sourcesOf computes the figures from two samples; rates are 0 until there are two.
func sourcesOf(spec *hv.Spec, two samples) []api.DataSource {
	now, before := two.last.stats, two.before.stats
	seconds := two.last.at.Sub(two.before.at).Seconds()
	known := !two.before.at.IsZero() && seconds > 0
	rate := func(a, b uint64) float64 {
		if !known || b < a {
			return 0
		}
		return float64(b-a) / seconds
	}
	source := func(name, about, units string, v, limit float64) api.DataSource {
		return api.DataSource{Name: name, Description: about, Enabled: true, Standard: true, Units: units, Max: limit, Value: v}
	}
	cpu := 0.0
	if known && now.CPU > before.CPU {
		cpu = min(1, (now.CPU-before.CPU).Seconds()/seconds/float64(spec.VCPUs))
	}
	out := []api.DataSource{
		source("cpu_usage", "processor time used, of all the guest's processors", "(fraction)", cpu, 1),
		source("cpu_seconds", "processor time used since the start", "s", now.CPU.Seconds(), 0),
		source("memory", "memory that the guest has", "B", float64(now.Memory), float64(spec.Memory)),
		source("memory_rss", "memory of the host that the guest takes", "B", float64(now.RSS), 0),
	}
	for i, d := range spec.Disks {
		a, b := before.Disks[d.UUID], now.Disks[d.UUID]
		name := "vbd_" + deviceName(i)
		out = append(out,
			source(name+"_read", "read from "+deviceName(i), "B/s", rate(a.ReadBytes, b.ReadBytes), 0),
			source(name+"_write", "written to "+deviceName(i), "B/s", rate(a.WriteBytes, b.WriteBytes), 0))
	}
	for i, n := range spec.NICs {
		a, b := before.NICs[n.UUID], now.NICs[n.UUID]
		name := fmt.Sprintf("vif_%d", i)
		out = append(out,
			source(name+"_rx", "received by card "+fmt.Sprint(i), "B/s", rate(a.RxBytes, b.RxBytes), 0),
			source(name+"_tx", "sent by card "+fmt.Sprint(i), "B/s", rate(a.TxBytes, b.TxBytes), 0))
	}
	return out
}
