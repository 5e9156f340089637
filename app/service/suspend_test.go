package service

import (
	"io"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/hv"
)

func TestSuspendAndResume(t *testing.T) {
	b := newBench(t)
	c := b.up()
	ref := c.create(api.NewGuest{Name: "web", NoNetwork: true})
	files := b.opt.Store.Guest(ref.UUID(), "")
	c.must(nil, "VM.start", ref, false, false)
	wantCode(t, c.call(nil, "VM.resume", ref, false, false), api.ErrVMBadPowerState)
	c.must(nil, "VM.suspend", ref)
	r := c.vm(ref)
	if r.PowerState != "Suspended" || r.DomID != -1 || r.ResidentOn != api.NullRef || r.OtherConfig[api.KeySavedSize] == "" || r.OtherConfig[api.KeySavedAt] == "" {
		t.Errorf("suspended: %+v", r)
	}
	if !slices.Equal(r.AllowedOperations, []string{"resume", "hard_shutdown", "changing_name", "clone", "make_into_template"}) {
		t.Errorf("allowed: %q", r.AllowedOperations)
	}
	resp, err := c.http.Get("http://localhost" + api.PathSnapshot + "?uuid=" + ref.UUID() + "&session_id=" + string(c.session))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got, _ := io.ReadAll(resp.Body); string(got) != "\x89PNG picture" {
		t.Errorf("its picture: %q", got)
	}
	// The next service knows it too.
	b.stop()
	c = b.up()
	c.until(ref, "suspended", isState(hv.Suspended))
	c.must(nil, "VM.resume", ref, true, false)
	if r := c.vm(ref); r.PowerState != "Paused" || r.OtherConfig[api.KeySavedAt] != "" {
		t.Errorf("resumed: %+v", r)
	}
	c.must(nil, "VM.unpause", ref)
	// And what was saved can be given up.
	c.must(nil, "VM.suspend", ref)
	c.must(nil, "VM.hard_shutdown", ref)
	if r := c.vm(ref); r.PowerState != "Halted" {
		t.Errorf("discarded: %+v", r)
	}
	if _, err := os.Stat(files.Saved()); err == nil {
		t.Error("the discarded state is still there")
	}
	c.must(nil, "VM.start", ref, false, false)
}

// TestSuspendFails: whatever goes wrong, the guest runs on, or stays saved.
func TestSuspendFails(t *testing.T) {
	b := newBench(t)
	c := b.up()
	ref := c.create(api.NewGuest{Name: "unsavable", NoNetwork: true})
	c.must(nil, "VM.start", ref, false, false)
	wantCode(t, c.call(nil, "VM.suspend", ref), api.ErrRefused)
	c.until(ref, "running", isState(hv.Running))

	long := c.create(api.NewGuest{Name: "long", NoNetwork: true})
	c.must(nil, "VM.start", long, false, false)
	var task api.Ref
	c.must(&task, "Async.VM.suspend", long)
	c.untilTask(task, "half done", func(r api.Task) bool { return r.Progress == 0.5 && r.OtherConfig[api.KeyStage] == "saving" })
	c.must(nil, "task.cancel", task)
	c.untilTask(task, "cancelled", func(r api.Task) bool { return r.Status == api.TaskCancelled })
	c.until(long, "left alone", func(r api.VM) bool { return r.PowerState == "Running" && len(r.CurrentOperations) == 0 })

	stale := c.create(api.NewGuest{Name: "stale", NoNetwork: true})
	c.must(nil, "VM.start", stale, false, false)
	c.must(nil, "VM.suspend", stale)
	wantCode(t, c.call(nil, "VM.resume", stale, false, false), api.ErrStartFailed)
	if r := c.vm(stale); r.PowerState != "Suspended" {
		t.Errorf("after a resume that failed: %s", r.PowerState)
	}
}

// TestSuspendNeedsRoom: nothing is begun that the disk has no room for.
func TestSuspendNeedsRoom(t *testing.T) {
	b := newBench(t)
	var free atomic.Uint64
	free.Store(100 * hv.GiB)
	b.opt.Host.DiskFree = func(string) (uint64, error) { return free.Load(), nil }
	c := b.up()
	ref := c.create(api.NewGuest{Name: "web", NoNetwork: true})
	c.must(nil, "VM.start", ref, false, false)
	free.Store(40 * hv.MiB)
	wantCode(t, c.call(nil, "VM.suspend", ref), api.ErrRefused)
	if r := c.vm(ref); r.PowerState != "Running" {
		t.Errorf("it is %s", r.PowerState)
	}
}

// untilTask waits for a task.
func (c *caller) untilTask(task api.Ref, what string, is func(api.Task) bool) {
	c.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		var r api.Task
		c.must(&r, "task.get_record", task)
		if is(r) {
			return
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("the task never was %s: %+v", what, r)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
