package desktop

import (
	"strings"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/widget"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/app/desktop/model"
	"github.com/hxen-project/hxen/app/text"
)

// showDelete lists what deleting a guest would move and what it would leave,
// and asks which of the two ways is meant.
func (f *frame) showDelete(vm *model.VM) {
	vm.LoadDelete(func(d api.Deleted, err error) {
		if err != nil {
			f.failed(text.T("The files of %s could not be listed", vm.Name()), vm, err)
			return
		}
		f.deleteDialog(vm, d)
	})
}

func (f *frame) deleteDialog(vm *model.VM, d api.Deleted) *modal {
	intro := wrapped(widget.MediumImportance)
	intro.SetText(text.T("Nothing is erased: what is deleted goes to the trash folder of HXEN, from where it can be put back."))
	intro.Show()
	body := container.NewVBox(intro)
	if len(d.Trash) > 0 {
		table := newFacts(text.T("Goes to the trash"))
		table.set([]fact{{text.T("Files"), strings.Join(d.Trash, "\n")}})
		body.Add(table.box)
	}
	if len(d.Kept) > 0 {
		table := newFacts(text.T("Stays where it is"))
		table.set([]fact{{text.T("Files"), strings.Join(d.Kept, "\n")}})
		body.Add(table.box)
	}
	var m *modal
	do := func(keep bool) func() {
		return func() {
			m.close()
			vm.Delete(keep, func(_ api.Deleted, err error) {
				f.failed(text.T("%s could not be deleted", vm.Name()), vm, err)
			})
		}
	}
	cancel := f.button(text.T("Cancel"), func() { m.close() })
	keep := f.button(text.T("Delete, keep disks"), do(true))
	all := f.button(text.T("Move all to trash"), do(false))
	all.Importance = widget.DangerImportance
	m = f.read(text.T("Delete %s?", vm.Name()), nil, body, 600, cancel, keep, all)
	m.focus(cancel)
	return m
}

// showRename asks for another name.
func (f *frame) showRename(vm *model.VM) {
	f.askName(vm, text.T("Rename"), text.T("Rename %s", vm.Name()), vm.Name(), func(name string) {
		if name != vm.Name() {
			vm.Rename(name, func(err error) { f.failed(text.T("%s could not be renamed", vm.Name()), vm, err) })
		}
	})
}

// showClone asks for the name of a guest that is to be like vm.
func (f *frame) showClone(vm *model.VM) {
	f.askName(vm, text.T("Clone"), text.T("Clone %s", vm.Name()), text.T("%s 2", vm.Name()), func(name string) {
		vm.Clone(name, func(err error) { f.failed(text.T("%s could not be cloned", vm.Name()), vm, err) })
	})
}

func (f *frame) setTemplate(vm *model.VM, on bool) {
	vm.SetTemplate(on, func(err error) { f.failed(text.T("%s stays what it is", vm.Name()), vm, err) })
}

// askName asks for a name that vm could have.
func (f *frame) askName(vm *model.VM, verb, title, first string, do func(name string)) {
	problem := wrapped(widget.DangerImportance)
	var m *modal
	name := f.entry(first, nil)
	name.whole = true
	ok := f.button(verb, nil)
	ok.Importance = widget.HighImportance
	name.OnChanged = func(s string) {
		p := vm.NameProblem(s)
		problem.SetText(p)
		if p == "" {
			problem.Hide()
			ok.Enable()
		} else {
			problem.Show()
			ok.Disable()
		}
	}
	ok.OnTapped = func() {
		m.close()
		do(name.Text)
	}
	m = f.modal(title, container.NewVBox(name, problem), fyne.NewSize(420, 160),
		f.button(text.T("Cancel"), func() { m.close() }), ok)
	m.onEnter = func() {
		if !ok.Disabled() {
			ok.OnTapped()
		}
	}
	m.focus(name)
}
