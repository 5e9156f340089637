package desktop

import (
	"fmt"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"

	"github.com/hxen-project/hxen/app/desktop/model"
	"github.com/hxen-project/hxen/app/text"
)

// taskBar shows what the service is doing: a line a task with its progress and,
// where it can be, a way to cancel it. Without tasks it takes no room.
type taskBar struct {
	frame *frame
	box   *fyne.Container
	lines []*taskLine
}

type taskLine struct {
	task   *model.Task
	box    *fyne.Container
	name   *widget.Label
	bar    *widget.ProgressBar
	busy   *widget.ProgressBarInfinite
	cancel *button
}

// taskLines is how many tasks are shown at once.
const taskLines = 3

func newTaskBar(f *frame) *taskBar {
	t := &taskBar{frame: f, box: container.NewVBox()}
	t.box.Hide()
	return t
}

// set shows the library's tasks.
func (t *taskBar) set(tasks []*model.Task) {
	tasks = tasks[:min(len(tasks), taskLines)]
	if len(tasks) != len(t.lines) {
		for len(t.lines) < len(tasks) {
			t.lines = append(t.lines, t.newLine())
		}
		for _, l := range t.lines[len(tasks):] {
			l.busy.Stop()
		}
		t.lines = t.lines[:len(tasks)]
		t.box.Objects = nil
		for _, l := range t.lines {
			t.box.Objects = append(t.box.Objects, l.box)
		}
		if len(tasks) == 0 {
			t.box.Hide()
		} else {
			t.box.Show()
		}
		t.box.Refresh()
	}
	for i, task := range tasks {
		t.lines[i].set(task)
	}
}

func (t *taskBar) newLine() *taskLine {
	l := &taskLine{name: widget.NewLabel(""), bar: widget.NewProgressBar(), busy: widget.NewProgressBarInfinite()}
	l.name.Truncation = fyne.TextTruncateEllipsis
	l.bar.TextFormatter = func() string { return "" } // hard to read over the bar's edge: the name says it
	l.cancel = t.frame.iconButton("", theme.CancelIcon(), func() {
		l.cancel.Disable()
		t.frame.app.lib.Cancel(l.task, func(err error) { t.frame.failed(text.T("The task could not be cancelled"), nil, err) })
	})
	l.cancel.Importance = widget.LowImportance
	progress := container.NewGridWrap(fyne.NewSize(160, 24), container.NewStack(l.bar, l.busy))
	l.box = container.NewBorder(nil, nil, nil, container.NewHBox(container.NewCenter(progress), l.cancel), l.name)
	return l
}

func (l *taskLine) set(task *model.Task) {
	l.task = task
	name := task.Name()
	if done, known := task.Progress(); known {
		name = fmt.Sprintf("%s · %.0f %%", name, done*100)
	}
	if l.name.Text != name {
		l.name.SetText(name)
	}
	if done, known := task.Progress(); known {
		l.busy.Stop()
		l.busy.Hide()
		l.bar.Show()
		l.bar.SetValue(done)
	} else {
		l.bar.Hide()
		l.busy.Show()
		l.busy.Start()
	}
	if task.CanCancel() {
		l.cancel.Enable()
	} else {
		l.cancel.Disable()
	}
}
