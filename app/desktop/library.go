package desktop

import (
	"context"
	"slices"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/driver/desktop"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/app/desktop/model"
	"github.com/hxen-project/hxen/app/text"
)

// libraryWindow is the main window: guests at the left, the selected one at the
// right, what can be done to it above.
type libraryWindow struct {
	frame
	lib    *model.Library
	thumbs *model.Thumbs
	stop   func()
	native *native

	search  *entry
	list    *guestList
	none    *widget.Label // instead of the list, when the search finds nothing
	bar     *actionBar
	details *details
	tasks   *taskBar
	conn    *banner // the service does not answer, trying again
	host    *banner // QEMU is missing, or guests are emulated
	split   *container.Split
	middle  *fyne.Container // split, or a page that says what to do
	empty   *emptyPage

	selected api.Ref
	at       int    // row of the selected guest, for its neighbour when it goes
	wanted   string // name of the guest to select when it appears
}

func newLibraryWindow(a *App) *libraryWindow {
	w := &libraryWindow{lib: a.lib}
	w.init(a, a.fyne.NewWindow("HXEN"))
	w.win.SetMaster()
	w.build()
	w.keys()
	w.thumbs = a.lib.NewThumbs(w.visible)
	w.stop = a.lib.Listen(w.hear)
	w.win.SetOnDropped(func(_ fyne.Position, uris []fyne.URI) { w.dropped(uris) })
	w.win.SetOnClosed(w.closed)
	size := fyne.NewSize(1000, 680)
	if a.prefs.Width >= 400 && a.prefs.Height >= 300 {
		size = fyne.NewSize(a.prefs.Width, a.prefs.Height)
	}
	w.win.Resize(size)
	w.hear(model.News{What: model.ChangedList | model.ChangedConn | model.ChangedTasks | model.ChangedHost})
	return w
}

func (w *libraryWindow) build() {
	w.search = w.entry("", func(s string) { w.lib.Search(s) })
	w.search.SetPlaceHolder(text.T("Search"))
	w.search.Icon = theme.SearchIcon()
	w.search.onEscape = func() {
		w.search.SetText("")
		w.win.Canvas().Focus(w.list)
	}
	w.search.onDown = func() { w.win.Canvas().Focus(w.list) }
	w.list = newGuestList(w)
	w.none = widget.NewLabel("")
	w.none.Alignment, w.none.Wrapping, w.none.Importance = fyne.TextAlignCenter, fyne.TextWrapWord, widget.LowImportance
	w.bar = newActionBar(&w.frame)
	w.native = newNative(&w.frame)
	w.details = newDetails(&w.frame, w.native.aside)
	w.tasks = newTaskBar(&w.frame)
	w.conn, w.host = w.banner(), w.banner()
	w.conn.offer(text.T("Retry now"), w.lib.Retry)
	w.empty = newEmptyPage(w)

	newVM := w.iconButton(text.T("New"), theme.ContentAddIcon(), func() { w.newVM("") })
	newVM.Importance = widget.HighImportance
	more := w.iconButton("", iconMore, nil)
	more.Importance = widget.LowImportance
	more.OnTapped = func() { w.popUp(w.mainMenu(), more) }
	top := container.NewBorder(nil, nil, container.NewHBox(newVM, layoutGap(4)), more, w.bar.box)

	left := container.NewBorder(container.New(margin(4), w.search), nil, nil, nil, container.NewStack(container.NewVBox(w.none), w.list))
	w.split = container.NewHSplit(left, w.details.root)
	w.split.Offset = 0.34
	if s := w.app.prefs.Split; s > 0.1 && s < 0.9 {
		w.split.Offset = s
	}
	w.middle = container.NewStack(container.NewWithoutLayout(w.native.pixel), w.split, w.empty.root)
	head := container.NewVBox(container.New(margin(5), top), widget.NewSeparator(), w.conn, w.host)
	w.win.SetContent(container.NewBorder(head, w.tasks.box, nil, nil, w.middle))
}

