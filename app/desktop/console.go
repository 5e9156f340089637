package desktop

import (
	"context"
	"io"
	"strings"
	"sync"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/layout"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/app/desktop/model"
	"github.com/hxen-project/hxen/app/desktop/screen"
	"github.com/hxen-project/hxen/app/text"
)

// consoleWindow shows the screen and the serial line of one guest. It has no
// main menu: letting go of Alt in a guest would open it.
type consoleWindow struct {
	frame
	vm   *model.VM
	stop func()
	open *gate // the guest has a screen to dial

	screen  *screen.Screen
	serial  *serial
	overlay *overlay
	toast   *toast
	squeeze *squeeze
	bar     *fyne.Container
	reveal  *edge
	root    *fyne.Container // the toolbar, if it is shown, and the center
	center  *fyne.Container
	tab     *button
	full    *button
	hint    *widget.Label

	live    bool
	lost    error
	onTab   bool // the serial line is shown
	chose   bool // the user said whether it is to be
	typing  context.CancelFunc
	dialled bool // the screen was started
	started bool
	covered bool // the cover took the keyboard from the guest
}

// gate holds dialling back while the guest is off, without asking again and
// again.
type gate struct {
	mu   sync.Mutex
	pass chan struct{} // mu: closed while the gate is open
	is   bool          // mu
}

func newGate() *gate { return &gate{pass: make(chan struct{})} }

func (g *gate) set(open bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case open && !g.is:
		close(g.pass)
	case !open && g.is:
		g.pass = make(chan struct{})
	}
	g.is = open
}

