package desktop

import (
	"context"
	"errors"
	"image"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/driver/desktop"
	"fyne.io/fyne/v2/storage"
	"fyne.io/fyne/v2/test"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/app/desktop/model"
	"github.com/hxen-project/hxen/app/desktop/screen"
)

// console opens a guest's console. Its screen reaches Fyne through fyne.Do, which
// the test driver carries out at once on the caller's goroutine; so no guest
// answers here, and only the model moves.
func (s *stage) console(name string) *consoleWindow {
	s.t.Helper()
	s.svc.Dial = func(ctx context.Context, _ api.Ref, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	s.until(name+" is there", func() bool { vm := s.lib.Find(name); return vm != nil && len(vm.Disks()) > 0 })
	vm := s.lib.Find(name)
	s.openConsole(vm)
	c := s.consoles[vm.Ref]
	s.t.Cleanup(func() {
		if s.consoles[vm.Ref] == c {
			c.win.Close()
		}
	})
	return c
}

// logFile is a guest's log that can be shown.
func logFile(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "worker.log")
	if err := os.WriteFile(path, []byte("the end\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestConsoleCoversWhatIsNotThere(t *testing.T) {
	s := newStage(t, scene("main"))
	c := s.console("alpine")
	vm := c.vm
	if c.win.Title() != "alpine — HXEN" || c.win.MainMenu() != nil {
		t.Errorf("title %q, main menu %v", c.win.Title(), c.win.MainMenu())
	}
	says := func(what, title, button string) {
		t.Helper()
		s.until(what, func() bool {
			return c.overlay.now.title == title && c.overlay.now.label == button && c.overlay.root.Visible() == (title != "")
		})
	}
	says("off", "alpine is off", "Start")
	if c.win.Canvas().Focused() != fyne.Focusable(c.overlay.act) {
		t.Error("Enter would not start a guest that is off")
	}
	s.svc.Change(vm.Ref, func(v *api.VM) {
		v.OtherConfig[api.KeyLastExit], v.OtherConfig[api.KeyLastText] = "crash", "Triple fault."
		v.OtherConfig[api.KeyLog] = logFile(t)
	})
	s.until("the reason", func() bool { return c.overlay.now.words == "Triple fault." && c.overlay.log.Visible() })
	release := s.svc.Hold("Do start")
	test.Tap(c.overlay.act)
	s.svc.Change(vm.Ref, func(v *api.VM) { v.CurrentOperations = map[string]string{"t": model.OpStart} })
	says("starting", "Starting…", "")
	release()
	s.svc.Change(vm.Ref, func(v *api.VM) { v.CurrentOperations = nil })
	says("connecting", "Connecting to the screen…", "")
	s.svc.SetState(vm.Ref, model.Paused)
	says("paused", "Paused", "Resume")
	test.Tap(c.overlay.act)
	says("running", "Connecting to the screen…", "")
	s.svc.Stop(errors.New("killed"))
	says("lost", "Reconnecting…", "")
	s.svc.Stop(nil)
	s.lib.Retry()
	says("back", "Connecting to the screen…", "")
	c.live = true
	c.refresh()
	says("nothing", "", "")
	s.svc.Change(vm.Ref, func(v *api.VM) { v.NameLabel = "other" })
	s.until("the title", func() bool { return c.win.Title() == "other — HXEN" })
	s.svc.Remove(vm.Ref)
	s.until("the window closes with its guest", func() bool { return s.consoles[vm.Ref] == nil })
}

// TestFileDialogs: what asks for a file shows itself, in small windows too.
func TestFileDialogs(t *testing.T) {
	s := newStage(t, scene("main"))
	c := s.console("alpine")
	for _, size := range []fyne.Size{fyne.NewSize(400, 300), fyne.NewSize(1000, 800)} {
		c.win.Resize(size)
		for what, ask := range map[string]func(){
			"screenshot": func() { c.savePicture(image.NewRGBA(image.Rect(0, 0, 8, 8))) },
			"CD image":   func() { c.chooseFile(t.TempDir(), func(string) {}) },
		} {
			ask()
			top := c.win.Canvas().Overlays().Top()
			if top == nil {
				t.Fatalf("%s: no dialog", what)
			}
			c.win.Canvas().Unfocus() // Fyne's own entry in it keeps shortcuts to itself
			c.press(fyne.KeyW, ctrl)
			if c.win.Canvas().Overlays().Top() != nil || c.files != nil {
				t.Fatalf("%s: Ctrl+W does not leave the dialog", what)
			}
			if s.consoles[c.vm.Ref] == nil {
				t.Fatalf("%s: Ctrl+W closes the window below the dialog", what)
			}
		}
	}
}

func TestConsoleOpensOncePerGuest(t *testing.T) {
	s := newStage(t, scene("main"))
	c := s.console("alpine")
	s.openConsole(c.vm)
	if len(s.consoles) != 1 {
		t.Errorf("%d console windows", len(s.consoles))
	}
	c.setMode(screen.Integer)
	c.win.Resize(fyne.NewSize(700, 500))
	c.win.Close()
	p := s.prefs.Consoles[c.vm.Record.UUID]
	if p.Scaling != "integer" || p.Width != 700 {
		t.Errorf("remembered %+v", p)
	}
	s.openConsole(c.vm)
	again := s.consoles[c.vm.Ref]
	defer again.win.Close()
	if again.screen.Mode() != screen.Integer {
		t.Error("the scaling is forgotten")
	}
}

func TestConsoleCD(t *testing.T) {
	s := newStage(t, scene("main"))
	c := s.console("alpine")
	items := c.cdMenu().Items
	if items[0].Label != "In the drive: Empty" || items[1].Disabled || !items[2].Disabled {
		t.Errorf("the menu of an empty drive: %q %v %v", items[0].Label, items[1].Disabled, items[2].Disabled)
	}
	c.dropped([]fyne.URI{storage.NewFileURI("/isos/x.txt"), storage.NewFileURI("/isos/x.ISO")})
	s.until("the CD", func() bool { calls := s.svc.Calls(); return len(calls) == 1 && calls[0] == "InsertCD /isos/x.ISO" })
}

func TestConsoleMachineMenuIsWhatIsAllowed(t *testing.T) {
	s := newStage(t, scene("main"))
	c := s.console("Windows 11")
	var labels []string
	for _, i := range c.machineMenu().Items {
		labels = append(labels, i.Label)
	}
	if got := strings.Join(labels, ","); got != "Resume,Save state,Power off,Reset,Settings,Rename" {
		t.Errorf("menu: %s", got)
	}
}

func TestKeyTitles(t *testing.T) {
	for k, want := range map[string]string{"ctrl-alt-delete": "Ctrl+Alt+Del", "leftmeta": "Windows/Super", "alt-f4": "Alt+F4"} {
		if got := keyTitle(k); got != want {
			t.Errorf("%s is %s, want %s", k, got, want)
		}
	}
}

func TestGateHoldsDialsBack(t *testing.T) {
	g := newGate()
	ctx, cancel := context.WithCancel(t.Context())
	passed := make(chan error, 2)
	go func() { passed <- g.wait(t.Context()) }()
	go func() { passed <- g.wait(ctx) }()
	cancel()
	if err := <-passed; !errors.Is(err, context.Canceled) {
		t.Errorf("a dial that was given up: %v", err)
	}
	g.set(true)
	g.set(true)
	if err := <-passed; err != nil {
		t.Error(err)
	}
	g.set(false)
	select {
	case <-g.pass:
		t.Error("a gate that was shut is open")
	default:
	}
}

// TestSerialOutlivesItsLine: the terminal reads one stream while lines come and
// go below it.
func TestSerialOutlivesItsLine(t *testing.T) {
	ends := make(chan net.Conn, 2)
	fails := 1
	c := newConsoleSerial(func(context.Context) (io.ReadWriteCloser, error) {
		if fails > 0 {
			fails--
			return nil, errors.New("not yet")
		}
		ours, theirs := net.Pipe()
		ends <- theirs
		return ours, nil
	})
	chunks := make(chan string, 64)
	done := make(chan error, 1)
	go func() {
		b := make([]byte, 64)
		for {
			n, err := c.Read(b)
			if err != nil {
				done <- err
				return
			}
			chunks <- string(b[:n])
		}
	}()
	first := <-ends
	io.WriteString(first, "one\r\n")
	go func() { _, _ = c.Write([]byte("ls\n")) }()
	b := make([]byte, 3)
	if _, err := io.ReadFull(first, b); err != nil || string(b) != "ls\n" {
		t.Errorf("the guest got %q, %v", b, err)
	}
	first.Close()
	second := <-ends
	io.WriteString(second, "two\r\nthree")
	got, guard := "", time.After(5*time.Minute)
	for !strings.HasSuffix(got, "three") {
		select {
		case chunk := <-chunks:
			got += chunk
		case <-guard:
			t.Fatalf("read %q", got)
		}
	}
	if !strings.Contains(got, "connection lost") {
		t.Errorf("the loss is not told: %q", got)
	}
	if h := strings.Join(c.history(), "|"); h != "one|two|three" {
		t.Errorf("history %q", h)
	}
	c.Close()
	if err := <-done; err != io.EOF {
		t.Errorf("after Close the terminal reads %v", err)
	}
}

func TestHistoryIsPlainAndBounded(t *testing.T) {
	c := newConsoleSerial(nil)
	c.record([]byte("\x1b[1;31mred\x1b[0m\r\n\x1b]0;title\x07a\tb\r\nold\rnew\r\nab\bc\r\n\x1b(Bx\x1b7y\r\n"))
	if got := strings.Join(c.history(), "|"); got != "red|a       b|new|ac|xy|" {
		t.Errorf("history %q", got)
	}
	for range historyLines + 10 {
		c.record([]byte("line\n"))
	}
	if n := len(c.history()); n != historyLines+1 {
		t.Errorf("%d lines are kept", n)
	}
}

func FuzzLineCleaner(f *testing.F) {
	for _, s := range []string{"a\x1b[1mb\n", "\x1b]0;x\x1b\\y\n", "\b\b\ttab\r\n", "\x1b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var l lineCleaner
		for _, r := range s {
			line, done := l.take(r)
			if !done && line != "" {
				t.Fatal("a line before its end")
			}
			if strings.ContainsRune(line, 0x1b) || utf8.RuneCountInString(line) > lineMost {
				t.Fatalf("line %q", line)
			}
		}
	})
}

// TestSerialLineGivesTheKeyboardBack: Right Ctrl by itself leaves the terminal,
// together with another key it is the guest's.
func TestSerialLineGivesTheKeyboardBack(t *testing.T) {
	s := newStage(t, scene("main"))
	c := s.console("debian-build")
	c.chooseTab()
	release := &fyne.KeyEvent{Name: desktop.KeyControlRight}
	line, ok := c.win.Canvas().Focused().(*lineKeys)
	if !ok {
		t.Fatalf("%T has the keyboard", c.win.Canvas().Focused())
	}
	line.KeyDown(release)
	line.KeyDown(&fyne.KeyEvent{Name: fyne.KeyC})
	line.KeyUp(&fyne.KeyEvent{Name: fyne.KeyC})
	line.KeyUp(release)
	if c.win.Canvas().Focused() != fyne.Focusable(line) {
		t.Error("a combination with Right Ctrl takes the keyboard from the guest")
	}
	line.KeyDown(release)
	line.KeyUp(release)
	if f := c.win.Canvas().Focused(); f != nil {
		t.Errorf("%T keeps the keyboard", f)
	}
	c.win.Canvas().OnTypedKey()(&fyne.KeyEvent{Name: fyne.KeyReturn})
	if c.win.Canvas().Focused() != fyne.Focusable(line) {
		t.Error("Enter does not give the keyboard to the line again")
	}
}

// TestReleaseKeyIsChosen: another key than Right Ctrl frees the keyboard, in the
// screen and in the serial line, says so, and is remembered.
func TestReleaseKeyIsChosen(t *testing.T) {
	s := newStage(t, scene("main"))
	c := s.console("debian-build")
	codes := screen.ReleaseKeys()
	for i, k := range releaseKeys() {
		if codes[i].ID() != k.id {
			t.Errorf("key %d is %s in the screen and %s in the menu", i, codes[i].ID(), k.id)
		}
	}
	choice := c.keysMenu().Items[1].ChildMenu.Items
	choice[3].Action()
	if got := s.prefs.Release; got != "menu" || c.releaseMenu().Items[0].Checked || !c.releaseMenu().Items[3].Checked {
		t.Fatalf("remembered %q", got)
	}
	if !strings.Contains(c.toast.label.Text, "Menu key") {
		t.Errorf("the way out is said to be %q", c.toast.label.Text)
	}
	c.chooseTab()
	line := c.win.Canvas().Focused()
	for _, x := range []struct {
		key fyne.KeyName
		out bool
	}{{desktop.KeyControlRight, false}, {desktop.KeyMenu, true}} {
		e := &fyne.KeyEvent{Name: x.key}
		line.(*lineKeys).KeyDown(e)
		line.TypedKey(e)
		line.(*lineKeys).KeyUp(e)
		if out := c.win.Canvas().Focused() == nil; out != x.out {
			t.Errorf("%s frees the keyboard: %t", x.key, out)
		}
	}
}

// TestFullScreenKeepsTheContent: content that is set in full screen would make
// the window come back as large as the screen.
func TestFullScreenKeepsTheContent(t *testing.T) {
	s := newStage(t, scene("main"))
	c := s.console("debian-build")
	content := c.win.Content()
	for range 2 {
		c.toggleFull()
		if c.win.Content() != content {
			t.Fatal("the window's content was replaced")
		}
	}
}
