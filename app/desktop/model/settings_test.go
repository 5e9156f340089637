package model_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/app/desktop/model"
)

func settings(t *testing.T, vm *model.VM, turn loop) *model.Settings {
	t.Helper()
	var s *model.Settings
	vm.LoadSettings(func(got *model.Settings, err error) {
		if err != nil {
			t.Fatal(err)
		}
		s = got
	})
	turn.until(t, "the settings", func() bool { return s != nil })
	return s
}

func TestSettingsChangeAHaltedGuest(t *testing.T) {
	fake, vm, turn := one(t, model.Halted)
	s := settings(t, vm, turn)
	if s.Locked() != "" || s.Changed() || len(s.Problems()) != 0 || s.Forwards != "2222:22" {
		t.Fatalf("fresh settings: locked %q, changed %v, problems %q, forwards %q", s.Locked(), s.Changed(), s.Problems(), s.Forwards)
	}
	s.Config.Memory = 3 * gib
	s.Config.Name = "renamed "
	s.Forwards = "2222:22\nudp 5353:53"
	if !s.Changed() {
		t.Error("a change is not seen")
	}
	saved := false
	s.Save(func(err error) { saved = err == nil })
	turn.until(t, "the change", func() bool { return saved && vm.Name() == "renamed" && vm.Memory() == 3*gib })
	c, _ := fake.Config(t.Context(), vm.Ref)
	if want := []api.Forward{{From: 2222, To: 22}, {Proto: "udp", From: 5353, To: 53}}; !reflect.DeepEqual(c.Forwards, want) {
		t.Errorf("forwards %+v", c.Forwards)
	}
}

func TestSettingsOfARunningGuestSayWhyNot(t *testing.T) {
	fake, vm, turn := one(t, model.Running)
	s := settings(t, vm, turn)
	if !strings.Contains(s.Locked(), "Shut it down") {
		t.Errorf("locked: %q", s.Locked())
	}
	fake.SetState(vm.Ref, model.Halted)
	turn.until(t, "unlocked", func() bool { return s.Locked() == "" })
}

func TestSettingsProblems(t *testing.T) {
	_, vm, turn := one(t, model.Halted)
	for want, change := range map[string]func(*model.Settings){
		"a name":              func(s *model.Settings) { s.Config.Name = "" },
		"only 16 GiB":         func(s *model.Settings) { s.Config.Memory = 64 * gib },
		"needs a processor":   func(s *model.Settings) { s.Config.VCPUs = 0 },
		"HOST-PORT":           func(s *model.Settings) { s.Forwards = "nonsense" },
		"whole path":          func(s *model.Settings) { s.Config.Kernel = "vmlinuz" },
		"need a kernel":       func(s *model.Settings) { s.Config.Cmdline = "quiet" },
		"numbers from 1":      func(s *model.Settings) { s.Forwards = "0:22" },
		"forwarded twice":     func(s *model.Settings) { s.Forwards = "22:22, 22:23" },
		"no address":          func(s *model.Settings) { s.Forwards = "here:22:22" },
		"start with tcp":      func(s *model.Settings) { s.Forwards = "sctp 22:22" },
		"numbers from 1 to 6": func(s *model.Settings) { s.Forwards = "70000:22" },
	} {
		s := settings(t, vm, turn)
		change(s)
		if got := strings.Join(s.Problems(), "\n"); !strings.Contains(got, want) {
			t.Errorf("want %q, got %q", want, got)
		}
	}
}

func TestRename(t *testing.T) {
	fake, vm, turn := one(t, model.Running)
	fake.Add("other", model.Halted)
	turn.until(t, "the other", func() bool { return vm.Library().Count() == 2 })
	if vm.NameProblem("guest") != "" || vm.NameProblem("other") == "" || vm.NameProblem(" ") == "" {
		t.Error("names are judged wrong")
	}
	vm.Rename(" new ", nil)
	turn.until(t, "the name", func() bool { return vm.Name() == "new" })
}

func TestDelete(t *testing.T) {
	fake, vm, turn := one(t, model.Halted)
	var d api.Deleted
	vm.LoadDelete(func(got api.Deleted, err error) { d = got })
	turn.until(t, "the paths", func() bool { return len(d.Trash) > 0 })
	vm.Delete(true, func(_ api.Deleted, err error) {
		if err != nil {
			t.Error(err)
		}
	})
	turn.until(t, "it is gone", vm.Gone)
	if calls := fake.Calls(); calls[len(calls)-1] != "Delete keep" {
		t.Errorf("calls %q", calls)
	}
}

func FuzzParseForwards(f *testing.F) {
	for _, s := range []string{"2222:22", "udp 5353:53", "tcp 0.0.0.0:80:8080", "udp [::1]:1:2", "a:b", ":", "1:2:3:4", ",\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		list, err := model.ParseForwards(s)
		if err != nil {
			return
		}
		again, err := model.ParseForwards(model.FormatForwards(list))
		if err != nil || len(again) != len(list) {
			t.Fatalf("%q -> %q: %v", s, model.FormatForwards(list), err)
		}
		for i := range list {
			if list[i].Host == "127.0.0.1" {
				list[i].Host = "" // the default, which is not written
			}
			if again[i] != list[i] {
				t.Fatalf("%+v became %+v", list[i], again[i])
			}
		}
	})
}
