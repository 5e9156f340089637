package desktop

import (
	"fmt"
	"image/color"
	"strings"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/app/desktop/model"
	"github.com/hxen-project/hxen/app/text"
)

// details is the pane of the selected guest: what it is, what it does now, what
// is wrong with it.
type details struct {
	frame   *frame
	vm      *model.VM
	monitor *model.Monitor
	seen    bool        // the window is on screen
	aside   func() bool // the user works in another window
	beats   int         // since the charts were painted

	name   *widget.Label
	state  *canvas.Text
	dot    *canvas.Circle
	broken *banner
	notice *banner
	exit   *banner

	hero                *fyne.Container
	preview             *preview
	charts              *fyne.Container
	cpu, mem, disk, net *chart

	network, disks, system *facts
	root                   *container.Scroll

	forwards []api.Forward
	asked    string // guest and revision that forwards were asked for
}

func newDetails(f *frame, aside func() bool) *details {
	d := &details{frame: f, seen: true, aside: aside}
	d.monitor = f.app.lib.NewMonitor(d.beat)
	d.name = widget.NewLabel("")
	d.name.SizeName = theme.SizeNameHeadingText
	d.name.TextStyle.Bold = true
	d.name.Truncation = fyne.TextTruncateEllipsis
	d.state = canvas.NewText("", color.Black)
	d.dot = canvas.NewCircle(color.Transparent)
	d.broken, d.notice, d.exit = f.banner(), f.banner(), f.banner()
	d.preview = newPreview(func() { f.app.openConsole(d.vm) })
	d.cpu, d.mem = newChart(text.T("CPU"), 1), newChart(text.T("Memory"), 1)
	d.disk, d.net = newChart(text.T("Disk"), 64<<10), newChart(text.T("Network"), 16<<10)
	d.charts = container.NewGridWithColumns(2, d.cpu, d.mem, d.disk, d.net)
	d.hero = container.New(heroLayout{}, d.preview, d.charts)
	d.network, d.disks, d.system = newFacts(text.T("Network")), newFacts(text.T("Disks")), newFacts(text.T("System"))
	dot := container.NewCenter(container.NewGridWrap(fyne.NewSquareSize(9), d.dot))
	head := container.New(tight{}, d.name, container.NewHBox(layoutGap(4), dot, d.state))
	column := container.NewVBox(head, d.broken, d.notice, d.exit, d.hero, d.network.box, d.disks.box, d.system.box)
	d.root = container.NewVScroll(container.New(margin(10), column))
	return d
}

// margin is a layout that keeps its one object off the edges.
type margin float32

func (m margin) Layout(objects []fyne.CanvasObject, size fyne.Size) {
	for _, o := range objects {
		o.Move(fyne.NewPos(float32(m), float32(m)))
		o.Resize(size.SubtractWidthHeight(2*float32(m), 2*float32(m)))
	}
}

func (m margin) MinSize(objects []fyne.CanvasObject) fyne.Size {
	var s fyne.Size
	for _, o := range objects {
		s = s.Max(o.MinSize())
	}
	return s.AddWidthHeight(2*float32(m), 2*float32(m))
}

// heroLayout puts the preview beside the charts; without charts the preview
// stands alone.
type heroLayout struct{}

const heroWidth, heroHeight = 210, 152

func (heroLayout) Layout(objects []fyne.CanvasObject, size fyne.Size) {
	w := min(max(size.Width*0.44, heroWidth), 420)
	x, y := theme.InnerPadding(), theme.Padding() // in line with the labels' text
	objects[0].Move(fyne.NewPos(x, y))
	objects[0].Resize(fyne.NewSize(w, size.Height-y))
	objects[1].Move(fyne.NewPos(x+w+theme.Padding()*2, y))
	objects[1].Resize(fyne.NewSize(size.Width-w-x-theme.Padding()*2, size.Height-y))
}

