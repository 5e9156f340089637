package desktop

import (
	"strings"
	"testing"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/test"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/app/desktop/model"
	"github.com/hxen-project/hxen/app/desktop/model/modeltest"
)

func enter() *fyne.KeyEvent  { return &fyne.KeyEvent{Name: fyne.KeyReturn} }
func escape() *fyne.KeyEvent { return &fyne.KeyEvent{Name: fyne.KeyEscape} }

func TestWizardSaysWhatIsWrongOnlyWhenAsked(t *testing.T) {
	s := newStage(t, scene("main"))
	l := s.open(800, 600)
	w := l.newVM("")
	if w.problems.Visible() {
		t.Error("a page that was only just opened scolds")
	}
	l.win.Canvas().Focused().TypedKey(enter())
	if !w.problems.Visible() || !strings.Contains(w.problems.Text, "Choose the CD image") || w.state.Page != model.PageSource {
		t.Errorf("going on without a file says %q", w.problems.Text)
	}
	test.Type(l.win.Canvas().Focused(), "/nowhere.iso")
	s.until("the reason", func() bool { return strings.Contains(w.problems.Text, "There is no file") })
	l.win.Canvas().Focused().TypedKey(escape())
	if l.top() != nil {
		t.Error("Escape does not leave the wizard")
	}
}

func TestWizardSourcesShowTheirInputs(t *testing.T) {
	s := newStage(t, scene("main"))
	l := s.open(800, 600)
	w := l.newVM("")
	for i, want := range []string{"CD image", "Leave", "Initial RAM disk", "insert a CD later"} {
		w.state.SetSource(sourceChoices()[i].source)
		w.show()
		if i == 1 {
			want = "Disk image"
		}
		if all := words(w.page); !strings.Contains(all, want) {
			t.Errorf("source %d lacks %q:\n%s", i, want, all)
		}
	}
}

func TestWizardSliderAndEntryFollowEachOther(t *testing.T) {
	s := newStage(t, scene("main"))
	l := s.open(800, 600)
	got := int64(0)
	in := l.amount(amount{value: 1 << 30, least: 16 << 20, most: 16 << 30, unit: mebi, set: func(n int64) { got = n }})
	in.slider.SetValue(4096)
	if in.entry.Text != "4096" || got != 4<<30 {
		t.Errorf("slider at 4096: entry %q, value %d", in.entry.Text, got)
	}
	in.entry.SetText("300")
	if in.slider.Value < 256 || in.slider.Value > 512 || got != 300<<20 || in.entry.Text != "300" {
		t.Errorf("entry 300: slider %v, value %d", in.slider.Value, got)
	}
	in.slider.SetValue(0)
	if got != 16<<20 {
		t.Errorf("the slider's end gives %d", got)
	}
	for _, bad := range []string{"", "x", "-5", "99999999999999999999"} {
		in.entry.SetText(bad)
		if got >= 0 || in.entry.Text != bad { // 0 would be a guest without a disk
			t.Errorf("%q gives %d and %q", bad, got, in.entry.Text)
		}
	}
}

func TestWizardProgressAndCancel(t *testing.T) {
	s := newStage(t, scene("main"))
	l := s.open(800, 600)
	w := l.newVM("")
	w.state.SetSource(model.FromBlank)
	for w.state.Page != model.PageSummary {
		w.goOn()
	}
	release := s.svc.Hold("Create")
	defer release()
	w.goOn()
	s.until("progress", func() bool { return w.progress != nil && w.progress.Visible() && w.progress.Value == 0.25 })
	if !w.next.Disabled() || l.top() == nil {
		t.Error("while it is made it can be made again")
	}
	l.win.Canvas().Focused().TypedKey(escape())
	s.until("given up", func() bool { return !w.next.Disabled() })
	if l.top() != w.modal || len(l.modals) != 1 || len(s.svc.Created()) != 0 {
		t.Error("giving up closed the wizard, showed an error or made the guest")
	}
	release()
	w.goOn()
	s.until("it is made, selected and on", func() bool {
		vm := l.current()
		return l.top() == nil && vm != nil && vm.Name() == "New machine" && vm.Is(model.Running)
	})
}

