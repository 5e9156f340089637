package desktop

import (
	"reflect"
	"slices"
	"strings"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/dialog"
	"fyne.io/fyne/v2/driver/desktop"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"

	"github.com/hxen-project/hxen/app/text"
)

// frame is what every window of ours has: the window, its dialogs, of which the
// topmost has the keyboard, and its shortcuts.
type frame struct {
	app    *App
	win    fyne.Window
	modals []*modal
	files  *dialog.FileDialog // Fyne's, above all others while it is shown; else nil
	// shortcuts are the canvas's, once more: entries hand on what they do not use.
	shortcuts fyne.ShortcutHandler
}

func (f *frame) init(a *App, w fyne.Window) {
	f.app, f.win = a, w
	w.Canvas().SetOnTypedKey(f.typedKey)
	f.chord(fyne.KeyW, fyne.KeyModifierShortcutDefault, func() {
		if f.inDialog() {
			f.typedKey(&fyne.KeyEvent{Name: fyne.KeyEscape})
			return
		}
		w.Close()
	})
}

// typedKey gets keys that no widget has: Escape leaves the topmost dialog.
func (f *frame) typedKey(e *fyne.KeyEvent) {
	if f.files != nil {
		if e.Name == fyne.KeyEscape {
			f.files.Hide()
		}
		return
	}
	if m := f.top(); m != nil {
		m.typedKey(e)
	}
}

// beforeKey is called before Fyne gets a key that is Escape or a shortcut. Fyne's
// own buttons, lists and texts to select, which are ours no further than that we
// show them, would keep it for themselves.
func (f *frame) beforeKey(escape, shortcut bool) {
	now := f.win.Canvas().Focused()
	switch now.(type) {
	case *widget.PopUpMenu, *widget.Entry:
		shortcut, escape = false, escape && f.files != nil
	}
	if now == nil || !escape && !shortcut {
		return
	}
	if t := reflect.TypeOf(now); t.Kind() == reflect.Pointer && strings.HasPrefix(t.Elem().PkgPath(), "fyne.io/fyne/v2/") {
		f.win.Canvas().Unfocus()
	}
}

// inDialog reports whether a dialog is open.
func (f *frame) inDialog() bool { return f.files != nil || f.top() != nil }

func (f *frame) top() *modal {
	if len(f.modals) == 0 {
		return nil
	}
	return f.modals[len(f.modals)-1]
}

// shortcut runs do on a key unless a dialog is open.
func (f *frame) shortcut(key fyne.KeyName, mod fyne.KeyModifier, do func()) {
	f.chord(key, mod, func() {
		if !f.inDialog() {
			do()
		}
	})
}

func (f *frame) chord(key fyne.KeyName, mod fyne.KeyModifier, do func()) {
	s := &desktop.CustomShortcut{KeyName: key, Modifier: mod}
	f.shortcuts.AddShortcut(s, func(fyne.Shortcut) { do() })
	f.win.Canvas().AddShortcut(s, func(fyne.Shortcut) { do() })
}

// modal is a dialog over a window: title, body and a row of buttons, the last of
// which is what Enter does.
type modal struct {
	frame    *frame
	pop      *widget.PopUp
	body     *fyne.Container
	scroll   *container.Scroll // of a text to read, which keys move and the size follows; else nil
	form     *container.Scroll // of inputs, of which the one with the keyboard is in view; else nil
	left     *fyne.Container
	right    *fyne.Container
	want     fyne.Size
	onClose  func()
	onEnter  func()
	onEscape func() // instead of closing
	before   fyne.Focusable
	closed   bool
}

// modal shows a dialog of at most the size want. Its buttons close it
// themselves through close.
func (f *frame) modal(title string, body fyne.CanvasObject, want fyne.Size, buttons ...fyne.CanvasObject) *modal {
	m := &modal{frame: f, want: want, before: f.win.Canvas().Focused()}
	m.body = container.NewStack(body)
	m.left, m.right = container.NewHBox(), container.NewHBox()
	head := widget.NewRichText(&widget.TextSegment{Text: title, Style: widget.RichTextStyleSubHeading})
	head.Truncation = fyne.TextTruncateEllipsis
	inside := container.NewBorder(head, container.NewVBox(widget.NewSeparator(), container.NewBorder(nil, nil, m.left, m.right)), nil, nil, m.body)
	m.pop = widget.NewModalPopUp(container.NewPadded(inside), f.win.Canvas())
	m.setButtons(buttons...)
	f.modals = append(f.modals, m)
	m.fit()
	m.pop.Show()
	return m
}

// setButtons replaces the buttons at the right.
func (m *modal) setButtons(buttons ...fyne.CanvasObject) {
	m.right.Objects = buttons
	m.right.Refresh()
}

// atLeft puts an object at the left of the buttons.
func (m *modal) atLeft(o fyne.CanvasObject) {
	m.left.Add(o)
	m.fit()
}

