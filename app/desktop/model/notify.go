package model

import (
	"cmp"
	"slices"
	"time"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/app/text"
)

// Notification tells of something that a user who looks elsewhere wants to know.
type Notification struct{ Title, Text string }

// longTask is how long a task must have taken for its end to be news.
const longTask = 20 * time.Second

// known is what was seen of a guest last.
type known struct{ state, exit, notice string }

// Notify calls tell, on the loop, for each thing of that kind that happens from now
// on, until the returned function is called: a guest has ended badly, or has a
// notice (a full disk, a computer that runs out of memory), or a long task is over.
func (l *Library) Notify(tell func(Notification)) (stop func()) {
	seen := map[api.Ref]known{}
	look := func() {
		for ref, vm := range l.vms {
			o := vm.Record.OtherConfig
			now := known{vm.Record.PowerState, o[api.KeyLastExit] + o[api.KeyLastText], vm.Notice()}
			before, is := seen[ref]
			seen[ref] = now
			if !is {
				continue // it may have been like that for days
			}
			ended := now.exit != before.exit || before.state != Halted && now.state == Halted
			if ended && bad(o[api.KeyLastExit]) {
				tell(Notification{vm.Name(), vm.LastExit()})
			}
			if now.notice != "" && now.notice != before.notice {
				tell(Notification{vm.Name(), Sentence(now.notice)})
			}
		}
		for ref := range seen {
			if l.vms[ref] == nil {
				delete(seen, ref)
			}
		}
	}
	look()
	return l.Listen(func(n News) {
		if n.What&(ChangedVM|ChangedList) != 0 {
			look()
		}
		for _, t := range l.tasks {
			if name, is := t.ofGuest(); is {
				t.named = name
			}
		}
		for _, t := range n.Over {
			if over, is := t.over(); is {
				tell(over)
			}
		}
	})
}

// over is what there is to tell of a task that has ended.
func (t *Task) over() (Notification, bool) {
	r := t.Record
	if r.Finished.Sub(r.Created.Time) < longTask {
		return Notification{}, false
	}
	name := cmp.Or(t.named, t.Name())
	switch r.Status {
	case api.TaskSuccess:
		return Notification{name, text.T("It is done.")}, true
	case api.TaskFailure:
		why := text.T("It has failed.")
		if len(r.ErrorInfo) > 0 {
			why = Sentence(api.NewError(r.ErrorInfo[0], r.ErrorInfo[1:]...).Error())
		}
		return Notification{name, why}, true
	}
	return Notification{}, false
}

// bad reports whether a run that ended for this reason wants attention.
func bad(exit string) bool { return slices.Contains([]string{"crash", "watchdog", "failed"}, exit) }