// wait returns once the gate is open.
func (g *gate) wait(ctx context.Context) error {
	g.mu.Lock()
	pass := g.pass
	g.mu.Unlock()
	select {
	case <-pass:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// dial opens the guest's console of a protocol as soon as the guest is on.
func (c *consoleWindow) dial(protocol string) func(context.Context) (io.ReadWriteCloser, error) {
	svc, ref := c.app.lib.Service(), c.vm.Ref
	return func(ctx context.Context) (io.ReadWriteCloser, error) {
		if err := c.open.wait(ctx); err != nil {
			return nil, err
		}
		return svc.Console(ctx, ref, protocol)
	}
}

func newConsoleWindow(a *App, vm *model.VM) *consoleWindow {
	c := &consoleWindow{vm: vm, open: newGate()}
	c.init(a, a.fyne.NewWindow(""))
	c.win.SetIcon(Icon)
	c.win.SetPadded(false)
	c.screen = screen.New(c.dial(api.ProtocolRFB))
	c.screen.OnConnection = func(live bool, err error) {
		c.live, c.lost = live, err
		c.refresh()
	}
	c.screen.OnGrab = c.grabbed
	c.useRelease()
	c.serial = newSerial(&c.frame, c.dial(api.ProtocolVT100))
	c.serial.onGrab = c.grabbed
	c.overlay = newOverlay(&c.frame)
	c.toast = newToast()
	c.build()
	c.keys()
	c.win.SetOnDropped(func(_ fyne.Position, uris []fyne.URI) { c.dropped(uris) })
	c.win.SetOnClosed(c.closed)
	p := a.prefs.Consoles[vm.Record.UUID]
	c.setMode(modeNamed(p.Scaling))
	size := fyne.NewSize(1024, 820)
	if p.Width >= 300 && p.Height >= 200 {
		size = fyne.NewSize(p.Width, p.Height)
	}
	c.win.Resize(size)
	c.stop = a.lib.Listen(func(n model.News) {
		if n.Touches(vm.Ref) || n.What&model.ChangedConn != 0 {
			c.refresh()
		}
	})
	c.win.Canvas().Focus(c.screen)
	if vm.SerialFirst() {
		c.switchTab()
		return c
	}
	c.refresh()
	c.startScreen()
	return c
}

// startScreen has the screen dialled, once: a guest without one may be given one.
func (c *consoleWindow) startScreen() {
	if !c.dialled && c.vm.NoScreen() == "" {
		c.dialled = true
		c.screen.Start()
	}
}

func (c *consoleWindow) build() {
	c.squeeze = &squeeze{}
	c.bar = container.New(c.squeeze)
	add := func(label string, icon fyne.Resource, menu func() *fyne.Menu, tap func()) *button {
		b := c.iconButton(label, icon, tap)
		b.Importance = widget.LowImportance
		if menu != nil {
			b.OnTapped = func() { c.popUp(menu(), b) }
		}
		c.squeeze.items = append(c.squeeze.items, squeezed{b, label})
		c.bar.Add(b)
		return b
	}
	add(text.T("Machine"), iconPower, c.machineMenu, nil)
	add(text.T("Ctrl-Alt-Del"), iconKeyboard, nil, func() { c.send("ctrl-alt-delete") })
	add(text.T("Keys"), iconKeyboard, c.keysMenu, nil)
	add(text.T("CD"), iconDisc, c.cdMenu, nil)
	add(text.T("View"), theme.ViewFullScreenIcon(), c.viewMenu, nil)
	add(text.T("Screenshot"), iconCamera, nil, c.saveScreenshot)
	c.tab = add(text.T("Serial"), theme.ComputerIcon(), nil, c.chooseTab)
	c.full = add(text.T("Full screen"), theme.ViewFullScreenIcon(), nil, c.toggleFull)
	c.hint = widget.NewLabel("")
	c.hint.SizeName = theme.SizeNameCaptionText
	c.hint.Importance = widget.LowImportance
	c.hint.Truncation = fyne.TextTruncateClip
	c.hint.Alignment = fyne.TextAlignTrailing
	c.center = container.NewStack(c.screen.View(), c.overlay.root, c.toast.root, container.NewWithoutLayout(newNative(&c.frame).pixel))
	c.reveal = newEdge(func() { c.showBar(true) })
	c.root = container.NewStack()
	c.arrange(false)
	c.win.SetContent(c.root)
}

// arrange lays the window out, without the toolbar in full screen. The window's
// content stays the same object: setting another in full screen would have Fyne
// take the screen's size for the one to come back to.
func (c *consoleWindow) arrange(full bool) {
	setVisible(c.reveal.root, full)
	bar := container.New(margin(3), container.New(barAndHint{}, c.bar, c.hint))
	if full {
		c.root.Layout = layout.NewStackLayout()
		c.root.Objects = []fyne.CanvasObject{c.center, container.NewBorder(c.reveal.over(bar), nil, nil, nil)}
		c.showBar(false)
	} else {
		// In this order Tab goes to the toolbar first, not back into the guest.
		c.root.Layout = layout.NewBorderLayout(bar, nil, nil, nil)
		c.root.Objects = []fyne.CanvasObject{bar, c.center}
	}
	c.root.Refresh()
}

// barAndHint gives the hint what room the buttons leave, if that is enough.
type barAndHint struct{}

const hintWidth = 190

func (barAndHint) Layout(objects []fyne.CanvasObject, size fyne.Size) {
	bar, hint := objects[0], objects[1]
	w := size.Width
	if w >= 620 {
		w -= hintWidth
	}
	bar.Resize(fyne.NewSize(w, size.Height))
	hint.Move(fyne.NewPos(w, (size.Height-hint.MinSize().Height)/2))
	hint.Resize(fyne.NewSize(size.Width-w, hint.MinSize().Height))
}

func (barAndHint) MinSize(objects []fyne.CanvasObject) fyne.Size { return objects[0].MinSize() }

// refresh shows what the guest is now.
func (c *consoleWindow) refresh() {
	vm := c.vm
	if vm.Gone() {
		c.win.Close()
		return
	}
	if title := text.T("%s — HXEN", vm.Name()); c.win.Title() != title {
		c.win.SetTitle(title)
	}
	on := vm.Is(model.Running) || vm.Is(model.Paused)
	c.open.set(on)
	if !on {
		c.live, c.lost = false, nil
	}
	if c.live {
		c.started = true
	}
	if c.onTab && !c.chose && on && !vm.SerialFirst() {
		c.switchTab() // the guest has a screen now; this comes back here
		return
	}
	x := c.cover()
	c.overlay.show(x)
	c.refocus(x)
}

// refocus gives the keyboard to what there is to press on the cover, and to the
// guest once nothing covers it, unless the user put it somewhere else.
func (c *consoleWindow) refocus(x cover) {
	if c.inDialog() {
		return
	}
	now := c.win.Canvas().Focused()
	switch {
	case x.label != "" && (now == nil || now == fyne.Focusable(c.screen) || now == fyne.Focusable(c.serial.keys)):
		c.win.Canvas().Focus(c.overlay.act)
		c.covered = true
	case x.title == "" && c.covered:
		c.covered = false
		c.give()
	}
}

// give gives the keyboard to the guest, in its screen or its serial line.
func (c *consoleWindow) give() {
	if c.onTab {
		c.serial.focus()
		return
	}
	c.screen.Grab()
}

// cover is what lies over the screen, if anything.
func (c *consoleWindow) cover() cover {
	vm := c.vm
	state, err := c.app.lib.State()
	power := func(op string) func() {
		return func() {
			for _, a := range actions() {
				if a.op == op {
					a.do(&c.frame, vm)
				}
			}
		}
	}
	op, busy := vm.Busy()
	switch {
	case state == model.Lost || state == model.Failed:
		p, _ := model.Explain("", nil, err)
		return cover{title: text.T("Reconnecting…"), words: strings.TrimSpace(text.T("The service does not answer. The guest goes on running.") + "\n" + p.Why), busy: true, veil: true}
	case busy && (op == model.OpStart || op == model.OpSave || op == model.OpRestore || vm.Is(model.Halted)):
		return cover{title: vm.StateText() + "…", busy: true}
	case vm.Is(model.Halted):
		words := vm.LastExit()
		if b := vm.Broken(); b != "" {
			words = b
		}
		x := cover{title: text.T("%s is off", vm.Name()), words: words}
		if vm.Allows(model.OpStart) {
			x.label, x.do = text.T("Start"), power(model.OpStart)
		}
		if vm.Unclean() && hasLog(vm.Log()) {
			x.log = vm.Log()
		}
		return x
	case vm.Is(model.Suspended):
		return cover{title: text.T("%s is saved", vm.Name()), words: text.T("Its state is in a file on your disk, from which it goes on as it was."),
			label: text.T("Resume"), do: power(model.OpRestore), veil: true}
	case vm.Silent() != "":
		return cover{title: vm.StateText(), words: silentWords(), veil: true, label: text.T("Power off…"), do: func() { c.powerOff(vm) }}
	case vm.Is(model.Paused):
		return cover{title: text.T("Paused"), label: text.T("Resume"), do: power(model.OpResume), veil: true}
	case c.onTab:
		return cover{}
	case vm.NoScreen() != "":
		return cover{title: text.T("No screen"), words: vm.NoScreen()}
	case vm.Display() == model.DisplayNone:
		return cover{title: text.T("Nothing on the screen yet"), words: text.T("The guest's kernel has not taken up its screen; not every kernel can. The serial console shows what it says.")}
	case !c.live && c.started:
		x := cover{title: text.T("Reconnecting…"), busy: true, veil: true}
		if p, is := model.Explain("", nil, c.lost); is {
			x.words = p.Why
		}
		return x
	case !c.live:
		x := cover{title: text.T("Connecting to the screen…"), busy: true}
		if p, is := model.Explain("", nil, c.lost); is {
			x.words = p.Why
		}
		return x
	}
	return cover{}
}

// grabbed tells the way out as soon as keys go to the guest.
func (c *consoleWindow) grabbed(on bool) {
	key := c.app.releaseKey().words
	if !on {
		c.hint.SetText(text.T("Enter or a click: type in the guest"))
		c.toast.hide()
		if c.win.FullScreen() {
			c.showBar(true)
		}
		return
	}
	c.hint.SetText(text.T("%s frees the keyboard", key))
	c.toast.show(text.T("Keys go to the guest. Press and release %s to get them back.", key))
	if c.win.FullScreen() {
		c.showBar(false)
	}
}

func (c *consoleWindow) closed() {
	size := c.win.Canvas().Size()
	if !c.win.FullScreen() {
		c.app.prefs.Consoles[c.vm.Record.UUID] = model.Console{Width: size.Width, Height: size.Height, Scaling: modeName(c.screen.Mode())}
	}
	if c.typing != nil {
		c.typing()
	}
	c.stop()
	c.serial.close()
	c.toast.hide()
	delete(c.app.consoles, c.vm.Ref)
	c.screen.Close()
	c.app.save()
}