// popUp shows a menu below a button.
func (f *frame) popUp(menu *fyne.Menu, under fyne.CanvasObject) {
	p := widget.NewPopUpMenu(menu, f.win.Canvas())
	at := f.app.fyne.Driver().AbsolutePositionForObject(under)
	at.Y += under.Size().Height
	at.X = max(0, min(at.X, f.win.Canvas().Size().Width-p.MinSize().Width-4))
	p.ShowAtPosition(at)
}

func (w *libraryWindow) mainMenu() *fyne.Menu {
	return fyne.NewMenu("",
		fyne.NewMenuItem(text.T("New virtual machine…"), func() { w.newVM("") }),
		fyne.NewMenuItemSeparator(),
		fyne.NewMenuItem(text.T("Start with the computer…"), func() { w.showStartup() }),
		fyne.NewMenuItem(text.T("Deleted guests…"), func() { w.showTrash() }),
		fyne.NewMenuItem(text.T("This computer…"), func() { w.showHost() }),
		w.notifyItem(),
		fyne.NewMenuItem(text.T("Keyboard shortcuts…"), func() { w.showHelp() }),
		fyne.NewMenuItem(text.T("About HXEN…"), func() { w.showAbout() }),
		fyne.NewMenuItemSeparator(),
		fyne.NewMenuItem(text.T("Close window"), func() { w.win.Close() }))
}

// hear takes in what changed in the library.
func (w *libraryWindow) hear(n model.News) {
	if n.What&(model.ChangedConn|model.ChangedList|model.ChangedHost) != 0 {
		w.banners()
	}
	if n.What&(model.ChangedConn|model.ChangedList) != 0 {
		w.relist()
	} else if n.What&(model.ChangedVM|model.ChangedHost) != 0 {
		for i, vm := range w.lib.VMs() {
			if n.What&model.ChangedHost != 0 || n.VMs[vm.Ref] {
				w.list.RefreshItem(i)
			}
		}
	}
	if vm := w.current(); vm != nil && (n.Touches(vm.Ref) || n.What&(model.ChangedConn|model.ChangedHost) != 0) {
		w.bar.show(vm)
		w.details.show(vm)
	}
	if n.What&model.ChangedTasks != 0 {
		w.tasks.set(w.lib.Tasks())
	}
}

func (w *libraryWindow) banners() {
	state, err := w.lib.State()
	why := ""
	if state == model.Lost {
		why = text.T("The connection to the service was lost; trying again. Guests go on running.")
		if p, is := model.Explain("", nil, err); is {
			why += "\n" + p.Why
		}
	}
	w.conn.say(theme.ColorNameWarning, why)
	h := w.lib.Host()
	if h == nil || state == model.Failed {
		w.host.say(theme.ColorNameWarning, "")
		return
	}
	color := theme.ColorNameWarning
	if h.Missing != "" {
		color = theme.ColorNameError
	}
	notice := model.HostNotice(*h)
	if notice == w.app.prefs.Dismissed {
		notice = ""
	}
	w.host.say(color, notice)
	w.host.closable(func() {
		w.app.prefs.Dismissed = notice
		w.app.save()
	})
}

// relist shows the guests there are now, keeping the selection on its guest.
func (w *libraryWindow) relist() {
	w.empty.refresh()
	if w.empty.shown() {
		w.split.Hide()
	} else {
		w.split.Show()
	}
	w.list.Refresh()
	vms := w.lib.VMs()
	w.none.Hide()
	if len(vms) == 0 {
		w.none.SetText(text.T("Nothing matches “%s”. Esc clears the search.", w.search.Text))
		w.none.Show()
	}
	if w.wanted != "" {
		if vm := w.lib.Find(w.wanted); vm != nil {
			w.selected, w.wanted = vm.Ref, ""
		}
	}
	for i, vm := range vms {
		if vm.Ref == w.selected {
			w.list.Select(i)
			w.turnTo(vm)
			return
		}
	}
	if len(vms) > 0 {
		i := min(w.at, len(vms)-1)
		w.list.Select(i)
		w.turnTo(vms[i])
		return
	}
	w.list.UnselectAll()
	w.selected = ""
	w.turnTo(nil)
}

