package desktop

import (
	"strings"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/widget"

	"github.com/hxen-project/hxen/app/desktop/model"
	"github.com/hxen-project/hxen/app/text"
)

// settings is the form of one guest's settings.
type settings struct {
	*modal
	state    *model.Settings
	problems *widget.Label
	locked   *banner
	save     *button
	inputs   []fyne.Disableable
	busy     bool
	stop     func()
}

// showSettings asks the service for a guest's settings and shows them.
func (f *frame) showSettings(vm *model.VM) {
	vm.LoadSettings(func(s *model.Settings, err error) {
		if err != nil {
			f.failed(text.T("The settings of %s could not be read", vm.Name()), vm, err)
			return
		}
		f.settingsOf(s)
	})
}

func (f *frame) settingsOf(s *model.Settings) *settings {
	w := &settings{state: s, problems: wrapped(widget.DangerImportance), locked: f.banner()}
	rows := newForm()
	first := w.machine(f, rows)
	w.boot(f, rows)
	w.devices(f, rows)
	cancel := f.button(text.T("Cancel"), func() { w.close() })
	w.save = f.button(text.T("Save"), w.submit)
	w.save.Importance = widget.HighImportance
	form := container.NewVScroll(container.New(margin(4), rows.box))
	body := container.NewBorder(w.locked, w.problems, nil, nil, form)
	w.modal = f.modal(text.T("Settings of %s", s.VM.Name()), body, fyne.NewSize(620, 560), cancel, w.save)
	w.form = form
	w.onEnter = w.submit
	w.stop = f.app.lib.Listen(func(n model.News) {
		if n.Touches(s.VM.Ref) || n.What&model.ChangedConn != 0 {
			w.refresh()
		}
	})
	w.onClose = w.stop
	w.refresh()
	if s.Locked() == "" {
		w.focus(first)
	} else {
		w.focus(cancel)
	}
	return w
}

func (w *settings) machine(f *frame, rows *form) *entry {
	c, limit := &w.state.Config, w.state.Limits()
	name := f.entry(c.Name, func(v string) { c.Name = v; w.refresh() })
	rows.add(text.T("Name"), name, nil)
	notes := f.lines(c.Description, 2, func(v string) { c.Description = v; w.refresh() })
	rows.add(text.T("Notes"), notes, nil)
	mem := f.amount(amount{value: c.Memory, least: limit.MemoryLeast, most: max(limit.MemoryMost, c.Memory), unit: mebi, set: func(n int64) { c.Memory = n; w.refresh() }})
	rows.add(text.T("Memory"), mem.box, nil)
	cpus := f.amount(amount{value: c.VCPUs, least: 1, most: max(limit.CPUsMost, c.VCPUs), unit: plain, set: func(n int64) { c.VCPUs = n; w.refresh() }})
	rows.add(text.T("Processors"), cpus.box, nil)
	w.inputs = append(w.inputs, name, notes, mem.entry, mem.slider, cpus.entry, cpus.slider)
	return name
}

// bootOrders are xl's letters in words.
func bootOrders() []struct{ letters, words string } {
	return []struct{ letters, words string }{
		{"cd", text.T("Disk, then CD")}, {"dc", text.T("CD, then disk")}, {"c", text.T("Disk only")}, {"d", text.T("CD only")},
		{"ncd", text.T("Network, then disk, then CD")}, {"cdn", text.T("Disk, then CD, then network")}, {"dcn", text.T("CD, then disk, then network")},
	}
}

func (w *settings) boot(f *frame, rows *form) {
	c := &w.state.Config
	if w.state.VM.PVH() {
		w.kernel(f, rows, text.T("What the guest boots: a Linux kernel on this computer."))
		return
	}
	fw := f.choice([]string{"BIOS", "UEFI"}, strings.ToUpper(c.Firmware), func(v string) { c.Firmware = strings.ToLower(v); w.refresh() })
	rows.add(text.T("Firmware"), fw, nil)
	now, words := c.BootOrder, []string{}
	for _, o := range bootOrders() {
		words = append(words, o.words)
		if o.letters == c.BootOrder {
			now = o.words
		}
	}
	order := f.choice(words, now, func(v string) {
		for _, o := range bootOrders() {
			if o.words == v {
				c.BootOrder = o.letters
			}
		}
		w.refresh()
	})
	rows.add(text.T("Boot order"), order, nil)
	w.inputs = append(w.inputs, fw, order)
	w.kernel(f, rows, text.T("Empty: the firmware boots from disk or CD."))
}

