package desktop

import (
	"image/color"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"
)

// banner is a strip that says what the user should know: the reason, the cure,
// and one thing to do about it.
type banner struct {
	widget.BaseWidget

	back  *canvas.Rectangle
	edge  *canvas.Rectangle
	icon  *widget.Icon
	label *widget.Label
	act   *button
	shut  *button
	box   *fyne.Container
	color fyne.ThemeColorName
}

func (f *frame) banner() *banner {
	b := &banner{back: canvas.NewRectangle(color.Transparent), edge: canvas.NewRectangle(color.Transparent),
		icon: widget.NewIcon(theme.WarningIcon()), label: widget.NewLabel("")}
	b.label.Wrapping = fyne.TextWrapWord
	b.act = f.button("", nil)
	b.shut = f.iconButton("", theme.CancelIcon(), nil)
	b.shut.Importance = widget.LowImportance
	b.act.Hide()
	b.shut.Hide()
	left := container.NewHBox(layoutGap(4), container.NewCenter(container.NewGridWrap(fyne.NewSquareSize(20), b.icon)))
	right := container.NewHBox(container.NewCenter(b.act), container.NewCenter(b.shut))
	b.edge.SetMinSize(fyne.NewSize(4, 0))
	b.box = container.NewStack(b.back, container.NewBorder(nil, nil, container.NewHBox(b.edge, left), right, b.label))
	b.back.CornerRadius = 5
	b.edge.CornerRadius = 2
	b.Hide()
	b.ExtendBaseWidget(b)
	return b
}

// layoutGap is an empty object of a width.
func layoutGap(w float32) fyne.CanvasObject {
	r := canvas.NewRectangle(color.Transparent)
	r.SetMinSize(fyne.NewSize(w, 0))
	return r
}

// say shows a text in the manner of a colour; an empty text hides the banner.
func (b *banner) say(col fyne.ThemeColorName, s string) {
	if s == "" {
		if b.Visible() {
			b.Hide()
		}
		return
	}
	if b.label.Text == s && b.color == col && b.Visible() {
		return
	}
	b.color = col
	switch col {
	case theme.ColorNameError:
		b.icon.SetResource(theme.NewErrorThemedResource(theme.ErrorIcon()))
	case theme.ColorNameWarning:
		b.icon.SetResource(theme.NewWarningThemedResource(theme.WarningIcon()))
	default:
		b.icon.SetResource(theme.NewPrimaryThemedResource(theme.InfoIcon()))
	}
	b.label.SetText(s)
	b.Show()
	b.Refresh()
}

// offer puts a button on the banner.
func (b *banner) offer(label string, do func()) {
	b.act.OnTapped = do
	b.act.SetText(label)
	b.act.Show()
}

// closable lets the user put the banner away.
func (b *banner) closable(closed func()) {
	b.shut.OnTapped = func() {
		b.Hide()
		closed()
	}
	b.shut.Show()
}

func (b *banner) CreateRenderer() fyne.WidgetRenderer {
	return &bannerRenderer{b, widget.NewSimpleRenderer(b.box)}
}

type bannerRenderer struct {
	b *banner
	fyne.WidgetRenderer
}

func (r *bannerRenderer) Refresh() {
	c := color.NRGBAModel.Convert(colorOf(r.b.color)).(color.NRGBA)
	r.b.edge.FillColor = c
	c.A = 28
	r.b.back.FillColor = c
	r.b.back.Refresh()
	r.b.edge.Refresh()
	r.WidgetRenderer.Refresh()
}
