package ui

import (
	"context"
	"fmt"
	"io"
	"strings"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/dialog"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"

	"github.com/hxen-project/hxen/app/text"
	"github.com/hxen-project/hxen/installer/plan"
	"github.com/hxen-project/hxen/installer/steps"
	"github.com/hxen-project/hxen/platform/hostinfo"
)

// progress shows a run.
type progress struct {
	bar   *widget.ProgressBar
	now   *widget.Label
	log   *widget.Entry
	box   *fyne.Container
	steps []string // of the plan
	done  int
	step  string
}

func (w *wizard) workPage() fyne.CanvasObject {
	p := &progress{bar: widget.NewProgressBar(), now: words(""), log: widget.NewMultiLineEntry(), steps: w.plan.Steps}
	w.progress = p
	p.log.Wrapping = fyne.TextWrapBreak
	p.log.TextStyle = fyne.TextStyle{Monospace: true}
	p.log.Disable() // read only
	p.box = container.NewStack(p.log)
	p.box.Hide()
	open := newButton(text.T("Show the log"), theme.ListIcon(), nil)
	open.OnTapped = func() {
		if p.box.Visible() {
			p.box.Hide()
			open.SetText(text.T("Show the log"))
		} else {
			p.box.Show()
			open.SetText(text.T("Hide the log"))
		}
	}
	save := newButton(text.T("Save the log"), theme.DocumentSaveIcon(), w.saveLog)
	w.next.Hide()
	w.leave.Enable()
	w.log = nil
	w.work(func(ctx context.Context) func() {
		r := w.Backend.Run(ctx, w.plan, func(e plan.Event) { w.do(func() { w.event(e) }) })
		return func() {
			w.result = &r
			w.leave.Enable()
			w.show(done)
		}
	})
	title := text.T("Installing HXEN %s", w.plan.Version)
	if w.plan.Action == plan.Uninstall {
		title = text.T("Removing HXEN %s", w.plan.Version)
	}
	top := container.NewVBox(w.heading(title, text.T("If this is interrupted, the next setup goes on with it or takes it back.")),
		gap(8), p.bar, p.now, container.NewHBox(open, save))
	return container.NewBorder(top, nil, nil, nil, p.box)
}

// event brings the page up to date.
func (w *wizard) event(e plan.Event) {
	p := w.progress
	if line := logLine(e); line != "" {
		w.log = append(w.log, line)
		p.log.SetText(strings.Join(w.log, "\n"))
		p.log.CursorRow = len(w.log)
	}
	if e.Step != "" && e.Step != p.step {
		p.step = e.Step
	}
	if e.Title != "" && e.State == plan.Working {
		p.now.SetText(e.Title)
	}
	if e.State == plan.Ready {
		p.done++
	}
	share := 0.0
	if e.Total > 0 {
		share = float64(e.Done) / float64(e.Total)
	}
	if n := float64(max(1, len(p.steps))); e.State != "" {
		p.bar.SetValue(min(1, max(p.bar.Value, (float64(p.done)+share)/n)))
	}
}

func logLine(e plan.Event) string {
	switch {
	case e.Log != "":
		return e.Log
	case e.Note != "":
		return "! " + e.Note
	case e.State == plan.Ready || e.State == plan.Failed:
		return fmt.Sprintf("%s: %s", e.Title, e.State)
	}
	return ""
}

func (w *wizard) saveLog() {
	content := strings.Join(w.log, "\n") + "\n"
	d := dialog.NewFileSave(func(f fyne.URIWriteCloser, err error) {
		if f == nil && err == nil {
			return // closed
		}
		if err == nil {
			_, err = io.WriteString(f, content)
			if cerr := f.Close(); err == nil {
				err = cerr
			}
		}
		if err != nil {
			w.fail(err)
		}
	}, w.win)
	d.SetFileName("hxen-setup.log")
	d.Show()
}

// resumePage looks at what a restart has made of what was installed before it.
func (w *wizard) resumePage() fyne.CanvasObject {
	w.next.Hide()
	w.plan = w.there.Plan
	w.work(func(ctx context.Context) func() {
		found, err := w.Backend.Preflight(ctx)
		return func() {
			w.result = &plan.Result{OK: err == nil, Action: plan.Install, Version: w.there.Version, Notes: steps.Resumed(found)}
			if err != nil {
				w.result.Error = err.Error()
			}
			w.show(done)
		}
	})
	return container.NewVBox(w.heading(text.T("Going on after the restart"), text.T("This takes a few seconds.")),
		gap(8), widget.NewProgressBarInfinite())
}

func (w *wizard) donePage() fyne.CanvasObject {
	r := w.result
	w.leave.Hide()
	w.next.SetText(text.T("Close"))
	w.next.SetIcon(nil)
	page := container.NewVBox()
	switch {
	case r.OK && r.Action == plan.Uninstall:
		page.Add(w.heading(text.T("HXEN was removed"), text.T("Thank you for trying it.")))
	case r.OK:
		page.Add(w.heading(text.T("HXEN is installed"), text.T("Version %s is ready.", r.Version)))
	case r.Undone:
		page.Add(w.heading(text.T("HXEN was not installed"), text.T("What was done so far was taken back; the computer is as it was.")))
	default:
		page.Add(w.heading(text.T("The setup did not end well"), text.T("Start it again: it goes on where it was, or takes the rest back.")))
	}
	if !r.OK {
		page.Add(gap(4))
		page.Add(container.NewBorder(nil, nil, sign(hostinfo.Fail), nil, words(r.Error)))
	}
	for _, n := range r.Notes {
		page.Add(container.NewBorder(nil, nil, sign(hostinfo.Info), nil, words(n)))
	}
	page.Add(gap(8))
	if !r.OK {
		again := newButton(text.T("Try again"), theme.ViewRefreshIcon(), func() { w.show(review) })
		save := newButton(text.T("Save the log"), theme.DocumentSaveIcon(), w.saveLog)
		page.Add(container.NewHBox(again, save))
	} else if r.Action == plan.Install && w.plan.Has(plan.Window) && w.Launch != nil {
		start := newButton(text.T("Start HXEN"), theme.MediaPlayIcon(), func() { w.launch(false) })
		start.Importance = widget.HighImportance
		w.next.Importance = widget.MediumImportance
		buttons := container.NewHBox(start)
		if w.plan.Has(plan.Example) {
			buttons.Add(newButton(text.T("Run the example guest"), theme.ComputerIcon(), func() { w.launch(true) }))
		}
		page.Add(buttons)
	}
	return page
}

// launch starts what was installed and closes the window.
func (w *wizard) launch(demo bool) {
	if err := w.Launch(w.plan, demo); err != nil {
		w.fail(err)
		return
	}
	w.win.Close()
}
