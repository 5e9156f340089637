package ui

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/test"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"

	"github.com/hxen-project/hxen/app/text"
	"github.com/hxen-project/hxen/installer/plan"
	"github.com/hxen-project/hxen/installer/steps"
	"github.com/hxen-project/hxen/platform/hostinfo"
)

// computer is a made-up computer: what the wizard is told, and what it asked for.
type computer struct {
	there  steps.Installed
	err    error // of Plan
	result plan.Result
	ran    plan.Plan
	resume bool
	wait   chan struct{} // Run returns when it is closed or its context ends
}

func (c *computer) Installed() (steps.Installed, error) { return c.there, nil }
func (c *computer) Defaults() plan.Options {
	return plan.Options{Scope: plan.System, Prefix: "/usr/local", Account: "ann", Service: true,
		Components: []plan.Component{plan.Command, plan.Window, plan.QEMU}}
}
func (c *computer) Prefix(s plan.Scope) string {
	if s == plan.User {
		return "/home/ann/.local"
	}
	return "/usr/local"
}
func (c *computer) Preflight(context.Context) ([]steps.Finding, error) {
	return []steps.Finding{
		{Check: hostinfo.Check{ID: "os", Title: "#os", State: hostinfo.Info, Detail: "#debian"}},
		{Check: hostinfo.Check{ID: "qemu", Title: "#qemu", State: hostinfo.Fail, Detail: "#not installed"}, Fix: steps.FixPackages},
		{Check: hostinfo.Check{ID: "accelerator.kvm", Title: "#kvm", State: hostinfo.Warn, Detail: "#permission denied"}, Fix: steps.FixKVM},
		{Check: hostinfo.Check{ID: "cpu", Title: "#cpu", State: hostinfo.Warn, Detail: "#slow", Cure: "#switch it on"}},
		{Check: hostinfo.Check{ID: "memory", Title: "#memory", State: hostinfo.OK, Detail: "#enough"}},
	}, nil
}
func (c *computer) Plan(_ context.Context, a plan.Action, o plan.Options) (plan.Plan, error) {
	return plan.Plan{Format: plan.Format, Action: a, Version: "1.2", Options: o, Steps: []string{"copy", "service"}}, c.err
}

type step struct{ plan.Step }

func (step) Title() string { return "#Copying" }

func (c *computer) Check(context.Context, plan.Plan) ([]plan.Found, error) {
	return []plan.Found{{Step: step{}, Status: plan.Status{Detail: "#52 files", Bytes: 100 << 20}}}, nil
}
func (c *computer) NeedsAdmin(plan.Plan) bool { return true }
func (c *computer) Run(ctx context.Context, p plan.Plan, report func(plan.Event)) plan.Result {
	c.ran = p
	report(plan.Event{Step: "copy", Title: "#Copying", State: plan.Working, Done: 1, Total: 2})
	select {
	case <-c.wait:
		return c.result
	case <-ctx.Done():
		return plan.Result{Action: p.Action, Error: "#given up", Undone: true}
	}
}

type stage struct {
	*wizard
	computer *computer
	t        *testing.T
	queue    chan func() // what belongs to Fyne's goroutine, which is the test's
	closed   bool
}

func open(t *testing.T, c *computer) *stage {
	t.Helper()
	a := test.NewTempApp(t)
	a.Settings().SetTheme(look{theme.DefaultTheme()})
	if c.wait == nil {
		c.wait = make(chan struct{})
		close(c.wait)
	}
	w := newWizard(context.Background(), a, Options{Backend: c, Resume: c.resume, Version: "1.2", Launch: func(plan.Plan, bool) error { return nil }})
	s := &stage{wizard: w, computer: c, t: t, queue: make(chan func(), 100)}
	w.do = func(f func()) { s.queue <- f } // the test driver would run it beside the test
	w.begin()
	t.Cleanup(func() {
		if !s.closed {
			w.win.Close()
		}
	})
	w.win.SetOnClosed(func() { s.closed = true })
	return s
}

