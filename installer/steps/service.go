package steps

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/hxen-project/hxen/app/text"
	"github.com/hxen-project/hxen/installer/plan"
)

// service is the step that has the system start HXEN's service. How, is the
// business of the installed hxen itself, so that packages, people and this setup
// register the same thing.
type service struct {
	host    *Host
	program string // the installed hxen
	scope   plan.Scope
	account string
}

const kindService = "service"

func (*service) ID() string    { return "service" }
func (*service) Title() string { return text.T("Setting up the service") }

// command is "hxen service install" and the like. Run as administrator, hxen takes
// the account whose guests are served from sudo's variable.
func (v *service) command(verb string) (env, args []string) {
	if v.scope == plan.User {
		return nil, []string{"service", verb, "--user"}
	}
	return []string{"SUDO_USER=" + v.account}, []string{"service", verb}
}

// Check implements plan.Step. Registering is told the whole wanted state, so it
// is done again each time.
func (v *service) Check(context.Context, *plan.Session) (plan.Status, error) {
	if v.scope == plan.User {
		return plan.Status{Detail: text.T("guests can start when you log in")}, nil
	}
	return plan.Status{Detail: text.T("guests of %s can start at boot, with nobody logged in", v.account)}, nil
}

// Apply implements plan.Step.
func (v *service) Apply(ctx context.Context, s *plan.Session) error {
	known := append(s.Stands(), s.Pending()...)
	if len(known) == 0 {
		if err := s.Intend(plan.Act{Kind: kindService, Name: "hxen", Args: []string{string(v.scope)}}); err != nil {
			return err
		}
	}
	return v.run(ctx, s, "install")
}

// Undo implements plan.Step.
func (v *service) Undo(ctx context.Context, s *plan.Session, a plan.Act) error {
	if _, err := os.Stat(v.program); errors.Is(err, fs.ErrNotExist) {
		return nil // nothing is left that could know of it
	}
	if err := v.run(ctx, s, "uninstall"); err != nil {
		s.Note(err.Error()) // what else was done has to be taken back all the same
	}
	return nil
}

func (v *service) run(ctx context.Context, s *plan.Session, verb string) error {
	env, args := v.command(verb)
	s.Log("%s %s", v.program, strings.Join(args, " "))
	out, err := v.host.Run.Run(ctx, env, v.program, args...)
	if out = strings.TrimSpace(out); out != "" {
		s.Log("%s", out)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", text.T("the service could not be set up"), err)
	}
	return nil
}
