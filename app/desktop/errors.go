package desktop

import (
	"fmt"
	"io"
	"os"
	"strings"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"

	"github.com/hxen-project/hxen/app/desktop/model"
	"github.com/hxen-project/hxen/app/text"
)

// failed shows an error: what failed, why, what to do. Nil and what the user
// cancelled show nothing.
func (f *frame) failed(what string, vm *model.VM, err error) {
	p, is := model.Explain(what, vm, err)
	if !is {
		return
	}
	m := f.showProblem(p)
	if p.RunAs != "" {
		f.offerRunAs(m, vm, p.RunAs)
	}
}

// offerRunAs puts into the dialog of a start that failed the one click that runs
// the guest all the same.
func (f *frame) offerRunAs(m *modal, vm *model.VM, to string) {
	run := f.iconButton(text.T("Run as %s (slower, emulated)", to), theme.MediaPlayIcon(), func() {
		m.close()
		vm.RunAs(to, func(notes []string, err error) {
			if err != nil {
				f.failed(text.T("%s could not be run as %s", vm.Name(), to), vm, err)
				return
			}
			f.tell(text.T("%s runs as %s now", vm.Name(), to), strings.Join(notes, "\n\n"))
		})
	})
	m.atLeft(run)
	m.focus(run)
}

// tell shows what the user should know and need not answer.
func (f *frame) tell(title, words string) {
	label := widget.NewLabel(words)
	label.Wrapping = fyne.TextWrapWord
	label.Selectable = true
	var m *modal
	ok := f.button(text.T("Close"), func() { m.close() })
	ok.Importance = widget.HighImportance
	m = f.read(title, nil, label, 520, ok)
	m.focus(ok)
}

func (f *frame) showProblem(p model.Problem) *modal {
	if !hasLog(p.Log) {
		p.Log = ""
	}
	why := widget.NewLabel(p.Why)
	why.Wrapping = fyne.TextWrapWord
	why.Selectable = true
	body := container.NewVBox(why)
	if p.Cure != "" {
		head := widget.NewLabelWithStyle(text.T("What to do"), fyne.TextAlignLeading, fyne.TextStyle{Bold: true})
		cure := widget.NewLabel(p.Cure)
		cure.Wrapping = fyne.TextWrapWord
		cure.Selectable = true
		body.Add(container.New(tight{}, head, cure))
	}
	icon := container.NewVBox(container.NewGridWrap(fyne.NewSquareSize(32), widget.NewIcon(theme.NewErrorThemedResource(theme.ErrorIcon()))))
	var m *modal
	ok := f.button(text.T("Close"), func() { m.close() })
	ok.Importance = widget.HighImportance
	copyAll := f.iconButton(text.T("Copy"), theme.ContentCopyIcon(), func() { f.app.fyne.Clipboard().SetContent(p.Text()) })
	m = f.read(p.What, icon, body, 520, ok)
	m.atLeft(copyAll)
	if p.Log != "" {
		m.atLeft(f.iconButton(text.T("Show log"), theme.DocumentIcon(), func() { f.showLog(p.Log) }))
	}
	m.focus(ok)
	return m
}

// hasLog reports whether there is a log to show: a guest that never ran has none.
func hasLog(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Size() > 0
}

// logTail is how much of a log's end is shown, in bytes, and logWidth where its
// lines are broken, in characters.
const (
	logTail  = 64 << 10
	logWidth = 110
)

// showLog shows the end of a log file.
func (f *frame) showLog(path string) {
	content, err := tail(path, logTail)
	if err != nil {
		f.failed(text.T("The log could not be read"), nil, err)
		return
	}
	list := newLineList()
	list.set(brokenLines(content, logWidth))
	var m *modal
	ok := f.button(text.T("Close"), func() { m.close() })
	ok.Importance = widget.HighImportance
	m = f.modal(path, list.list, fyne.NewSize(900, 600), ok)
	m.atLeft(f.iconButton(text.T("Copy"), theme.ContentCopyIcon(), func() { f.app.fyne.Clipboard().SetContent(content) }))
	list.list.ScrollToBottom()
	m.focus(ok)
}

// brokenLines parts s into lines of at most width characters.
func brokenLines(s string, width int) []string {
	var out []string
	for _, line := range strings.Split(strings.TrimRight(s, "\n"), "\n") {
		r := []rune(line)
		for len(r) > width {
			out = append(out, string(r[:width]))
			r = r[width:]
		}
		out = append(out, string(r))
	}
	return out
}

// lineList shows many lines of text of fixed width, drawing only those in view.
type lineList struct {
	list  *widget.List
	lines []string
}

func newLineList() *lineList {
	l := &lineList{}
	l.list = widget.NewList(func() int { return len(l.lines) },
		func() fyne.CanvasObject {
			t := canvas.NewText("", colorOf(theme.ColorNameForeground))
			t.TextStyle.Monospace = true
			t.TextSize = theme.TextSize()
			return t
		},
		func(i widget.ListItemID, o fyne.CanvasObject) {
			t := o.(*canvas.Text)
			t.Text, t.Color = l.lines[i], colorOf(theme.ColorNameForeground)
			t.Refresh()
		})
	l.list.HideSeparators = true
	return l
}

func (l *lineList) set(lines []string) {
	l.lines = lines
	l.list.Refresh()
}

func tail(path string, most int64) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("open the log: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return "", fmt.Errorf("read the log: %w", err)
	}
	b, err := io.ReadAll(io.NewSectionReader(file, max(0, info.Size()-most), most))
	if err != nil {
		return "", fmt.Errorf("read the log: %w", err)
	}
	return string(b), nil
}

// tight stacks objects without the padding between that a box adds.
type tight struct{}

func (tight) Layout(objects []fyne.CanvasObject, size fyne.Size) {
	y := float32(0)
	for _, o := range objects {
		if !o.Visible() {
			continue
		}
		o.Move(fyne.NewPos(0, y))
		// The width first: what wraps knows its height only then.
		o.Resize(fyne.NewSize(size.Width, o.MinSize().Height))
		h := o.MinSize().Height
		o.Resize(fyne.NewSize(size.Width, h))
		y += h - theme.Padding()
	}
}

func (tight) MinSize(objects []fyne.CanvasObject) fyne.Size {
	var s fyne.Size
	for _, o := range objects {
		if o.Visible() {
			m := o.MinSize()
			s.Width = max(s.Width, m.Width)
			s.Height += m.Height - theme.Padding()
		}
	}
	s.Height = max(0, s.Height+theme.Padding())
	return s
}
