package desktop

import (
	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/theme"

	"github.com/hxen-project/hxen/app/desktop/model"
	"github.com/hxen-project/hxen/app/text"
)

// action is one thing that a user can do to a guest: the toolbar, the menu of a
// row, the console's power menu and the shortcuts all come from this table.
type action struct {
	label  string
	icon   fyne.Resource
	op     string       // the service must allow it; empty: always there
	key    fyne.KeyName // empty: none
	mod    fyne.KeyModifier
	menu   bool                 // in menus only
	when   func(*model.VM) bool // nil: always
	danger string               // the question to ask first, for the guest's name
	verb   string               // what the question's button says
	fails  string               // what failed, for the guest's name
	run    func(*frame, *model.VM)
}

const (
	ctrl      = fyne.KeyModifierShortcutDefault
	ctrlShift = fyne.KeyModifierShortcutDefault | fyne.KeyModifierShift
)

// actions in the order of toolbar and menus.
func actions() []action {
	return []action{
		{label: text.T("Start"), icon: theme.MediaPlayIcon(), op: model.OpStart, key: fyne.KeyR, mod: ctrl,
			fails: "%s could not be started"},
		{label: text.T("Open"), icon: iconScreen, key: fyne.KeyO, mod: ctrl,
			run: func(f *frame, vm *model.VM) { f.app.openConsole(vm) }},
		{label: text.T("Pause"), icon: theme.MediaPauseIcon(), op: model.OpPause, key: fyne.KeyP, mod: ctrl,
			fails: "%s could not be paused"},
		{label: text.T("Resume"), icon: theme.MediaPlayIcon(), op: model.OpResume, key: fyne.KeyP, mod: ctrl,
			fails: "%s could not be resumed"},
		{label: text.T("Resume"), icon: theme.MediaPlayIcon(), op: model.OpRestore, key: fyne.KeyR, mod: ctrl,
			fails: "%s could not go on from its saved state"},
		{label: text.T("Save state"), icon: theme.DocumentSaveIcon(), op: model.OpSave, key: fyne.KeyS, mod: ctrl, menu: true,
			fails: "The state of %s could not be saved, and it goes on running"},
		{label: text.T("Discard saved state"), icon: theme.ContentClearIcon(), op: model.OpPowerOff, menu: true, when: saved,
			danger: "Discard the saved state of %s? It is like pulling the plug at the moment when it was saved: what it had not written to its disks is lost.",
			verb:   text.T("Discard"), fails: "The saved state of %s could not be discarded"},
		{label: text.T("Shut down"), icon: iconShutdown, op: model.OpShutdown, key: fyne.KeyD, mod: ctrl,
			fails: "%s could not be shut down"},
		{label: text.T("Restart"), icon: iconRestart, op: model.OpRestart, key: fyne.KeyE, mod: ctrl,
			fails: "%s could not be restarted"},
		{label: text.T("Power off"), icon: iconPower, op: model.OpPowerOff, key: fyne.KeyK, mod: ctrl, when: notSaved,
			danger: "Power off %s? It is like pulling the plug: what is not saved in it is lost.",
			verb:   text.T("Power off"), fails: "%s could not be powered off"},
		{label: text.T("Reset"), icon: theme.ViewRefreshIcon(), op: model.OpReset, key: fyne.KeyE, mod: ctrlShift, menu: true,
			danger: "Reset %s? It starts again at once: what is not saved in it is lost.",
			verb:   text.T("Reset"), fails: "%s could not be reset"},
		{label: text.T("Settings"), icon: theme.SettingsIcon(), key: fyne.KeyT, mod: ctrl,
			run: func(f *frame, vm *model.VM) { f.showSettings(vm) }},
		{label: text.T("Rename"), icon: theme.DocumentCreateIcon(), op: model.OpRename, key: fyne.KeyM, mod: ctrl, menu: true,
			run: func(f *frame, vm *model.VM) { f.showRename(vm) }},
		{label: text.T("Clone"), icon: theme.ContentCopyIcon(), op: model.OpClone, menu: true,
			run: func(f *frame, vm *model.VM) { f.showClone(vm) }},
		{label: text.T("Make it a template"), icon: theme.ContentCopyIcon(), op: model.OpTemplate, menu: true,
			when: func(vm *model.VM) bool { return !vm.Template() },
			run:  func(f *frame, vm *model.VM) { f.setTemplate(vm, true) }},
		{label: text.T("Make it a guest again"), icon: theme.ContentCopyIcon(), op: model.OpTemplate, menu: true,
			when: (*model.VM).Template,
			run:  func(f *frame, vm *model.VM) { f.setTemplate(vm, false) }},
		{label: text.T("Delete"), icon: theme.DeleteIcon(), op: model.OpDestroy, key: fyne.KeyDelete, mod: ctrl,
			run: func(f *frame, vm *model.VM) { f.showDelete(vm) }},
	}
}

func saved(vm *model.VM) bool    { return vm.Is(model.Suspended) }
func notSaved(vm *model.VM) bool { return !vm.Is(model.Suspended) }

// can reports whether the action is allowed on vm now.
func (a action) can(vm *model.VM) bool {
	if vm == nil || vm.Gone() || a.when != nil && !a.when(vm) {
		return false
	}
	if a.op == "" {
		return vm.Broken() == ""
	}
	return vm.Allows(a.op)
}

// do carries the action out, asking first where something could be lost.
func (a action) do(f *frame, vm *model.VM) {
	switch {
	case !a.can(vm):
	case a.run != nil:
		a.run(f, vm)
	case a.danger != "":
		f.ask(a.label, text.T(a.danger, vm.Name()), a.verb, true, func() { f.operate(a, vm) })
	default:
		f.operate(a, vm)
	}
}

// operate asks the service and shows what goes wrong; a guest that does not
// answer the power button may be powered off.
func (f *frame) operate(a action, vm *model.VM) {
	vm.Do(a.op, func(err error) {
		if model.TimedOut(err) {
			f.offerPowerOff(vm, err)
			return
		}
		f.failed(text.T(a.fails, vm.Name()), vm, err)
	})
}

func (f *frame) offerPowerOff(vm *model.VM, err error) {
	if !vm.Allows(model.OpPowerOff) {
		return // it did end meanwhile
	}
	f.ask(text.T("%s did not shut down", vm.Name()),
		text.T("The guest was asked to shut down and has not done so yet. It may be waiting for someone in its screen, or its system may not listen to the power button.\n\nPowering it off is like pulling the plug: what is not saved in it is lost."),
		text.T("Power off"), true, func() {
			for _, a := range actions() {
				if a.op == model.OpPowerOff && a.can(vm) {
					f.operate(a, vm)
				}
			}
		})
}

// silentWords are said of a guest whose worker or device model stands still.
func silentWords() string {
	return text.T("What runs this guest does not answer. This computer may be very busy, and then it comes back; else power the guest off.")
}

// powerOff asks whether the plug is to be pulled.
func (f *frame) powerOff(vm *model.VM) {
	for _, a := range actions() {
		if a.op == model.OpPowerOff {
			a.do(f, vm)
		}
	}
}

// menuFor is the popup menu of a guest.
func (f *frame) menuFor(vm *model.VM) *fyne.Menu {
	menu := fyne.NewMenu("")
	for _, a := range actions() {
		if a.can(vm) {
			item := fyne.NewMenuItemWithIcon(a.label, a.icon, func() { a.do(f, vm) })
			menu.Items = append(menu.Items, item)
		}
	}
	return menu
}