// until waits for what happens beside the window.
func (s *stage) until(what string, is func() bool) {
	s.t.Helper()
	for hang := time.After(3 * time.Minute); !is(); {
		select {
		case f := <-s.queue:
			f()
		case <-hang:
			s.t.Fatalf("%s did not come", what)
		}
	}
}

// at waits for a page on which one can go on.
func (s *stage) at(p page) {
	s.t.Helper()
	s.until(p.title(), func() bool { return s.page == p && (!s.next.Disabled() || p == working) })
}

// enter presses Return wherever the keyboard's focus is.
func (s *stage) enter() {
	e := &fyne.KeyEvent{Name: fyne.KeyReturn}
	if f := s.win.Canvas().Focused(); f != nil {
		f.TypedKey(e)
	} else {
		s.win.Canvas().OnTypedKey()(e)
	}
}

// texts are all that the window shows.
func texts(o fyne.CanvasObject) (out []string) {
	add := func(s ...string) { out = append(out, s...) }
	switch o := o.(type) {
	case *widget.Label:
		add(o.Text)
	case *button:
		add(o.Text)
	case *check:
		add(o.Text)
	case *widget.RadioGroup:
		add(o.Options...)
	case *widget.RichText:
		add(o.String())
	case *widget.Form:
		for _, i := range o.Items {
			add(i.Text)
			add(texts(i.Widget)...)
		}
	case *container.Scroll:
		add(texts(o.Content)...)
	case *fyne.Container:
		for _, c := range o.Objects {
			add(texts(c)...)
		}
	}
	return out
}

// TestKeyboardAlone goes from the first page to the last with Return only.
func TestKeyboardAlone(t *testing.T) {
	s := open(t, &computer{result: plan.Result{OK: true, Action: plan.Install, Version: "1.2"}})
	for _, p := range []page{welcome, checking, choose, review} {
		s.at(p)
		s.enter()
	}
	s.at(done)
	if p := s.computer.ran; p.Action != plan.Install || !p.KVM || !p.Has(plan.QEMU) || p.Prefix != "/usr/local" {
		t.Errorf("%+v", p)
	}
	if s.code() != exitOK {
		t.Errorf("code %d", s.code())
	}
}

// TestResume: after a restart the wizard looks by itself, and says what became of it.
func TestResume(t *testing.T) {
	there := steps.Installed{Plan: plan.Plan{Version: "1.2", Action: plan.Install}, There: true}
	s := open(t, &computer{resume: true, there: there})
	s.at(done)
	if all := strings.Join(texts(s.body), "|"); !strings.Contains(all, "Version 1.2") || !strings.Contains(all, "#kvm: #permission denied") {
		t.Error(all)
	}
	s.enter()
	if !s.closed || s.code() != exitOK {
		t.Errorf("closed %v, code %d", s.closed, s.code())
	}
	there.Interrupted = true // a run that ended halfway is gone on with first
	if s := open(t, &computer{resume: true, there: there}); s.page != welcome {
		t.Errorf("page %v", s.page)
	}
	good := []steps.Finding{{Check: hostinfo.Check{ID: "accelerator.whpx", State: hostinfo.OK}}}
	if n := steps.Resumed(good); len(n) != 1 || !strings.Contains(n[0], "now") {
		t.Errorf("%q", n)
	}
}

// TestEscape: it leaves the setup also with the keyboard on a check box.
func TestEscape(t *testing.T) {
	s := open(t, &computer{})
	for _, p := range []page{welcome, checking} {
		s.at(p)
		s.enter()
	}
	s.at(choose)
	for range 20 {
		s.win.Canvas().FocusNext()
		if _, on := s.win.Canvas().Focused().(*check); on {
			s.win.Canvas().Focused().TypedKey(&fyne.KeyEvent{Name: fyne.KeyEscape})
			break
		}
	}
	if !s.closed {
		t.Error("the window is still there")
	}
}

