package desktop

import (
	"strings"
	"testing"

	"fyne.io/fyne/v2/test"

	"github.com/hxen-project/hxen/app/api"
)

// A guest whose worker stands still is not shown as plainly running, in list,
// details and console, and each way to power it off asks first.
func TestGuestThatDoesNotAnswer(t *testing.T) {
	svc := scene("main")
	s := newStage(t, svc)
	l := s.open(800, 600)
	s.pick(l, "debian-build")
	vm := l.current()
	ref, c := vm.Ref, s.console("debian-build")
	svc.Change(ref, func(v *api.VM) { v.OtherConfig[api.KeySilent] = "it does not answer" })
	s.until("the guest is said to hang", func() bool { return vm.StateText() == "Does not answer" })
	if d := l.details; !d.notice.Visible() || !strings.HasPrefix(d.state.Text, "Does not answer") {
		t.Errorf("the details say %q, banner %t", d.state.Text, d.notice.Visible())
	}
	if c.overlay.now.title != "Does not answer" {
		t.Errorf("the console says %q", c.overlay.now.title)
	}
	for _, ask := range []struct {
		f   *frame
		act *button
	}{{&l.frame, l.details.notice.act}, {&c.frame, c.overlay.act}} {
		test.Tap(ask.act)
		m := ask.f.top()
		if m == nil || !strings.Contains(words(m.pop.Content), "pulling the plug") {
			t.Fatal("powering off does not ask")
		}
		m.escape()
	}
	svc.Change(ref, func(v *api.VM) { delete(v.OtherConfig, api.KeySilent) })
	s.until("it answers again", func() bool { return vm.StateText() == "Running" })
	if l.details.notice.Visible() || c.overlay.now.title == "Does not answer" {
		t.Error("it answers, and is still said not to")
	}
}
