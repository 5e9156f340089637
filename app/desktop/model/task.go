package model

import (
	"context"
	"sort"
	"strings"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/app/text"
)

// Task is work under way in the service.
type Task struct {
	Ref    api.Ref
	Record api.Task

	lib   *Library
	named string // Name when its guest was last seen busy with it
}

// Name says what the task does: to which guest, else which step it is at. Its
// record's name is the call's, which is nothing for a person.
func (t *Task) Name() string {
	if name, is := t.ofGuest(); is {
		return name
	}
	if stage := t.Record.OtherConfig[api.KeyStage]; stage != "" {
		return strings.TrimSuffix(Sentence(stage), ".")
	}
	if method, _ := strings.CutPrefix(t.Record.NameLabel, "Async."); method != "host.call_plugin" {
		return method
	}
	return text.T("Working")
}

// ofGuest is the name of a task that a guest is busy with now.
func (t *Task) ofGuest() (name string, is bool) {
	for _, vm := range t.lib.vms {
		if op, is := vm.Record.CurrentOperations[string(t.Ref)]; is {
			return vm.Name() + " · " + doingText(op), true
		}
	}
	return "", false
}

// Progress is 0 to 1, and known is false while it can only be waited for.
func (t *Task) Progress() (done float64, known bool) {
	return t.Record.Progress, t.Record.Progress > 0
}

// CanCancel reports whether Cancel would be heard.
func (t *Task) CanCancel() bool {
	if t.Record.Status != api.TaskPending {
		return false
	}
	for _, op := range t.Record.AllowedOperations {
		if op == "cancel" {
			return true
		}
	}
	return false
}

// Tasks are those under way, oldest first.
func (l *Library) Tasks() []*Task { return l.tasks }

// takeTask takes a task in, and returns one that was under way and has ended.
func (l *Library) takeTask(ref api.Ref, r *api.Task) (over *Task) {
	for _, t := range l.tasks {
		if t.Ref == ref {
			t.Record = *r
			over = t
		}
	}
	if r.Status != api.TaskPending && r.Status != api.TaskCancelling {
		l.dropTask(ref)
		return over
	}
	if over != nil {
		return nil
	}
	l.tasks = append(l.tasks, &Task{Ref: ref, Record: *r, lib: l})
	sort.SliceStable(l.tasks, func(i, j int) bool {
		return l.tasks[i].Record.Created.Before(l.tasks[j].Record.Created.Time)
	})
	return nil
}

func (l *Library) dropTask(ref api.Ref) bool {
	for i, t := range l.tasks {
		if t.Ref == ref {
			l.tasks = append(l.tasks[:i], l.tasks[i+1:]...)
			return true
		}
	}
	return false
}

// Cancel asks the service to give the task up; done gets what came of asking.
func (l *Library) Cancel(t *Task, done func(error)) {
	ref := t.Ref
	l.Async(func(ctx context.Context) error { return l.svc.CancelTask(ctx, ref) }, done)
}

// Async runs work off the loop and hands its error to done on the loop.
func (l *Library) Async(work func(context.Context) error, done func(error)) (cancel context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		err := work(ctx)
		cancel()
		if done != nil {
			l.loop(func() { done(err) })
		}
	}()
	return cancel
}
