package desktop

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/driver/desktop"
	"fyne.io/fyne/v2/storage"
	"fyne.io/fyne/v2/test"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/app/desktop/model"
	"github.com/hxen-project/hxen/app/desktop/model/modeltest"
)

// stage is an App without a display, over a service in memory. The test's
// goroutine is the one that owns the views.
type stage struct {
	*App
	t    *testing.T
	svc  *modeltest.Service
	turn chan func()
}

func newStage(t *testing.T, svc *modeltest.Service) *stage {
	t.Helper()
	f := test.NewTempApp(t)
	f.Settings().SetTheme(newLook())
	s := &stage{t: t, svc: svc, turn: make(chan func(), 4096)}
	lib := model.NewLibrary(svc, func(f func()) { s.turn <- f })
	s.App = newApp(f, lib, Options{Service: svc, Version: "1"})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); lib.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		for {
			select {
			case <-s.turn:
			case <-done:
				return
			}
		}
	})
	return s
}

// until turns the loop until ok; the time only guards against a hang.
func (s *stage) until(what string, ok func() bool) {
	s.t.Helper()
	guard := time.After(5 * time.Minute)
	for !ok() {
		select {
		case f := <-s.turn:
			f()
		case <-guard:
			s.t.Fatalf("waited in vain: %s", what)
		}
	}
}

// open shows the library of a size once everything is known.
func (s *stage) open(w, h float32) *libraryWindow {
	s.t.Helper()
	l := newLibraryWindow(s.App)
	s.library = l
	s.t.Cleanup(l.win.Close)
	l.win.Resize(fyne.NewSize(w, h))
	s.until("the library is online", func() bool {
		state, _ := s.lib.State()
		return state == model.Online && s.lib.Host() != nil
	})
	return l
}

func (s *stage) pick(l *libraryWindow, name string) *model.VM {
	s.t.Helper()
	s.until(name+" is there", func() bool { return s.lib.Find(name) != nil })
	vm := s.lib.Find(name)
	l.selectVM(vm)
	s.until("its details", func() bool { return l.details.vm == vm && len(vm.Disks()) > 0 })
	return vm
}

// buttons are the words of the toolbar's visible buttons.
func (b *actionBar) visible() string {
	var out []string
	for i, btn := range b.buttons {
		if btn.Visible() {
			out = append(out, b.actions[i].label)
		}
	}
	return strings.Join(out, ",")
}

