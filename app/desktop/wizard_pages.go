package desktop

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/dialog"
	"fyne.io/fyne/v2/storage"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"

	"github.com/hxen-project/hxen/app/desktop/model"
	"github.com/hxen-project/hxen/app/text"
)

// sourceChoices are the sources with what each is for, in the order shown.
func sourceChoices() []struct {
	source       model.Source
	title, words string
} {
	return []struct {
		source       model.Source
		title, words string
	}{
		{model.FromISO, text.T("Installation CD (ISO file)"), text.T("Installs a system from its CD image onto a new disk.")},
		{model.FromDisk, text.T("Existing disk"), text.T("Starts a disk image that already holds a system (qcow2 or raw).")},
		{model.FromKernel, text.T("Linux kernel"), text.T("Boots a kernel file directly, with an initial RAM disk if you have one.")},
		{model.FromBlank, text.T("Blank disk"), text.T("Makes an empty machine; insert a CD later.")},
	}
}

// sourcePage asks where to boot from.
func (w *wizard) sourcePage() (fyne.CanvasObject, fyne.Focusable) {
	s, f := w.state, w.frame
	var titles []string
	var chosen, words string
	for _, c := range sourceChoices() {
		titles = append(titles, c.title)
		if c.source == s.Source {
			chosen, words = c.title, c.words
		}
	}
	source := f.choice(titles, chosen, func(t string) {
		for _, c := range sourceChoices() {
			if c.title == t && c.source != s.Source {
				s.SetSource(c.source)
				w.show()
			}
		}
	})
	about := wrapped(widget.LowImportance)
	about.SetText(words)
	about.Show()
	rows := newForm()
	rows.add(text.T("Boot from"), source, about)
	var first fyne.Focusable = source
	path := func(value string, changed func(string)) (*entry, fyne.CanvasObject) {
		e := f.entry(value, func(v string) {
			changed(v)
			w.refresh()
		})
		e.SetPlaceHolder(text.T("Path of the file"))
		return e, f.chooser(e)
	}
	switch s.Source {
	case model.FromISO:
		e, box := path(s.ISO, s.SetPath)
		rows.add(text.T("CD image"), box, w.fileText)
		first = e
	case model.FromDisk:
		e, box := path(s.Disk, s.SetPath)
		rows.add(text.T("Disk image"), box, w.fileText)
		use, copied := text.T("Use the file where it is"), text.T("Copy it, and leave the file alone")
		pick := use
		if s.CopyDisk {
			pick = copied
		}
		rows.add(text.T("How"), f.choice([]string{use, copied}, pick, func(v string) {
			s.CopyDisk = v == copied
			w.refresh()
		}), nil)
		rows.add(text.T("Run as"), w.typeChoice(), nil)
		first = e
	case model.FromKernel:
		e, box := path(s.Kernel, s.SetPath)
		rows.add(text.T("Kernel"), box, w.fileText)
		_, initrd := path(s.Initrd, func(v string) { s.Initrd = strings.TrimSpace(v) })
		rows.add(text.T("Initial RAM disk"), initrd, nil)
		cmd := f.entry(s.Cmdline, func(v string) { s.Cmdline = v })
		cmd.SetPlaceHolder("console=ttyS0")
		if s.PVH && s.NoPVH() == "" {
			cmd.SetPlaceHolder("console=hvc0")
		}
		rows.add(text.T("Command line"), cmd, nil)
		rows.add(text.T("Run as"), w.typeChoice(), nil)
		first = e
	}
	return rows.box, first
}

// typeChoice asks which type the guest shall be. Where pvh cannot be had, it is
// greyed and says why.
func (w *wizard) typeChoice() fyne.CanvasObject {
	s, f := w.state, w.frame
	why := s.NoPVH()
	pvh := f.check(text.T("Xen PVH guest, run by HXEN itself"), s.PVH && why == "", func(on bool) {
		s.PVH = on
		w.show()
	})
	about := text.T("For Linux kernels made for Xen too, as distributions' are. Starts at once and needs little. Cloud kernels show a screen but take keys in the serial console only. Without it QEMU runs the kernel in a whole machine.")
	if s.Source == model.FromDisk {
		about = text.T("For disks with a Linux on them: HXEN starts the kernel that the disk's boot loader would. Starts at once and needs little. Without it QEMU runs a whole machine.")
	}
	if why != "" {
		pvh.Disable()
		about = text.T("Not on this computer as it is now: %s", why)
	}
	return container.New(tight{}, pvh, hint(about))
}

