package ui

import (
	"context"
	"slices"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"

	"github.com/hxen-project/hxen/app/text"
	"github.com/hxen-project/hxen/installer/plan"
	"github.com/hxen-project/hxen/installer/steps"
	"github.com/hxen-project/hxen/platform/hostinfo"
)

func (w *wizard) welcomePage() fyne.CanvasObject {
	switch {
	case w.there.Interrupted && w.there.Action == plan.Uninstall:
		w.action = plan.Uninstall
		return container.NewVBox(w.heading(text.T("Removing HXEN was interrupted"), text.T("This goes on with it.")))
	case w.there.Interrupted:
		return container.NewVBox(w.heading(text.T("The last setup was interrupted"),
			text.T("This goes on where it was, or takes back what it did if you choose something else now. Nothing is lost.")))
	case w.there.There:
		return w.installedPage()
	}
	point := func(icon fyne.Resource, s string) fyne.CanvasObject {
		return container.NewBorder(nil, nil, container.NewVBox(gap(2), widget.NewIcon(theme.NewPrimaryThemedResource(icon))), nil, words(s))
	}
	return container.NewVBox(
		w.heading(text.T("Set up HXEN"), text.T("HXEN runs virtual machines on the computer you already have.")),
		gap(8),
		point(theme.ComputerIcon(), text.T("A window with your machines: start one and work in its screen.")),
		point(theme.MediaPlayIcon(), text.T("Chosen machines start when the computer starts, with nobody logged in.")),
		point(theme.ConfirmIcon(), text.T("No kernel module and no driver is installed. All that is done is shown first, and can be undone here.")),
		gap(8),
		dim(text.T("First this computer is looked at; nothing is changed by that.")),
	)
}

// installedPage asks what to do with what is installed.
func (w *wizard) installedPage() fyne.CanvasObject {
	again := text.T("Repair it, or change its parts")
	if w.there.Version != w.Version {
		again = text.T("Upgrade to %s", w.Version)
	}
	gone := text.T("Remove it; your guests can stay")
	choice := widget.NewRadioGroup([]string{again, gone}, func(s string) {
		w.action = plan.Install
		if s == gone {
			w.action = plan.Uninstall
		}
	})
	choice.Required = true
	choice.SetSelected(again)
	if w.action == plan.Uninstall {
		choice.SetSelected(gone)
	}
	return container.NewVBox(
		w.heading(text.T("HXEN %s is installed", w.there.Version), text.T("It is in %s. What should be done?", w.there.Prefix)),
		gap(8), choice,
		gap(8), dim(text.T("Machines that run go on running through a repair or an upgrade.")),
	)
}

// signs are the colours of findings.
func sign(s hostinfo.State) fyne.CanvasObject {
	var r fyne.Resource
	switch s {
	case hostinfo.OK:
		r = theme.NewSuccessThemedResource(theme.ConfirmIcon())
	case hostinfo.Warn:
		r = theme.NewWarningThemedResource(theme.WarningIcon())
	case hostinfo.Fail:
		r = theme.NewErrorThemedResource(theme.ErrorIcon())
	default:
		r = theme.NewDisabledResource(theme.InfoIcon())
	}
	return container.NewVBox(gap(3), widget.NewIcon(r))
}

func (w *wizard) checkPage() fyne.CanvasObject {
	list := container.NewVBox()
	head := container.NewStack(w.heading(text.T("Looking at this computer"), text.T("This takes a few seconds.")))
	show := func() {
		bad, fixed := 0, 0
		list.RemoveAll()
		found := slices.Clone(w.found)
		rank := map[hostinfo.State]int{hostinfo.Fail: 0, hostinfo.Warn: 1, hostinfo.Info: 3, hostinfo.OK: 2}
		slices.SortStableFunc(found, func(a, b steps.Finding) int { return rank[a.State] - rank[b.State] })
		cures := map[string]bool{} // one that several findings share is said once
		for _, f := range found {
			if f.Fix == "" && cures[f.Cure] {
				f.Cure = ""
			}
			cures[f.Cure] = true
			if f.State == hostinfo.Fail || f.State == hostinfo.Warn {
				bad++
				if w.fixes(f.Fix) {
					fixed++
				}
			}
			list.Add(w.finding(f))
		}
		sentence := text.T("Everything is fine.")
		switch {
		case bad > 0 && bad == fixed:
			sentence = text.T("What is missing is installed by this setup.")
		case bad > 0:
			sentence = text.T("HXEN can be installed. What is marked limits what guests can do.")
		}
		head.Objects = []fyne.CanvasObject{w.heading(text.T("This computer"), sentence)}
		head.Refresh()
		list.Refresh()
	}
	if w.found != nil {
		show()
	} else {
		wait := widget.NewProgressBarInfinite()
		list.Add(wait)
		w.next.Disable()
		w.work(func(ctx context.Context) func() {
			found, err := w.Backend.Preflight(ctx)
			return func() {
				wait.Stop()
				if err != nil {
					list.RemoveAll()
					w.fail(err)
					return
				}
				w.found = found
				w.options = steps.Propose(w.options, found)
				show()
				w.next.Enable()
				w.win.Canvas().Focus(w.next)
			}
		})
	}
	return container.NewBorder(head, nil, nil, nil, container.NewVScroll(list))
}

