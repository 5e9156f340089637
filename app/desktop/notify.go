package desktop

import (
	"fyne.io/fyne/v2"

	"github.com/hxen-project/hxen/app/desktop/model"
	"github.com/hxen-project/hxen/app/text"
)

// notify has the desktop show what happens, where it has a place for that and the
// user has switched it on.
func (a *App) notify() {
	a.lib.Notify(func(n model.Notification) {
		if a.prefs.Notify {
			go a.fyne.SendNotification(fyne.NewNotification(n.Title, n.Text)) // the desktop may take its time
		}
	})
}

// notifyItem switches it on and off.
func (f *frame) notifyItem() *fyne.MenuItem {
	item := fyne.NewMenuItem(text.T("Desktop notifications"), func() {
		f.app.prefs.Notify = !f.app.prefs.Notify
		f.app.save()
	})
	item.Checked = f.app.prefs.Notify
	return item
}
