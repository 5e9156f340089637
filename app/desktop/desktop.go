// Package desktop is the window: the library of guests, the New-VM wizard, the
// settings and delete dialogs and one console window per guest, a file each.
//
// It shows what package model holds and asks model for what the user wants; it
// never guesses a guest's state and knows nothing of the wire, of folders or of
// engines. Views are touched on Fyne's main goroutine only: the model delivers
// every change through one screen.Do.
package desktop

import (
	"context"
	"strings"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/app"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/app/desktop/model"
	"github.com/hxen-project/hxen/app/desktop/screen"
)

// AppID names the program to the desktop.
const AppID = "io.github.hxen_project.hxen"

// Options say what to open.
type Options struct {
	Service model.Service
	Prefs   *model.Prefs
	Version string
	Console string // open only the console of this guest
	Open    string // open the library and the console of this guest
	ISO     string // open the library and the wizard with this CD image
}

// App is the running program: one library, and the windows over it.
type App struct {
	fyne     fyne.App
	lib      *model.Library
	prefs    *model.Prefs
	version  string
	library  *libraryWindow
	consoles map[api.Ref]*consoleWindow
}

// Run shows the windows until the last one closes or ctx ends.
func Run(ctx context.Context, o Options) { run(ctx, o, func(*App) {}) }

// run is Run; opened is called on Fyne's goroutine once the windows are there.
func run(ctx context.Context, o Options, opened func(*App)) {
	f := app.NewWithID(AppID)
	f.SetIcon(Icon)
	f.Settings().SetTheme(newLook())
	a := newApp(f, model.NewLibrary(o.Service, screen.Do), o)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	context.AfterFunc(ctx, func() { screen.Do(f.Quit) })
	// Before the loop runs fyne.Do calls its argument on the caller's goroutine,
	// so nothing may be delivered earlier.
	f.Lifecycle().SetOnStarted(func() {
		screen.Pace()
		go a.lib.Run(ctx)
	})
	a.open(ctx, o)
	opened(a)
	f.Run()
	a.save()
}

func newApp(f fyne.App, lib *model.Library, o Options) *App {
	prefs := o.Prefs
	if prefs == nil {
		prefs = &model.Prefs{Consoles: map[string]model.Console{}}
	}
	a := &App{fyne: f, lib: lib, prefs: prefs, version: o.Version, consoles: map[api.Ref]*consoleWindow{}}
	a.notify()
	return a
}

// open shows what the options ask for; a guest that is named is looked for as
// soon as the library is there.
func (a *App) open(ctx context.Context, o Options) {
	if o.Console != "" {
		a.waitWindow(o.Console)
		return
	}
	a.library = newLibraryWindow(a)
	go a.library.thumbs.Run(ctx)
	a.library.win.Show()
	if o.ISO != "" {
		a.library.newVM(o.ISO)
	}
	if o.Open == "" {
		return
	}
	var stop func()
	stop = a.lib.Listen(func(model.News) {
		if vm := a.lib.Find(o.Open); vm != nil {
			stop()
			a.openConsole(vm)
		}
	})
}

func (a *App) save() {
	if err := a.prefs.Save(); err != nil {
		fyne.LogError("keep the window's settings", err)
	}
}

// openConsole shows the guest's console window, the one there is if there is one.
func (a *App) openConsole(vm *model.VM) {
	if c := a.consoles[vm.Ref]; c != nil {
		c.win.RequestFocus()
		return
	}
	c := newConsoleWindow(a, vm)
	a.consoles[vm.Ref] = c
	c.win.Show()
}

// isISO reports whether a path looks like a CD image by its name.
func isISO(path string) bool {
	return strings.HasSuffix(strings.ToLower(path), ".iso")
}