func (w *settings) kernel(f *frame, rows *form, about string) {
	c := &w.state.Config
	kernel := f.entry(c.Kernel, func(v string) { c.Kernel = strings.TrimSpace(v); w.refresh() })
	initrd := f.entry(c.Initrd, func(v string) { c.Initrd = strings.TrimSpace(v); w.refresh() })
	cmd := f.entry(c.Cmdline, func(v string) { c.Cmdline = v; w.refresh() })
	rows.add(text.T("Kernel"), kernel, hint(about))
	rows.add(text.T("Initial RAM disk"), initrd, nil)
	rows.add(text.T("Command line"), cmd, nil)
	w.inputs = append(w.inputs, kernel, initrd, cmd)
}

func (w *settings) devices(f *frame, rows *form) {
	c := &w.state.Config
	net := f.check(text.T("Network card, behind this computer's own address"), c.Network, func(on bool) { c.Network = on; w.refresh() })
	rows.add(text.T("Network"), net, nil)
	forwards := f.lines(w.state.Forwards, 2, func(v string) { w.state.Forwards = v; w.refresh() })
	forwards.SetPlaceHolder("2222:22")
	rows.add(text.T("Forwards"), forwards, hint(text.T("One a line, HOST-PORT:GUEST-PORT. 2222:22 makes the guest's port 22 reachable as port 2222 of this computer. Start a line with udp for UDP.")))
	w.inputs = append(w.inputs, net, forwards)
	if w.state.VM.PVH() { // it has no sound, and one kind of screen
		screen := f.check(text.T("Screen and keyboard, for kernels that have drivers for Xen's"), c.Display != "none", func(on bool) {
			c.Display = map[bool]string{true: "virtio", false: "none"}[on]
			w.refresh()
		})
		rows.add(text.T("Screen"), screen, nil)
		w.inputs = append(w.inputs, screen)
		return
	}
	names := map[string]string{"virtio": text.T("Virtio (modern systems)"), "std": text.T("Standard VGA (old systems)"), "none": text.T("None, serial console only")}
	options := []string{names["virtio"], names["std"], names["none"]}
	if names[c.Display] == "" {
		names[c.Display] = c.Display
		options = append(options, c.Display)
	}
	display := f.choice(options, names[c.Display], func(v string) {
		for k, n := range names {
			if n == v {
				c.Display = k
			}
		}
		w.refresh()
	})
	rows.add(text.T("Screen"), display, nil)
	audio := f.check(text.T("Sound card"), c.Audio, func(on bool) { c.Audio = on; w.refresh() })
	rows.add(text.T("Sound"), audio, nil)
	w.inputs = append(w.inputs, display, audio)
}

// refresh enables what can be changed now and says what forbids saving.
func (w *settings) refresh() {
	if w.modal == nil {
		return
	}
	locked := w.state.Locked()
	w.locked.say(colorInfo, locked)
	for _, in := range w.inputs {
		if off := locked != "" || w.busy; off != in.Disabled() {
			if off {
				in.Disable()
			} else {
				in.Enable()
			}
		}
	}
	problems := strings.Join(w.state.Problems(), "\n")
	if locked != "" {
		problems = ""
	}
	if w.problems.Text != problems {
		w.problems.SetText(problems)
	}
	if problems == "" {
		w.problems.Hide()
	} else {
		w.problems.Show()
	}
	if locked == "" && problems == "" && w.state.Changed() && !w.busy {
		w.save.Enable()
	} else {
		w.save.Disable()
	}
}

func (w *settings) submit() {
	if w.save.Disabled() {
		return
	}
	w.busy = true
	w.refresh()
	w.state.Save(func(err error) {
		w.busy = false
		if err == nil {
			w.close()
			return
		}
		w.refresh()
		w.frame.failed(text.T("The settings of %s could not be changed", w.state.VM.Name()), w.state.VM, err)
	})
}