// fixes reports whether the plan will make a fix.
func (w *wizard) fixes(f steps.Fix) bool {
	return f == steps.FixPackages && w.options.Has(plan.QEMU) || f == steps.FixKVM && w.options.KVM
}

// finding is one row: colour, name, one sentence, and what can be done.
func (w *wizard) finding(f steps.Finding) fyne.CanvasObject {
	name := widget.NewLabelWithStyle(text.Finding(f.Title), fyne.TextAlignLeading, fyne.TextStyle{Bold: true})
	detail := words(text.Finding(f.Detail))
	rows := container.NewVBox(detail)
	bad := f.State == hostinfo.Warn || f.State == hostinfo.Fail
	var act fyne.CanvasObject
	switch {
	case bad && f.Fix != "":
		fix := newButton(text.T("Fix"), nil, nil)
		set := func() {
			if w.fixes(f.Fix) {
				fix.SetText(text.T("Will be fixed"))
				fix.SetIcon(theme.ConfirmIcon())
				fix.Disable()
			}
		}
		fix.OnTapped = func() {
			w.options = steps.Propose(w.options, []steps.Finding{f})
			set()
		}
		set()
		act = container.NewVBox(fix)
	case bad && f.Cure != "":
		rows.Add(dim(text.Finding(f.Cure)))
	}
	return container.NewBorder(nil, nil, container.NewHBox(sign(f.State), container.NewStack(container.NewVBox(name), fixed(140))), container.NewHBox(holder(act), fixed(10)), rows)
}

// byHand says how QEMU is installed where this setup has no package manager for it.
func (w *wizard) byHand() (cure string, ok bool) {
	i := slices.IndexFunc(w.found, func(f steps.Finding) bool { return f.ID == "qemu" && f.State == hostinfo.Fail && f.Fix == "" })
	if i < 0 {
		return "", false
	}
	return text.Finding(w.found[i].Cure), true
}

// holder is an object or nothing.
func holder(o fyne.CanvasObject) fyne.CanvasObject {
	if o == nil {
		return gap(0)
	}
	return o
}

func (w *wizard) choosePage() fyne.CanvasObject {
	o := &w.options
	part := func(c plan.Component, name, what string) fyne.CanvasObject {
		box := newCheck(name, func(on bool) {
			o.Components = slices.DeleteFunc(o.Components, func(d plan.Component) bool { return c == d })
			if on {
				o.Components = append(o.Components, c)
			}
		})
		box.SetChecked(o.Has(c))
		if c == plan.Command {
			box.Disable()
		}
		if cure, ok := w.byHand(); ok && c == plan.QEMU {
			box.SetChecked(false)
			box.Disable()
			what = text.T("Install it yourself: %s", cure)
		}
		return container.NewBorder(nil, nil, container.NewStack(box, fixed(190)), nil, dim(what))
	}
	service := newCheck(text.T("Start machines at boot"), func(on bool) { o.Service = on })
	service.SetChecked(o.Service)
	serves := text.T("A service that needs nobody to be logged in.")
	managed := true
	if i := slices.IndexFunc(w.found, func(f steps.Finding) bool { return f.ID == "service" && f.State != hostinfo.OK }); i >= 0 {
		managed = false
		serves = text.Finding(w.found[i].Detail)
	}
	// One that nothing would start cannot be chosen.
	offer := func() {
		if managed && steps.Serves(o.Scope) {
			service.Enable()
			return
		}
		service.SetChecked(false)
		service.Disable()
	}
	offer()
	rows := container.NewVBox(
		part(plan.Command, text.T("Command line"), text.T("hxen, with the verbs of Xen's xl, and what runs guests.")),
		part(plan.Window, text.T("Window"), text.T("Your machines and their screens.")),
		part(plan.QEMU, text.T("QEMU"), text.T("From your system's packages, where it is missing.")),
		part(plan.Example, text.T("Example guest"), text.T("A small machine to try things with.")),
		container.NewBorder(nil, nil, container.NewStack(service, fixed(190)), nil, dim(serves)),
	)
	if slices.ContainsFunc(w.found, func(f steps.Finding) bool { return f.Fix == steps.FixKVM }) {
		name, what := steps.AccelOption()
		kvm := newCheck(name, func(on bool) { o.KVM = on })
		kvm.SetChecked(o.KVM)
		rows.Add(container.NewBorder(nil, nil, container.NewStack(kvm, fixed(190)), nil, dim(what)))
	}
	folder := widget.NewEntry()
	folder.SetText(o.Prefix)
	folder.OnChanged = func(s string) { o.Prefix = s }
	everybody, me := text.T("Everybody on this computer"), text.T("Only me")
	scope := widget.NewRadioGroup([]string{everybody, me}, nil)
	scope.Horizontal, scope.Required = true, true
	if scope.SetSelected(me); o.Scope == plan.System {
		scope.SetSelected(everybody)
	}
	scope.OnChanged = func(s string) {
		o.Scope = plan.User
		if s == everybody {
			o.Scope = plan.System
		}
		folder.SetText(w.Backend.Prefix(o.Scope))
		offer()
	}
	if w.there.There {
		scope.Disable()
		folder.Disable()
	}
	place := widget.NewForm(widget.NewFormItem(text.T("For"), scope), widget.NewFormItem(text.T("Folder"), folder))
	return container.NewBorder(w.heading(text.T("What and where"), text.T("The proposals suit most computers.")), nil, nil, nil,
		container.NewVScroll(container.NewVBox(rows, gap(4), widget.NewSeparator(), gap(4), place)))
}