// turnTo makes vm the selected guest.
func (w *libraryWindow) turnTo(vm *model.VM) {
	if vm != nil {
		w.selected, w.at = vm.Ref, max(0, slices.Index(w.lib.VMs(), vm))
		w.details.root.Show()
	} else {
		w.details.root.Hide()
	}
	w.bar.show(vm)
	w.details.show(vm)
}

// current is the selected guest.
func (w *libraryWindow) current() *model.VM {
	for _, vm := range w.lib.VMs() {
		if vm.Ref == w.selected {
			return vm
		}
	}
	return nil
}

// visible are the guests whose thumbnails are on screen.
func (w *libraryWindow) visible() []*model.VM {
	if w.native.minimised() {
		w.details.setSeen(false)
		return nil
	}
	w.details.setSeen(true)
	if !w.split.Visible() {
		return nil
	}
	vms := w.lib.VMs()
	first, last := w.list.onScreen()
	out := append([]*model.VM(nil), vms[min(first, len(vms)):min(last, len(vms))]...)
	if vm := w.current(); vm != nil {
		out = append(out, vm)
	}
	return out
}

// dropped starts the wizard with a file that was dropped on the window.
func (w *libraryWindow) dropped(uris []fyne.URI) {
	if w.inDialog() {
		return
	}
	for _, u := range uris {
		if u.Scheme() == "file" {
			w.newVM(u.Path())
			return
		}
	}
}

func (w *libraryWindow) closed() {
	size := w.win.Canvas().Size()
	w.app.prefs.Width, w.app.prefs.Height, w.app.prefs.Split = size.Width, size.Height, w.split.Offset
	w.details.monitor.Show(nil)
	w.stop()
}

// newVM starts the wizard; the guest that it makes is selected.
func (w *libraryWindow) newVM(path string) *wizard {
	return w.showWizard(path, func(c api.Created) {
		w.wanted = string(c.VM)
		w.search.SetText("")
		w.relist()
		w.win.Canvas().Focus(w.list)
	})
}

// guestList is the list of guests: Enter opens, Delete deletes.
type guestList struct {
	widget.List
	window  *libraryWindow
	focused bool
}

// FocusGained and FocusLost are not the list's own: that highlights a row of its
// choice beside the selected one.
func (l *guestList) FocusGained() { l.focus(true) }
func (l *guestList) FocusLost()   { l.focus(false) }

func (l *guestList) focus(on bool) {
	l.focused = on
	l.Refresh()
}

func newGuestList(w *libraryWindow) *guestList {
	l := &guestList{window: w}
	l.Length = func() int { return len(w.lib.VMs()) }
	l.CreateItem = func() fyne.CanvasObject {
		r := newRow()
		r.onTap = func(vm *model.VM) {
			w.win.Canvas().Focus(l)
			w.selectVM(vm)
		}
		r.onOpen = w.app.openConsole
		r.onMenu = func(vm *model.VM, at fyne.Position) {
			w.selectVM(vm)
			widget.ShowPopUpMenuAtPosition(w.menuFor(vm), w.win.Canvas(), at)
		}
		return r
	}
	l.UpdateItem = func(i widget.ListItemID, o fyne.CanvasObject) {
		if vms := w.lib.VMs(); i < len(vms) {
			r := o.(*row)
			setVisible(r.mark, l.focused && vms[i].Ref == w.selected)
			r.set(vms[i])
		}
	}
	l.OnSelected = func(i widget.ListItemID) {
		if vms := w.lib.VMs(); i < len(vms) && vms[i].Ref != w.selected {
			w.turnTo(vms[i])
			l.Refresh()
		}
	}
	l.HideSeparators = true
	l.ExtendBaseWidget(l)
	return l
}

func (w *libraryWindow) selectVM(vm *model.VM) {
	for i, v := range w.lib.VMs() {
		if v == vm {
			w.list.Select(i)
		}
	}
}

