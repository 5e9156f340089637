package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/hxen-project/hxen/app/text"
	"github.com/hxen-project/hxen/installer/plan"
	"github.com/hxen-project/hxen/installer/steps"
	"github.com/hxen-project/hxen/platform/hostinfo"
)

// asker asks in the terminal; an empty answer is the proposal.
type asker struct {
	in    *bufio.Reader
	ended bool // there will be no more answers
}

func (a *asker) line(question, proposal string) string {
	fmt.Printf("%s [%s] ", question, proposal)
	s, err := a.in.ReadString('\n')
	a.ended = a.ended || err != nil
	if s = strings.TrimSpace(s); s == "" {
		return proposal
	}
	return s
}

// yes asks a question whose answers are the first letters of yes and no.
func (a *asker) yes(question string, proposal bool) bool {
	yes, no := text.T("y"), text.T("n")
	for !a.ended {
		p := no
		if proposal {
			p = yes
		}
		switch s := strings.ToLower(a.line(question+" ("+yes+"/"+no+")", p)); {
		case strings.HasPrefix(s, yes):
			return true
		case strings.HasPrefix(s, no):
			return false
		}
	}
	return false
}

// ask is the wizard in the terminal.
func ask(ctx context.Context, s *steps.Setup, c choices) int {
	ownConsole()
	a := &asker{in: bufio.NewReader(os.Stdin)}
	fmt.Println(text.T("Setup of HXEN %s", version))
	i, err := s.Installed()
	if err != nil {
		return refuse(c, err)
	}
	switch {
	case i.Interrupted:
		fmt.Println(text.T("An earlier run of the setup was interrupted; this one goes on with it or takes it back."))
	case i.There:
		fmt.Println(text.T("HXEN %s is installed in %s.", i.Version, i.Prefix))
	}
	if !c.uninstall && i.There {
		c.uninstall = a.yes(text.T("Remove it?"), false)
	}
	o, err := options(s, c)
	if err != nil {
		return refuse(c, err)
	}
	if c.uninstall {
		return askRemove(ctx, a, s, c, o)
	}
	fmt.Println(text.T("Looking at this computer ..."))
	findings, err := s.Preflight(ctx)
	if err != nil {
		return refuse(c, err)
	}
	signs := map[hostinfo.State]string{hostinfo.OK: "ok", hostinfo.Info: "  ", hostinfo.Warn: "! ", hostinfo.Fail: "!!"}
	for _, f := range findings {
		fmt.Printf("  %s %s: %s\n", signs[f.State], text.Finding(f.Title), text.Finding(f.Detail))
		if f.Fix == "" && f.Cure != "" {
			fmt.Println("       " + text.Finding(f.Cure))
		}
	}
	o = steps.Propose(o, findings)
	askOptions(a, s, c, i, &o)
	p, err := s.Plan(ctx, plan.Install, o)
	if err != nil {
		return refuse(c, err)
	}
	return confirm(ctx, a, s, c, p)
}

func askOptions(a *asker, s *steps.Setup, c choices, i steps.Installed, o *plan.Options) {
	if !i.There && !c.system && !c.user {
		scope := plan.User
		if a.yes(text.T("Install for everybody? It needs an administrator's password."), o.Scope == plan.System) {
			scope = plan.System
		}
		if scope != o.Scope {
			o.Scope, o.Prefix = scope, s.Prefix(scope)
		}
	}
	if c.prefix == "" && !i.There {
		o.Prefix = a.line(text.T("Folder"), o.Prefix)
	}
	if !c.set["components"] {
		chosen := []plan.Component{plan.Command}
		for _, q := range []struct {
			c        plan.Component
			question string
		}{
			{plan.Window, text.T("Install the window?")},
			{plan.QEMU, text.T("Install QEMU, which runs guests, where it is missing?")},
			{plan.Example, text.T("Install what the example guest needs?")},
		} {
			if a.yes(q.question, o.Has(q.c)) {
				chosen = append(chosen, q.c)
			}
		}
		o.Components = chosen
	}
	if _, managed := hostinfo.ServiceManager(); !managed || !steps.Serves(o.Scope) {
		o.Service = false // nothing would start it
	} else if !c.set["no-service"] {
		o.Service = a.yes(text.T("Set up the service, so that guests can start at boot?"), o.Service)
	}
}

func askRemove(ctx context.Context, a *asker, s *steps.Setup, c choices, o plan.Options) int {
	if !c.set["remove-guests"] {
		o.RemoveGuests = !a.yes(text.T("Keep your guests and their disks?"), true)
	}
	p, err := s.Plan(ctx, plan.Uninstall, o)
	if err != nil {
		return refuse(c, err)
	}
	return confirm(ctx, a, s, c, p)
}

// confirm shows the plan and carries it out.
func confirm(ctx context.Context, a *asker, s *steps.Setup, c choices, p plan.Plan) int {
	if p.Action == plan.Install {
		found, err := s.Check(ctx, p)
		if err != nil {
			return refuse(c, steps.Refused(err.Error()))
		}
		fmt.Println(text.T("This will be done:"))
		for _, f := range found {
			fmt.Printf("  %s: %s\n", f.Step.Title(), f.Detail)
		}
	}
	fmt.Println(text.T("Plan %s", p.Hash()[:12]))
	if !a.yes(text.T("Go on?"), true) {
		fmt.Println(text.T("Nothing was changed."))
		return exitCanceled
	}
	return code(ctx, s.Run(ctx, p, teller(os.Stdout, os.Stderr)))
}
