package desktop

import (
	"context"
	"errors"
	"fmt"
	"image"
	"image/png"
	"slices"
	"strings"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/dialog"
	"fyne.io/fyne/v2/storage"

	"github.com/hxen-project/hxen/app/desktop/model"
	"github.com/hxen-project/hxen/app/desktop/screen"
	"github.com/hxen-project/hxen/app/text"
)

// combinations are what the host's system may keep for itself.
var combinations = []string{
	"ctrl-alt-delete", "ctrl-alt-backspace", "alt-tab", "alt-f4", "alt-f2", "leftmeta", "menu", "print", "escape",
	"ctrl-alt-f1", "ctrl-alt-f2", "ctrl-alt-f3", "ctrl-alt-f7",
}

// keyTitles are the combinations as people write them.
func keyTitle(combination string) string {
	words := strings.Split(combination, "-")
	for i, w := range words {
		words[i] = strings.ToUpper(w[:1]) + w[1:]
	}
	title := strings.Join(words, "+")
	return strings.NewReplacer("Leftmeta", text.T("Windows/Super"), "Delete", "Del", "Print", text.T("Print screen"), "Menu", text.T("Menu key")).Replace(title)
}

func (c *consoleWindow) keysMenu() *fyne.Menu {
	release := fyne.NewMenuItem(text.T("Key that frees the keyboard"), nil)
	release.ChildMenu = c.releaseMenu() // high up, where a small window has room for it
	menu := fyne.NewMenu("", fyne.NewMenuItem(text.T("Type the clipboard as keystrokes"), c.typeClipboard), release, fyne.NewMenuItemSeparator())
	for _, k := range combinations {
		menu.Items = append(menu.Items, fyne.NewMenuItem(keyTitle(k), func() { c.send(k) }))
	}
	return menu
}

// send presses a combination in the guest and gives the keyboard to it.
func (c *consoleWindow) send(combination string) {
	c.failed(text.T("%s could not be sent", keyTitle(combination)), c.vm, c.screen.SendKeys(combination))
	if !c.inDialog() {
		c.give()
	}
}

// typeClipboard types the host's clipboard in the guest; the same again while
// it types stops it.
func (c *consoleWindow) typeClipboard() {
	if c.typing != nil {
		c.typing()
		return
	}
	words := c.app.fyne.Clipboard().Content()
	if words == "" {
		c.toast.show(text.T("The clipboard holds no text."))
		return
	}
	if c.onTab {
		c.serial.typeIn(words)
		c.serial.focus()
		return
	}
	var missing []rune
	c.toast.show(text.T("Typing the clipboard. The guest's keyboard should be set to the US layout."))
	c.typing = c.app.lib.Async(func(ctx context.Context) (err error) {
		missing, err = c.screen.TypeText(ctx, words)
		return err
	}, func(err error) {
		c.typing = nil
		if err == nil && len(missing) > 0 {
			err = errors.New(text.T("there are no keys for %s on a US keyboard; the rest was typed", string(missing)))
		}
		c.failed(text.T("Not all of the clipboard was typed"), nil, err)
	})
	c.screen.Grab()
}

func (c *consoleWindow) cdMenu() *fyne.Menu {
	cd, has := c.vm.CD()
	insert := fyne.NewMenuItem(text.T("Insert a CD image…"), func() {
		c.chooseFile(cd.Path, func(p string) { c.insert(p) })
	})
	eject := fyne.NewMenuItem(text.T("Eject"), func() {
		svc, ref := c.app.lib.Service(), c.vm.Ref
		c.app.lib.Async(func(ctx context.Context) error { return svc.EjectCD(ctx, ref) },
			func(err error) { c.failed(text.T("The CD could not be ejected"), c.vm, err) })
	})
	can := has && c.vm.Allows(model.OpMedia)
	insert.Disabled, eject.Disabled = !can, !can || cd.Empty
	now := fyne.NewMenuItem(text.T("No CD drive"), nil)
	if has {
		now.Label = text.T("In the drive: %s", cd.Name())
	}
	now.Disabled = true
	return fyne.NewMenu("", now, insert, eject)
}