// TypedKey moves the selection with the arrows and acts on it.
func (l *guestList) TypedKey(e *fyne.KeyEvent) {
	w := l.window
	vms := w.lib.VMs()
	at := 0
	for i, vm := range vms {
		if vm.Ref == w.selected {
			at = i
		}
	}
	switch e.Name {
	case fyne.KeyUp:
		at--
	case fyne.KeyDown:
		at++
	case fyne.KeyHome:
		at = 0
	case fyne.KeyEnd:
		at = len(vms) - 1
	case fyne.KeyReturn, fyne.KeyEnter:
		if vm := w.current(); vm != nil && vm.Broken() == "" {
			w.app.openConsole(vm)
		}
		return
	case fyne.KeyDelete:
		w.act(func(a action) bool { return a.key == fyne.KeyDelete })
		return
	case fyne.KeyF1, fyne.KeyF2:
		w.typedKey(e)
		return
	case desktop.KeyMenu:
		w.rowMenu(at)
		return
	case fyne.KeyEscape:
		w.search.SetText("")
		return
	default:
		return
	}
	if at = min(max(at, 0), len(vms)-1); at >= 0 {
		l.Select(at)
	}
}

// rowMenu shows the menu of the selected guest, which is in row at, at its row.
func (w *libraryWindow) rowMenu(at int) {
	if vm := w.current(); vm != nil {
		pos := w.app.fyne.Driver().AbsolutePositionForObject(w.list)
		y := float32(at)*(rowHeight+theme.Padding()) - w.list.GetScrollOffset()
		widget.ShowPopUpMenuAtPosition(w.menuFor(vm), w.win.Canvas(), pos.AddXY(rowThumbW, max(0, y)+rowHeight/2))
	}
}

// onScreen is the range of rows that are in view.
func (l *guestList) onScreen() (first, last int) {
	pitch := float32(rowHeight) + theme.Padding()
	first = int(l.GetScrollOffset() / pitch)
	return first, first + int(l.Size().Height/pitch) + 2
}

// act does the first action that is meant and allowed.
func (w *libraryWindow) act(meant func(action) bool) {
	vm := w.current()
	for _, a := range actions() {
		if meant(a) && a.can(vm) {
			a.do(&w.frame, vm)
			return
		}
	}
}

// keys sets the window's shortcuts: those of the actions, and its own.
func (w *libraryWindow) keys() {
	type chord struct {
		key fyne.KeyName
		mod fyne.KeyModifier
	}
	seen := map[chord]bool{}
	for _, a := range actions() {
		c := chord{a.key, a.mod}
		if a.key != "" && !seen[c] {
			seen[c] = true
			w.shortcut(c.key, c.mod, func() { w.act(func(a action) bool { return a.key == c.key && a.mod == c.mod }) })
		}
	}
	w.shortcut(fyne.KeyN, ctrl, func() { w.newVM("") })
	w.shortcut(fyne.KeyF, ctrl, func() { w.win.Canvas().Focus(w.search) })
	w.shortcut(fyne.KeyL, ctrl, func() { w.win.Canvas().Focus(w.list) })
	w.shortcut(fyne.KeyI, ctrl, w.showHost)
	w.shortcut(fyne.KeySlash, ctrl, w.showHelp)
	w.win.Canvas().SetOnTypedKey(w.typedKey)
}

// typedKey gets keys that no widget uses.
func (w *libraryWindow) typedKey(e *fyne.KeyEvent) {
	if w.inDialog() {
		w.frame.typedKey(e)
		return
	}
	switch e.Name {
	case fyne.KeyF1:
		w.showHelp()
	case fyne.KeyF2:
		w.act(func(a action) bool { return a.op == model.OpRename })
	default:
		w.win.Canvas().Focus(w.list)
		w.list.TypedKey(e)
	}
}

// showHost asks anew and shows what the host can give.
func (w *libraryWindow) showHost() {
	w.lib.Async(func(ctx context.Context) error { w.lib.RefreshHost(ctx); return nil }, func(error) { w.showHostInfo() })
}
