package service

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/hv"
)

// TestWorkerThatDoesNotAnswer: a guest whose worker stands still is said to, until
// it answers, and can be powered off at once.
func TestWorkerThatDoesNotAnswer(t *testing.T) {
	wait, pace := answerWait, answerPace
	answerWait, answerPace = 100*time.Millisecond, 1
	t.Cleanup(func() { answerWait, answerPace = wait, pace })
	b := newBench(t)
	c := b.up()
	well := c.create(api.NewGuest{Name: "well", Memory: 1 << 30})
	ill := c.create(api.NewGuest{Name: "mute", Memory: 1 << 30})
	for _, ref := range []api.Ref{well, ill} {
		c.must(nil, "VM.start", ref, false, false)
	}
	silent := func(r api.VM) bool { return strings.Contains(r.OtherConfig[api.KeySilent], "does not answer") }
	c.until(ill, "silent", silent)
	answer := filepath.Join(b.home, "guests", ill.UUID(), "answer")
	if err := os.WriteFile(answer, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c.until(ill, "answering", func(r api.VM) bool { return !silent(r) && r.PowerState == "Running" })
	if err := os.Remove(answer); err != nil {
		t.Fatal(err)
	}
	c.until(ill, "silent again", silent)
	c.must(nil, "VM.hard_shutdown", ill)
	r := c.vm(ill)
	if r.PowerState != "Halted" || silent(r) || r.OtherConfig[api.KeyLastExit] != string(hv.ExitDestroyed) {
		t.Errorf("powered off: %s, %v", r.PowerState, r.OtherConfig)
	}
	// On a busy computer it may be late once for so short a wait.
	c.until(well, "answering", func(r api.VM) bool { return !silent(r) })
}