func (c *consoleWindow) insert(path string) {
	svc, ref := c.app.lib.Service(), c.vm.Ref
	c.app.lib.Async(func(ctx context.Context) error { return svc.InsertCD(ctx, ref, path) },
		func(err error) { c.failed(text.T("The CD image could not be inserted"), c.vm, err) })
}

// dropped puts a CD image that was dropped on the window into the drive.
func (c *consoleWindow) dropped(uris []fyne.URI) {
	for _, u := range uris {
		if u.Scheme() == "file" && isISO(u.Path()) {
			c.insert(u.Path())
			return
		}
	}
}

// scalings are the modes with their names in settings and words in the menu.
func scalings() []struct {
	mode        screen.Mode
	name, words string
} {
	return []struct {
		mode        screen.Mode
		name, words string
	}{
		{screen.Fit, "fit", text.T("Fit the window")},
		{screen.OneToOne, "pixels", text.T("One pixel to one")},
		{screen.Integer, "integer", text.T("Whole multiples")},
		{screen.ResizeGuest, "resize", text.T("Resize the guest's screen")},
	}
}

func modeNamed(name string) screen.Mode {
	for _, s := range scalings() {
		if s.name == name {
			return s.mode
		}
	}
	return screen.Fit
}

func modeName(m screen.Mode) string { return scalings()[m].name }

func (c *consoleWindow) setMode(m screen.Mode) { c.screen.SetMode(m) }

func (c *consoleWindow) viewMenu() *fyne.Menu {
	menu := fyne.NewMenu("")
	for _, s := range scalings() {
		item := fyne.NewMenuItem(s.words, func() {
			c.setMode(s.mode)
			c.give()
		})
		item.Checked = s.mode == c.screen.Mode()
		menu.Items = append(menu.Items, item)
	}
	full := fyne.NewMenuItem(text.T("Full screen"), c.toggleFull)
	full.Checked = c.win.FullScreen()
	menu.Items = append(menu.Items, fyne.NewMenuItemSeparator(), full)
	return menu
}

// toggleFull goes to full screen, where the toolbar hides at the upper edge,
// and back.
func (c *consoleWindow) toggleFull() {
	full := !c.win.FullScreen()
	c.win.SetFullScreen(full)
	c.arrange(full)
	c.squeeze.rename(c.full, text.T("Full screen"))
	if full {
		c.squeeze.rename(c.full, text.T("Leave full screen"))
	}
	c.give()
}

// showBar shows or hides the toolbar in full screen.
func (c *consoleWindow) showBar(on bool) { c.reveal.show(on) }

func (c *consoleWindow) saveScreenshot() {
	if img := c.screen.Snapshot(); img != nil {
		c.savePicture(img)
		return
	}
	c.toast.show(text.T("There is no picture yet."))
}

// savePicture asks for a file and writes a picture to it as PNG.
func (c *consoleWindow) savePicture(img image.Image) {
	d := dialog.NewFileSave(func(w fyne.URIWriteCloser, err error) {
		if w == nil {
			c.failed(text.T("The screenshot could not be saved"), nil, err)
			return
		}
		c.app.lib.Async(func(context.Context) error {
			return errors.Join(png.Encode(w, img), w.Close())
		}, func(err error) {
			c.failed(text.T("The screenshot could not be saved"), nil, err)
			if err == nil {
				c.toast.show(text.T("Saved %s", w.URI().Path()))
			}
		})
	}, c.win)
	d.SetFilter(storage.NewExtensionFileFilter([]string{".png"}))
	d.SetFileName(fmt.Sprintf("%s.png", strings.Map(plainRune, c.vm.Name())))
	c.showFiles(d)
}

// plainRune keeps what may stand in a file's name on every system.
func plainRune(r rune) rune {
	if strings.ContainsRune(`/\:*?"<>|`, r) || r < ' ' {
		return '-'
	}
	return r
}

// chooseTab is switchTab by the user, who is not asked again.
func (c *consoleWindow) chooseTab() {
	c.chose = true
	c.switchTab()
}