func (w *wizard) removePage() fyne.CanvasObject {
	w.action = plan.Uninstall
	guests := newCheck(text.T("Keep my machines and their disks"), func(on bool) { w.options.RemoveGuests = !on })
	guests.SetChecked(!w.options.RemoveGuests)
	packs := newCheck(text.T("Keep QEMU and other packages of the system"), func(on bool) { w.options.RemovePackages = !on })
	packs.SetChecked(!w.options.RemovePackages)
	return container.NewVBox(
		w.heading(text.T("Remove HXEN"), text.T("Only what the setup made is removed. Files that you changed are kept aside.")),
		gap(8), guests, packs)
}

// reviewPage makes the plan and shows it in words.
func (w *wizard) reviewPage() fyne.CanvasObject {
	list := container.NewVBox(widget.NewProgressBarInfinite())
	foot := container.NewVBox()
	head := container.NewStack(w.heading(text.T("Making the plan"), text.T("Nothing has been changed so far.")))
	w.next.Disable()
	switch {
	case w.action == plan.Uninstall:
		w.next.SetText(text.T("Remove"))
	case !w.there.There:
		w.next.SetText(text.T("Install"))
	case w.there.Version != w.Version:
		w.next.SetText(text.T("Upgrade"))
	default: // a repair, or other parts
		w.next.SetText(text.T("Apply"))
	}
	w.work(func(ctx context.Context) func() {
		p, err := w.Backend.Plan(ctx, w.action, w.options)
		var found []plan.Found
		if err == nil && p.Action == plan.Install {
			found, err = w.Backend.Check(ctx, p)
		}
		return func() {
			list.RemoveAll()
			defer head.Refresh()
			if err != nil {
				head.Objects = []fyne.CanvasObject{w.heading(text.T("This cannot be done"), text.T("Nothing has been changed so far."))}
				list.Add(container.NewBorder(nil, nil, sign(hostinfo.Fail), nil, words(err.Error())))
				return
			}
			head.Objects = []fyne.CanvasObject{w.heading(text.T("What will be done"), text.T("Nothing has been changed so far."))}
			w.plan = p
			w.showPlan(list, foot, found)
			w.next.Enable()
			w.win.Canvas().Focus(w.next)
		}
	})
	return container.NewBorder(head, foot, nil, nil, container.NewVScroll(list))
}

func (w *wizard) showPlan(list, foot *fyne.Container, found []plan.Found) {
	row := func(title, detail string, nothing bool) {
		icon := theme.NewPrimaryThemedResource(theme.NavigateNextIcon())
		if nothing {
			icon = theme.NewPrimaryThemedResource(theme.ConfirmIcon())
		}
		name := widget.NewLabelWithStyle(title, fyne.TextAlignLeading, fyne.TextStyle{Bold: true})
		list.Add(container.NewBorder(nil, nil, container.NewVBox(gap(3), widget.NewIcon(icon)), nil,
			container.NewBorder(container.NewStack(name), nil, nil, nil, words(detail))))
	}
	var total int64
	for _, f := range found {
		row(f.Step.Title(), f.Detail, f.Done)
		total += f.Bytes
	}
	if w.plan.Action == plan.Uninstall {
		row(text.T("Removing HXEN %s", w.plan.Version), text.T("its files in %s, menu entries and the service", w.plan.Prefix), false)
		if w.plan.RemoveGuests {
			row(text.T("Removing your machines"), text.T("all of them, with their disks. This cannot be undone."), false)
		} else {
			row(text.T("Keeping your machines"), text.T("they are there again when HXEN is installed again"), true)
		}
	} else if total > 0 {
		foot.Add(dim(text.T("%s in all. Plan %s.", text.Size(total), w.plan.Hash()[:12])))
	}
	if w.Backend.NeedsAdmin(w.plan) {
		foot.Add(words(text.T("An administrator's password is asked for once.")))
	}
	foot.Refresh()
}
