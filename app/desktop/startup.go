package desktop

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/app/client"
	"github.com/hxen-project/hxen/app/desktop/model"
	"github.com/hxen-project/hxen/app/text"
)

// showStartup is the page of what starts with the computer: a switch for each
// guest, its place, and what becomes of it when the computer stops.
func (f *frame) showStartup() {
	intro := wrapped(widget.MediumImportance)
	intro.SetText(text.T("These guests start with the computer, from top to bottom, once HXEN's service is installed on it: \"hxen service install\". When the computer stops, they are stopped from bottom to top."))
	intro.Show()
	rows := container.NewVBox()
	kept := map[*model.VM]*startupRow{} // the same objects again: one of them has the keyboard
	paint := func() {
		rows.Objects = nil
		for _, vm := range f.app.lib.StartOrder() {
			if kept[vm] == nil {
				kept[vm] = f.newStartupRow(vm)
			}
			kept[vm].refresh()
			rows.Objects = append(rows.Objects, kept[vm].box)
		}
		if len(rows.Objects) == 0 {
			rows.Add(widget.NewLabel(text.T("There are no guests yet.")))
		}
		rows.Refresh()
	}
	paint()
	stop := f.app.lib.Listen(func(model.News) { paint() })
	m := f.sheet(text.T("Start with the computer"), container.NewVBox(intro, rows), 620)
	m.form = m.scroll
	m.onClose = stop
}

// startupRow is one guest of the page.
type startupRow struct {
	vm    *model.VM
	on    *check
	words *widget.Label
	box   *fyne.Container
}

// startupName is how wide a guest's name may be, so that words and button have
// room beside it.
const startupName = 240

func (f *frame) newStartupRow(vm *model.VM) *startupRow {
	set := func(a client.Autostart) {
		vm.SetAutostart(a, func(err error) { f.failed(text.T("The start of %s could not be changed", vm.Name()), vm, err) })
	}
	r := &startupRow{vm: vm, words: widget.NewLabel("")}
	r.on = f.check("", false, func(now bool) {
		if now != vm.Autostart() { // else it follows the guest
			set(client.Autostart{On: &now})
		}
	})
	r.words.Importance = widget.LowImportance
	r.words.Truncation = fyne.TextTruncateEllipsis
	change := f.button(text.T("Change…"), func() { f.startupDialog(vm, set) })
	r.box = container.NewBorder(nil, nil, r.on, change, r.words)
	return r
}

func (r *startupRow) refresh() {
	vm := r.vm
	words := text.T("not started; %s when the computer stops", vm.OnHostStop())
	if vm.Autostart() {
		words = text.T("place %d, then %d s; %s when the computer stops", vm.Record.Order, vm.Record.StartDelay, vm.OnHostStop())
		if w := vm.WaitsFor(); w != "" {
			words += "; " + text.T("waits for %s", w)
		}
	}
	if why := vm.Waiting(); why != "" {
		words = text.T("waiting: %s", why)
	}
	r.words.SetText(words)
	r.on.SetChecked(vm.Autostart())
	r.on.SetText(ellipsis(vm.Name(), startupName, theme.TextSize(), fyne.TextStyle{}))
}

// startupDialog asks for one guest's place, delay and what becomes of it.
func (f *frame) startupDialog(vm *model.VM, set func(client.Autostart)) {
	order := f.entry(fmt.Sprint(vm.Record.Order), nil)
	delay := f.entry(fmt.Sprint(vm.Record.StartDelay), nil)
	waitFor := f.entry(vm.WaitsFor(), nil)
	ways := []string{"shutdown", "save", "poweroff"}
	names := []string{text.T("Shut it down"), text.T("Save its state"), text.T("Power it off")}
	how := f.choice(names, names[0], nil)
	for i, w := range ways {
		if vm.Record.OtherConfig[api.KeyOnHostStop] == w {
			how.SetSelectedIndex(i)
		}
	}
	problem := wrapped(widget.DangerImportance)
	form := widget.NewForm(
		widget.NewFormItem(text.T("Place in the order"), order),
		widget.NewFormItem(text.T("Seconds until the next"), delay),
		widget.NewFormItem(text.T("Wait for"), waitFor),
		widget.NewFormItem(text.T("When the computer stops"), how))
	form.Items[2].HintText = text.T("empty, network, or a path that must be there")
	var m *modal
	ok := f.button(text.T("Apply"), func() {
		place, perr := strconv.ParseInt(order.Text, 10, 64)
		pause, derr := strconv.ParseInt(delay.Text, 10, 64)
		if perr != nil || derr != nil || place < 0 || pause < 0 {
			problem.SetText(text.T("Place and seconds are whole numbers, 0 or more."))
			problem.Show()
			return
		}
		m.close()
		set(client.Autostart{Order: &place, Delay: &pause, WaitFor: &waitFor.Text, OnHostStop: &ways[how.SelectedIndex()]})
	})
	ok.Importance = widget.HighImportance
	m = f.modal(text.T("Start of %s", vm.Name()), container.NewVBox(form, problem), fyne.NewSize(460, 300),
		f.button(text.T("Cancel"), func() { m.close() }), ok)
	m.onEnter = ok.OnTapped
	m.focus(order)
}

// showTrash lists the deleted guests, to be restored or erased.
func (f *frame) showTrash() {
	f.app.lib.LoadTrash(func(list []api.Trashed, err error) {
		if err != nil {
			f.failed(text.T("The trash could not be read"), nil, err)
			return
		}
		f.trashDialog(list)
	})
}

func (f *frame) trashDialog(list []api.Trashed) *modal {
	rows := container.NewVBox()
	m := f.sheet(text.T("Deleted guests"), rows, 620)
	var paint func([]api.Trashed)
	// after shows what went wrong, over the trash as it is then.
	after := func(what string) func(error) {
		return func(err error) {
			f.app.lib.LoadTrash(func(list []api.Trashed, again error) {
				if again == nil && !m.closed {
					paint(list)
				}
				f.failed(what, nil, errors.Join(err, again))
			})
		}
	}
	paint = func(list []api.Trashed) {
		rows.Objects = nil
		for _, t := range list {
			rows.Add(f.trashRow(t, after))
		}
		if len(list) == 0 {
			rows.Add(widget.NewLabel(text.T("The trash is empty.")))
		}
		m.fit()
		m.focusLast()
	}
	paint(list)
	return m
}

// trashRow is one deleted guest.
func (f *frame) trashRow(t api.Trashed, after func(what string) func(error)) fyne.CanvasObject {
	words := text.T("%s, deleted %s", text.Size(t.Size), t.Deleted.Local().Format(time.DateTime))
	if t.Problem != "" {
		words += "; " + t.Problem
	}
	label := widget.NewLabel(words)
	label.Importance = widget.LowImportance
	label.Wrapping = fyne.TextWrapWord
	back := f.button(text.T("Restore"), func() {
		f.app.lib.Untrash(t.ID, after(text.T("%s could not be restored", t.Name)))
	})
	erase := f.button(text.T("Erase…"), func() {
		f.ask(text.T("Erase %s?", t.Name), text.T("%s and its disks in %s are deleted for good.", t.Name, t.Path), text.T("Erase"), true, func() {
			f.app.lib.Erase(t.ID, after(text.T("%s could not be erased", t.Name)))
		})
	})
	name := widget.NewLabelWithStyle(t.Name, fyne.TextAlignLeading, fyne.TextStyle{Bold: true})
	name.Truncation = fyne.TextTruncateEllipsis
	return container.NewBorder(nil, nil, nil, container.NewCenter(container.NewHBox(back, erase)), container.New(tight{}, name, label))
}
