package desktop

import (
	"image"
	"image/color"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"

	"github.com/hxen-project/hxen/app/desktop/model"
)

const (
	chartHeight = 44
	chartWidth  = 120
)

// chart draws one or two figures over the last minute: title and newest value
// above, lines below. The picture is drawn into one image that is kept.
type chart struct {
	widget.BaseWidget

	title, value *canvas.Text
	frame        *canvas.Rectangle
	raster       *canvas.Raster
	buf          *image.RGBA

	series [2]*model.Series
	top    float64 // value at the upper edge; 0: the largest there is
	least  float64 // the upper edge is at least this
}

func newChart(title string, least float64) *chart {
	c := &chart{title: canvas.NewText(title, color.Black), value: canvas.NewText("", color.Black), frame: canvas.NewRectangle(color.Transparent), least: least}
	c.title.TextStyle.Bold = true
	c.frame.CornerRadius = 5
	c.raster = canvas.NewRaster(c.draw)
	c.raster.ScaleMode = canvas.ImageScaleFastest
	c.ExtendBaseWidget(c)
	c.paint()
	return c
}

// set shows new figures; only the leaves that changed are drawn again.
func (c *chart) set(value string, top float64, series ...*model.Series) {
	c.series = [2]*model.Series{}
	copy(c.series[:], series)
	c.top = top
	if c.value.Text != value {
		c.value.Text = value
		c.place(c.Size())
		c.value.Refresh()
	}
	c.raster.Refresh()
}

func (c *chart) paint() {
	c.title.Color, c.title.TextSize = colorOf(colorDim), theme.CaptionTextSize()
	c.value.Color, c.value.TextSize = colorOf(theme.ColorNameForeground), theme.CaptionTextSize()
	c.frame.FillColor = colorOf(colorSurface)
	c.frame.StrokeColor, c.frame.StrokeWidth = colorOf(theme.ColorNameSeparator), 1
}

// draw makes the picture at w by h device pixels.
func (c *chart) draw(w, h int) image.Image {
	if c.buf == nil || c.buf.Rect.Dx() != w || c.buf.Rect.Dy() != h {
		c.buf = image.NewRGBA(image.Rect(0, 0, w, h))
	}
	clear(c.buf.Pix)
	top := c.top
	if top == 0 {
		top = c.least
		for _, s := range c.series {
			if s != nil {
				top = max(top, s.Max()*1.15)
			}
		}
	}
	for i := len(c.series) - 1; i >= 0; i-- {
		if s := c.series[i]; s != nil && s.Len > 1 {
			name := []fyne.ThemeColorName{colorChart, colorChart2}[i]
			plot(c.buf, s, top, colorOf(name), i == 0)
		}
	}
	return c.buf
}

// plot draws one line, newest at the right edge, filled below if fill is set.
func plot(img *image.RGBA, s *model.Series, top float64, col color.Color, fill bool) {
	w, h := img.Rect.Dx(), img.Rect.Dy()
	r32, g32, b32, _ := col.RGBA()
	r, g, b := uint8(r32>>8), uint8(g32>>8), uint8(b32>>8)
	thick := max(1, h/28)
	last := -1
	for x := range w {
		pos := float64(x)/float64(max(w-1, 1))*(model.Points-1) - float64(model.Points-s.Len)
		if pos < 0 {
			continue
		}
		i := min(int(pos), s.Len-2)
		v := s.Values[i] + (s.Values[i+1]-s.Values[i])*(pos-float64(i))
		y := h - thick - int(v/top*float64(h-thick))
		y = min(max(y, 0), h-thick)
		from, to := y, y+thick
		if last >= 0 {
			from, to = min(from, last), max(to, last+thick)
		}
		last = y
		for yy := from; yy < to; yy++ {
			o := yy*img.Stride + x*4
			img.Pix[o], img.Pix[o+1], img.Pix[o+2], img.Pix[o+3] = r, g, b, 255
		}
		if fill {
			const a = 36 // premultiplied
			for yy := to; yy < h; yy++ {
				o := yy*img.Stride + x*4
				img.Pix[o], img.Pix[o+1], img.Pix[o+2], img.Pix[o+3] = uint8(int(r)*a/255), uint8(int(g)*a/255), uint8(int(b)*a/255), a
			}
		}
	}
}

func (c *chart) place(size fyne.Size) {
	w := c.value.MinSize().Width
	c.value.Move(fyne.NewPos(size.Width-w-8, 5))
}

func (c *chart) CreateRenderer() fyne.WidgetRenderer { return &chartRenderer{c} }

type chartRenderer struct{ *chart }

func (c *chartRenderer) Layout(size fyne.Size) {
	c.frame.Resize(size)
	c.title.Move(fyne.NewPos(8, 5))
	c.place(size)
	c.raster.Move(fyne.NewPos(2, 24))
	c.raster.Resize(fyne.NewSize(size.Width-4, size.Height-27))
}

func (c *chartRenderer) MinSize() fyne.Size { return fyne.NewSize(chartWidth, chartHeight+28) }
func (c *chartRenderer) Destroy()           {}
func (c *chartRenderer) Objects() []fyne.CanvasObject {
	return []fyne.CanvasObject{c.frame, c.raster, c.title, c.value}
}

// Refresh follows a change of theme.
func (c *chartRenderer) Refresh() {
	c.paint()
	for _, o := range c.Objects() {
		o.Refresh()
	}
}
