package desktop

import (
	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/widget"
)

// Fyne gives a key to the focused widget alone, and most widgets drop those they
// have no use for. The ones here hand Escape and Enter on to their dialog, and
// entries hand on shortcuts that are not about text.

// button is a widget.Button that Enter presses as well as Space, and that keeps
// the keyboard when a key pressed it.
type button struct {
	widget.Button
	frame *frame
}

func (f *frame) button(label string, tapped func()) *button {
	return f.iconButton(label, nil, tapped)
}

func (f *frame) iconButton(label string, icon fyne.Resource, tapped func()) *button {
	b := &button{frame: f}
	b.Text, b.Icon, b.OnTapped = label, icon, tapped
	b.ExtendBaseWidget(b)
	return b
}

func (b *button) TypedKey(e *fyne.KeyEvent) {
	switch e.Name {
	case fyne.KeyReturn, fyne.KeyEnter, fyne.KeySpace:
		if !b.Disabled() && b.OnTapped != nil {
			b.OnTapped()
		}
	default:
		b.frame.typedKey(e)
	}
}

// entry is a widget.Entry whose Escape leaves the dialog and whose Enter, in one
// line, is the dialog's.
type entry struct {
	widget.Entry
	frame *frame
	// onEscape replaces leaving the dialog.
	onEscape func()
	onDown   func()
	// whole has all of it selected when Tab comes to it: what is typed replaces it.
	whole bool
}

func (f *frame) entry(value string, changed func(string)) *entry {
	e := &entry{frame: f}
	e.ExtendBaseWidget(e)
	e.Text, e.OnChanged = value, changed
	return e
}

func (f *frame) lines(value string, rows int, changed func(string)) *entry {
	e := &entry{frame: f}
	e.MultiLine = true
	e.Wrapping = fyne.TextWrapWord
	e.ExtendBaseWidget(e)
	e.SetMinRowsVisible(rows)
	e.Text, e.OnChanged = value, changed
	return e
}

// FocusGained implements fyne.Focusable. A click's own place comes after it.
func (e *entry) FocusGained() {
	e.Entry.FocusGained()
	e.frame.reveal(e)
	if e.whole {
		e.Entry.TypedShortcut(&fyne.ShortcutSelectAll{})
	}
}

// AcceptsTab implements fyne.Tabbable: Tab leaves lines too, where a tab is of no use.
func (e *entry) AcceptsTab() bool { return false }

func (e *entry) TypedKey(k *fyne.KeyEvent) {
	switch {
	case k.Name == fyne.KeyEscape && e.onEscape != nil:
		e.onEscape()
	case k.Name == fyne.KeyEscape:
		e.frame.typedKey(k)
	case k.Name == fyne.KeyDown && e.onDown != nil:
		e.onDown()
	case !e.MultiLine && e.OnSubmitted == nil && (k.Name == fyne.KeyReturn || k.Name == fyne.KeyEnter):
		e.frame.typedKey(k)
	default:
		e.Entry.TypedKey(k)
	}
}

func (e *entry) TypedShortcut(s fyne.Shortcut) {
	switch s.(type) {
	case *fyne.ShortcutCopy, *fyne.ShortcutCut, *fyne.ShortcutPaste, *fyne.ShortcutSelectAll, *fyne.ShortcutUndo, *fyne.ShortcutRedo:
		e.Entry.TypedShortcut(s)
		return
	}
	e.Entry.TypedShortcut(s)
	e.frame.shortcuts.TypedShortcut(s)
}

type check struct {
	widget.Check
	frame *frame
}

func (f *frame) check(label string, on bool, changed func(bool)) *check {
	c := &check{frame: f}
	c.Text, c.Checked, c.OnChanged = label, on, changed
	c.ExtendBaseWidget(c)
	return c
}

func (c *check) FocusGained() {
	c.Check.FocusGained()
	c.frame.reveal(c)
}

func (c *check) TypedKey(e *fyne.KeyEvent) {
	if e.Name == fyne.KeyEscape || e.Name == fyne.KeyReturn || e.Name == fyne.KeyEnter {
		c.frame.typedKey(e)
		return
	}
	c.Check.TypedKey(e)
}

type choice struct {
	widget.Select
	frame *frame
}

func (f *frame) choice(options []string, selected string, changed func(string)) *choice {
	c := &choice{frame: f}
	c.Options, c.Selected, c.OnChanged = options, selected, changed
	c.ExtendBaseWidget(c)
	return c
}

func (c *choice) FocusGained() {
	c.Select.FocusGained()
	c.frame.reveal(c)
}

func (c *choice) TypedKey(e *fyne.KeyEvent) {
	if e.Name == fyne.KeyEscape || e.Name == fyne.KeyReturn || e.Name == fyne.KeyEnter {
		c.frame.typedKey(e)
		return
	}
	c.Select.TypedKey(e)
}

type slider struct {
	widget.Slider
	frame *frame
}

func (f *frame) slider(least, most, step, value float64, changed func(float64)) *slider {
	s := &slider{frame: f}
	s.Min, s.Max, s.Step, s.Value, s.OnChanged = least, most, step, value, changed
	s.Orientation = widget.Horizontal
	s.ExtendBaseWidget(s)
	return s
}

func (s *slider) FocusGained() {
	s.Slider.FocusGained()
	s.frame.reveal(s)
}

func (s *slider) TypedKey(e *fyne.KeyEvent) {
	if e.Name == fyne.KeyEscape || e.Name == fyne.KeyReturn || e.Name == fyne.KeyEnter {
		s.frame.typedKey(e)
		return
	}
	s.Slider.TypedKey(e)
}
