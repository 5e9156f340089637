package plan

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// Session is one run over a journal, as steps see it.
type Session struct {
	Plan    Plan
	journal *Journal
	report  func(Event)
	step    Step
	notes   []string
	removes bool // Undo removes what stands
	others  []Step
}

// Stands lists what earlier runs made in the present step, oldest first.
func (s *Session) Stands() []Act { return s.mine(s.journal.stands) }

// Pending lists what this session noted in the present step before it was
// interrupted.
func (s *Session) Pending() []Act { return s.mine(s.journal.acts) }

func (s *Session) mine(acts []Act) []Act {
	return slices.DeleteFunc(slices.Clone(acts), func(a Act) bool { return s.step == nil || a.Step != s.step.ID() })
}

// Intend notes changes on disk; after it they may be made. The acts' Step is set.
func (s *Session) Intend(acts ...Act) error {
	if len(acts) == 0 {
		return nil
	}
	for i := range acts {
		acts[i].Step = s.step.ID()
	}
	return s.journal.intend(acts)
}

// Uninstalling reports whether Undo is asked to remove what stands, not to take
// a failed run back.
func (s *Session) Uninstalling() bool { return s.removes }

// Progress tells how far the present step is.
func (s *Session) Progress(done, total int64) {
	s.tell(Event{State: Working, Done: done, Total: total})
}

// Log writes a line for whoever wants to know more.
func (s *Session) Log(format string, args ...any) { s.tell(Event{Log: fmt.Sprintf(format, args...)}) }

// Note keeps a sentence that the user should read at the end.
func (s *Session) Note(sentence string) {
	if !slices.Contains(s.notes, sentence) {
		s.notes = append(s.notes, sentence)
		s.tell(Event{Note: sentence})
	}
}

func (s *Session) tell(e Event) {
	if s.step != nil {
		e.Step, e.Title = s.step.ID(), s.step.Title()
	}
	if s.report != nil {
		s.report(e)
	}
}

// Found is what a step's Check said.
type Found struct {
	Step Step
	Status
}

// Check asks every step what it has to do.
func Check(ctx context.Context, j *Journal, p Plan, steps []Step) ([]Found, error) {
	var out []Found
	s := &Session{Plan: p, journal: j}
	for _, step := range steps {
		s.step = step
		st, err := step.Check(ctx, s)
		if err != nil {
			return out, fmt.Errorf("%s: %w", step.Title(), err)
		}
		out = append(out, Found{step, st})
	}
	return out, nil
}

// Run does what the plan says and reports how it went; steps are the plan's, and
// others those that may have made what stands or what an interrupted run did. When a step
// fails or ctx ends, what this run did is taken back. The last event that report
// gets, and what Run returns, is the result.
func Run(ctx context.Context, j *Journal, p Plan, steps, others []Step, report func(Event)) Result {
	s := &Session{Plan: p, journal: j, report: report, others: others}
	r := Result{Action: p.Action, Version: p.Version, Hash: p.Hash()}
	defer j.close()
	var err error
	if p.Action == Uninstall {
		err = s.uninstall(ctx, steps)
	} else {
		r.Undone, err = s.install(ctx, steps)
	}
	j.close()
	r.OK, r.Notes = err == nil, s.notes
	if err != nil {
		r.Error = err.Error()
		if s.step != nil {
			r.Step = s.step.ID()
		}
	}
	if report != nil {
		report(Event{End: &r})
	}
	return r
}

// ErrKilled is what Watch's function and steps return in tests that play a kill:
// the run ends at once and nothing is taken back.
var ErrKilled = errors.New("killed")

func (s *Session) install(ctx context.Context, steps []Step) (undone bool, err error) {
	j := s.journal
	if err := s.recover(ctx, steps); err != nil {
		return false, err
	}
	if j.open == nil {
		if err := j.begin(s.Plan); err != nil {
			if j.installed == nil && !errors.Is(err, ErrKilled) {
				err = errors.Join(err, j.remove())
			}
			return true, err
		}
	}
	for _, step := range steps {
		s.step = step
		if err := s.apply(ctx, step); err != nil {
			if errors.Is(err, ErrKilled) {
				return false, err
			}
			if o, ok := step.(Optional); ok && o.Optional() && ctx.Err() == nil {
				s.tell(Event{State: Failed, Log: err.Error()})
				s.Note(fmt.Sprintf("%s: %v", step.Title(), err))
				continue
			}
			s.tell(Event{State: Failed, Log: err.Error()})
			failed := step
			if berr := s.back(steps, nil); berr != nil {
				return false, errors.Join(err, berr)
			}
			s.step = failed
			return true, err
		}
		s.tell(Event{State: Ready})
	}
	s.step = nil
	if err := j.end(); err != nil {
		if errors.Is(err, ErrKilled) {
			return false, err
		}
		return true, s.back(steps, err)
	}
	return false, s.settle(steps)
}

