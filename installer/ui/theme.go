package ui

import (
	"image/color"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/layout"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"
)

// look is the window's theme: HXEN's accent on Fyne's own, light or dark as the
// system is.
type look struct{ fyne.Theme }

const colorRail fyne.ThemeColorName = "hxen-rail" // behind the list of pages

var palette = map[fyne.ThemeColorName][2]color.NRGBA{ // light, dark
	theme.ColorNamePrimary:             {{0x1c, 0x7a, 0x8c, 255}, {0x3f, 0xa7, 0xba, 255}},
	theme.ColorNameForegroundOnPrimary: {{255, 255, 255, 255}, {0x0c, 0x1a, 0x1e, 255}},
	theme.ColorNameFocus:               {{0x1c, 0x7a, 0x8c, 0x50}, {0x3f, 0xa7, 0xba, 0x60}},
	theme.ColorNameBackground:          {{0xfa, 0xfb, 0xfb, 255}, {0x1a, 0x1d, 0x20, 255}},
	theme.ColorNameForeground:          {{0x20, 0x27, 0x2b, 255}, {0xe4, 0xe8, 0xea, 255}},
	theme.ColorNamePlaceHolder:         {{0x5f, 0x6b, 0x71, 255}, {0x9a, 0xa5, 0xab, 255}},
	theme.ColorNameDisabled:            {{0x66, 0x72, 0x78, 255}, {0x93, 0x9e, 0xa4, 255}},
	theme.ColorNameButton:              {{0xe4, 0xe9, 0xeb, 255}, {0x32, 0x38, 0x3d, 255}},
	theme.ColorNameInputBackground:     {{0xef, 0xf2, 0xf3, 255}, {0x24, 0x29, 0x2d, 255}},
	theme.ColorNameInputBorder:         {{0xb8, 0xc2, 0xc7, 255}, {0x4b, 0x54, 0x5a, 255}},
	theme.ColorNameSeparator:           {{0xdb, 0xe0, 0xe3, 255}, {0x30, 0x36, 0x3b, 255}},
	theme.ColorNameError:               {{0xb3, 0x36, 0x2c, 255}, {0xe5, 0x77, 0x6d, 255}},
	theme.ColorNameWarning:             {{0xa0, 0x6a, 0x10, 255}, {0xe0, 0xac, 0x55, 255}},
	theme.ColorNameSuccess:             {{0x2f, 0x85, 0x49, 255}, {0x63, 0xb6, 0x7c, 255}},
	colorRail:                          {{0xe8, 0xee, 0xf0, 255}, {0x22, 0x27, 0x2b, 255}},
}

// Color implements fyne.Theme.
func (l look) Color(n fyne.ThemeColorName, v fyne.ThemeVariant) color.Color {
	c, ok := palette[n]
	switch {
	case !ok:
		return l.Theme.Color(n, v)
	case v == theme.VariantDark:
		return c[1]
	}
	return c[0]
}

// Size implements fyne.Theme.
func (l look) Size(n fyne.ThemeSizeName) float32 {
	switch n {
	case theme.SizeNameText:
		return 13
	case theme.SizeNameCaptionText:
		return 11
	case theme.SizeNameHeadingText:
		return 22
	case theme.SizeNameInnerPadding:
		return 7
	case theme.SizeNameInputRadius:
		return 6
	case theme.SizeNameModalBlurRadius:
		return 0 // a second per frame without a GPU
	}
	return l.Theme.Size(n)
}

func colorOf(n fyne.ThemeColorName) color.Color {
	s := fyne.CurrentApp().Settings()
	return s.Theme().Color(n, s.ThemeVariant())
}

// panel is a plain surface that follows the theme.
func panel(n fyne.ThemeColorName) fyne.CanvasObject {
	p := &surface{name: n, rect: canvas.NewRectangle(colorOf(n))}
	p.ExtendBaseWidget(p)
	return p
}

type surface struct {
	widget.BaseWidget
	name fyne.ThemeColorName
	rect *canvas.Rectangle
}