func (heroLayout) MinSize(objects []fyne.CanvasObject) fyne.Size {
	return fyne.NewSize(heroWidth+theme.Padding()*4+2*chartWidth, max(heroHeight, objects[1].MinSize().Height)+theme.Padding())
}

// show turns to a guest, nil for none.
func (d *details) show(vm *model.VM) {
	if vm == d.vm {
		d.refresh()
		return
	}
	d.vm, d.forwards, d.asked = vm, nil, ""
	d.monitor.Show(nil)
	d.root.ScrollToTop()
	d.beat()
	d.refresh()
}

// setSeen tells whether the window is on screen: unseen, nothing is collected.
func (d *details) setSeen(seen bool) {
	d.seen = seen
	d.collect()
}

// collect runs the monitor exactly while there is something to chart.
func (d *details) collect() {
	want := d.vm != nil && !d.vm.Gone() && d.seen && d.vm.Is(model.Running)
	if want != d.monitor.Showing() {
		if want {
			d.monitor.Show(d.vm)
		} else {
			d.monitor.Show(nil)
		}
	}
}

// refresh shows what the guest is now.
func (d *details) refresh() {
	vm := d.vm
	if vm == nil {
		return
	}
	if d.name.Text != vm.Name() {
		d.name.SetText(vm.Name())
	}
	d.state.Text = vm.StateText()
	known := vm.Broken() == ""
	if known {
		d.state.Text += " · " + vm.Hardware() + " · " + vm.Badge().Text()
	}
	for _, o := range []fyne.CanvasObject{d.hero, d.network.box, d.disks.box} {
		setVisible(o, known)
	}
	d.state.Color, d.state.TextSize = colorOf(colorDim), theme.TextSize()
	d.dot.FillColor = colorOf(stateColor(vm))
	d.state.Refresh()
	d.dot.Refresh()
	d.banners(vm)
	d.preview.set(vm)
	if on := vm.Is(model.Running); on != d.charts.Visible() {
		if on {
			d.charts.Show()
		} else {
			d.charts.Hide()
		}
	}
	d.askForwards(vm)
	d.network.set(d.networkFacts(vm))
	d.disks.set(diskFacts(vm))
	d.system.set(systemFacts(vm))
	d.collect()
}

func (d *details) banners(vm *model.VM) {
	d.mend(vm)
	d.notice.act.Hide()
	if vm.Silent() != "" {
		d.notice.say(theme.ColorNameError, silentWords())
		d.notice.offer(text.T("Power off…"), func() { d.frame.powerOff(vm) })
	} else {
		d.notice.say(theme.ColorNameWarning, vm.Notice())
	}
	exit := ""
	if vm.Unclean() {
		exit = vm.LastExit()
	}
	d.exit.say(theme.ColorNameError, exit)
	if exit != "" && hasLog(vm.Log()) {
		d.exit.offer(text.T("Show log"), func() { d.frame.showLog(vm.Log()) })
	}
}

// askForwards fetches the forwards once per change of the guest's record.
func (d *details) askForwards(vm *model.VM) {
	key := fmt.Sprint(vm.Ref, vm.Revision)
	if d.asked == key || vm.Broken() != "" {
		return
	}
	d.asked = key
	vm.LoadSettings(func(s *model.Settings, err error) {
		if d.asked != key || err != nil {
			return
		}
		d.forwards = s.Config.Forwards
		d.network.set(d.networkFacts(vm))
	})
}

// asideBeats is how many beats a window that is not worked in lets pass between
// two looks at the figures: each costs a painting of the whole window.
const asideBeats = 5

// beat shows the newest figures.
func (d *details) beat() {
	f := d.monitor.Figures()
	d.beats++
	if f.CPU.Len > asideBeats && d.beats < asideBeats && d.aside() {
		return
	}
	d.beats = 0
	d.cpu.set(fmt.Sprintf("%.0f %%", f.CPU.Last()*100), 1, &f.CPU)
	d.mem.set(text.Size(round(f.Memory.Last())), max(f.MemoryMax, f.Memory.Max(), 1), &f.Memory)
	d.disk.set(rate(f.DiskRead.Last()+f.DiskWrite.Last()), 0, &f.DiskRead, &f.DiskWrite)
	d.net.set(rate(f.NetIn.Last()+f.NetOut.Last()), 0, &f.NetIn, &f.NetOut)
}

