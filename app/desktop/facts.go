package desktop

import (
	"image/color"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"

	"github.com/hxen-project/hxen/app/desktop/model"
	"github.com/hxen-project/hxen/app/text"
)

// fact is one labelled value.
type fact struct{ label, value string }

// facts is a titled table of labelled values that can be selected and copied.
type facts struct {
	box  *fyne.Container
	rows *fyne.Container
	now  []fact
}

func newFacts(title string) *facts {
	head := widget.NewLabelWithStyle(title, fyne.TextAlignLeading, fyne.TextStyle{Bold: true})
	f := &facts{rows: container.New(factRows{})}
	f.box = container.New(tight{}, head, f.rows)
	return f
}

// set shows values; labels that are there already are used again.
func (f *facts) set(list []fact) {
	for len(f.rows.Objects) < 2*len(list) {
		l, v := widget.NewLabel(""), widget.NewLabel("")
		l.Importance = widget.LowImportance
		v.Wrapping = fyne.TextWrapWord
		v.Selectable = true
		f.rows.Objects = append(f.rows.Objects, l, v)
	}
	changed := len(f.now) != len(list)
	f.rows.Objects = f.rows.Objects[:2*len(list)]
	for i, x := range list {
		if i < len(f.now) && f.now[i] == x {
			continue
		}
		changed = true
		f.rows.Objects[2*i].(*widget.Label).SetText(x.label)
		f.rows.Objects[2*i+1].(*widget.Label).SetText(x.value)
	}
	f.now = list
	if changed {
		f.rows.Refresh()
		f.box.Refresh()
	}
}

// factLabel is the least width of the labels' column.
const factLabel = 96

// factRows lays labels in a column and values beside them.
type factRows struct{}

// column is the width of the labels' column.
func (factRows) column(objects []fyne.CanvasObject) float32 {
	w := float32(factLabel)
	for i := 0; i+1 < len(objects); i += 2 {
		w = max(w, objects[i].MinSize().Width)
	}
	return w
}

func (f factRows) Layout(objects []fyne.CanvasObject, size fyne.Size) {
	y, left := float32(0), f.column(objects)
	for i := 0; i+1 < len(objects); i += 2 {
		l, v := objects[i], objects[i+1]
		w := max(size.Width-left, 40)
		v.Resize(fyne.NewSize(w, v.MinSize().Height))
		h := v.MinSize().Height
		v.Resize(fyne.NewSize(w, h))
		v.Move(fyne.NewPos(left, y))
		l.Move(fyne.NewPos(0, y))
		l.Resize(fyne.NewSize(left, l.MinSize().Height))
		y += h - theme.InnerPadding()
	}
}

func (f factRows) MinSize(objects []fyne.CanvasObject) fyne.Size {
	h := theme.InnerPadding()
	for i := 0; i+1 < len(objects); i += 2 {
		h += objects[i+1].MinSize().Height - theme.InnerPadding()
	}
	return fyne.NewSize(f.column(objects)+80, h)
}

// preview shows the guest's screen, small, and opens the console when tapped.
type preview struct {
	widget.BaseWidget
	back *canvas.Rectangle
	img  *canvas.Image
	icon *widget.Icon
	hint *canvas.Text
	tap  func()
}

func newPreview(tap func()) *preview {
	p := &preview{back: canvas.NewRectangle(color.Transparent), icon: widget.NewIcon(iconScreen), hint: canvas.NewText("", color.Black),
		img: &canvas.Image{FillMode: canvas.ImageFillContain, ScaleMode: canvas.ImageScaleFastest}, tap: tap}
	p.back.CornerRadius = 6
	p.hint.Alignment = fyne.TextAlignCenter
	p.ExtendBaseWidget(p)
	p.paint()
	return p
}

func (p *preview) paint() {
	p.back.FillColor = colorOf(theme.ColorNameButton)
	if p.img.Image != nil {
		p.back.FillColor = color.Black
	}
	p.hint.Color, p.hint.TextSize = colorOf(colorDim), theme.TextSize()
}

func (p *preview) set(vm *model.VM) {
	hint := ""
	img := vm.Preview()
	if img == nil {
		hint = vm.StateText()
		if vm.Is(model.Running) {
			hint = text.T("No picture yet")
			if vm.NoScreen() != "" || vm.Display() == model.DisplayNone {
				hint = text.T("No screen: serial console")
			}
		}
	}
	if p.hint.Text == hint && p.img.Image == img {
		return
	}
	p.hint.Text, p.img.Image = hint, img
	if img != nil {
		p.icon.Hide()
		p.img.Show()
		p.img.Refresh()
	} else {
		p.icon.Show()
		p.img.Hide()
	}
	p.paint()
	p.back.Refresh()
	p.hint.Refresh()
}

func (p *preview) Tapped(*fyne.PointEvent)             { p.tap() }
func (p *preview) CreateRenderer() fyne.WidgetRenderer { return &previewRenderer{p} }

type previewRenderer struct{ *preview }

func (p *previewRenderer) Layout(size fyne.Size) {
	p.back.Resize(size)
	p.img.Resize(size)
	p.icon.Resize(fyne.NewSquareSize(40))
	p.icon.Move(fyne.NewPos(size.Width/2-20, size.Height/2-32))
	p.hint.Resize(fyne.NewSize(size.Width, 20))
	p.hint.Move(fyne.NewPos(0, size.Height/2+14))
}

func (p *previewRenderer) MinSize() fyne.Size { return fyne.NewSize(heroWidth, heroHeight) }
func (p *previewRenderer) Destroy()           {}
func (p *previewRenderer) Objects() []fyne.CanvasObject {
	return []fyne.CanvasObject{p.back, p.img, p.icon, p.hint}
}

func (p *previewRenderer) Refresh() {
	p.paint()
	for _, o := range p.Objects() {
		o.Refresh()
	}
}
