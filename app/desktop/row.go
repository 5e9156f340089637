package desktop

import (
	"image"
	"image/color"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"

	"github.com/hxen-project/hxen/app/desktop/model"
)

// Measures of a row in the list of guests.
const (
	rowHeight = 62
	rowThumbW = 72
	rowThumbH = 45
	rowGap    = 10
)

// row shows one guest in the list. Rows are used again for other guests as the
// list scrolls; set changes only what differs.
type row struct {
	widget.BaseWidget

	vm    *model.VM
	thumb *canvas.Image
	frame *canvas.Rectangle
	icon  *widget.Icon
	dot   *canvas.Circle
	name  *canvas.Text
	state *canvas.Text
	badge *canvas.Text
	mark  *canvas.Rectangle // the keyboard is here

	nameText, stateText string
	tapped              time.Time
	onTap, onOpen       func(*model.VM)
	onMenu              func(*model.VM, fyne.Position)
}

func newRow() *row {
	r := &row{
		thumb: &canvas.Image{FillMode: canvas.ImageFillContain, ScaleMode: canvas.ImageScaleFastest},
		frame: canvas.NewRectangle(color.Transparent),
		icon:  widget.NewIcon(iconScreen),
		dot:   canvas.NewCircle(color.Transparent),
		name:  canvas.NewText("", color.Black),
		state: canvas.NewText("", color.Black),
		badge: canvas.NewText("", color.Black),
		mark:  canvas.NewRectangle(color.Transparent),
	}
	r.name.TextStyle.Bold = true
	r.frame.CornerRadius = 4
	r.thumb.CornerRadius = 4
	r.thumb.Hide()
	r.mark.Hide()
	r.ExtendBaseWidget(r)
	return r
}

// set shows a guest.
func (r *row) set(vm *model.VM) {
	r.vm = vm
	r.nameText, r.stateText, r.badge.Text = vm.Name(), vm.StateText(), ""
	if vm.Broken() == "" { // else no more is known
		r.stateText += " · " + vm.Hardware()
		r.badge.Text = vm.Badge().Text()
	}
	if img := vm.Thumbnail(); img != r.thumb.Image || (img == nil) == r.thumb.Visible() {
		r.setThumb(img)
	}
	r.paint()
}

func (r *row) setThumb(img image.Image) {
	r.thumb.Image = img
	if img == nil {
		r.thumb.Hide()
		r.icon.Show()
		return
	}
	r.icon.Hide()
	r.thumb.Show()
	r.thumb.Refresh()
}

// paint sets colours and the texts that the width allows.
func (r *row) paint() {
	r.frame.FillColor = colorOf(theme.ColorNameButton)
	r.mark.FillColor = colorOf(theme.ColorNamePrimary)
	r.name.Color, r.name.TextSize = colorOf(theme.ColorNameForeground), theme.TextSize()
	r.state.Color, r.state.TextSize = colorOf(colorDim), theme.CaptionTextSize()
	r.badge.Color, r.badge.TextSize = colorOf(colorDim), theme.CaptionTextSize()
	if r.vm != nil {
		r.dot.FillColor = colorOf(stateColor(r.vm))
		if r.vm.Badge().Slow && !r.vm.Is(model.Halted) {
			r.badge.Color = colorOf(theme.ColorNameWarning)
		}
	}
	r.fit(r.Size())
	for _, o := range []fyne.CanvasObject{r.frame, r.dot, r.name, r.state, r.badge, r.mark} {
		o.Refresh()
	}
}

// stateColor is the colour of the dot before a guest's state.
func stateColor(vm *model.VM) fyne.ThemeColorName {
	_, busy := vm.Busy()
	switch {
	case vm.Broken() != "", vm.Silent() != "":
		return theme.ColorNameError
	case busy, vm.Is(model.Paused), vm.Is(model.Running) && vm.Notice() != "":
		return theme.ColorNameWarning
	case vm.Is(model.Running):
		return theme.ColorNameSuccess
	case vm.Unclean():
		return theme.ColorNameError
	}
	return colorOff
}

// fit shortens the texts to the room there is.
func (r *row) fit(size fyne.Size) {
	room := size.Width - rowThumbW - 3*rowGap
	r.name.Text = ellipsis(r.nameText, room, r.name.TextSize, r.name.TextStyle)
	r.state.Text = ellipsis(r.stateText, room-14, r.state.TextSize, r.state.TextStyle)
}

// ellipsis shortens s to the width.
func ellipsis(s string, width, size float32, style fyne.TextStyle) string {
	if width <= 0 || fyne.MeasureText(s, size, style).Width <= width {
		return s
	}
	runes := []rune(s)
	lo, hi := 0, len(runes)
	for lo < hi {
		mid := (lo + hi + 1) / 2
		if fyne.MeasureText(string(runes[:mid])+"…", size, style).Width <= width {
			lo = mid
		} else {
			hi = mid - 1
		}
	}
	return string(runes[:lo]) + "…"
}

func (r *row) CreateRenderer() fyne.WidgetRenderer { return &rowRenderer{r} }

// Tapped selects the guest, and opens it when it comes twice. (DoubleTappable
// would hold every single tap back until a second could no longer come.)
func (r *row) Tapped(*fyne.PointEvent) {
	if r.vm == nil {
		return
	}
	now := time.Now()
	twice := now.Sub(r.tapped) < 400*time.Millisecond
	r.tapped = now
	r.onTap(r.vm)
	if twice {
		r.tapped = time.Time{}
		r.onOpen(r.vm)
	}
}

func (r *row) TappedSecondary(e *fyne.PointEvent) {
	if r.vm != nil {
		r.onMenu(r.vm, e.AbsolutePosition)
	}
}

type rowRenderer struct{ *row }

func (r *rowRenderer) Layout(size fyne.Size) {
	y := (size.Height - rowThumbH) / 2
	r.frame.Move(fyne.NewPos(rowGap, y))
	r.frame.Resize(fyne.NewSize(rowThumbW, rowThumbH))
	r.thumb.Move(fyne.NewPos(rowGap, y))
	r.thumb.Resize(fyne.NewSize(rowThumbW, rowThumbH))
	r.icon.Move(fyne.NewPos(rowGap+rowThumbW/2-10, y+rowThumbH/2-10))
	r.icon.Resize(fyne.NewSquareSize(20))
	x := float32(rowThumbW + 2*rowGap)
	r.mark.Resize(fyne.NewSize(3, size.Height))
	r.name.Move(fyne.NewPos(x, 6))
	r.dot.Move(fyne.NewPos(x, 29))
	r.dot.Resize(fyne.NewSquareSize(8))
	r.state.Move(fyne.NewPos(x+14, 26))
	r.badge.Move(fyne.NewPos(x, 42))
	r.fit(size)
}

func (r *rowRenderer) MinSize() fyne.Size { return fyne.NewSize(180, rowHeight) }
func (r *rowRenderer) Refresh()           { r.paint() }
func (r *rowRenderer) Destroy()           {}
func (r *rowRenderer) Objects() []fyne.CanvasObject {
	return []fyne.CanvasObject{r.frame, r.thumb, r.icon, r.dot, r.name, r.state, r.badge, r.mark}
}