func (s *Session) apply(ctx context.Context, step Step) error {
	s.tell(Event{State: Working})
	if err := ctx.Err(); err != nil {
		return err
	}
	st, err := step.Check(ctx, s)
	if err == nil && !st.Done {
		err = step.Apply(ctx, s)
	}
	if err == nil {
		err = ctx.Err() // a step need not have looked
	}
	return err
}

// recover brings a journal whose last run was cut short to a defined state: a
// run with the same plan is gone on with, any other is taken back or, if it had
// ended, finished.
func (s *Session) recover(ctx context.Context, steps []Step) error {
	j := s.journal
	switch {
	case j.open == nil:
		return nil
	case j.ended:
		return s.settle(steps)
	case j.open.Hash() == s.Plan.Hash():
		s.Log("going on with a run that was interrupted")
		return nil
	}
	s.Log("taking back a run that was interrupted")
	return s.back(steps, nil)
}

// back takes the open session back, newest act first, whatever ctx says, and
// returns why if given.
func (s *Session) back(steps []Step, why error) error {
	j := s.journal
	err := s.undo(context.Background(), steps, j.acts, false)
	if err == nil {
		err = j.settle()
	}
	if err != nil {
		return errors.Join(why, fmt.Errorf("taking back what was done did not succeed, start the setup again to go on with that: %w", err))
	}
	return why
}

// settle finishes a session whose end is written.
func (s *Session) settle(steps []Step) error {
	for _, a := range s.journal.acts {
		if f, ok := find(slices.Concat(steps, s.others), a.Step).(Finisher); ok {
			if err := f.Finish(a); err != nil {
				return fmt.Errorf("tidy up: %w", err)
			}
		}
	}
	return s.journal.settle()
}

func find(steps []Step, id string) Step {
	for _, s := range steps {
		if s.ID() == id {
			return s
		}
	}
	return nil
}

// undo takes acts back, newest first. With uninstall the steps are told as they
// go by.
func (s *Session) undo(ctx context.Context, steps []Step, acts []Act, tell bool) error {
	for i := len(acts) - 1; i >= 0; i-- {
		a := acts[i]
		if err := ctx.Err(); err != nil {
			return err
		}
		step := find(slices.Concat(steps, s.others), a.Step)
		if step == nil {
			return fmt.Errorf("the journal tells of a step %q that this setup does not know; use the setup of the version that is installed, or a newer one", a.Step)
		}
		if s.step = step; tell {
			s.tell(Event{State: Working, Done: int64(len(acts) - 1 - i), Total: int64(len(acts))})
		}
		if err := step.Undo(ctx, s, a); err != nil {
			return err
		}
		if tell && (i == 0 || acts[i-1].Step != a.Step) {
			s.tell(Event{State: Ready})
		}
	}
	return nil
}

func (s *Session) uninstall(ctx context.Context, steps []Step) error {
	j := s.journal
	if j.open != nil && j.open.Action != Uninstall {
		// The other plan is never this one, so it is finished or taken back.
		if err := s.recover(ctx, steps); err != nil {
			return err
		}
	}
	if j.open == nil {
		if err := j.begin(s.Plan); err != nil {
			return err
		}
	}
	s.removes = true
	// Steps in the plan's order backwards: after an upgrade the newest acts are
	// those on files, which what registered the service is still needed from.
	at := func(a Act) int {
		i := slices.IndexFunc(steps, func(st Step) bool { return st.ID() == a.Step })
		if i < 0 {
			return len(steps) // nothing is removed if one is not known
		}
		return i
	}
	acts := slices.Clone(j.stands)
	slices.SortStableFunc(acts, func(a, b Act) int { return at(a) - at(b) })
	if err := s.undo(ctx, steps, acts, true); err != nil {
		if !errors.Is(err, ErrKilled) {
			s.tell(Event{State: Failed, Log: err.Error()})
		}
		return err
	}
	s.step = nil
	if err := j.end(); err != nil {
		return err
	}
	return j.settle()
}
