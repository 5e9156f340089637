//go:build unix

package service

import (
	"strings"
	"syscall"
	"testing"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/hv"
)

// TestHungWorkerIsEnded: a worker that does not answer a new service is ended
// with its model, and the guest is told as halted.
func TestHungWorkerIsEnded(t *testing.T) {
	b := newBench(t)
	c, p := b.daemon()
	ref := c.create(api.NewGuest{Name: "hung", NoNetwork: true})
	c.must(nil, "VM.start", ref, false, false)
	st := b.state(ref)
	p.Kill()
	if err := syscall.Kill(st.Worker.PID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	c, _ = b.daemon()
	r := c.until(ref, "halted", isState(hv.Halted))
	if !strings.Contains(r.OtherConfig[api.KeyLastText], "did not answer") {
		t.Errorf("told as %q", r.OtherConfig[api.KeyLastText])
	}
	if alive(st.Worker) || alive(st.Model) {
		t.Error("a process was left")
	}
	c.must(nil, "VM.start", ref, false, false)
}
