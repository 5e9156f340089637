// Package ui is the setup wizard's window: pages over package steps. It decides
// nothing; what it shows and does comes from a Backend.
//
//	ui.go     Run, the window's frame, going from page to page
//	pages.go  welcome, check, choose, plan, remove
//	work.go   progress and done
//	theme.go  colours and sizes
package ui

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/app"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/dialog"
	"fyne.io/fyne/v2/layout"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"

	"github.com/hxen-project/hxen/app/text"
	"github.com/hxen-project/hxen/installer/plan"
	"github.com/hxen-project/hxen/installer/steps"
)

// Backend is what the wizard shows and sets going; steps.Setup is one.
type Backend interface {
	Installed() (steps.Installed, error)
	Defaults() plan.Options
	Prefix(plan.Scope) string
	Preflight(context.Context) ([]steps.Finding, error)
	Plan(context.Context, plan.Action, plan.Options) (plan.Plan, error)
	Check(context.Context, plan.Plan) ([]plan.Found, error)
	NeedsAdmin(plan.Plan) bool
	Run(context.Context, plan.Plan, func(plan.Event)) plan.Result
}

// Options are what the main gives to the window.
type Options struct {
	Backend   Backend
	Version   string
	Icon      []byte // PNG
	Uninstall bool   // begin with removing
	Resume    bool   // begin with what a restart has made of an installation
	// Launch starts HXEN's window from where the plan put it, with the example
	// guest if demo is set. It returns when that has begun.
	Launch func(p plan.Plan, demo bool) error
}

// Exit codes of Run; they are hxen-setup's.
const (
	exitOK       = 0
	exitFailed   = 1
	exitCanceled = 130
)

// appID names the wizard to Fyne.
const appID = "hxen-setup"

// page is a page of the wizard.
type page int

const (
	welcome page = iota
	checking
	choose
	review
	working
	done
	resume // stands for all before done after a restart
	remove // stands for check and choose when uninstalling
)

// Run shows the wizard until it is closed and returns the program's exit code.
func Run(ctx context.Context, o Options) int {
	a := app.NewWithID(appID)
	a.Settings().SetTheme(look{theme.DefaultTheme()})
	w := newWizard(ctx, a, o)
	w.begin()
	w.win.CenterOnScreen()
	w.win.ShowAndRun()
	forget()
	return w.code()
}

// forget removes what Fyne keeps for a program: this one wants nothing of it again.
func forget() {
	for _, place := range []func() (string, error){os.UserConfigDir, os.UserCacheDir} {
		if dir, err := place(); err == nil {
			kept := filepath.Join(dir, "fyne", appID)
			os.RemoveAll(kept)
			os.Remove(filepath.Dir(kept)) // if no other program has one
		}
	}
}

// wizard is the window. All of it belongs to Fyne's goroutine.
type wizard struct {
	Options
	ctx context.Context
	win fyne.Window

	page    page
	action  plan.Action
	options plan.Options
	there   steps.Installed
	found   []steps.Finding
	plan    plan.Plan
	result  *plan.Result
	log     []string

	body, foot        *fyne.Container
	rail              *fyne.Container
	back, next, leave *button
	stop              context.CancelFunc // of the work that goes on; nil if none does
	progress          *progress
	asking            bool         // a question about leaving is shown
	do                func(func()) // runs something in Fyne's goroutine
}

// heading begins a page. The window is called after it, so that lists of windows
// and readers of screens tell pages apart.
func (w *wizard) heading(title, under string) fyne.CanvasObject {
	w.win.SetTitle(text.T("%s - HXEN Setup", title))
	return heading(title, under)
}

func newWizard(ctx context.Context, a fyne.App, o Options) *wizard {
	w := &wizard{Options: o, ctx: ctx, action: plan.Install, do: fyne.Do}
	w.win = a.NewWindow(text.T("HXEN Setup"))
	icon := fyne.NewStaticResource("hxen.png", o.Icon)
	a.SetIcon(icon)
	w.win.SetIcon(icon)
	w.back = newButton(text.T("Back"), theme.NavigateBackIcon(), w.goBack)
	w.next = newButton(text.T("Next"), theme.NavigateNextIcon(), w.goOn)
	w.next.IconPlacement = widget.ButtonIconTrailingText
	w.next.Importance = widget.HighImportance
	w.leave = newButton(text.T("Cancel"), nil, w.cancel)
	w.body = container.NewStack()
	w.rail = container.NewVBox()
	w.foot = container.NewHBox(w.back, layout.NewSpacer(), w.leave, w.next)

	picture := canvas.NewImageFromResource(icon)
	picture.FillMode = canvas.ImageFillContain
	picture.SetMinSize(fyne.NewSize(72, 72))
	version := caption(o.Version)
	side := container.NewBorder(container.NewVBox(gap(8), picture, gap(4)), version, nil, nil, w.rail)
	left := container.NewStack(panel(colorRail), container.NewPadded(side), fixed(170))
	w.win.SetContent(container.NewBorder(nil, nil, left, nil,
		container.NewBorder(nil, container.NewVBox(widget.NewSeparator(), container.NewPadded(container.NewPadded(w.foot))), nil, nil,
			container.NewPadded(container.NewPadded(container.NewPadded(w.body))))))
	w.win.Resize(fyne.NewSize(760, 560))
	w.win.SetCloseIntercept(w.cancel)
	w.win.Canvas().SetOnTypedKey(func(e *fyne.KeyEvent) {
		switch e.Name {
		case fyne.KeyReturn, fyne.KeyEnter:
			if !w.next.Disabled() && w.next.Visible() {
				w.goOn()
			}
		case fyne.KeyEscape:
			w.cancel()
		}
	})
	return w
}

