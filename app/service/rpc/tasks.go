package rpc

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"sync"
	"time"

	"github.com/hxen-project/hxen/app/api"
)

// Task is one call under way. An Async. call's is an object that clients see;
// a plain call's has a reference only, for current_operations.
type Task struct {
	s      *Server
	ref    api.Ref
	shown  bool
	cancel context.CancelCauseFunc

	mu       sync.Mutex // guards the fields below
	progress float64
	gone     bool // destroyed by a client before it ended
}

type tasks struct {
	mu    sync.Mutex // guards the fields below
	live  map[api.Ref]*Task
	ended []endedTask // oldest first
}

type endedTask struct {
	ref  api.Ref
	when time.Time
}

var errCancelled = errors.New("cancelled")

// Ref names the task, in current_operations for one.
func (t *Task) Ref() api.Ref { return t.ref }

// Progress says how much is done, 0 to 1. It may be called as often as
// convenient: steps too small to see are left out.
func (t *Task) Progress(done float64) {
	if math.IsNaN(done) {
		return
	}
	done = max(0, min(1, done))
	t.mu.Lock()
	skip := !t.shown || t.gone || done == t.progress || math.Abs(done-t.progress) < 0.002 && done < 1
	if !skip {
		t.progress = done
	}
	t.mu.Unlock()
	if !skip {
		Modify(t.s.db, t.ref, func(r *api.Task) { r.Progress = done })
	}
}

// Stage says in a few words what is being done.
func (t *Task) Stage(text string) {
	if t.shown {
		Modify(t.s.db, t.ref, func(r *api.Task) { r.OtherConfig[api.KeyStage] = text })
	}
}

// begin makes a task and the context of its call.
func (s *Server) begin(method string, session api.Ref, shown bool) (*Task, context.Context) {
	uuid := newUUID()
	t := &Task{s: s, ref: api.RefOf(uuid), shown: shown}
	var ctx context.Context
	ctx, t.cancel = context.WithCancelCause(s.base)
	if shown {
		s.tasks.mu.Lock()
		s.tasks.live[t.ref] = t
		s.forget(time.Now())
		s.tasks.mu.Unlock()
		s.db.Put(t.ref, api.Task{
			UUID: uuid, NameLabel: method, Created: api.Time{Time: time.Now()}, Status: api.TaskPending,
			AllowedOperations: []string{"cancel", "destroy"}, Session: session, ResidentOn: s.opt.Host, Type: "<none/>",
		})
	}
	return t, ctx
}

// end records how a shown task ended.
func (t *Task) end(ctx context.Context, result json.RawMessage, err *api.Error) {
	s := t.s
	value := ""
	if err == nil {
		var xerr error
		if value, xerr = api.XMLValue(result); xerr != nil {
			err = api.NewError(api.ErrInternal, xerr.Error())
		}
	}
	s.tasks.mu.Lock()
	defer s.tasks.mu.Unlock()
	delete(s.tasks.live, t.ref)
	t.mu.Lock()
	gone := t.gone
	t.mu.Unlock()
	if gone {
		s.db.Delete(api.ClassTask, t.ref)
		return
	}
	now := time.Now()
	Modify(s.db, t.ref, func(r *api.Task) {
		r.Finished, r.Result = api.Time{Time: now}, value
		r.AllowedOperations = []string{"destroy"}
		switch {
		case err == nil:
			r.Status, r.Progress = api.TaskSuccess, 1
		case errors.Is(context.Cause(ctx), errCancelled):
			r.Status, r.ErrorInfo = api.TaskCancelled, []string{api.ErrTaskCancelled, string(t.ref)}
		default:
			r.Status, r.ErrorInfo = api.TaskFailure, append([]string{err.Code}, err.Params...)
		}
	})
	s.tasks.ended = append(s.tasks.ended, endedTask{t.ref, now})
	s.forget(now)
}

// forget drops ended tasks that are too old or too many; tasks.mu is held.
func (s *Server) forget(now time.Time) {
	e := s.tasks.ended
	for len(e) > 0 && (len(e) > s.opt.MaxTasks || now.Sub(e[0].when) > s.opt.TaskKeep) {
		s.db.Delete(api.ClassTask, e[0].ref)
		e = e[1:]
	}
	s.tasks.ended = e
}

func (s *Server) registerTasks() {
	s.tasks.live = map[api.Ref]*Task{}
	s.builtin("task.cancel", func(_ *Call, ref api.Ref) error { return s.cancelTask(ref) })
	s.builtin("task.destroy", func(_ *Call, ref api.Ref) error {
		s.tasks.mu.Lock()
		defer s.tasks.mu.Unlock()
		if t := s.tasks.live[ref]; t != nil {
			// As in xapi the work goes on; the object goes when it ends.
			t.mu.Lock()
			t.gone = true
			t.mu.Unlock()
			return nil
		}
		for i, e := range s.tasks.ended {
			if e.ref == ref {
				s.tasks.ended = append(s.tasks.ended[:i:i], s.tasks.ended[i+1:]...)
				break
			}
		}
		s.db.Delete(api.ClassTask, ref)
		return nil
	})
}

func (s *Server) cancelTask(ref api.Ref) error {
	s.tasks.mu.Lock()
	defer s.tasks.mu.Unlock()
	t := s.tasks.live[ref]
	if t == nil {
		return api.NewError(api.ErrOperationNotAllowed, "the task has ended already: there is nothing to cancel")
	}
	Modify(s.db, ref, func(r *api.Task) {
		r.Status, r.AllowedOperations = api.TaskCancelling, []string{"destroy"}
	})
	t.cancel(errCancelled)
	return nil
}
