package rpc

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hxen-project/hxen/app/api"
)

// await waits through events until a task has ended.
func (h *harness) await(task api.Ref) api.Task {
	h.t.Helper()
	for token, deadline := "", time.Now().Add(hang); time.Now().Before(deadline); {
		var b api.EventBatch
		h.must(&b, "event.from", []string{"task/" + string(task)}, token, 10.0)
		token = b.Token
		var r api.Task
		h.must(&r, "task.get_record", task)
		if !r.Finished.IsZero() {
			return r
		}
	}
	h.t.Fatalf("task %s does not end", task)
	return api.Task{}
}

func TestTasks(t *testing.T) {
	step := make(chan bool)
	h := serve(t, Options{}, func(s *Server) {
		s.Register("VM.clone", func(c *Call, vm api.Ref, name string) (api.Ref, error) {
			c.Task.Stage("copying " + name)
			c.Task.Progress(0.5)
			c.Task.Progress(0.5001) // too small to see
			c.Task.Progress(math.NaN())
			step <- true
			select {
			case <-step:
				return api.RefOf("new"), nil
			case <-c.Context().Done():
				return "", context.Cause(c.Context())
			}
		})
		s.Register("VM.fail", func(*Call) error { return api.NewError(api.ErrSRFull, "1", "2") })
		s.Register("VM.panic", func(*Call) error { panic("ouch") })
	})
	ref, rec := vm(1)
	h.s.DB().Put(ref, rec)

	var task api.Ref
	h.must(&task, "Async.VM.clone", ref, "x")
	<-step
	var r api.Task
	h.must(&r, "task.get_record", task)
	if r.Status != api.TaskPending || r.Progress != 0.5 || r.OtherConfig[api.KeyStage] != "copying x" || r.NameLabel != "Async.VM.clone" ||
		!slices.Contains(r.AllowedOperations, "cancel") || r.Session != h.session || r.Created.IsZero() || !r.Finished.IsZero() {
		t.Errorf("while it runs: %+v", r)
	}
	step <- true
	if r = h.await(task); r.Status != api.TaskSuccess || r.Progress != 1 || r.Result != "<value>OpaqueRef:new</value>" || len(r.ErrorInfo) != 0 {
		t.Errorf("ended as %+v", r)
	}
	refused(t, h.call(nil, "task.cancel", task), api.ErrOperationNotAllowed)
	h.must(nil, "task.destroy", task)
	refused(t, h.call(nil, "task.get_status", task), api.ErrHandleInvalid)
	refused(t, h.call(nil, "task.destroy", task), api.ErrHandleInvalid)

	h.must(&task, "Async.VM.clone", ref, "y")
	<-step
	h.must(nil, "task.cancel", task)
	if r = h.await(task); r.Status != api.TaskCancelled || !slices.Equal(r.ErrorInfo, []string{api.ErrTaskCancelled, string(task)}) {
		t.Errorf("cancelled: %+v", r)
	}

	h.must(&task, "Async.VM.fail")
	if r = h.await(task); r.Status != api.TaskFailure || !slices.Equal(r.ErrorInfo, []string{api.ErrSRFull, "1", "2"}) || r.Result != "" {
		t.Errorf("failed: %+v", r)
	}
	h.must(&task, "Async.VM.panic")
	if r = h.await(task); r.Status != api.TaskFailure || r.ErrorInfo[0] != api.ErrInternal {
		t.Errorf("panicked: %+v", r)
	}

	// Destroyed while it runs: it goes on, and is gone when it ends.
	h.must(&task, "Async.VM.clone", ref, "z")
	<-step
	h.must(nil, "task.destroy", task)
	token := h.token()
	step <- true
	var b api.EventBatch
	h.must(&b, "event.from", []string{"task/" + string(task)}, token, 10.0)
	if len(b.Events) != 1 || b.Events[0].Operation != api.EventDel {
		t.Errorf("events %+v", b.Events)
	}
}

func TestEndedTasksAreBounded(t *testing.T) {
	h := serve(t, Options{MaxTasks: 3}, func(s *Server) {
		s.Register("VM.quick", func(*Call) error { return nil })
	})
	var last api.Ref
	for range 10 {
		h.must(&last, "Async.VM.quick")
		h.await(last)
	}
	var all []api.Ref
	h.must(&all, "task.get_all")
	if len(all) != 3 || all[2] != last {
		t.Errorf("%d tasks are kept", len(all))
	}
	h.s.tasks.mu.Lock()
	for i := range h.s.tasks.ended {
		h.s.tasks.ended[i].when = time.Now().Add(-25 * time.Hour)
	}
	h.s.tasks.mu.Unlock()
	h.must(&last, "Async.VM.quick")
	h.await(last)
	h.must(&all, "task.get_all")
	if len(all) != 1 {
		t.Errorf("%d tasks are kept, though the others are a day old", len(all))
	}
}

func TestShutdown(t *testing.T) {
	begun, finish := make(chan bool), make(chan bool)
	var stubborn error
	h := serve(t, Options{}, func(s *Server) {
		s.Register("VM.slow", func(*Call) (string, error) { begun <- true; <-finish; return "done", nil })
		s.Register("VM.endless", func(c *Call) error {
			begun <- true
			<-c.Context().Done()
			stubborn = context.Cause(c.Context())
			return stubborn
		})
	})
	token := h.token()
	polled, slow := make(chan error, 1), make(chan error, 1)
	var batch api.EventBatch
	go func() { polled <- h.call(&batch, "event.from", []string{"VM"}, token, 3600.0) }()
	var result string
	go func() { slow <- h.call(&result, "VM.slow") }()
	<-begun
	var task api.Ref
	h.must(&task, "Async.VM.endless")
	<-begun
	inFlight(t, "(*DB).From")

	ctx, cancel := context.WithCancelCause(context.Background())
	enough := errors.New("enough")
	ended := make(chan error, 1)
	go func() { ended <- h.s.Shutdown(ctx) }()
	if err := <-polled; err != nil || len(batch.Events) != 0 || batch.Token == "" {
		t.Errorf("event.from ended with %v, %+v", err, batch)
	}
	if p := refused(t, h.call(nil, "VM.get_all"), api.ErrInternal); !strings.Contains(p[0], "stopping") {
		t.Errorf("a new call is told %q", p)
	}
	finish <- true
	if err := <-slow; err != nil || result != "done" {
		t.Errorf("a call under way ended with %v, %q", err, result)
	}
	select {
	case err := <-ended:
		t.Fatalf("shut down (%v) before the task ended", err)
	default:
	}
	cancel(enough)
	if err := <-ended; !errors.Is(err, enough) {
		t.Errorf("shutdown: %v", err)
	}
	if !errors.Is(stubborn, errStopping) {
		t.Errorf("the endless task was told %v", stubborn)
	}
	if r, _ := Get[api.Task](h.s.DB(), task); r.Status != api.TaskFailure {
		t.Errorf("the endless task ended as %s", r.Status)
	}
}
