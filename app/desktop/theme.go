package desktop

import (
	"image/color"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/theme"
)

// Colours beside Fyne's own names.
const (
	colorSurface fyne.ThemeColorName = "hxen-surface" // cards and panes on the background
	colorDim     fyne.ThemeColorName = "hxen-dim"     // secondary text
	colorChart   fyne.ThemeColorName = "hxen-chart"   // first line of a chart
	colorChart2  fyne.ThemeColorName = "hxen-chart2"  // second line of a chart
	colorOff     fyne.ThemeColorName = "hxen-off"     // state dot of a guest that is off
)

// look is HXEN's theme: Fyne's, denser, with one restrained accent colour. It
// follows the system's light or dark.
type look struct{ fyne.Theme }

func newLook() fyne.Theme { return look{theme.DefaultTheme()} }

type shades struct{ light, dark color.NRGBA }

func rgb(v uint32) color.NRGBA {
	return color.NRGBA{R: uint8(v >> 16), G: uint8(v >> 8), B: uint8(v), A: 255}
}

func alpha(v uint32, a uint8) color.NRGBA {
	c := rgb(v)
	c.A = a
	return c
}

var palette = map[fyne.ThemeColorName]shades{
	theme.ColorNamePrimary:             {rgb(0x1c7a8c), rgb(0x3fa7ba)},
	theme.ColorNameForegroundOnPrimary: {rgb(0xffffff), rgb(0x0c1a1e)},
	theme.ColorNameHyperlink:           {rgb(0x1c7a8c), rgb(0x5cbccc)},
	// It is laid over buttons, those in the primary colour too: it must differ from both.
	theme.ColorNameFocus:               {alpha(0x0a4f5e, 0x78), alpha(0xa4e6f2, 0x68)},
	theme.ColorNameSelection:           {alpha(0x1c7a8c, 0x2c), alpha(0x3fa7ba, 0x3c)},
	theme.ColorNameHover:               {alpha(0x1c3238, 0x0e), alpha(0xd8eef2, 0x10)},
	theme.ColorNamePressed:             {alpha(0x1c3238, 0x22), alpha(0xd8eef2, 0x28)},
	theme.ColorNameBackground:          {rgb(0xf4f6f7), rgb(0x1a1d20)},
	theme.ColorNameOverlayBackground:   {rgb(0xffffff), rgb(0x25292d)},
	theme.ColorNameMenuBackground:      {rgb(0xffffff), rgb(0x25292d)},
	theme.ColorNameHeaderBackground:    {rgb(0xffffff), rgb(0x212529)},
	theme.ColorNameForeground:          {rgb(0x20272b), rgb(0xe4e8ea)},
	theme.ColorNamePlaceHolder:         {rgb(0x6e7a80), rgb(0x8d989e)},
	theme.ColorNameDisabled:            {rgb(0x849096), rgb(0x78838a)},
	theme.ColorNameButton:              {rgb(0xe6eaec), rgb(0x32383d)},
	theme.ColorNameDisabledButton:      {rgb(0xeef0f1), rgb(0x272c30)},
	theme.ColorNameInputBackground:     {rgb(0xf3f5f6), rgb(0x1f2327)},
	theme.ColorNameInputBorder:         {rgb(0x98a2a7), rgb(0x6b757b)},
	theme.ColorNameSeparator:           {rgb(0xdbe0e3), rgb(0x30363b)},
	theme.ColorNameScrollBar:           {alpha(0x20272b, 0x60), alpha(0xe4e8ea, 0x60)},
	theme.ColorNameError:               {rgb(0xb3362c), rgb(0xe5776d)},
	theme.ColorNameWarning:             {rgb(0xa06a10), rgb(0xe0ac55)},
	theme.ColorNameSuccess:             {rgb(0x2f8549), rgb(0x63b67c)},
	theme.ColorNameForegroundOnError:   {rgb(0xffffff), rgb(0x2a0d0a)},
	theme.ColorNameForegroundOnWarning: {rgb(0xffffff), rgb(0x2a1c05)},
	theme.ColorNameForegroundOnSuccess: {rgb(0xffffff), rgb(0x0b2212)},
	colorSurface:                       {rgb(0xffffff), rgb(0x212529)},
	colorDim:                           {rgb(0x5f6b71), rgb(0x9aa5ab)},
	colorChart:                         {rgb(0x1c7a8c), rgb(0x4fb3c4)},
	colorChart2:                        {rgb(0xc07f2a), rgb(0xe0a354)},
	colorOff:                           {rgb(0xb4bdc2), rgb(0x58626a)},
}

// Color implements fyne.Theme.
func (l look) Color(n fyne.ThemeColorName, v fyne.ThemeVariant) color.Color {
	if s, ok := palette[n]; ok {
		if v == theme.VariantDark {
			return s.dark
		}
		return s.light
	}
	return l.Theme.Color(n, v)
}

var sizes = map[fyne.ThemeSizeName]float32{
	theme.SizeNameText:            13,
	theme.SizeNameCaptionText:     11,
	theme.SizeNameSubHeadingText:  15,
	theme.SizeNameHeadingText:     20,
	theme.SizeNamePadding:         4,
	theme.SizeNameInnerPadding:    7,
	theme.SizeNameInlineIcon:      18,
	theme.SizeNameInputRadius:     6,
	theme.SizeNameSelectionRadius: 5,
	theme.SizeNameScrollBar:       12,
	theme.SizeNameScrollBarSmall:  4,
	// Blurring what lies under a dialog costs a second per frame without a GPU.
	theme.SizeNameModalBlurRadius: 0,
}

// Size implements fyne.Theme.
func (l look) Size(n fyne.ThemeSizeName) float32 {
	if s, ok := sizes[n]; ok {
		return s
	}
	return l.Theme.Size(n)
}

// colorOf is the colour of a name in the theme and variant now in force.
func colorOf(n fyne.ThemeColorName) color.Color {
	s := fyne.CurrentApp().Settings()
	return s.Theme().Color(n, s.ThemeVariant())
}
