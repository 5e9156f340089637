package screen

import (
	"context"
	"fmt"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/driver/desktop"

	"github.com/hxen-project/hxen/hv/rfb"
	"github.com/hxen-project/hxen/platform/keymap"
)

var (
	_ desktop.Keyable   = (*Screen)(nil)
	_ fyne.Tabbable     = (*Screen)(nil)
	_ fyne.Shortcutable = (*Screen)(nil)
)

// keyboard is what we hold down in the guest.
type keyboard struct {
	grabbed bool
	held    map[keymap.Code]bool
	// releasing: the release key is down and no other key has followed; alone
	// it gives the keyboard back, before another key it is an ordinary one.
	releasing bool
}

// forget drops what is held, for a guest that is gone.
func (k *keyboard) forget() {
	k.held = nil
	k.releasing = false
}

// Grabbed tells whether keys go to the guest.
func (s *Screen) Grabbed() bool { return s.keys.grabbed }

// FocusGained is for Fyne: from here on keys go to the guest.
func (s *Screen) FocusGained() {
	s.keys.grabbed = true
	if s.OnGrab != nil {
		s.OnGrab(true)
	}
}

// FocusLost is for Fyne. No key-up comes after it, so all keys go up here.
func (s *Screen) FocusLost() {
	s.releaseKeys()
	s.keys.grabbed = false
	if s.OnGrab != nil {
		s.OnGrab(false)
	}
}

// Grab sends the keyboard to the guest.
func (s *Screen) Grab() {
	if c := fyne.CurrentApp().Driver().CanvasForObject(s); c != nil {
		c.Focus(s)
	}
}

// Release gives the keyboard back to the window.
func (s *Screen) Release() {
	if c := fyne.CurrentApp().Driver().CanvasForObject(s); c != nil && c.Focused() == fyne.Focusable(s) {
		c.Unfocus()
	}
}

// AcceptsTab is for Fyne: Tab is the guest's.
func (s *Screen) AcceptsTab() bool { return true }

// TypedRune, TypedKey and TypedShortcut are for Fyne; the guest makes its own
// of the keys' presses and releases.
func (s *Screen) TypedRune(rune) {}

// TypedKey is for Fyne.
func (s *Screen) TypedKey(*fyne.KeyEvent) {}

// TypedShortcut is for Fyne.
func (s *Screen) TypedShortcut(fyne.Shortcut) {}

// code finds the key of an event by its place on the board, whatever the layout.
func (s *Screen) code(e *fyne.KeyEvent) (keymap.Code, bool) {
	if s.native.system == keymap.Windows {
		// One scan code comes with the release of either Shift (GLFW,
		// win32_window.c); the name is right.
		switch e.Name {
		case desktop.KeyShiftLeft:
			return keymap.LeftShift, true
		case desktop.KeyShiftRight:
			return keymap.RightShift, true
		}
	}
	return keymap.From(s.native.system, e.Physical.ScanCode)
}

// KeyDown is for Fyne. The host's repeats do not come here.
func (s *Screen) KeyDown(e *fyne.KeyEvent) {
	c, ok := s.code(e)
	if !ok {
		return
	}
	if c == s.release {
		s.keys.releasing = true
		return
	}
	if s.keys.releasing {
		s.keys.releasing = false
		s.press(s.release)
	}
	s.press(c)
	if keymap.Latches(c) {
		s.lift(c)
	}
}

// KeyUp is for Fyne.
func (s *Screen) KeyUp(e *fyne.KeyEvent) {
	c, ok := s.code(e)
	if !ok {
		return
	}
	if c == s.release && s.keys.releasing {
		s.keys.releasing = false
		s.Release()
		return
	}
	if keymap.Latches(c) {
		s.press(c)
	}
	s.lift(c)
}

func (s *Screen) press(c keymap.Code) {
	if s.keys.held == nil {
		s.keys.held = map[keymap.Code]bool{}
	}
	s.keys.held[c] = true
	s.key(c, true)
}

// lift releases a key that is held; a release whose press went elsewhere is
// none of the guest's business.
func (s *Screen) lift(c keymap.Code) {
	if s.keys.held[c] {
		delete(s.keys.held, c)
		s.key(c, false)
	}
}

func (s *Screen) key(c keymap.Code, down bool) {
	if client := s.connection(); client != nil {
		client.Key(c.XT(), down)
	}
}

// releaseKeys lets go of all keys.
func (s *Screen) releaseKeys() {
	for c := range s.keys.held {
		s.key(c, false)
	}
	s.keys.forget()
}

// SendKeys presses a combination such as "ctrl-alt-delete" and lets it go.
func (s *Screen) SendKeys(combination string) error {
	codes, err := keymap.Parse(combination)
	if err != nil {
		return err
	}
	client := s.connection()
	if client == nil {
		return fmt.Errorf("send %s: %w", keymap.Title(codes), errNotConnected)
	}
	s.releaseKeys()
	for _, c := range codes {
		client.Key(c.XT(), true)
	}
	for i := len(codes) - 1; i >= 0; i-- {
		client.Key(codes[i].XT(), false)
	}
	return nil
}

// typeEvery is how often TypeText presses or releases: a PS/2 keyboard holds
// sixteen bytes and a guest must empty it in time.
const typeEvery = 10 * time.Millisecond

// TypeText types text on the guest's keyboard, which must be set to the US
// layout, and returns the characters that it lacks, which are left out. It takes
// 20 ms per character and ends early with ctx. Call it on a goroutine of its own.
func (s *Screen) TypeText(ctx context.Context, text string) (missing []rune, err error) {
	strokes, missing := keymap.Strokes(text)
	client := s.connection()
	if client == nil {
		return missing, fmt.Errorf("type text: %w", errNotConnected)
	}
	tick := time.NewTicker(typeEvery)
	defer tick.Stop()
	for i, stroke := range strokes {
		select {
		case <-ctx.Done():
			return missing, fmt.Errorf("type text: stopped after %d of %d characters: %w", i, len(strokes), ctx.Err())
		case <-tick.C:
		}
		if s.connection() != client {
			return missing, fmt.Errorf("type text: stopped after %d of %d characters: %w", i, len(strokes), errNotConnected)
		}
		strike(client, stroke, true)
		<-tick.C
		strike(client, stroke, false) // whatever happens: no key stays down
	}
	return missing, nil
}

// strike presses or releases one stroke.
func strike(c *rfb.Client, stroke keymap.Stroke, down bool) {
	keys := []keymap.Code{stroke.Code}
	if stroke.Shift && down {
		keys = []keymap.Code{keymap.LeftShift, stroke.Code}
	} else if stroke.Shift {
		keys = []keymap.Code{stroke.Code, keymap.LeftShift}
	}
	for _, k := range keys {
		c.Key(k.XT(), down)
	}
}
