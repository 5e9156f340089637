package model_test

import (
	"testing"
	"time"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/app/desktop/model"
	"github.com/hxen-project/hxen/app/desktop/model/modeltest"
)

// TestNotify: what is told to a user who looks elsewhere, and that nothing else is.
func TestNotify(t *testing.T) {
	s := modeltest.New()
	old := s.Add("old", model.Halted, func(v *api.VM) { v.OtherConfig[api.KeyLastExit] = "crash" })
	web := s.Add("web", model.Running)
	lib, turn := online(t, s)
	turn.until(t, "two guests", func() bool { return lib.Count() == 2 })
	var got []model.Notification
	stop := lib.Notify(func(n model.Notification) { got = append(got, n) })
	defer stop()
	step := func(what string, do func(), want ...model.Notification) {
		t.Helper()
		got = nil
		do()
		mark := s.Add("mark", model.Halted) // when it is seen, so is all before it
		turn.until(t, what, func() bool { return lib.Find(string(mark)) != nil })
		s.Remove(mark)
		turn.until(t, what, func() bool { return lib.Find(string(mark)) == nil })
		if len(got) != len(want) || len(want) == 1 && got[0] != want[0] {
			t.Errorf("%s: told %+v, want %+v", what, got, want)
		}
	}
	other := func(k, v string) func() {
		return func() { s.Change(web, func(r *api.VM) { r.OtherConfig[k] = v }) }
	}
	ended := func(reason string) func() {
		return func() {
			s.Change(web, func(r *api.VM) { r.PowerState, r.OtherConfig[api.KeyLastExit] = model.Halted, reason })
		}
	}
	step("a description", func() { s.Change(old, func(v *api.VM) { v.NameDescription = "x" }) })
	step("a full disk", other(api.KeyNotice, "the host's disk is full"), model.Notification{Title: "web", Text: "The host's disk is full."})
	step("again", other("x", "y"))
	step("room again", other(api.KeyNotice, ""))
	step("a power-off", ended("poweroff"))
	step("a start", func() { s.SetState(web, model.Running) })
	step("a crash", ended("crash"), model.Notification{Title: "web", Text: "The guest crashed."})
	step("a start", func() { s.SetState(web, model.Running) })
	step("another crash", ended("crash"), model.Notification{Title: "web", Text: "The guest crashed."})

	task := func(status string, took time.Duration, why ...string) func() {
		ref := api.RefOf(modeltest.UUID(9000))
		r := api.Task{UUID: modeltest.UUID(9000), NameLabel: "Async.VM.clone", Status: api.TaskPending, Created: api.Time{Time: time.Unix(1000, 0)}}
		return func() {
			s.PutTask(ref, r)
			busy := map[string]string{string(ref): model.OpClone}
			s.Change(web, func(v *api.VM) { v.CurrentOperations = busy })
			turn.until(t, "the task", func() bool { return len(lib.Tasks()) == 1 && len(lib.Find("web").Record.CurrentOperations) == 1 })
			s.Change(web, func(v *api.VM) { v.CurrentOperations = nil })
			turn.until(t, "its end", func() bool { return len(lib.Find("web").Record.CurrentOperations) == 0 })
			r.Status, r.Finished, r.ErrorInfo = status, api.Time{Time: r.Created.Add(took)}, why
			s.PutTask(ref, r)
		}
	}
	step("a short task", task(api.TaskSuccess, time.Second))
	step("a cancelled one", task(api.TaskCancelled, time.Hour))
	step("a long one", task(api.TaskSuccess, time.Minute), model.Notification{Title: "web · Cloning", Text: "It is done."})
	step("a failure", task(api.TaskFailure, time.Minute), model.Notification{Title: "web · Cloning", Text: "It has failed."})
}