// machineMenu is what can be done with the guest; its console is open already.
func (c *consoleWindow) machineMenu() *fyne.Menu {
	menu := c.menuFor(c.vm)
	menu.Items = slices.DeleteFunc(menu.Items, func(i *fyne.MenuItem) bool { return i.Label == text.T("Open") })
	return menu
}

// switchTab turns between the screen and the serial line.
func (c *consoleWindow) switchTab() {
	c.onTab = !c.onTab
	view := c.screen.View()
	label := text.T("Serial")
	if c.onTab {
		view, label = c.serial.view(), text.T("Screen")
	} else {
		c.startScreen()
	}
	c.squeeze.rename(c.tab, label)
	c.hint.SetText("")
	c.center.Objects[0] = view
	c.center.Refresh()
	c.refresh()
	c.give()
}

// keys sets what the keyboard does while the guest does not have it.
func (c *consoleWindow) keys() {
	for _, a := range actions() {
		if a.key == "" || a.key == fyne.KeyO {
			continue
		}
		c.shortcut(a.key, a.mod, func() {
			for _, b := range actions() {
				if b.key == a.key && b.mod == a.mod && b.can(c.vm) {
					b.do(&c.frame, c.vm)
					return
				}
			}
		})
	}
	c.shortcut(fyne.KeyTab, ctrl, c.chooseTab)
	c.shortcut(fyne.KeyS, ctrlShift, c.saveScreenshot)
	c.shortcut(fyne.KeyV, ctrlShift, c.typeClipboard)
	c.win.Canvas().SetOnTypedKey(func(e *fyne.KeyEvent) {
		switch {
		case c.inDialog():
			c.typedKey(e)
		case e.Name == fyne.KeyF11:
			c.toggleFull()
		case e.Name == fyne.KeyF1:
			c.showHelp()
		case e.Name == fyne.KeyReturn || e.Name == fyne.KeyEnter:
			if c.overlay.do != nil {
				c.overlay.do()
				return
			}
			c.give()
		}
	})
}

// consoleKeys are the console window's keys, for the help.
func consoleKeys(release releaseKey) []fact {
	return []fact{
		{release.words, text.T("Press and release: the keyboard is this window's again")},
		{text.T("Then Enter"), text.T("Give the keyboard to the guest, or start the guest")},
		{text.T("Then F11"), text.T("Full screen, and back")},
		{text.T("Then %s", keyText(fyne.KeyTab, ctrl)), text.T("Screen or serial line")},
		{text.T("Then %s", keyText(fyne.KeyS, ctrlShift)), text.T("Save a screenshot")},
		{text.T("Then %s", keyText(fyne.KeyV, ctrlShift)), text.T("Type the clipboard as keystrokes")},
		{text.T("Then Tab"), text.T("Go through the toolbar")},
	}
}

// waitWindow stands in for the console of a guest that is not known yet, and
// says so if there is none.
func (a *App) waitWindow(name string) {
	f := &frame{}
	f.init(a, a.fyne.NewWindow(text.T("%s — HXEN", name)))
	f.win.Resize(fyne.NewSize(640, 480))
	o := newOverlay(f)
	f.win.SetContent(o.root)
	show := func() {
		state, err := a.lib.State()
		x := cover{title: text.T("Connecting…"), busy: true}
		switch {
		case state == model.Online && a.lib.Count() == 0, state == model.Online && a.lib.Find(name) == nil:
			x = cover{title: text.T("There is no virtual machine named %s", name), words: text.T("It may have been renamed or deleted, or two have this name.")}
		case state == model.Failed || state == model.Lost:
			p, _ := model.Explain("", nil, err)
			x = cover{title: text.T("The service does not answer"), words: strings.TrimSpace(p.Why + "\n" + p.Cure), label: text.T("Retry"), do: a.lib.Retry}
		}
		o.show(x)
	}
	var stop func()
	stop = a.lib.Listen(func(model.News) {
		if vm := a.lib.Find(name); vm != nil {
			stop()
			a.openConsole(vm)
			f.win.Close()
			return
		}
		show()
	})
	f.win.SetOnClosed(stop)
	show()
	f.win.Show()
}