func TestToolbarShowsOnlyWhatIsAllowed(t *testing.T) {
	s := newStage(t, scene("main"))
	l := s.open(1000, 700)
	for name, want := range map[string]string{
		"alpine":       "Start,Open,Settings,Delete",
		"debian-build": "Open,Pause,Shut down,Restart,Power off,Settings",
		"Windows 11":   "Open,Resume,Power off,Settings",
		"old-copy":     "",
	} {
		s.pick(l, name)
		if got := l.bar.visible(); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	s.svc.Stop(errors.New("gone"))
	s.pick(l, "debian-build")
	s.until("the loss", func() bool { return l.conn.Visible() })
	if got := l.bar.visible(); got != "Open,Settings" {
		t.Errorf("without a service: %s", got)
	}
}

func TestToolbarLosesItsWordsWhenNarrow(t *testing.T) {
	s := newStage(t, scene("main"))
	l := s.open(900, 600)
	s.pick(l, "debian-build")
	for _, width := range []float32{900, 420} {
		l.win.Resize(fyne.NewSize(width, 600))
		right := float32(0)
		worded := 0
		for _, b := range l.bar.buttons {
			if b.Visible() {
				if b.Position().X < right {
					t.Errorf("at %v wide %q lies over its neighbour", width, b.Text)
				}
				right = b.Position().X + b.Size().Width
				if b.Text != "" {
					worded++
				}
			}
		}
		if right > l.bar.box.Size().Width+1 {
			t.Errorf("at %v wide the buttons end at %v of %v", width, right, l.bar.box.Size().Width)
		}
		if width == 900 && worded != 6 || width == 420 && worded == 6 {
			t.Errorf("at %v wide %d buttons have words", width, worded)
		}
	}
}

func TestKeysMoveAndAct(t *testing.T) {
	s := newStage(t, scene("main"))
	l := s.open(1000, 700)
	s.pick(l, "alpine")
	c := l.win.Canvas()
	c.Focus(l.list)
	l.list.TypedKey(&fyne.KeyEvent{Name: fyne.KeyDown})
	if got := l.current().Name(); got != "debian-build" {
		t.Errorf("Down selects %s", got)
	}
	l.list.TypedKey(&fyne.KeyEvent{Name: fyne.KeyEnd})
	if got := l.current().Name(); got != "Windows 11" {
		t.Errorf("End selects %s", got)
	}
	l.list.TypedKey(&fyne.KeyEvent{Name: fyne.KeyHome})
	key := l.press
	key(fyne.KeyR, ctrl)
	s.until("it runs", func() bool { return l.current().Is(model.Running) })
	key(fyne.KeyP, ctrl)
	s.until("it is paused", func() bool { return l.current().Is(model.Paused) })
	key(fyne.KeyP, ctrl)
	s.until("it runs on", func() bool { return l.current().Is(model.Running) })
	key(fyne.KeyK, ctrl)
	if l.top() == nil || !l.current().Is(model.Running) {
		t.Fatal("powering off was not asked about first")
	}
	key(fyne.KeyD, ctrl) // under a dialog no shortcut acts
	l.typedKey(&fyne.KeyEvent{Name: fyne.KeyEscape})
	if l.top() != nil {
		t.Error("Escape does not leave the question")
	}
	key(fyne.KeyF, ctrl)
	if c.Focused() != fyne.Focusable(l.search) {
		t.Error("Ctrl+F does not lead to the search")
	}
	test.Type(l.search, "win")
	if s.lib.Count() != 9 || len(s.lib.VMs()) != 1 || l.current().Name() != "Windows 11" {
		t.Errorf("the search shows %d guests", len(s.lib.VMs()))
	}
	if l.none.Visible() {
		t.Error("a search that finds something says that it does not")
	}
	test.Type(l.search, "zzz")
	if !l.none.Visible() {
		t.Error("a search that finds nothing does not say so")
	}
	key(fyne.KeyN, ctrl)
	if l.top() == nil {
		t.Error("Ctrl+N in the search does not open the wizard")
	}
	for _, call := range s.svc.Calls() {
		if call == "Do clean_shutdown" {
			t.Error("a shortcut acted under a dialog")
		}
	}
}

// press acts as the driver does with a key that comes with a modifier.
func (f *frame) press(k fyne.KeyName, m fyne.KeyModifier) {
	sc := &desktop.CustomShortcut{KeyName: k, Modifier: m}
	if focused, ok := f.win.Canvas().Focused().(fyne.Shortcutable); ok {
		focused.TypedShortcut(sc)
		return
	}
	f.shortcuts.TypedShortcut(sc)
}

func TestDropStartsTheWizard(t *testing.T) {
	s := newStage(t, scene("main"))
	l := s.open(1000, 700)
	far, err := storage.ParseURI("https://example.org/x.iso")
	if err != nil {
		t.Fatal(err)
	}
	l.dropped([]fyne.URI{far, storage.NewFileURI("/isos/debian-12.iso")})
	if len(l.modals) != 1 {
		t.Fatal("a dropped ISO does not start the wizard")
	}
	l.dropped([]fyne.URI{storage.NewFileURI("/isos/debian-12.iso")})
	if len(l.modals) != 1 {
		t.Error("a second drop opens a second wizard")
	}
}

func TestShutdownThatTimesOutOffersPowerOff(t *testing.T) {
	s := newStage(t, scene("main"))
	l := s.open(1000, 700)
	vm := s.pick(l, "debian-build")
	s.svc.Fail("Do clean_shutdown", api.NewError(api.ErrVMShutdownTimeout, string(vm.Ref), "60"))
	l.press(fyne.KeyD, ctrl)
	s.until("the offer", func() bool { return l.top() != nil })
	if b, ok := l.win.Canvas().Focused().(*button); !ok || b.Text != "Cancel" {
		t.Error("a hasty Enter would pull the plug")
	}
	tapButton(t, l.win.Canvas().Overlays().Top(), "Power off")
	s.until("it is off", func() bool { return vm.Is(model.Halted) })
}

func TestErrorSaysWhatWhyAndCure(t *testing.T) {
	s := newStage(t, scene("main"))
	l := s.open(1000, 700)
	vm := s.pick(l, "alpine")
	s.svc.Fail("Do start", api.NewError(api.ErrStartFailed, string(vm.Ref), "memory", "not enough is free", "close something"))
	l.press(fyne.KeyR, ctrl)
	s.until("the error", func() bool { return l.top() != nil })
	if all := words(l.win.Canvas().Overlays().Top()); strings.Contains(all, "Show log") {
		t.Errorf("a guest that never ran has a log:\n%s", all)
	}
	l.top().close()
	s.svc.Change(vm.Ref, func(v *api.VM) { v.OtherConfig[api.KeyLog] = logFile(t) })
	s.until("a log", func() bool { return hasLog(vm.Log()) })
	l.press(fyne.KeyR, ctrl)
	s.until("the error again", func() bool { return l.top() != nil })
	all := words(l.win.Canvas().Overlays().Top())
	for _, want := range []string{"alpine could not be started", "Not enough is free.", "Close something.", "Copy", "Show log"} {
		if !strings.Contains(all, want) {
			t.Errorf("%q is not in the dialog:\n%s", want, all)
		}
	}
	tapButton(t, l.win.Canvas().Overlays().Top(), "Copy")
	if got := s.fyne.Clipboard().Content(); !strings.Contains(got, "Not enough is free") || !strings.Contains(got, "worker.log") {
		t.Errorf("copied %q", got)
	}
	tapButton(t, l.win.Canvas().Overlays().Top(), "Show log")
	if len(l.modals) != 2 {
		t.Error("no log is shown")
	}
}

func TestShowLogShowsItsEnd(t *testing.T) {
	s := newStage(t, modeltest.New())
	l := s.open(900, 600)
	path := filepath.Join(t.TempDir(), "worker.log")
	if err := os.WriteFile(path, []byte(strings.Repeat("x", logTail)+"\nthe end\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := tail(path, logTail); err != nil || len(got) != logTail || !strings.HasSuffix(got, "the end\n") {
		t.Errorf("tail of %d bytes, %v", len(got), err)
	}
	l.showLog(path)
	if l.top() == nil {
		t.Error("no log is shown")
	}
}

// TestKeysScrollWhatIsRead: who has no mouse reads the end of a long text too.
func TestKeysScrollWhatIsRead(t *testing.T) {
	s := newStage(t, scene("main"))
	l := s.open(800, 600)
	l.showHelp()
	m := l.top()
	at := func(k fyne.KeyName) float32 {
		l.win.Canvas().Focused().TypedKey(&fyne.KeyEvent{Name: k})
		return m.scroll.Offset.Y
	}
	if down, end, home := at(fyne.KeyPageDown), at(fyne.KeyEnd), at(fyne.KeyHome); down <= 0 || end < down || home != 0 {
		t.Errorf("page down goes to %v, end to %v, home to %v", down, end, home)
	}
}

func TestDeleteAsksWhichWay(t *testing.T) {
	for _, keep := range []bool{true, false} {
		t.Run(map[bool]string{true: "keep", false: "all"}[keep], func(t *testing.T) {
			s := newStage(t, scene("main"))
			l := s.open(1000, 700)
			vm := s.pick(l, "alpine")
			l.list.TypedKey(&fyne.KeyEvent{Name: fyne.KeyDelete})
			s.until("the question", func() bool { return l.top() != nil })
			top := l.win.Canvas().Overlays().Top()
			if all := words(top); !strings.Contains(all, "disk-1.qcow2") || !strings.Contains(all, "/home/me/isos/debian.iso") {
				t.Errorf("the paths are not listed:\n%s", all)
			}
			label, call := "Move all to trash", "Delete"
			if keep {
				label, call = "Delete, keep disks", "Delete keep"
			}
			tapButton(t, top, label)
			s.until("it is gone", vm.Gone)
			if calls := s.svc.Calls(); calls[len(calls)-1] != call {
				t.Errorf("calls %q", calls)
			}
			if l.current() == nil || l.current() == vm {
				t.Error("nothing else is selected")
			}
		})
	}
}

func TestSettingsLockWhileOn(t *testing.T) {
	s := newStage(t, scene("main"))
	l := s.open(1000, 700)
	vm := s.pick(l, "debian-build")
	l.showSettings(vm)
	s.until("the form", func() bool { return l.top() != nil })
	all := words(l.win.Canvas().Overlays().Top())
	if !strings.Contains(all, "The machine is on. Shut it down to change its settings.") {
		t.Errorf("no reason:\n%s", all)
	}
	for _, o := range objects(l.win.Canvas().Overlays().Top()) {
		if e, ok := o.(*entry); ok && !e.Disabled() {
			t.Error("an input can be changed while the machine is on")
		}
	}
}

// TestSettingsShowWhatHasTheKeyboard: Tab goes to inputs below the edge, and they
// come into view.
func TestSettingsShowWhatHasTheKeyboard(t *testing.T) {
	s := newStage(t, scene("main"))
	l := s.open(800, 600)
	l.showSettings(s.pick(l, "alpine"))
	s.until("the settings", func() bool { return l.top() != nil })
	form := l.top().form
	seen := map[fyne.Focusable]bool{}
	for f := l.win.Canvas().Focused(); f != nil && !seen[f]; f = l.win.Canvas().Focused() {
		seen[f] = true
		_, foot := f.(*button)
		d := s.fyne.Driver()
		o := f.(fyne.CanvasObject)
		y := d.AbsolutePositionForObject(o).Y - d.AbsolutePositionForObject(form).Y
		if !foot && (y < 0 || y+o.Size().Height > form.Size().Height) {
			t.Errorf("%T has the keyboard at %v to %v of %v", f, y, y+o.Size().Height, form.Size().Height)
		}
		l.win.Canvas().FocusNext()
	}
	if len(seen) < 10 {
		t.Errorf("Tab goes to %d inputs", len(seen))
	}
}

func TestRenameRefusesATakenName(t *testing.T) {
	s := newStage(t, scene("main"))
	l := s.open(1000, 700)
	vm := s.pick(l, "debian-build")
	l.typedKey(&fyne.KeyEvent{Name: fyne.KeyF2})
	name := l.win.Canvas().Focused().(*entry)
	test.Type(name, "alpine")
	name.TypedKey(&fyne.KeyEvent{Name: fyne.KeyReturn})
	if l.top() == nil {
		t.Fatal("a name that is taken is accepted")
	}
	test.Type(name, "alpine2") // focusing it selects what was there
	name.TypedKey(&fyne.KeyEvent{Name: fyne.KeyReturn})
	s.until("the new name", func() bool { return vm.Name() == "alpine2" })
}

func TestServiceThatCannotStart(t *testing.T) {
	svc := modeltest.New()
	svc.Stop(api.NewError(api.ErrRefused, "service", "the store is in use by another program", "stop it"))
	s := newStage(t, svc)
	l := newLibraryWindow(s.App)
	t.Cleanup(l.win.Close)
	l.win.Resize(fyne.NewSize(800, 600))
	s.until("the page", func() bool { state, _ := s.lib.State(); return state == model.Failed })
	if all := words(l.empty.root); !l.empty.shown() || !strings.Contains(all, "in use by another program") || !strings.Contains(all, "Stop it.") || !strings.Contains(all, "Retry") {
		t.Errorf("the page says:\n%s", all)
	}
	svc.Stop(nil)
	svc.Add("guest", model.Halted)
	test.Tap(l.empty.act)
	s.until("the list", func() bool { return !l.empty.shown() })
}

func TestBannersComeAndGo(t *testing.T) {
	s := newStage(t, scene("main"))
	l := s.open(1000, 700)
	if !l.host.Visible() || !strings.Contains(l.host.label.Text, "Guests run by emulation") || !strings.Contains(l.host.label.Text, "nested virtualisation") {
		t.Errorf("host banner: %q", l.host.label.Text)
	}
	test.Tap(l.host.shut)
	if l.host.Visible() || s.prefs.Dismissed == "" {
		t.Error("a closed banner is not remembered")
	}
	s.pick(l, "old-copy")
	if !l.details.broken.Visible() || !strings.Contains(l.details.broken.label.Text, "spec.json") {
		t.Error("a broken guest does not say why")
	}
	s.pick(l, "web-frontend with a rather long name")
	if !l.details.notice.Visible() || l.details.broken.Visible() {
		t.Error("a notice is not shown, or another guest's is")
	}
	s.pick(l, "freebsd-ports")
	if !l.details.exit.Visible() {
		t.Error("a crash is not shown")
	}
	s.svc.Stop(errors.New("killed"))
	s.until("the loss", func() bool { return l.conn.Visible() })
	s.svc.Stop(nil)
	test.Tap(l.conn.act)
	s.until("it is back", func() bool { return !l.conn.Visible() })
}

func TestTaskBarCancels(t *testing.T) {
	s := newStage(t, scene("main"))
	l := s.open(1000, 700)
	vm := s.pick(l, "alpine")
	release := s.svc.Hold("Do start")
	defer release()
	l.press(fyne.KeyR, ctrl)
	s.until("the task", func() bool { return l.tasks.box.Visible() })
	test.Tap(l.tasks.lines[0].cancel)
	s.until("it is gone", func() bool { return !l.tasks.box.Visible() })
	if !vm.Is(model.Halted) || l.top() != nil {
		t.Error("a cancelled start is shown as a failure, or started")
	}
}

func TestDetailsCollectOnlyWhileSeen(t *testing.T) {
	s := newStage(t, scene("main"))
	l := s.open(1000, 700)
	s.pick(l, "debian-build")
	if !l.details.monitor.Showing() {
		t.Fatal("a running guest in view has no figures")
	}
	s.until("figures", func() bool { return l.details.monitor.Figures().CPU.Len > 1 })
	l.details.setSeen(false)
	if l.details.monitor.Showing() {
		t.Error("figures are fetched for a window that nobody sees")
	}
	l.details.setSeen(true)
	s.pick(l, "alpine")
	if l.details.monitor.Showing() {
		t.Error("figures are fetched of a guest that is off")
	}
}

// TestEveryViewFits: at 800 by 600 nothing is wider or higher than the window.
func TestEveryViewFits(t *testing.T) {
	s := newStage(t, scene("main"))
	l := s.open(800, 600)
	vm := s.pick(l, "debian-build")
	fits := func(what string, o fyne.CanvasObject) {
		t.Helper()
		if m := o.MinSize(); m.Width > 800 || m.Height > 600 {
			t.Errorf("%s needs %v by %v", what, m.Width, m.Height)
		}
	}
	fits("the library", l.win.Content())
	shown := func(what string, open func()) {
		t.Helper()
		open()
		s.until(what, func() bool { return l.top() != nil })
		fits(what, l.top().pop)
		if size := l.top().pop.Size(); size.Width > 800 || size.Height > 600 {
			t.Errorf("%s has %v by %v", what, size.Width, size.Height)
		}
		l.top().close()
	}
	shown("settings", func() { l.showSettings(vm) })
	shown("delete", func() { l.showDelete(vm) })
	shown("rename", func() { l.showRename(vm) })
	shown("help", l.showHelp)
	shown("about", l.showAbout)
	shown("this computer", l.showHostInfo)
	shown("wizard", func() { l.newVM("") })
	shown("error", func() { l.failed(strings.Repeat("long ", 40), vm, errors.New(strings.Repeat("words ", 200))) })
}

func TestRowsFollowTheThemeAndTheGuest(t *testing.T) {
	s := newStage(t, scene("main"))
	s.open(1000, 700)
	r := newRow()
	vm := s.lib.Find("Windows 11")
	r.set(vm)
	r.Resize(fyne.NewSize(300, rowHeight))
	light := r.name.Color
	if r.name.Text != "Windows 11" || !strings.HasPrefix(r.state.Text, "Paused · 8 GiB") || r.badge.Text != "QEMU · emulated" {
		t.Errorf("row: %q %q %q", r.name.Text, r.state.Text, r.badge.Text)
	}
	r.Resize(fyne.NewSize(180, rowHeight))
	r.set(s.lib.Find("web-frontend with a rather long name"))
	if !strings.HasSuffix(r.name.Text, "…") {
		t.Errorf("a long name is not shortened: %q", r.name.Text)
	}
	other := theme.VariantDark
	if s.fyne.Settings().ThemeVariant() == theme.VariantDark {
		other = theme.VariantLight
	}
	if newLook().Color(theme.ColorNameForeground, other) == light {
		t.Error("light and dark have the same text colour")
	}
}

// words are all texts below an object.
func words(o fyne.CanvasObject) string {
	var out []string
	for _, x := range objects(o) {
		switch w := x.(type) {
		case *widget.Label:
			out = append(out, w.Text)
		case *button:
			out = append(out, w.Text)
		case *entry:
			out = append(out, w.Text)
		case *widget.RichText:
			out = append(out, w.String())
		}
	}
	return strings.Join(out, "\n")
}

// objects are all visible objects below one.
func objects(o fyne.CanvasObject) []fyne.CanvasObject {
	if o == nil || !o.Visible() {
		return nil
	}
	out := []fyne.CanvasObject{o}
	switch w := o.(type) {
	case *fyne.Container:
		for _, c := range w.Objects {
			out = append(out, objects(c)...)
		}
	case fyne.Widget:
		for _, c := range test.WidgetRenderer(w).Objects() {
			out = append(out, objects(c)...)
		}
	}
	return out
}

func tapButton(t *testing.T, under fyne.CanvasObject, label string) {
	t.Helper()
	for _, o := range objects(under) {
		if b, ok := o.(*button); ok && b.Text == label {
			if b.Disabled() {
				t.Fatalf("button %q is disabled", label)
			}
			test.Tap(b)
			return
		}
	}
	t.Fatalf("there is no button %q", label)
}
