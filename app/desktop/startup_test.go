package desktop

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/hxen-project/hxen/app/desktop/model"
)

// TestStartupPage: every guest has its switch, and the switch is the service's.
func TestStartupPage(t *testing.T) {
	s := newStage(t, scene("main"))
	l := s.open(1000, 700)
	vm := s.pick(l, "alpine")
	l.showStartup()
	s.until("the page", func() bool { return l.top() != nil })
	check := func() *check {
		for _, o := range objects(l.win.Canvas().Overlays().Top()) {
			if c, ok := o.(*check); ok && c.Text == "alpine" {
				return c
			}
		}
		t.Fatal("the guest has no switch")
		return nil
	}
	if check().Checked || vm.Autostart() {
		t.Error("it starts with the computer already")
	}
	check().SetChecked(true)
	s.until("it starts with the computer", vm.Autostart)
	if order := s.lib.StartOrder(); order[0] != vm {
		t.Errorf("the order begins with %s", order[0].Name())
	}
	s.until("the page says so", func() bool { return check().Checked })
	if all := words(l.win.Canvas().Overlays().Top()); !strings.Contains(all, "shut down when the computer stops") {
		t.Errorf("the page says:\n%s", all)
	}
}

// TestTrashPage: deleted guests can be restored, and erased only after a question.
func TestTrashPage(t *testing.T) {
	s := newStage(t, scene("main"))
	l := s.open(1000, 700)
	l.showTrash()
	s.until("the page", func() bool { return l.top() != nil })
	tapButton(t, l.win.Canvas().Overlays().Top(), "Erase…")
	s.until("the question", func() bool { return len(l.modals) == 2 })
	if slices.Contains(s.svc.Calls(), "EmptyTrash") {
		t.Fatal("it was erased without a question")
	}
	tapButton(t, l.win.Canvas().Overlays().Top(), "Erase")
	s.until("it is erased", func() bool { return slices.Contains(s.svc.Calls(), "EmptyTrash") })
	s.until("the page is there again", func() bool { return len(l.modals) == 1 })
	s.svc.Fail("Untrash", errors.New("its folder is gone"))
	tapButton(t, l.win.Canvas().Overlays().Top(), "Restore")
	s.until("the error, over the page", func() bool {
		return len(l.modals) == 2 && strings.Contains(words(l.win.Canvas().Overlays().Top()), "Its folder is gone.")
	})
	l.top().close()
	tapButton(t, l.win.Canvas().Overlays().Top(), "Restore")
	s.until("it is restored", func() bool { return slices.Contains(s.svc.Calls(), "Untrash") })
}

// TestSaved: a saved guest is resumed or discarded, not started or powered off.
func TestSaved(t *testing.T) {
	s := newStage(t, scene("main"))
	l := s.open(1000, 700)
	var running *model.VM
	for _, vm := range s.lib.VMs() {
		if vm.Is(model.Running) && vm.Allows(model.OpSave) {
			running = vm
		}
	}
	if running == nil {
		t.Fatal("nothing runs")
	}
	s.pick(l, running.Name())
	running.Do(model.OpSave, func(err error) {
		if err != nil {
			t.Error(err)
		}
	})
	s.until("it is saved", func() bool { return running.Is(model.Suspended) })
	var labels []string
	for _, item := range l.menuFor(running).Items {
		labels = append(labels, item.Label)
	}
	for label, want := range map[string]bool{"Resume": true, "Discard saved state": true, "Power off": false, "Start": false, "Save state": false} {
		if slices.Contains(labels, label) != want {
			t.Errorf("menu %q: %s is there: %v", labels, label, !want)
		}
	}
}
