package desktop

import (
	"context"
	"strings"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/app/desktop/model"
	"github.com/hxen-project/hxen/app/text"
)

// wizard shows model.Wizard page by page.
type wizard struct {
	*modal
	state   *model.Wizard
	created func(api.Created)

	page     *fyne.Container
	steps    *widget.RichText
	problems *widget.Label
	warnings *widget.Label
	fileText *widget.Label
	tried    bool // Next was pressed on this page: problems may be shown
	back     *button
	next     *button
	cancel   *button
	giveUp   context.CancelFunc
	stop     func()
	progress *widget.ProgressBar
	waiting  *widget.ProgressBarInfinite
}

// wizardSize is what the wizard wants; it fits a window of 800 by 600.
var wizardSize = fyne.NewSize(620, 500)

// showWizard starts the New-VM wizard, with a file if path names one.
func (f *frame) showWizard(path string, created func(api.Created)) *wizard {
	w := &wizard{created: created, page: container.NewStack()}
	w.steps = widget.NewRichText()
	w.problems, w.warnings = wrapped(widget.DangerImportance), wrapped(widget.WarningImportance)
	w.fileText = wrapped(widget.LowImportance)
	w.state = f.app.lib.NewWizard("", w.refresh)
	if path != "" {
		if !isISO(path) {
			w.state.SetSource(model.FromDisk)
		}
		w.state.SetPath(path)
	}
	w.back = f.iconButton(text.T("Back"), theme.NavigateBackIcon(), w.goBack)
	w.cancel = f.button(text.T("Cancel"), func() { w.escape() })
	w.next = f.iconButton(text.T("Next"), theme.NavigateNextIcon(), w.goOn)
	w.next.IconPlacement = widget.ButtonIconTrailingText
	w.next.Importance = widget.HighImportance
	foot := container.New(tight{}, w.warnings, w.problems)
	form := container.NewVScroll(container.New(margin(4), w.page))
	body := container.NewBorder(w.steps, foot, nil, nil, form)
	w.modal = f.modal(text.T("New virtual machine"), body, wizardSize, w.cancel, w.next)
	w.atLeft(w.back)
	w.form = form
	w.onEnter = w.goOn
	w.onEscape = w.leave
	w.onClose = func() {
		w.state.Close()
		if w.giveUp != nil {
			w.giveUp()
		}
		if w.stop != nil {
			w.stop()
		}
	}
	w.show()
	return w
}

func wrapped(i widget.Importance) *widget.Label {
	l := widget.NewLabel("")
	l.Wrapping = fyne.TextWrapWord
	l.Importance = i
	l.Hide()
	return l
}

// show builds the present page.
func (w *wizard) show() {
	w.tried = false
	titles := []string{text.T("Source"), text.T("Resources"), text.T("Name"), text.T("Summary")}
	w.steps.Segments = nil
	for i, title := range titles {
		style := widget.RichTextStyle{ColorName: theme.ColorNamePlaceHolder, Inline: true}
		if model.Page(i) == w.state.Page {
			title = "» " + title
			style.ColorName, style.TextStyle.Bold = theme.ColorNameForeground, true
		}
		w.steps.Segments = append(w.steps.Segments, &widget.TextSegment{Text: title + "     ", Style: style})
	}
	w.steps.Refresh()
	var page fyne.CanvasObject
	var first fyne.Focusable
	switch w.state.Page {
	case model.PageSource:
		page, first = w.sourcePage()
	case model.PageResources:
		page, first = w.resourcesPage()
	case model.PageName:
		page, first = w.namePage()
	case model.PageSummary:
		page, first = w.summaryPage()
	}
	w.page.Objects = []fyne.CanvasObject{page}
	w.page.Refresh()
	w.next.SetText(text.T("Next"))
	w.next.SetIcon(theme.NavigateNextIcon())
	if w.state.Page == model.PageSummary {
		w.next.SetText(text.T("Create"))
		w.next.SetIcon(theme.ConfirmIcon())
	}
	w.back.Show()
	if w.state.Page == model.PageSource {
		w.back.Hide()
	}
	w.refresh()
	w.focus(first)
}

// refresh shows what forbids going on and what should be known. A page that was
// only just opened is not scolded for what is still empty.
func (w *wizard) refresh() {
	if w.modal == nil {
		return
	}
	say := func(l *widget.Label, lines []string) {
		s := strings.Join(lines, "\n")
		if l.Text != s {
			l.SetText(s)
		}
		if s == "" {
			l.Hide()
		} else {
			l.Show()
		}
	}
	problems := w.state.Problems()
	if !w.tried && w.state.Page == model.PageSource {
		if _, known := w.state.Probed(); w.state.Path() == "" || !known {
			problems = nil
		}
	}
	say(w.problems, problems)
	say(w.warnings, w.state.Warnings())
	say(w.fileText, nonEmpty(w.state.FileText()))
}

func nonEmpty(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

func (w *wizard) goBack() {
	if w.giveUp == nil && w.state.Back() {
		w.show()
	}
}

func (w *wizard) goOn() {
	if w.giveUp != nil {
		return
	}
	w.tried = true
	if len(w.state.Problems()) > 0 {
		w.refresh()
		return
	}
	if w.state.Page == model.PageSummary {
		w.create()
		return
	}
	w.state.Next()
	w.show()
}

// leave is Escape and Cancel: while something is made it gives that up.
func (w *wizard) leave() {
	if w.giveUp != nil {
		w.giveUp()
		return
	}
	w.close()
}

// create asks for the guest and shows how far that is; once the guest is there
// the wizard is done, and starting goes on by itself.
func (w *wizard) create() {
	f, name := w.frame, w.state.Name
	w.next.Disable()
	w.back.Disable()
	w.progress, w.waiting = widget.NewProgressBar(), widget.NewProgressBarInfinite()
	w.progress.Hide()
	label := wrapped(widget.MediumImportance)
	label.SetText(text.T("Creating %s…", name))
	label.Show()
	w.page.Objects = []fyne.CanvasObject{container.NewVBox(label, container.NewStack(w.progress, w.waiting))}
	w.page.Refresh()
	w.focus(w.cancel)
	w.stop = f.app.lib.Listen(func(n model.News) { w.showProgress() })
	made := ""
	w.giveUp = w.state.Create(func(c api.Created) {
		made = string(c.VM)
		w.giveUp = nil
		w.close()
		w.created(c)
	}, func(err error) {
		if made != "" {
			f.failed(text.T("%s was created, but could not be started", name), f.app.lib.Find(made), err)
			return
		}
		w.giveUp = nil
		w.stop()
		w.next.Enable()
		w.back.Enable()
		w.show()
		f.failed(text.T("%s could not be created", name), nil, err)
	})
}

// showProgress shows the newest task with known progress, which is ours while
// the dialog is up.
func (w *wizard) showProgress() {
	for _, t := range w.frame.app.lib.Tasks() {
		if done, known := t.Progress(); known {
			w.waiting.Stop()
			w.waiting.Hide()
			w.progress.Show()
			w.progress.SetValue(done)
		}
	}
}