func TestWizardThatFailsKeepsItsState(t *testing.T) {
	s := newStage(t, scene("main"))
	l := s.open(800, 600)
	s.svc.Fail("Create", api.NewError(api.ErrRefused, "disk", "there is no room", "free some"))
	w := l.newVM("")
	w.state.SetSource(model.FromBlank)
	w.state.SetName("mine")
	for w.state.Page != model.PageSummary {
		w.goOn()
	}
	w.goOn()
	s.until("the error", func() bool { return len(l.modals) == 2 })
	if all := words(l.top().pop.Content); !strings.Contains(all, "mine could not be created") || !strings.Contains(all, "Free some.") {
		t.Errorf("the error says:\n%s", all)
	}
	l.top().close()
	if l.top() != w.modal || w.state.Name != "mine" || w.next.Disabled() {
		t.Error("the wizard cannot be tried again")
	}
}

func TestWizardStartThatFailsLeavesTheGuest(t *testing.T) {
	s := newStage(t, scene("main"))
	l := s.open(800, 600)
	s.svc.Fail("Do start", api.NewError(api.ErrStartFailed, "", "qemu", "it is missing", "install it"))
	w := l.newVM("")
	w.state.SetSource(model.FromBlank)
	for w.state.Page != model.PageSummary {
		w.goOn()
	}
	w.goOn()
	s.until("the error", func() bool { return l.top() != nil && l.top() != w.modal })
	if all := words(l.top().pop.Content); !strings.Contains(all, "New machine was created, but could not be started") {
		t.Errorf("the error says:\n%s", all)
	}
	s.until("the guest is kept", func() bool { return s.lib.Find("New machine") != nil })
}

func TestFileDialogGivesTheKeyboardBack(t *testing.T) {
	s := newStage(t, modeltest.New())
	l := s.open(800, 600)
	l.newVM("")
	c := l.win.Canvas()
	path := c.Focused()
	c.FocusNext()
	for what, press := range map[string]func(){
		"by key":   func() { c.Focused().TypedKey(enter()) },
		"by mouse": func() { test.Tap(c.Focused().(*button)) },
	} {
		c.Focus(path)
		c.FocusNext()
		press()
		if l.files == nil {
			t.Fatalf("no file dialog %s", what)
		}
		l.typedKey(escape())
		if l.files != nil || c.Focused() != path {
			t.Errorf("after the file dialog opened %s the keyboard is in %T", what, c.Focused())
		}
	}
}

// What had the keyboard before a dialog has it again, and shows it.
func TestDialogGivesTheKeyboardBack(t *testing.T) {
	s := newStage(t, scene("main"))
	l := s.open(800, 600)
	c := l.win.Canvas()
	press := l.button("press", func() { l.ask("A question", "Well?", "Yes", false, func() {}) })
	l.modal("Below", press, fyne.NewSize(300, 200))
	c.Focus(press)
	before := test.RenderObjectToMarkup(press)
	press.TypedKey(enter())
	press.FocusLost() // as Fyne tells it when another window was worked in meanwhile
	if test.RenderObjectToMarkup(press) == before {
		t.Fatal("a button looks the same with the keyboard and without")
	}
	c.Focused().TypedKey(escape())
	if now := test.RenderObjectToMarkup(press); c.Focused() != fyne.Focusable(press) || now != before {
		t.Errorf("after the dialog the keyboard is in %T, and the button is\n%s\ninstead of\n%s", c.Focused(), now, before)
	}
}

// Fyne's own widgets swallow keys that are not theirs; a text to select does
// not keep Escape and shortcuts from the window, but its own copying.
func TestKeysOfWidgetsThatAreNotOurs(t *testing.T) {
	s := newStage(t, scene("main"))
	l := s.open(800, 600)
	c := l.win.Canvas()
	l.tell("Told", "words to select")
	c.FocusPrevious()
	foreign := c.Focused()
	if _, is := foreign.(*button); is || foreign == nil {
		t.Fatalf("the keyboard is in %T", foreign)
	}
	l.beforeKey(false, false)
	if c.Focused() != foreign {
		t.Error("another key takes the keyboard away")
	}
	l.beforeKey(true, false)
	if c.Focused() != nil {
		t.Errorf("Escape goes to %T", c.Focused())
	}
	c.Focus(foreign)
	l.beforeKey(false, true)
	if c.Focused() != nil {
		t.Errorf("a shortcut goes to %T", c.Focused())
	}
	l.top().focusLast()
	ours := c.Focused()
	if l.beforeKey(true, true); c.Focused() != ours {
		t.Errorf("our own button lost the keyboard to %T", c.Focused())
	}
}