// resourcesPage asks for memory, processors, disk and firmware, with what the
// host can give.
func (w *wizard) resourcesPage() (fyne.CanvasObject, fyne.Focusable) {
	s, f := w.state, w.frame
	limit := s.Limits()
	rows := newForm()
	host := f.app.lib.Host()
	free := ""
	if host != nil {
		free = text.T("%s of %s are free on this computer", text.Size(host.MemoryFree>>20<<20), text.Size(host.Memory>>20<<20))
	}
	mem := f.amount(amount{value: s.Memory, least: limit.MemoryLeast, most: limit.MemoryMost, unit: mebi, set: func(n int64) {
		s.SetMemory(n)
		w.refresh()
	}})
	rows.add(text.T("Memory"), mem.box, hint(free))
	cpus := f.amount(amount{value: s.VCPUs, least: 1, most: limit.CPUsMost, unit: plain, set: func(n int64) {
		s.SetVCPUs(n)
		w.refresh()
	}})
	rows.add(text.T("Processors"), cpus.box, hint(text.T("This computer has %d", limit.CPUsMost)))
	if s.HasNewDisk() {
		disk := f.amount(amount{value: s.DiskSize, least: 0, most: max(512<<30, limit.DiskFree>>30<<30), unit: gibi, set: func(n int64) {
			s.SetDiskSize(n)
			w.refresh()
		}})
		room := ""
		switch free := text.Size(limit.DiskFree >> 30 << 30); {
		case limit.DiskFree > 0 && s.Source == model.FromBlank: // it is nothing without a disk
			room = text.T("Takes room as it fills; %s are free", free)
		case limit.DiskFree > 0:
			room = text.T("Takes room as it fills; %s are free. 0 for no disk", free)
		}
		rows.add(text.T("New disk"), disk.box, hint(room))
	}
	if !s.HasFirmware() {
		return rows.box, mem.entry
	}
	bios, uefi := "BIOS", "UEFI"
	now := bios
	if s.Firmware == "uefi" {
		now = uefi
	}
	rows.add(text.T("Firmware"), f.choice([]string{bios, uefi}, now, func(v string) {
		s.SetFirmware(strings.ToLower(v))
		w.refresh()
	}), hint(text.T("BIOS starts quickest and suits most systems. UEFI is what newer PCs have: choose it for systems that ask for it, such as Windows 11.")))
	return rows.box, mem.entry
}

// namePage asks for the name.
func (w *wizard) namePage() (fyne.CanvasObject, fyne.Focusable) {
	rows := newForm()
	name := w.frame.entry(w.state.Name, func(v string) {
		w.state.SetName(v)
		w.refresh()
	})
	rows.add(text.T("Name"), name, hint(text.T("How the machine is called in the list and on the command line.")))
	name.whole = true
	return rows.box, name
}

// summaryPage says what will be made.
func (w *wizard) summaryPage() (fyne.CanvasObject, fyne.Focusable) {
	table := newFacts(text.T("This will be created"))
	var list []fact
	for _, r := range w.state.Summary() {
		list = append(list, fact{r.Label, r.Value})
	}
	table.set(list)
	start := w.frame.check(text.T("Start it afterwards"), w.state.StartAfter, func(on bool) { w.state.StartAfter = on })
	return container.NewVBox(table.box, start), w.next
}

// hint is dim text below an entry.
func hint(s string) *widget.Label {
	l := wrapped(widget.LowImportance)
	l.SizeName = theme.SizeNameCaptionText
	if s != "" {
		l.SetText(s)
		l.Show()
	}
	return l
}

// form is labelled inputs, each with a hint below it.
type form struct{ box *fyne.Container }

func newForm() *form { return &form{container.New(formRows{})} }

func (f *form) add(label string, input, below fyne.CanvasObject) {
	if below == nil {
		below = layoutGap(0)
	}
	l := widget.NewLabelWithStyle(label, fyne.TextAlignTrailing, fyne.TextStyle{})
	f.box.Objects = append(f.box.Objects, l, input, below)
}

const formLabel = 118

// formRows lays triples of label, input and hint out.
type formRows struct{}

func (formRows) Layout(objects []fyne.CanvasObject, size fyne.Size) {
	y, w := float32(0), max(size.Width-formLabel, 60)
	for i := 0; i+2 < len(objects); i += 3 {
		l, in, below := objects[i], objects[i+1], objects[i+2]
		h := in.MinSize().Height
		in.Resize(fyne.NewSize(w, h))
		in.Move(fyne.NewPos(formLabel, y))
		l.Resize(fyne.NewSize(formLabel-theme.Padding(), l.MinSize().Height))
		l.Move(fyne.NewPos(0, y+min(0, (h-l.MinSize().Height)/2)))
		y += h
		if below.Visible() {
			below.Resize(fyne.NewSize(w, below.MinSize().Height))
			bh := below.MinSize().Height
			below.Resize(fyne.NewSize(w, bh))
			below.Move(fyne.NewPos(formLabel, y-theme.Padding()))
			y += bh - theme.Padding()
		}
		y += theme.Padding() * 2
	}
}

