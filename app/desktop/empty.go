package desktop

import (
	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"

	"github.com/hxen-project/hxen/app/desktop/model"
	"github.com/hxen-project/hxen/app/text"
)

// emptyPage stands in for the list while there is none: it invites to make the
// first guest, or says why the service cannot be reached.
type emptyPage struct {
	window *libraryWindow
	root   *fyne.Container
	icon   *canvas.Image
	title  *widget.Label
	words  *widget.Label
	act    *button
	log    *button
	busy   *widget.Activity
	box    *fyne.Container
	do     func()
}

func newEmptyPage(w *libraryWindow) *emptyPage {
	p := &emptyPage{window: w, busy: widget.NewActivity()}
	p.icon = canvas.NewImageFromResource(Icon)
	p.icon.FillMode = canvas.ImageFillContain
	p.icon.SetMinSize(fyne.NewSquareSize(96))
	p.title = widget.NewLabelWithStyle("", fyne.TextAlignCenter, fyne.TextStyle{Bold: true})
	p.title.SizeName = theme.SizeNameHeadingText
	p.words = widget.NewLabelWithStyle("", fyne.TextAlignCenter, fyne.TextStyle{})
	p.words.Wrapping = fyne.TextWrapWord
	p.act = w.button("", func() { p.do() })
	p.act.Importance = widget.HighImportance
	p.log = w.button(text.T("Copy"), func() { w.app.fyne.Clipboard().SetContent(p.words.Text) })
	p.box = container.New(column{420}, p.icon, p.title, p.words, container.NewCenter(p.busy), container.NewCenter(container.NewHBox(p.act, p.log)))
	p.root = container.NewStack(p.box)
	p.root.Hide()
	return p
}

func (p *emptyPage) shown() bool { return p.root.Visible() }

// refresh decides whether the page is needed and what it says.
func (p *emptyPage) refresh() {
	lib := p.window.lib
	state, err := lib.State()
	p.log.Hide()
	p.busy.Stop()
	p.busy.Hide()
	p.act.Show()
	switch {
	case lib.Count() > 0:
		p.root.Hide()
		return
	case state == model.Connecting:
		p.say(text.T("Connecting…"), text.T("Finding the service that runs your virtual machines."))
		p.act.Hide()
		p.busy.Show()
		p.busy.Start()
	case state == model.Failed:
		problem, _ := model.Explain("", nil, err)
		words := problem.Why
		if problem.Cure != "" {
			words += "\n\n" + problem.Cure
		}
		p.say(text.T("The service does not answer"), words)
		p.act.SetText(text.T("Retry"))
		p.do = lib.Retry
		p.log.Show()
	default:
		p.say(text.T("No virtual machines yet"),
			text.T("Make one from an installation CD, a disk image or a kernel.\nOr drop an ISO file on this window."))
		p.act.SetText(text.T("New virtual machine"))
		p.do = func() { p.window.newVM("") }
	}
	p.root.Show()
	p.box.Refresh()
}

func (p *emptyPage) say(title, words string) {
	p.title.SetText(title)
	p.words.SetText(words)
}

// column stacks objects in the middle of the room, at most width wide.
type column struct{ width float32 }

func (c column) Layout(objects []fyne.CanvasObject, size fyne.Size) {
	w := min(c.width, size.Width)
	total := float32(0)
	for _, o := range objects {
		if o.Visible() {
			o.Resize(fyne.NewSize(w, o.MinSize().Height))
			total += o.MinSize().Height + theme.Padding()
		}
	}
	y := max(0, (size.Height-total)/2)
	for _, o := range objects {
		if o.Visible() {
			h := o.MinSize().Height
			o.Resize(fyne.NewSize(w, h))
			o.Move(fyne.NewPos((size.Width-w)/2, y))
			y += h + theme.Padding()
		}
	}
}

func (c column) MinSize(objects []fyne.CanvasObject) fyne.Size {
	var s fyne.Size
	for _, o := range objects {
		if o.Visible() {
			m := o.MinSize()
			s.Width = max(s.Width, m.Width)
			s.Height += m.Height + theme.Padding()
		}
	}
	return s
}
