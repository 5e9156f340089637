package model_test

import (
	"errors"
	"reflect"
	"testing"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/app/desktop/model"
	"github.com/hxen-project/hxen/app/desktop/model/modeltest"
)

func TestLibrarySortsAndFollows(t *testing.T) {
	s := modeltest.New()
	s.Add("web", model.Running)
	b := s.Add("Build", model.Halted)
	lib, turn := online(t, s)
	turn.until(t, "two guests", func() bool { return lib.Count() == 2 })
	if got := names(lib); !reflect.DeepEqual(got, []string{"Build", "web"}) {
		t.Fatalf("guests %v", got)
	}
	vm := lib.Find("Build")
	if vm == nil || vm != lib.Find(string(b)) || vm != lib.Find(b.UUID()) {
		t.Fatal("a guest is not found by name, reference and uuid alike")
	}
	var heard model.News
	stop := lib.Listen(func(n model.News) {
		heard.What |= n.What
		if n.Touches(b) {
			heard.VMs = map[api.Ref]bool{b: true}
		}
	})
	s.Change(b, func(v *api.VM) { v.NameLabel = "zeta" })
	turn.until(t, "the new name", func() bool { return vm.Name() == "zeta" })
	if got := names(lib); !reflect.DeepEqual(got, []string{"web", "zeta"}) {
		t.Errorf("after renaming the order is %v", got)
	}
	if heard.What&model.ChangedList == 0 || !heard.VMs[b] {
		t.Errorf("a rename was told as %+v", heard)
	}
	stop()
	s.Remove(b)
	turn.until(t, "the guest is gone", func() bool { return lib.Count() == 1 })
	if !vm.Gone() || vm.Allows(model.OpStart) {
		t.Error("a deleted guest can still be acted on")
	}
}

func TestLibraryLeavesTemplatesAndHostsOut(t *testing.T) {
	s := modeltest.New()
	s.Add("template", model.Halted, func(v *api.VM) { v.IsATemplate = true })
	s.Add("dom0", model.Running, func(v *api.VM) { v.IsControlDomain = true })
	s.Add("snap", model.Halted, func(v *api.VM) { v.IsASnapshot = true })
	s.Add("guest", model.Halted)
	lib, turn := online(t, s)
	turn.until(t, "the guest", func() bool { return lib.Count() > 0 })
	if got := names(lib); !reflect.DeepEqual(got, []string{"guest"}) {
		t.Errorf("guests %v", got)
	}
}

func TestSearch(t *testing.T) {
	s := modeltest.New()
	s.Add("debian web", model.Running)
	s.Add("debian db", model.Halted, func(v *api.VM) { v.NameDescription = "Postgres" })
	s.Add("alpine", model.Halted)
	lib, turn := online(t, s)
	turn.until(t, "three guests", func() bool { return lib.Count() == 3 })
	for text, want := range map[string][]string{
		"":              {"alpine", "debian db", "debian web"},
		"DEB":           {"debian db", "debian web"},
		"deb running":   {"debian web"},
		"postgres":      {"debian db"},
		"192.168.127.3": {"debian web"},
		"nothing":       nil,
	} {
		lib.Search(text)
		if got := names(lib); !reflect.DeepEqual(got, want) {
			t.Errorf("%q finds %v, want %v", text, got, want)
		}
	}
	if lib.Count() != 3 {
		t.Error("a search changed how many guests there are")
	}
}

func TestReconnectKeepsGuestsAndForgetsTheGone(t *testing.T) {
	s := modeltest.New()
	keep, gone := s.Add("keep", model.Running), s.Add("gone", model.Halted)
	lib, turn := online(t, s)
	turn.until(t, "two guests", func() bool { return lib.Count() == 2 })
	a, b := lib.Find(string(keep)), lib.Find(string(gone))
	s.Stop(errors.New("the service was killed"))
	turn.until(t, "the loss", func() bool { st, _ := lib.State(); return st == model.Lost })
	if _, err := lib.State(); err == nil || a.Allows(model.OpPause) {
		t.Errorf("without a service: reason %v, pause allowed %v", err, a.Allows(model.OpPause))
	}
	if lib.Count() != 2 {
		t.Error("guests vanished with the service")
	}
	s.Remove(gone)
	s.Stop(nil)
	lib.Retry()
	turn.until(t, "it is back", func() bool { st, _ := lib.State(); return st == model.Online && lib.Count() == 1 })
	if lib.Find(string(keep)) != a || !a.Allows(model.OpPause) || !b.Gone() {
		t.Error("after the service came back the guests are not as it says")
	}
}

func TestNoServiceIsFailedWithTheReason(t *testing.T) {
	s := modeltest.New()
	why := api.NewError(api.ErrRefused, "service", "the store is locked", "stop the other program")
	s.Stop(why)
	turn := newLoop()
	lib := model.NewLibrary(s, turn.run)
	go lib.Run(t.Context())
	turn.until(t, "it failed", func() bool { st, _ := lib.State(); return st == model.Failed })
	if _, err := lib.State(); !errors.Is(err, why) {
		t.Errorf("reason %v", err)
	}
	s.Stop(nil)
	lib.Retry()
	turn.until(t, "it is online", func() bool { st, _ := lib.State(); return st == model.Online })
}

// TestManyChangesOneTurn: whatever the service says while the loop is busy comes
// in one call, so that a slow window cannot fall behind for ever.
func TestManyChangesOneTurn(t *testing.T) {
	s := modeltest.New()
	ref := s.Add("guest", model.Running)
	lib, turn := online(t, s)
	turn.until(t, "the guest", func() bool { return lib.Count() == 1 })
	told := 0
	defer lib.Listen(func(model.News) { told++ })()
	for i := range 200 {
		s.Change(ref, func(v *api.VM) { v.Order = int64(i + 1) })
	}
	turn.until(t, "the last change", func() bool { return lib.Find(string(ref)).Record.Order == 200 })
	if told >= 200 {
		t.Errorf("200 changes were told one by one")
	}
}

func TestTasksComeAndGoAndCancel(t *testing.T) {
	s := modeltest.New()
	release := s.Hold("Create")
	defer release()
	lib, turn := online(t, s)
	w := lib.NewWizard("", nil)
	w.SetSource(model.FromBlank)
	var ended, created bool
	var result error
	w.Create(func(api.Created) { created = true }, func(err error) { ended, result = true, err })
	turn.until(t, "a task", func() bool { return len(lib.Tasks()) == 1 })
	task := lib.Tasks()[0]
	if done, known := task.Progress(); !known || done != 0.25 || !task.CanCancel() {
		t.Errorf("progress %v %v, can cancel %v", done, known, task.CanCancel())
	}
	lib.Cancel(task, nil)
	turn.until(t, "the end", func() bool { return ended && len(lib.Tasks()) == 0 })
	if created {
		t.Error("a cancelled creation made a guest")
	}
	if _, is := model.Explain("", nil, result); result == nil || is {
		t.Errorf("a cancelled task ended as the problem %v", result)
	}
}
