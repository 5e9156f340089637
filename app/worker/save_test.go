package worker

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hxen-project/hxen/app/control"
	"github.com/hxen-project/hxen/hv"
)

// TestSaveEndsWithWhoAsked: a save that is cancelled, or whose service dies, ends
// the save and not the guest.
func TestSaveEndsWithWhoAsked(t *testing.T) {
	r := newRig(t)
	first := r.dial()
	if _, err := r.launch(first); err != nil {
		t.Fatal(err)
	}
	answer := make(chan error, 1)
	go func() { answer <- first.Call(t.Context(), control.VerbSave, nil, nil) }()
	<-r.engine.m.saving
	second := r.dial()
	defer second.Close()
	if err := second.Call(t.Context(), control.VerbSave, nil, nil); err == nil {
		t.Error("the guest was saved twice at the same time")
	}
	if err := second.Call(t.Context(), control.VerbSaveCancel, nil, nil); err != nil {
		t.Fatal(err)
	}
	if err := <-answer; err == nil || !strings.Contains(err.Error(), "cancelled") {
		t.Errorf("a cancelled save: %v", err)
	}
	<-r.engine.m.ended
	go func() { answer <- first.Call(t.Context(), control.VerbSave, nil, nil) }()
	<-r.engine.m.saving
	first.Close()
	<-r.engine.m.ended
	var st control.Status
	if err := second.Call(t.Context(), control.VerbStatus, nil, &st); err != nil || st.State != hv.Running {
		t.Errorf("the guest is %s, %v", st.State, err)
	}
	<-answer
	r.off()
}

// off ends the guest. That it ended must be written although its state is being read.
func (r *rig) off() {
	r.t.Helper()
	r.engine.m.end(hv.ExitDestroyed, nil)
	for over := false; !over; {
		select {
		case err := <-r.done:
			r.done <- err
			over = true
		case <-time.After(time.Millisecond):
			os.ReadFile(filepath.Join(r.dir, "state.json")) // which Windows may refuse at the moment of the change
		}
	}
	if r.stateFile().Exit == nil {
		r.t.Error("the guest's end was never written")
	}
}

// TestSavedStateIsUsedOnce: what a guest went on from is kept until it runs.
func TestSavedStateIsUsedOnce(t *testing.T) {
	r := newRig(t)
	c := r.dial()
	defer c.Close()
	for _, f := range []string{"saved", "saved.png", "other"} {
		if err := os.WriteFile(filepath.Join(r.dir, f), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	there := func(f string) bool {
		_, err := os.Stat(filepath.Join(r.dir, f))
		return err == nil
	}
	events, err := c.Subscribe(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	err = c.Call(t.Context(), control.VerbLaunch, control.Launch{Restore: true, Paused: true,
		Spec: hv.Spec{Version: 1, UUID: guestID, Name: "g", Type: hv.HVM, VCPUs: 1, Memory: hv.GiB}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !there("saved") {
		t.Error("the state was deleted although the guest stands still")
	}
	if err := c.Call(t.Context(), control.VerbResume, nil, nil); err != nil {
		t.Fatal(err)
	}
	waitState(t, events, hv.Running)
	if there("saved") || there("saved.png") || !there("other") {
		t.Error("the state is still there although the guest runs, or more is gone")
	}
	r.off()
}
