package desktop

import (
	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"

	"github.com/hxen-project/hxen/app/desktop/model"
)

// actionBar is the toolbar: only what the guest allows now. Where the room is
// short the buttons lose their words, from the right on.
type actionBar struct {
	frame   *frame
	vm      *model.VM
	actions []action
	buttons []*button
	box     *fyne.Container
	layout  *squeeze
}

func newActionBar(f *frame) *actionBar {
	b := &actionBar{frame: f, layout: &squeeze{}}
	for _, a := range actions() {
		if a.menu {
			continue
		}
		btn := f.iconButton(a.label, a.icon, nil)
		btn.Importance = widget.LowImportance
		btn.OnTapped = func() { a.do(f, b.vm) }
		btn.Hide()
		b.actions = append(b.actions, a)
		b.buttons = append(b.buttons, btn)
		b.layout.items = append(b.layout.items, squeezed{btn, a.label})
	}
	b.box = container.New(b.layout)
	for _, btn := range b.buttons {
		b.box.Add(btn)
	}
	return b
}

// show sets the guest that the bar acts on and hides what it does not allow.
func (b *actionBar) show(vm *model.VM) {
	b.vm = vm
	changed := false
	for i, a := range b.actions {
		if can := a.can(vm); can != b.buttons[i].Visible() {
			changed = true
			if can {
				b.buttons[i].Show()
			} else {
				b.buttons[i].Hide()
			}
		}
	}
	if changed {
		b.box.Refresh()
	}
}

// squeeze lays buttons out in a row and takes words away, from the right, until
// they fit.
type squeeze struct{ items []squeezed }

type squeezed struct {
	*button
	label string
}

// full is the width of the button with its words.
func (s squeezed) full() float32 {
	t := fyne.MeasureText(s.label, theme.TextSize(), fyne.TextStyle{})
	return s.bare() + t.Width + theme.Padding()
}

func (s squeezed) bare() float32 {
	return theme.IconInlineSize() + 2*theme.InnerPadding()
}

func (q *squeeze) visible() []squeezed {
	var out []squeezed
	for _, s := range q.items {
		if s.Visible() {
			out = append(out, s)
		}
	}
	return out
}

// MinSize implements fyne.Layout: the row without words.
func (q *squeeze) MinSize([]fyne.CanvasObject) fyne.Size {
	var w, h float32
	for _, s := range q.visible() {
		w += s.bare() + theme.Padding()
		h = max(h, s.MinSize().Height)
	}
	return fyne.NewSize(w, h)
}

// Layout implements fyne.Layout.
func (q *squeeze) Layout(_ []fyne.CanvasObject, size fyne.Size) {
	shown := q.visible()
	total := float32(0)
	for _, s := range shown {
		total += s.full() + theme.Padding()
	}
	wordless := len(shown)
	for wordless > 0 && total > size.Width {
		wordless--
		total -= shown[wordless].full() - shown[wordless].bare()
	}
	x := float32(0)
	for i, s := range shown {
		label, w := s.label, s.full()
		if i >= wordless {
			label, w = "", s.bare()
		}
		if s.Text != label {
			s.SetText(label)
		}
		s.Move(fyne.NewPos(x, 0))
		s.Resize(fyne.NewSize(w, size.Height))
		x += w + theme.Padding()
	}
}

// rename gives one button other words.
func (q *squeeze) rename(b *button, label string) {
	for i := range q.items {
		if q.items[i].button == b {
			q.items[i].label = label
		}
	}
	b.SetText(label)
}