// rate is bytes a second, short.
func rate(v float64) string {
	switch {
	case v < 1024:
		return text.T("idle")
	case v < 1<<20:
		return fmt.Sprintf("%.0f KiB/s", v/1024)
	case v < 1<<30:
		return fmt.Sprintf("%.1f MiB/s", v/(1<<20))
	}
	return fmt.Sprintf("%.1f GiB/s", v/(1<<30))
}

// round cuts a number of bytes to whole MiB, so that its text is short.
func round(v float64) int64 { return int64(v) >> 20 << 20 }

func (d *details) networkFacts(vm *model.VM) []fact {
	var out []fact
	cards := vm.Cards()
	if len(cards) == 0 {
		return []fact{{text.T("Card"), text.T("None")}}
	}
	addr := strings.Join(vm.Addresses(), "\n")
	if addr == "" {
		addr = text.T("Not known yet")
		if vm.Is(model.Halted) || vm.Is(model.Suspended) {
			addr = text.T("None while the machine is off")
		}
	}
	out = append(out, fact{text.T("Address"), addr})
	var forwards []string
	for _, f := range d.forwards {
		host, proto := f.Host, f.Proto
		if host == "" {
			host = "127.0.0.1"
		}
		if proto == "" {
			proto = "tcp"
		}
		forwards = append(forwards, text.T("%s:%d to port %d (%s)", host, f.From, f.To, proto))
	}
	if len(forwards) > 0 {
		out = append(out, fact{text.T("Forwards"), strings.Join(forwards, "\n")})
	}
	for _, c := range cards {
		out = append(out, fact{text.T("Card"), c.MAC})
	}
	return out
}

func diskFacts(vm *model.VM) []fact {
	var out []fact
	for _, d := range vm.Disks() {
		label := d.Device
		if d.CD {
			label = text.T("CD")
		}
		if d.Empty {
			out = append(out, fact{label, d.Name()})
			continue
		}
		var parts []string
		for _, p := range []string{d.Format, size(d.Size)} {
			if p != "" {
				parts = append(parts, p)
			}
		}
		if d.Used > 0 && !d.CD {
			parts = append(parts, text.T("%s used", text.Size(d.Used>>10<<10)))
		}
		if d.ReadOnly && !d.CD {
			parts = append(parts, text.T("read-only"))
		}
		if d.Missing {
			parts = append(parts, text.T("the file is missing"))
		}
		out = append(out, fact{label, d.Path + "\n" + strings.Join(parts, ", ")})
	}
	if len(out) == 0 {
		out = []fact{{text.T("Disk"), text.T("None")}}
	}
	return out
}

func size(n int64) string {
	if n == 0 {
		return ""
	}
	return text.Size(n)
}

func systemFacts(vm *model.VM) []fact {
	identity := fact{text.T("Identity"), vm.Record.UUID}
	if vm.Broken() != "" {
		return []fact{identity} // no more is known
	}
	b := vm.Badge()
	runs := b.Text()
	if b.Reason != "" {
		runs += "\n" + model.Sentence(b.Reason)
	}
	out := []fact{{text.T("Runs on"), runs}}
	if vm.PVH() {
		out = append(out, fact{text.T("Type"), text.T("Xen PVH, a Linux kernel without firmware")})
	} else {
		out = append(out, fact{text.T("Firmware"), strings.ToUpper(vm.Firmware())})
	}
	if e := vm.LastExit(); e != "" {
		out = append(out, fact{text.T("Last run"), e})
	}
	if t := vm.Record.NameDescription; t != "" {
		out = append(out, fact{text.T("Notes"), t})
	}
	return append(out, identity)
}
