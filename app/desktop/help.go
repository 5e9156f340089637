package desktop

import (
	"strings"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"

	"github.com/hxen-project/hxen/app/desktop/model"
	"github.com/hxen-project/hxen/app/text"
)

// keyText writes a shortcut as people do.
func keyText(key fyne.KeyName, mod fyne.KeyModifier) string {
	var parts []string
	for _, m := range []struct {
		mod  fyne.KeyModifier
		name string
	}{{fyne.KeyModifierControl, "Ctrl"}, {fyne.KeyModifierSuper, "⌘"}, {fyne.KeyModifierAlt, "Alt"}, {fyne.KeyModifierShift, "Shift"}} {
		if mod&m.mod != 0 {
			parts = append(parts, m.name)
		}
	}
	name := string(key)
	switch key {
	case fyne.KeyDelete:
		name = text.T("Delete")
	case fyne.KeyReturn:
		name = text.T("Enter")
	}
	return strings.Join(append(parts, name), "+")
}

// shortcutRows are all shortcuts of the library, with what they do.
func shortcutRows() []fact {
	rows := []fact{
		{keyText(fyne.KeyN, ctrl), text.T("New virtual machine")},
		{keyText(fyne.KeyF, ctrl), text.T("Search; Esc clears")},
		{keyText(fyne.KeyL, ctrl), text.T("Go to the list; arrows move in it")},
		{text.T("Enter"), text.T("Open the selected machine's screen")},
		{text.T("Menu key"), text.T("All that can be done with the selected machine")},
	}
	at := map[string]int{}
	for _, a := range actions() {
		if a.key == "" {
			continue
		}
		k := keyText(a.key, a.mod)
		if i, there := at[k]; there {
			rows[i].value += text.T(" or ") + strings.ToLower(a.label)
			continue
		}
		at[k] = len(rows)
		rows = append(rows, fact{k, a.label})
	}
	return append(rows,
		fact{keyText(fyne.KeyI, ctrl), text.T("What this computer can give")},
		fact{text.T("F1"), text.T("This help")},
		fact{text.T("Esc"), text.T("Leave a dialog")},
		fact{keyText(fyne.KeyW, ctrl), text.T("Leave a dialog, or close the window")},
		fact{text.T("Tab, Space"), text.T("Move between buttons and press them")})
}

func (f *frame) showHelp() {
	table := newFacts(text.T("In this window"))
	table.set(shortcutRows())
	console := newFacts(text.T("In a console window"))
	console.set(consoleKeys(f.app.releaseKey()))
	f.sheet(text.T("Keyboard shortcuts"), container.NewVBox(table.box, console.box), 520)
}

// sheet shows something to read.
func (f *frame) sheet(title string, body fyne.CanvasObject, width float32) *modal {
	var m *modal
	ok := f.button(text.T("Close"), func() { m.close() })
	ok.Importance = widget.HighImportance
	m = f.read(title, nil, body, width, ok)
	m.focus(ok)
	return m
}

func (f *frame) showAbout() {
	words := wrapped(widget.MediumImportance)
	words.SetText(text.T("Runs virtual machines in a window, or without one.") + "\n" + text.T("Version %s", f.app.version))
	words.Alignment = fyne.TextAlignCenter
	words.Show()
	icon := widget.NewIcon(Icon)
	f.sheet("HXEN", container.NewVBox(container.NewCenter(container.NewGridWrap(fyne.NewSquareSize(72), icon)), words), 380)
}

// showHostInfo says what this computer can give to guests, and what keeps it
// from giving more.
func (f *frame) showHostInfo() {
	h := f.app.lib.Host()
	if h == nil {
		return
	}
	accel := strings.ToUpper(h.Accel)
	if h.Accel == "tcg" {
		accel = text.T("None: guests are emulated")
	}
	for _, s := range []string{h.AccelWhy, h.AccelCure} {
		if s != "" {
			accel += "\n" + model.Sentence(s)
		}
	}
	qemu := h.QEMU
	if h.Missing != "" {
		qemu = strings.TrimSpace(qemu + "\n" + h.Missing)
	}
	uefi := text.T("Yes")
	if !h.UEFI {
		uefi = text.T("Not installed")
	}
	table := newFacts(text.T("What guests can have"))
	table.set([]fact{
		{text.T("Memory"), text.T("%s free of %s", text.Size(h.MemoryFree>>20<<20), text.Size(h.Memory>>20<<20))},
		{text.T("Processors"), text.T("%d", h.CPUs)},
		{text.T("Disk"), text.T("%s free", text.Size(h.DiskFree>>20<<20))},
		{text.T("Store"), h.Store},
		{text.T("Acceleration"), accel},
		{"QEMU", qemu},
		{"UEFI", uefi},
	})
	f.sheet(text.T("This computer"), table.box, 540)
}

// colorInfo is the colour of banners that only tell.
const colorInfo = theme.ColorNamePrimary
