package desktop

import (
	"net/url"
	"path/filepath"

	"fyne.io/fyne/v2/theme"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/app/desktop/model"
	"github.com/hxen-project/hxen/app/text"
)

// mend says what keeps a guest from being used and offers what can be done about
// it: its folder is broken, or an image has moved.
func (d *details) mend(vm *model.VM) {
	moved, is := vm.Moved()
	switch broken := model.Sentence(vm.Broken()); {
	case broken != "" && vm.Repairs() != "":
		d.broken.say(theme.ColorNameError, broken)
		d.broken.offer(text.T("Repair…"), func() { d.frame.askRepair(vm) })
	case broken != "" && vm.Log() != "":
		d.broken.say(theme.ColorNameError, broken)
		d.broken.offer(text.T("Show its folder"), func() { d.frame.showFolder(filepath.Dir(vm.Log())) })
	case broken == "" && is:
		d.broken.say(theme.ColorNameError, text.T("The image of disk %s is not there any more: %s", moved.Device, moved.Path))
		d.broken.offer(text.T("Find it…"), func() { d.frame.findImage(vm, moved) })
	default:
		d.broken.say(theme.ColorNameError, broken)
		d.broken.act.Hide()
	}
}

func (f *frame) askRepair(vm *model.VM) {
	f.ask(text.T("Repair %s?", vm.Name()), text.T("HXEN can %s. Nothing is deleted: settings that cannot be read are kept beside them.", vm.Repairs()),
		text.T("Repair"), false, func() {
			vm.Repair(func(made api.Ref, err error) {
				if f.failed(text.T("%s could not be repaired", vm.Name()), vm, err); err == nil && f.app.library != nil {
					f.app.library.wanted = string(made) // a copy has another identity now
					f.app.library.search.SetText("")    // and another name
					f.app.library.relist()
				}
			})
		})
}

// findImage asks where a disk's image is now.
func (f *frame) findImage(vm *model.VM, d model.Disk) {
	f.chooseFile(d.Path, func(path string) {
		vm.Relink(d, path, func(err error) {
			f.failed(text.T("%s cannot use that image", vm.Name()), vm, err)
		})
	})
}

// showFolder shows a folder in the desktop's own program for that.
func (f *frame) showFolder(dir string) {
	err := f.app.fyne.OpenURL(&url.URL{Scheme: "file", Path: filepath.ToSlash(dir)})
	f.failed(text.T("The folder %s could not be shown", dir), nil, err)
}