// fit gives the dialog the size it wants within the window: one to read is as
// high as what it says.
func (m *modal) fit() {
	c := m.frame.win.Canvas().Size()
	least := m.pop.MinSize()
	size := fyne.NewSize(
		max(least.Width, min(m.want.Width, c.Width-24)),
		max(least.Height, min(m.want.Height, c.Height-24)))
	m.pop.Resize(size)
	if m.scroll == nil {
		return
	}
	// Only what has its width knows its height.
	size.Height = min(least.Height-m.scroll.MinSize().Height+m.scroll.Content.MinSize().Height, c.Height-24)
	m.pop.Resize(fyne.NewSize(size.Width, max(size.Height, least.Height)))
}

// read shows a dialog with something to read, beside an icon if there is one.
func (f *frame) read(title string, icon, body fyne.CanvasObject, width float32, buttons ...fyne.CanvasObject) *modal {
	scroll := container.NewVScroll(body)
	m := f.modal(title, container.NewBorder(nil, nil, icon, nil, scroll), fyne.NewSize(width, 0), buttons...)
	m.scroll = scroll
	m.fit()
	return m
}

// reveal scrolls the dialog to the input that got the keyboard.
func (f *frame) reveal(o fyne.CanvasObject) {
	m := f.top()
	if m == nil || m.form == nil {
		return
	}
	d := f.app.fyne.Driver()
	top := d.AbsolutePositionForObject(o).Y - d.AbsolutePositionForObject(m.form.Content).Y
	low, room := top+o.Size().Height, m.form.Size().Height
	switch {
	case top < m.form.Offset.Y:
		m.form.ScrollToOffset(fyne.NewPos(0, max(0, top-theme.Padding())))
	case low > m.form.Offset.Y+room:
		m.form.ScrollToOffset(fyne.NewPos(0, low+theme.Padding()-room))
	}
}

// scrolled moves what is read by a key; false if the key is another.
func (m *modal) scrolled(key fyne.KeyName) bool {
	if m.scroll == nil {
		return false
	}
	line, page := 3*theme.TextSize(), m.scroll.Size().Height*0.9
	by, is := map[fyne.KeyName]float32{
		fyne.KeyUp: -line, fyne.KeyDown: line, fyne.KeyPageUp: -page, fyne.KeyPageDown: page,
		fyne.KeyHome: -1e6, fyne.KeyEnd: 1e6,
	}[key]
	if is {
		most := max(0, m.scroll.Content.MinSize().Height-m.scroll.Size().Height)
		m.scroll.ScrollToOffset(fyne.NewPos(0, min(max(m.scroll.Offset.Y+by, 0), most)))
	}
	return is
}

// focusLast gives the keyboard to the last button.
func (m *modal) focusLast() {
	if b, ok := m.right.Objects[len(m.right.Objects)-1].(*button); ok {
		m.focus(b)
	}
}

func (m *modal) focus(o fyne.Focusable) { m.frame.win.Canvas().Focus(o) }

// close takes the dialog away.
func (m *modal) close() {
	if m.closed {
		return
	}
	m.closed = true
	m.pop.Hide()
	m.frame.modals = slices.DeleteFunc(m.frame.modals, func(o *modal) bool { return o == m })
	below := m.frame.top()
	if m.onClose != nil {
		m.onClose()
	}
	if m.frame.top() == below {
		m.frame.refocus(m.before)
	}
}

// refocus gives the keyboard back to what had it before a dialog: Fyne remembers
// it, but tells it only that the keyboard left.
func (f *frame) refocus(o fyne.Focusable) {
	if o != nil {
		f.win.Canvas().Unfocus()
		f.win.Canvas().Focus(o)
	}
}

// escape leaves the dialog as its Cancel button does.
func (m *modal) escape() {
	if m.onEscape != nil {
		m.onEscape()
		return
	}
	m.close()
}

func (m *modal) typedKey(e *fyne.KeyEvent) {
	switch e.Name {
	case fyne.KeyEscape:
		m.escape()
	case fyne.KeyReturn, fyne.KeyEnter:
		if m.onEnter != nil {
			m.onEnter()
		}
	default:
		m.scrolled(e.Name)
	}
}

// ask shows a question with one way on, named by verb.
func (f *frame) ask(title, question, verb string, danger bool, yes func()) *modal {
	label := widget.NewLabel(question)
	label.Wrapping = fyne.TextWrapWord
	var m *modal
	ok := f.button(verb, func() {
		m.close()
		yes()
	})
	ok.Importance = widget.HighImportance
	if danger {
		ok.Importance = widget.DangerImportance
	}
	cancel := f.button(text.T("Cancel"), func() { m.close() })
	m = f.modal(title, label, fyne.NewSize(420, 150), cancel, ok)
	m.focus(ok)
	if danger { // what cannot be taken back is not what a hasty Enter does
		m.focus(cancel)
	}
	return m
}
