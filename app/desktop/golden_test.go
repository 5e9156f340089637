package desktop

import (
	"testing"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/test"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/app/desktop/model"
	"github.com/hxen-project/hxen/app/desktop/model/modeltest"
)

// The markup of each view is kept in testdata: what is where, with which words.
// A view that was changed on purpose is written anew under testdata/failed by the
// test; move it over the old one after looking at it.

func (s *stage) golden(l *libraryWindow, name string) {
	s.t.Helper()
	test.AssertRendersToMarkup(s.t, name+".xml", l.win.Canvas())
}

// dialogIs waits for a dialog and compares it.
func (s *stage) dialogIs(l *libraryWindow, name string) {
	s.t.Helper()
	s.until(name, func() bool { return l.top() != nil })
	l.win.Canvas().Unfocus()
	test.AssertObjectRendersToMarkup(s.t, name+".xml", l.top().pop.Content)
}

func TestGoldenLibrary(t *testing.T) {
	s := newStage(t, scene("main"))
	l := s.open(800, 600)
	s.pick(l, "alpine")
	s.until("forwards", func() bool { return len(l.details.forwards) > 0 })
	s.golden(l, "library")
}

func TestGoldenEmpty(t *testing.T) {
	s := newStage(t, scene("empty"))
	l := s.open(800, 600)
	s.until("the page", func() bool { return l.empty.shown() && l.empty.act.Text != "" })
	s.golden(l, "empty")
}

func TestGoldenNoService(t *testing.T) {
	svc := modeltest.New()
	svc.Stop(api.NewError(api.ErrRefused, "service", "hxen is not installed beside this program", "install it again"))
	s := newStage(t, svc)
	l := newLibraryWindow(s.App)
	t.Cleanup(l.win.Close)
	l.win.Resize(fyne.NewSize(800, 600))
	s.until("the page", func() bool { state, _ := s.lib.State(); return state == model.Failed })
	s.golden(l, "noservice")
}

func TestGoldenDialogs(t *testing.T) {
	for name, open := range map[string]func(*libraryWindow, *model.VM){
		"settings": func(l *libraryWindow, vm *model.VM) { l.showSettings(vm) },
		"delete":   func(l *libraryWindow, vm *model.VM) { l.showDelete(vm) },
		"rename":   func(l *libraryWindow, vm *model.VM) { l.showRename(vm) },
		"computer": func(l *libraryWindow, vm *model.VM) { l.showHostInfo() },
		"error": func(l *libraryWindow, vm *model.VM) {
			l.failed("alpine could not be started", vm, api.NewError(api.ErrStartFailed, "", "disk", "the image is missing", "put it back"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, scene("main"))
			l := s.open(800, 600)
			open(l, s.pick(l, "alpine"))
			s.dialogIs(l, name)
		})
	}
}

func TestGoldenWizard(t *testing.T) {
	s := newStage(t, scene("main"))
	l := s.open(800, 600)
	w := l.newVM("/isos/debian-12.iso")
	s.until("the probe", func() bool { _, known := w.state.Probed(); return known })
	for _, page := range []string{"source", "resources", "name", "summary"} {
		s.dialogIs(l, "wizard-"+page)
		w.goOn()
	}
}
