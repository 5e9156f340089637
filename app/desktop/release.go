package desktop

import (
	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/driver/desktop"

	"github.com/hxen-project/hxen/app/desktop/screen"
	"github.com/hxen-project/hxen/app/text"
)

// releaseKey is a key that, pressed and let go of by itself, takes the keyboard
// back from a guest. Not every keyboard has the usual one, Right Ctrl.
type releaseKey struct {
	id    string // as it is remembered
	fyne  fyne.KeyName
	words string
}

// releaseKeys are the keys that can be chosen, in the order of screen.ReleaseKeys.
func releaseKeys() []releaseKey {
	return []releaseKey{
		{"rctrl", desktop.KeyControlRight, text.T("Right Ctrl")},
		{"altgr", desktop.KeyAltRight, text.T("Right Alt")},
		{"rsuper", desktop.KeySuperRight, text.T("Right Windows/Super")},
		{"menu", desktop.KeyMenu, text.T("Menu key")},
		{"f12", fyne.KeyF12, "F12"},
	}
}

// releaseKey is the one that is chosen.
func (a *App) releaseKey() releaseKey {
	for _, k := range releaseKeys() {
		if k.id == a.prefs.Release {
			return k
		}
	}
	return releaseKeys()[0]
}

// setRelease has another key take the keyboard back, in all windows.
func (a *App) setRelease(k releaseKey) {
	a.prefs.Release = k.id
	for _, c := range a.consoles {
		c.useRelease()
	}
	a.save()
}

func (c *consoleWindow) useRelease() {
	for _, code := range screen.ReleaseKeys() {
		if code.ID() == c.app.releaseKey().id {
			c.screen.SetReleaseKey(code)
		}
	}
}

// releaseMenu is the choice of the key.
func (c *consoleWindow) releaseMenu() *fyne.Menu {
	menu := fyne.NewMenu("")
	for _, k := range releaseKeys() {
		item := fyne.NewMenuItem(k.words, func() {
			c.app.setRelease(k)
			c.win.Canvas().Unfocus() // else nothing is told anew
			c.give()
		})
		item.Checked = k == c.app.releaseKey()
		menu.Items = append(menu.Items, item)
	}
	return menu
}
