package service

import (
	"errors"
	"time"

	"github.com/hxen-project/hxen/app/control"
)

// answerWait is how long what runs a guest may take to answer a simple question
// before the guest's user is told: long for a busy computer, short for a person.
// answerPace is at how many looks at the host it is asked, as each question wakes
// three processes. Tests have less patience.
var (
	answerWait = 8 * time.Second
	answerPace = 5
)

const silentText = "what runs the guest does not answer: it may come back, and it can be powered off"

var errSilent = errors.New("its worker does not answer")

// hangs reports whether the guest's worker, or the device model behind it, does
// not answer. s.mu is held.
func (g *guest) hangs() bool { return g.silent != nil && g.silent == g.link }

// askWorkers asks every running guest's worker for its counters, which it in turn
// asks the device model for: processes that stand still have not ended, and nothing
// else would tell. A worker that has not answered yet is not asked again.
func (s *Service) askWorkers() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.guests {
		if l := g.link; l != nil && g.asked != l {
			g.asked = l
			s.tasks.Go(func() { s.askWorker(g, l) })
		}
	}
}

func (s *Service) askWorker(g *guest, l *link) {
	late := time.AfterFunc(answerWait, func() { s.hear(g, l, false) })
	_ = l.conn.Call(s.ctx, control.VerbStats, nil, nil) // an error is an answer, too; a lost connection is not ours to deal with
	late.Stop()
	s.hear(g, l, true)
}

// hear takes in that a guest's worker answers, or that it does not.
func (s *Service) hear(g *guest, l *link, answers bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := g.hangs()
	switch {
	case g.asked != l: // it answered just now, or is of a run before
	case answers:
		g.asked, g.silent = nil, nil
	default:
		g.silent = l
		s.log.Warn("what runs a guest does not answer", "guest", g.name, "wait", answerWait)
	}
	if g.link == l && g.hangs() != before {
		s.publish(g)
	}
}