// TestFitsSmallScreens: no page asks for more than 800 by 600.
func TestFitsSmallScreens(t *testing.T) {
	s := open(t, &computer{result: plan.Result{Action: plan.Install, Error: strings.Repeat("a long reason ", 30), Undone: true}})
	for _, p := range []page{welcome, checking, choose, review, done} {
		s.at(p)
		if m := s.win.Content().MinSize(); m.Width > 800 || m.Height > 580 {
			t.Errorf("%s wants %v", p.title(), m)
		}
		if p != done { // there it closes the window
			s.enter()
		}
	}
}

// TestEveryTextIsTranslated: what the window shows of its own went through T.
func TestEveryTextIsTranslated(t *testing.T) {
	text.Use(text.Pseudo)
	defer text.Use("")
	pages := 0
	look := func(s *stage) {
		pages++
		for _, shown := range texts(s.win.Content()) {
			if shown != "" && shown != "1.2" && !strings.Contains(shown, "#") && !strings.HasPrefix(shown, "[") {
				t.Errorf("%s: %q did not go through the catalogue", s.page.title(), shown)
			}
		}
	}
	for _, c := range []*computer{
		{result: plan.Result{OK: true, Action: plan.Install, Version: "1.2"}},
		{result: plan.Result{Action: plan.Install, Error: "#no", Undone: true}},
		{there: steps.Installed{There: true, Plan: plan.Plan{Action: plan.Install, Version: "1.1"}}},
	} {
		s := open(t, c)
		for _, p := range []page{welcome, checking, choose, review, done} {
			s.at(p)
			look(s)
			if p != done {
				s.enter()
			}
		}
	}
	s := open(t, &computer{})
	s.show(remove)
	look(s)
	if pages != 16 {
		t.Errorf("%d pages", pages)
	}
}

func TestCancelWhileWorking(t *testing.T) {
	s := open(t, &computer{wait: make(chan struct{})})
	for _, p := range []page{welcome, checking, choose, review} {
		s.at(p)
		s.enter()
	}
	s.at(working)
	s.stop() // what the question's yes does
	s.at(done)
	if s.result.OK || !s.result.Undone || s.code() != exitFailed {
		t.Errorf("%+v", s.result)
	}
}

// TestNoPlan: why there is no plan is said, and one cannot go on.
func TestNoPlan(t *testing.T) {
	s := open(t, &computer{err: errors.New("HXEN 9 is installed, which is newer")})
	for _, p := range []page{welcome, checking, choose} {
		s.at(p)
		s.enter()
	}
	s.until("the reason", func() bool {
		return strings.Contains(strings.Join(texts(s.win.Content()), "\n"), "HXEN 9 is installed")
	})
	if !s.next.Disabled() {
		t.Error("one can go on")
	}
}

// TestWhatIsBegun: the button that changes the computer says how.
func TestWhatIsBegun(t *testing.T) {
	for installed, want := range map[string]string{"": "Install", "1.1": "Upgrade", "1.2": "Apply"} {
		c := &computer{}
		if installed != "" {
			c.there = steps.Installed{There: true, Plan: plan.Plan{Action: plan.Install, Version: installed}}
		}
		s := open(t, c)
		for _, p := range []page{welcome, checking, choose} {
			s.at(p)
			s.enter()
		}
		if s.at(review); s.next.Text != want {
			t.Errorf("with %q installed it is %q, want %q", installed, s.next.Text, want)
		}
	}
}

func TestRemove(t *testing.T) {
	s := open(t, &computer{there: steps.Installed{There: true, Plan: plan.Plan{Action: plan.Install, Version: "1.2"}},
		result: plan.Result{OK: true, Action: plan.Uninstall, Version: "1.2"}})
	s.action = plan.Uninstall
	s.goOn()
	for _, p := range []page{remove, review} {
		s.at(p)
		s.enter()
	}
	s.at(done)
	if p := s.computer.ran; p.Action != plan.Uninstall || p.RemoveGuests || p.RemovePackages {
		t.Errorf("%+v", p)
	}
}
