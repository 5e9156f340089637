package desktop

import (
	"image/color"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/driver/desktop"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"

	"github.com/hxen-project/hxen/app/desktop/screen"
	"github.com/hxen-project/hxen/app/text"
)

// cover is what an overlay says; the zero value is none.
type cover struct {
	title, words string
	busy         bool
	veil         bool // the picture below shines through
	label        string
	do           func()
	log          string
}

// overlay lies over a guest's screen while there is something to say instead.
type overlay struct {
	frame *frame
	root  *fyne.Container
	back  *canvas.Rectangle
	title *widget.Label
	words *widget.Label
	act   *button
	log   *button
	busy  *widget.Activity
	box   *fyne.Container
	now   cover
	do    func()
}

func newOverlay(f *frame) *overlay {
	o := &overlay{frame: f, back: canvas.NewRectangle(color.Transparent), busy: widget.NewActivity()}
	o.title = widget.NewLabelWithStyle("", fyne.TextAlignCenter, fyne.TextStyle{Bold: true})
	o.title.SizeName = theme.SizeNameSubHeadingText
	o.title.Wrapping = fyne.TextWrapWord
	o.words = widget.NewLabelWithStyle("", fyne.TextAlignCenter, fyne.TextStyle{})
	o.words.Wrapping = fyne.TextWrapWord
	o.act = f.button("", func() {
		if o.do != nil {
			o.do()
		}
	})
	o.act.Importance = widget.HighImportance
	o.log = f.button(text.T("Show log"), func() { f.showLog(o.now.log) })
	o.box = container.New(column{440}, o.title, o.words, container.NewCenter(o.busy), container.NewCenter(container.NewHBox(o.act, o.log)))
	o.root = container.NewStack(o.back, o.box)
	o.root.Hide()
	return o
}

func (o *overlay) show(c cover) {
	same := o.now.title == c.title && o.now.words == c.words && o.now.busy == c.busy && o.now.veil == c.veil && o.now.label == c.label && o.now.log == c.log
	o.now, o.do = c, c.do
	if same && o.root.Visible() == (c.title != "") {
		return
	}
	if c.title == "" {
		o.busy.Stop()
		o.root.Hide()
		return
	}
	bg := color.NRGBAModel.Convert(colorOf(theme.ColorNameBackground)).(color.NRGBA)
	if c.veil {
		bg.A = 0xd8
	}
	o.back.FillColor = bg
	o.title.SetText(c.title)
	o.words.SetText(c.words)
	setVisible(o.words, c.words != "")
	setVisible(o.busy, c.busy)
	setVisible(o.log, c.log != "")
	setVisible(o.act, c.label != "")
	o.act.SetText(c.label)
	if c.busy {
		o.busy.Start()
	} else {
		o.busy.Stop()
	}
	o.root.Show()
	o.box.Refresh()
	o.back.Refresh()
}

func setVisible(o fyne.CanvasObject, on bool) {
	if on {
		o.Show()
	} else {
		o.Hide()
	}
}

// toast is a line at the lower edge that goes away by itself.
type toast struct {
	root  *fyne.Container
	label *canvas.Text
	back  *canvas.Rectangle
	timer *time.Timer
	do    func(func())
}

const toastTime = 4 * time.Second

func newToast() *toast {
	t := &toast{label: canvas.NewText("", color.White), back: canvas.NewRectangle(color.NRGBA{0x14, 0x1c, 0x20, 0xe0}), do: screen.Do}
	t.back.CornerRadius = 8
	strip := container.NewStack(t.back, container.New(margin(8), t.label))
	t.root = container.NewBorder(nil, container.New(margin(14), container.NewCenter(strip)), nil, nil)
	t.root.Hide()
	return t
}

func (t *toast) show(s string) {
	t.hide()
	t.label.Text = s
	t.label.TextSize = theme.TextSize()
	t.root.Show()
	t.root.Refresh()
	t.timer = time.AfterFunc(toastTime, func() { t.do(t.root.Hide) })
}

func (t *toast) hide() {
	if t.timer != nil {
		t.timer.Stop()
	}
	t.root.Hide()
}

// edge is the strip at the upper edge of a full screen that shows the toolbar
// when the pointer comes to it.
type edge struct {
	root *edgeStrip
	bar  fyne.CanvasObject
}

type edgeStrip struct {
	widget.BaseWidget
	enter func()
}

func newEdge(enter func()) *edge {
	s := &edgeStrip{enter: enter}
	s.ExtendBaseWidget(s)
	return &edge{root: s}
}

// over lays the strip and the bar, on its own ground, over each other.
func (e *edge) over(bar fyne.CanvasObject) fyne.CanvasObject {
	ground := canvas.NewRectangle(colorOf(theme.ColorNameBackground))
	e.bar = container.NewStack(ground, bar)
	bar.Show()
	return container.NewVBox(e.root, e.bar)
}

func (e *edge) show(on bool) {
	if e.bar != nil {
		setVisible(e.bar, on)
	}
}

var _ desktop.Hoverable = (*edgeStrip)(nil)

func (s *edgeStrip) MouseIn(*desktop.MouseEvent)    { s.enter() }
func (s *edgeStrip) MouseMoved(*desktop.MouseEvent) {}
func (s *edgeStrip) MouseOut()                      {}

func (s *edgeStrip) CreateRenderer() fyne.WidgetRenderer {
	r := canvas.NewRectangle(color.Transparent)
	r.SetMinSize(fyne.NewSize(10, 3))
	return widget.NewSimpleRenderer(r)
}
