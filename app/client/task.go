package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/hxen-project/hxen/app/api"
)

// Progress is told how far a call is: 0 to 1, and what is being done, in words.
type Progress func(done float64, stage string)

// pollTime is how long one event.from waits on the service's side.
const pollTime = 30 * time.Second

// Async starts a method as a task and returns the task's reference at once.
func (c *Client) Async(ctx context.Context, method string, params ...any) (api.Ref, error) {
	var task api.Ref
	err := c.Call(ctx, "Async."+method, &task, params...)
	return task, err
}

// Wait waits until the task has ended, tells changed about every change of it
// (which may be nil), and removes it. A task that failed is its *api.Error. When
// ctx ends first the task goes on; see CancelTask.
func (c *Client) Wait(ctx context.Context, task api.Ref, changed func(api.Task)) error {
	_, err := c.wait(ctx, task, changed)
	return err
}

// CancelTask asks a task to stop. It still has to be waited for.
func (c *Client) CancelTask(ctx context.Context, task api.Ref) error {
	return c.Call(ctx, "task.cancel", nil, task)
}

func (c *Client) wait(ctx context.Context, task api.Ref, changed func(api.Task)) (api.Task, error) {
	for token := ""; ; {
		b, err := c.from(ctx, []string{api.ClassTask + "/" + string(task)}, token, pollTime)
		if IsCode(err, api.ErrEventsLost) {
			if token == "" {
				return api.Task{}, err
			}
			token = ""
			continue
		}
		if err != nil {
			return api.Task{}, fmt.Errorf("wait for the task: %w", err)
		}
		if token == "" && len(b.Events) == 0 {
			return api.Task{}, fmt.Errorf("wait for the task: the service was restarted, how it ended is not known: %w", api.NewError(api.ErrHandleInvalid, api.ClassTask, string(task)))
		}
		token = b.Token
		for _, e := range b.Events {
			if e.Operation == api.EventDel {
				return api.Task{}, fmt.Errorf("wait for the task: %w", api.NewError(api.ErrHandleInvalid, api.ClassTask, string(task)))
			}
			t, err := Decode[api.Task](e)
			if err != nil {
				return t, err
			}
			if changed != nil {
				changed(t)
			}
			if t.Status == api.TaskPending || t.Status == api.TaskCancelling {
				continue
			}
			// It is kept for a day if this fails, no longer.
			_ = c.Call(ctx, "task.destroy", nil, task)
			return t, ended(t)
		}
	}
}

// ended is the error of a task that has ended, nil for success.
func ended(t api.Task) error {
	switch {
	case t.Status == api.TaskSuccess:
		return nil
	case len(t.ErrorInfo) > 0:
		return api.NewError(t.ErrorInfo[0], t.ErrorInfo[1:]...)
	}
	return api.NewError(api.ErrInternal, "the task ended as "+t.Status+" without a reason")
}

// do runs a method as a task to its end. When ctx ends, the task is cancelled
// and given a moment to undo what it began.
func (c *Client) do(ctx context.Context, progress Progress, method string, params ...any) (api.Task, error) {
	if ctx.Err() != nil {
		return api.Task{}, fmt.Errorf("%s: %w", method, context.Cause(ctx))
	}
	// Not ctx: a call that is given up while it begins would leave a task behind
	// that nobody knows the name of.
	tidy, over := outlasting(ctx, tidyTime)
	defer over()
	task, err := c.Async(tidy, method, params...)
	if err != nil {
		return api.Task{}, err
	}
	var changed func(api.Task)
	if progress != nil {
		changed = func(t api.Task) { progress(t.Progress, t.OtherConfig[api.KeyStage]) }
	}
	t, err := c.wait(ctx, task, changed)
	if ctx.Err() == nil || err == nil {
		return t, err
	}
	if c.CancelTask(tidy, task) == nil || tidy.Err() == nil {
		if t, err = c.wait(tidy, task, changed); err == nil { // it was quicker
			return t, nil
		}
	}
	return api.Task{}, fmt.Errorf("%s: %w", method, context.Cause(ctx))
}

// tidyTime is how long a cancelled call may take to undo what it began.
const tidyTime = 5 * time.Second

// outlasting is ctx, but ends a while after ctx does.
func outlasting(ctx context.Context, by time.Duration) (context.Context, context.CancelFunc) {
	out, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		t := time.AfterFunc(by, func() { cancel(context.Cause(ctx)) })
		context.AfterFunc(out, func() { t.Stop() })
	})
	return out, func() {
		stop()
		cancel(nil)
	}
}

// from is event.from.
func (c *Client) from(ctx context.Context, classes []string, token string, wait time.Duration) (api.EventBatch, error) {
	var b api.EventBatch
	err := c.Call(ctx, "event.from", &b, classes, token, wait.Seconds())
	return b, err
}

// Decode reads the record in an event that is no EventDel.
func Decode[T any](e api.Event) (T, error) {
	var v T
	if err := json.Unmarshal(e.Snapshot, &v); err != nil {
		return v, fmt.Errorf("read the %s in an event: %w", e.Class, err)
	}
	return v, nil
}

// Plugin calls a function of HXEN's plugin (api.FnList, ...). args and result
// may be nil.
func (c *Client) Plugin(ctx context.Context, function string, args, result any) error {
	params, err := c.pluginParams(ctx, function, args)
	if err != nil {
		return err
	}
	var text string
	if err := c.Call(ctx, "host.call_plugin", &text, params...); err != nil {
		return err
	}
	return pluginResult(function, text, result)
}

// PluginTask is Plugin for what takes long: progress, which may be nil, is told
// how far it is. When ctx ends the work is cancelled.
func (c *Client) PluginTask(ctx context.Context, function string, args any, progress Progress, result any) error {
	params, err := c.pluginParams(ctx, function, args)
	if err != nil {
		return err
	}
	t, err := c.do(ctx, progress, "host.call_plugin", params...)
	if err != nil {
		return err
	}
	text, err := api.ResultString(t.Result)
	if err != nil {
		return fmt.Errorf("%s: %w", function, err)
	}
	return pluginResult(function, text, result)
}

func (c *Client) pluginParams(ctx context.Context, function string, args any) ([]any, error) {
	host, err := c.theHost(ctx)
	if err != nil {
		return nil, err
	}
	in := map[string]string{}
	if args != nil {
		raw, err := json.Marshal(args)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", function, err)
		}
		in[api.PluginArgs] = string(raw)
	}
	return []any{host, api.Plugin, function, in}, nil
}

func pluginResult(function, text string, result any) error {
	if result == nil {
		return nil
	}
	if text == "" {
		return fmt.Errorf("%s: %w", function, errors.New("the service answered nothing"))
	}
	if err := json.Unmarshal([]byte(text), result); err != nil {
		return fmt.Errorf("%s: read the answer: %w", function, err)
	}
	return nil
}