func (formRows) MinSize(objects []fyne.CanvasObject) fyne.Size {
	s := fyne.NewSize(formLabel+200, 0)
	for i := 0; i+2 < len(objects); i += 3 {
		s.Width = max(s.Width, formLabel+objects[i+1].MinSize().Width)
		s.Height += objects[i+1].MinSize().Height + theme.Padding()*2
		if objects[i+2].Visible() {
			s.Height += objects[i+2].MinSize().Height - theme.Padding()
		}
	}
	return s
}

// unit is what an amount is counted in.
type unit struct {
	size int64
	name string
}

var (
	plain = unit{1, ""}
	mebi  = unit{1 << 20, "MiB"}
	gibi  = unit{1 << 30, "GiB"}
)

// amount is a number with a slider and an entry.
type amount struct {
	value, least, most int64
	unit               unit
	set                func(int64)
}

type amountInput struct {
	box    fyne.CanvasObject
	entry  *entry
	slider *slider
}

// amount makes the two inputs that follow each other. What is no number is
// taken as -1, which every page refuses with a sentence.
func (f *frame) amount(a amount) *amountInput {
	in := &amountInput{}
	u := a.unit.size
	busy := false
	show := func(n int64) string { return strconv.FormatInt(n/u, 10) }
	in.entry = f.entry(show(a.value), nil)
	in.entry.whole = true
	step := 1.0
	if a.unit == mebi {
		step = 256
	}
	in.slider = f.slider(0, float64(a.most/u), step, float64(a.value/u), nil)
	if a.least >= u && a.unit == plain {
		in.slider.Min = float64(a.least / u)
	}
	in.entry.OnChanged = func(s string) {
		if busy {
			return
		}
		n, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64)
		if err != nil || n < 0 {
			n = -1
		}
		n = min(n, (1<<62)/u)
		busy = true
		in.slider.SetValue(min(max(float64(n), in.slider.Min), in.slider.Max))
		busy = false
		a.set(n * u)
	}
	in.slider.OnChanged = func(v float64) {
		if busy {
			return
		}
		n := max(int64(v)*u, a.least)
		busy = true
		in.entry.SetText(show(n))
		busy = false
		a.set(n)
	}
	name := widget.NewLabel(a.unit.name)
	right := container.NewHBox(container.NewGridWrap(fyne.NewSize(84, in.entry.MinSize().Height), in.entry), container.NewGridWrap(fyne.NewSize(44, in.entry.MinSize().Height), name))
	in.box = container.NewBorder(nil, nil, nil, right, in.slider)
	return in
}

// chooser puts a button that opens the file dialog beside a path's entry.
func (f *frame) chooser(e *entry) fyne.CanvasObject {
	browse := f.iconButton(text.T("Browse…"), theme.FolderOpenIcon(), func() {
		f.win.Canvas().Focus(e) // to come back to
		f.chooseFile(e.Text, e.SetText)
	})
	return container.NewBorder(nil, nil, nil, browse, e)
}

// chooseFile asks for a file in Fyne's dialog, beginning where path lies or
// where the last file was chosen.
func (f *frame) chooseFile(path string, chosen func(string)) {
	d := dialog.NewFileOpen(func(r fyne.URIReadCloser, err error) {
		if err != nil {
			f.failed(text.T("The file could not be opened"), nil, err)
			return
		}
		if r == nil {
			return
		}
		p := r.URI().Path()
		r.Close()
		f.app.prefs.Folder = filepath.Dir(p)
		chosen(p)
	}, f.win)
	for _, dir := range []string{filepath.Dir(path), f.app.prefs.Folder} {
		if info, err := os.Stat(dir); err == nil && info.IsDir() && filepath.IsAbs(dir) {
			if l, err := storage.ListerForURI(storage.NewFileURI(dir)); err == nil {
				d.SetLocation(l)
				break
			}
		}
	}
	f.showFiles(d)
}

// showFiles shows a file dialog as large as the window has room for. Fyne's
// Resize needs a dialog that is shown.
// The keyboard comes back to where it was, unless what was chosen took it.
func (f *frame) showFiles(d *dialog.FileDialog) {
	before := f.win.Canvas().Focused()
	d.Show()
	f.files = d
	d.SetOnClosed(func() {
		f.files = nil
		if now := f.win.Canvas().Focused(); now == nil || now == before {
			f.refocus(before)
		}
	})
	size := f.win.Canvas().Size()
	d.Resize(fyne.NewSize(min(size.Width-30, 760), min(size.Height-30, 520)))
}