// CreateRenderer implements fyne.Widget.
func (s *surface) CreateRenderer() fyne.WidgetRenderer { return widget.NewSimpleRenderer(s.rect) }

// Refresh follows a change between light and dark.
func (s *surface) Refresh() {
	s.rect.FillColor = colorOf(s.name)
	s.rect.Refresh()
}

// fixed takes up a width.
func fixed(width float32) fyne.CanvasObject {
	r := canvas.NewRectangle(color.Transparent)
	r.SetMinSize(fyne.NewSize(width, 0))
	return r
}

func gap(height float32) fyne.CanvasObject {
	r := canvas.NewRectangle(color.Transparent)
	r.SetMinSize(fyne.NewSize(0, height))
	return r
}

// heading is a page's title with a sentence below it.
func heading(title, sentence string) fyne.CanvasObject {
	h := widget.NewRichText(&widget.TextSegment{Text: title, Style: widget.RichTextStyle{
		SizeName: theme.SizeNameHeadingText, TextStyle: fyne.TextStyle{Bold: true}, ColorName: theme.ColorNameForeground}})
	return container.New(layout.NewCustomPaddedVBoxLayout(-6), h, words(sentence))
}

// words is text that wraps.
func words(s string) *widget.Label {
	l := widget.NewLabel(s)
	l.Wrapping = fyne.TextWrapWord
	return l
}

// dim is text that wraps, less prominent.
func dim(s string) *widget.Label {
	l := words(s)
	l.Importance = widget.LowImportance
	return l
}

func caption(s string) *widget.Label {
	l := widget.NewLabelWithStyle(s, fyne.TextAlignCenter, fyne.TextStyle{})
	l.SizeName = theme.SizeNameCaptionText
	l.Importance = widget.LowImportance
	l.Truncation = fyne.TextTruncateEllipsis
	return l
}

// railEntry is a page's name at the left.
func railEntry(title string, now, passed bool) fyne.CanvasObject {
	l := widget.NewLabel(title)
	icon := theme.RadioButtonIcon()
	switch {
	case now:
		l.TextStyle.Bold = true
		icon = theme.NewPrimaryThemedResource(theme.RadioButtonCheckedIcon())
	case passed:
		icon = theme.NewSuccessThemedResource(theme.ConfirmIcon())
	default:
		l.Importance = widget.LowImportance
	}
	return container.New(layout.NewCustomPaddedHBoxLayout(0), widget.NewIcon(icon), l)
}

// button is a button that Return presses too.
type button struct{ widget.Button }

func newButton(label string, icon fyne.Resource, tapped func()) *button {
	b := &button{}
	b.Text, b.Icon, b.OnTapped = label, icon, tapped
	b.ExtendBaseWidget(b)
	return b
}

// TypedKey implements fyne.Focusable.
func (b *button) TypedKey(e *fyne.KeyEvent) {
	if e.Name == fyne.KeyReturn || e.Name == fyne.KeyEnter {
		if !b.Disabled() {
			b.Tapped(nil)
		}
		return
	}
	if e.Name == fyne.KeyEscape {
		typedOnWindow(b, e)
		return
	}
	b.Button.TypedKey(e)
}

// check is a check box that leaves Escape to the window.
type check struct{ widget.Check }

func newCheck(label string, changed func(bool)) *check {
	c := &check{}
	c.Text, c.OnChanged = label, changed
	c.ExtendBaseWidget(c)
	return c
}

// TypedKey implements fyne.Focusable.
func (c *check) TypedKey(e *fyne.KeyEvent) {
	if e.Name == fyne.KeyEscape {
		typedOnWindow(c, e)
		return
	}
	c.Check.TypedKey(e)
}

// typedOnWindow gives a key that a widget got to its window.
func typedOnWindow(o fyne.CanvasObject, e *fyne.KeyEvent) {
	if c := fyne.CurrentApp().Driver().CanvasForObject(o); c != nil && c.OnTypedKey() != nil {
		c.OnTypedKey()(e)
	}
}