// begin shows the first page.
func (w *wizard) begin() {
	o := w.Options
	w.options = o.Backend.Defaults()
	var err error
	if w.there, err = o.Backend.Installed(); err != nil {
		w.fail(err)
	}
	switch {
	case o.Uninstall:
		w.action = plan.Uninstall
		w.show(remove)
	case o.Resume && w.there.There && !w.there.Interrupted:
		w.show(resume)
	default:
		w.show(welcome)
	}
}

// code is the exit code when the window has been closed.
func (w *wizard) code() int {
	switch {
	case w.result == nil:
		return exitCanceled
	case w.result.OK:
		return exitOK
	}
	return exitFailed
}

// order is the way through the pages.
func (w *wizard) order() []page {
	if w.action == plan.Uninstall {
		return []page{welcome, remove, review, working, done}
	}
	if w.page == resume {
		return []page{resume, done}
	}
	return []page{welcome, checking, choose, review, working, done}
}

func (p page) title() string {
	switch p {
	case welcome:
		return text.T("Welcome")
	case checking, resume:
		return text.T("Check")
	case choose:
		return text.T("Choose")
	case review:
		return text.T("Plan")
	case working:
		return text.T("Progress")
	case remove:
		return text.T("Remove")
	}
	return text.T("Done")
}

// step is the page that is n places further on.
func (w *wizard) step(n int) page {
	order := w.order()
	for i, p := range order {
		if p == w.page && i+n >= 0 && i+n < len(order) {
			return order[i+n]
		}
	}
	return w.page
}

// show builds a page.
func (w *wizard) show(p page) {
	w.page = p
	w.rail.RemoveAll()
	passed := true
	for _, q := range w.order() {
		passed = passed && q != p
		w.rail.Add(railEntry(q.title(), q == p, passed))
	}
	w.back.Enable()
	w.next.Enable()
	w.next.Show()
	w.leave.Show()
	w.back.Show()
	w.next.SetText(text.T("Next"))
	w.leave.SetText(text.T("Cancel"))
	if p == welcome || p == working || p == done || p == resume {
		w.back.Hide()
	}
	var content fyne.CanvasObject
	switch p {
	case welcome:
		content = w.welcomePage()
	case checking:
		content = w.checkPage()
	case choose:
		content = w.choosePage()
	case remove:
		content = w.removePage()
	case review:
		content = w.reviewPage()
	case working:
		content = w.workPage()
	case resume:
		content = w.resumePage()
	default:
		content = w.donePage()
	}
	w.body.Objects = []fyne.CanvasObject{content}
	w.body.Refresh()
	if w.next.Visible() && !w.next.Disabled() {
		w.win.Canvas().Focus(w.next)
	} else {
		w.win.Canvas().Unfocus() // who presses Return too soon has not cancelled anything
	}
}

func (w *wizard) goBack() {
	if w.stop != nil {
		w.stop()
		w.stop = nil
	}
	w.show(w.step(-1))
}

func (w *wizard) goOn() {
	if w.page == done {
		w.win.Close()
		return
	}
	w.show(w.step(1))
}

// cancel closes the window; while something is done it asks first, and then has
// that taken back.
func (w *wizard) cancel() {
	switch {
	case w.asking:
	case w.page == working && w.stop != nil:
		w.asking = true
		d := dialog.NewConfirm(text.T("Stop?"), text.T("What was done so far is taken back."), func(yes bool) {
			w.asking = false
			if yes && w.stop != nil {
				w.leave.Disable()
				w.stop()
			}
		}, w.win)
		d.SetConfirmText(text.T("Stop"))
		d.SetDismissText(text.T("Go on"))
		d.Show()
	default:
		if w.stop != nil {
			w.stop()
		}
		w.win.Close()
	}
}

// fail shows an error that keeps the present page from going on.
func (w *wizard) fail(err error) {
	d := dialog.NewError(errors.New(err.Error()), w.win)
	d.SetDismissText(text.T("Close"))
	d.Show()
}

// work runs f beside the window; then goes on with what f returns in Fyne's
// goroutine, unless the user has gone elsewhere.
func (w *wizard) work(f func(context.Context) func()) {
	ctx, cancel := context.WithCancel(w.ctx)
	w.stop = cancel
	at := w.page
	go func() {
		then := f(ctx)
		w.do(func() {
			defer cancel()
			if w.page == at && (ctx.Err() == nil || at == working) {
				w.stop = nil
				then()
			}
		})
	}()
}
