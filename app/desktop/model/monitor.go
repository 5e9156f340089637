package model

import (
	"context"
	"strings"
	"time"

	"github.com/hxen-project/hxen/app/api"
)

// Points is how many seconds the charts reach back.
const Points = 60

// Series is one figure over the last seconds, oldest first; Len of them count.
type Series struct {
	Values [Points]float64
	Len    int
}

func (s *Series) push(v float64) {
	if s.Len < Points {
		s.Values[s.Len] = v
		s.Len++
		return
	}
	copy(s.Values[:], s.Values[1:])
	s.Values[Points-1] = v
}

// Last is the newest value, 0 before the first.
func (s *Series) Last() float64 {
	if s.Len == 0 {
		return 0
	}
	return s.Values[s.Len-1]
}

// Max is the largest value.
func (s *Series) Max() float64 {
	m := 0.0
	for _, v := range s.Values[:s.Len] {
		m = max(m, v)
	}
	return m
}

// Figures are what the charts of a guest show: CPU 0..1 of all its processors,
// memory in bytes of the host, the rest in bytes a second.
type Figures struct {
	CPU, Memory, DiskRead, DiskWrite, NetIn, NetOut Series
	MemoryMax                                       float64
}

func (f *Figures) push(sources []api.DataSource) {
	var cpu, mem, rss, dr, dw, ni, no float64
	for _, d := range sources {
		switch n := d.Name; {
		case n == "cpu_usage":
			cpu = d.Value
		case n == "memory":
			mem = d.Value
		case n == "memory_rss":
			rss = d.Value
		case strings.HasPrefix(n, "vbd_") && strings.HasSuffix(n, "_read"):
			dr += d.Value
		case strings.HasPrefix(n, "vbd_") && strings.HasSuffix(n, "_write"):
			dw += d.Value
		case strings.HasPrefix(n, "vif_") && strings.HasSuffix(n, "_rx"):
			ni += d.Value
		case strings.HasPrefix(n, "vif_") && strings.HasSuffix(n, "_tx"):
			no += d.Value
		}
	}
	f.CPU.push(min(max(cpu, 0), 1))
	f.Memory.push(rss)
	f.MemoryMax = mem
	f.DiskRead.push(dr)
	f.DiskWrite.push(dw)
	f.NetIn.push(ni)
	f.NetOut.push(no)
}

// monitorEvery is the beat of the charts.
const monitorEvery = time.Second

// Monitor collects figures of one guest at a time while asked to.
type Monitor struct {
	lib     *Library
	figures *Figures
	cancel  context.CancelFunc
	changed func()
	tick    func(context.Context) <-chan time.Time
}

// NewMonitor makes a Monitor that calls changed on the loop after each second's
// figures.
func (l *Library) NewMonitor(changed func()) *Monitor {
	return &Monitor{lib: l, figures: &Figures{}, changed: changed, tick: everyBeat}
}

func everyBeat(ctx context.Context) <-chan time.Time {
	t := time.NewTicker(monitorEvery)
	context.AfterFunc(ctx, t.Stop)
	return t.C
}

// Figures is what was collected since Show. It stays the monitor's.
func (m *Monitor) Figures() *Figures { return m.figures }

// Show starts collecting for vm from nothing; nil stops.
func (m *Monitor) Show(vm *VM) {
	if m.cancel != nil {
		m.cancel()
		m.cancel = nil
	}
	m.figures = &Figures{}
	if vm == nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	m.cancel = cancel
	go m.collect(ctx, vm.Ref, m.figures, m.tick(ctx))
}

// Showing reports whether the monitor collects.
func (m *Monitor) Showing() bool { return m.cancel != nil }

func (m *Monitor) collect(ctx context.Context, vm api.Ref, into *Figures, tick <-chan time.Time) {
	for {
		sources, err := m.lib.svc.DataSources(ctx, vm)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			m.lib.loop(func() {
				if m.figures == into {
					into.push(sources)
					m.changed()
				}
			})
		}
		select {
		case <-ctx.Done():
			return
		case <-tick:
		}
	}
}
