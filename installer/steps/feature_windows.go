package steps

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"

	"github.com/hxen-project/hxen/app/text"
	"github.com/hxen-project/hxen/installer/plan"
)

// feature is the step that switches the Windows Hypervisor Platform on, through
// DISM, Windows' own servicing.
type feature struct {
	host    *Host
	dism    string // the program
	library string // that is there when the feature is, and Windows was started with it
	// again has the setup go on when the user logs in after the restart.
	again value
	reg   *hive // of the user
}

const (
	kindFeature = "feature"
	kindAgain   = "again"
	featureName = "HypervisorPlatform"

	needsRestart = 3010 // ERROR_SUCCESS_REBOOT_REQUIRED, winerror.h
)

func (*feature) ID() string     { return "feature" }
func (*feature) Title() string  { return text.T("Switching on the Windows Hypervisor Platform") }
func (*feature) Optional() bool { return true } // guests run without it, slowly

// Check implements plan.Step. DISM answers administrators only.
func (f *feature) Check(context.Context, *plan.Session) (plan.Status, error) {
	if _, err := os.Stat(f.library); err == nil {
		return plan.Status{Done: true, Detail: text.T("it is on")}, nil
	}
	return plan.Status{Detail: text.T("a feature of Windows by which guests run at the processor's speed; the computer may have to be restarted")}, nil
}

// states that DISM tells, and what they mean here.
const (
	stateOn      = "Enabled"
	statePending = "Enable Pending"
)

// state asks DISM: "Enabled", "Disabled", "Enable Pending" and the like.
func (f *feature) state(ctx context.Context) (string, error) {
	out, err := f.host.Run.Run(ctx, nil, f.dism, "/english", "/online", "/get-featureinfo", "/featurename:"+featureName)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(out) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "State" {
			return strings.TrimSpace(v), nil
		}
	}
	return "", errors.New(text.T("this Windows has no Windows Hypervisor Platform, so guests run without it, slowly"))
}

// Apply implements plan.Step.
func (f *feature) Apply(ctx context.Context, s *plan.Session) error {
	state, err := f.state(ctx)
	if err != nil {
		return err
	}
	switch state {
	case stateOn:
		return nil
	case statePending:
		return f.goOn(s)
	}
	if !slices.ContainsFunc(s.Pending(), func(a plan.Act) bool { return a.Kind == kindFeature }) {
		if err := s.Intend(plan.Act{Kind: kindFeature, Name: featureName, Old: state}); err != nil {
			return err
		}
	}
	restart, err := f.set(ctx, s, "/enable-feature", "/all")
	if restart {
		err = f.goOn(s)
	}
	return err
}

// runOnce holds what Windows runs, and then deletes, at the user's next login: the
// exclamation mark has it deleted only when that has ended.
// https://learn.microsoft.com/windows/win32/setupapi/run-and-runonce-registry-keys
const (
	runOnce     = `Software\Microsoft\Windows\CurrentVersion\RunOnce`
	runOnceName = "!HXEN Setup"
)

// goOn tells of the restart, and has the setup go on after it.
func (f *feature) goOn(s *plan.Session) error {
	s.Note(text.T("Restart the computer: from then on your guests run at the processor's speed."))
	if f.again.data == "" {
		return nil
	}
	if err := s.Intend(plan.Act{Kind: kindAgain, Name: runOnceName, Sum: string(f.again.data)}); err != nil {
		return err
	}
	err := f.reg.make(f.again.key)
	if err == nil {
		err = f.reg.put(f.again.key, f.again.name, f.again.data)
	}
	if err != nil {
		s.Log("the setup does not go on by itself after the restart: %v", err) // and all works without that
	}
	return nil
}

// set has DISM change the feature, and reports whether Windows has to be restarted
// for it.
func (f *feature) set(ctx context.Context, s *plan.Session, args ...string) (restart bool, err error) {
	args = append([]string{"/english", "/online", "/featurename:" + featureName, "/norestart", "/quiet"}, args...)
	s.Log("%s %s", f.dism, strings.Join(args, " "))
	out, err := f.host.Run.Run(ctx, nil, f.dism, args...)
	for line := range strings.Lines(out) {
		if line = strings.TrimSpace(line); line != "" {
			s.Log("%s", line)
		}
	}
	var ended *Ended
	if errors.As(err, &ended) && ended.Code == needsRestart {
		return true, nil
	}
	return false, err
}

// Undo implements plan.Step. A run that failed switches the feature off again;
// uninstalling leaves it, because other programs may use it by now.
func (f *feature) Undo(ctx context.Context, s *plan.Session, a plan.Act) error {
	if a.Kind == kindAgain {
		if now, err := f.reg.get(f.again.key, f.again.name); err != nil || string(now) != a.Sum {
			return nil // Windows has run it, or the user is not logged in
		}
		if err := f.reg.put(f.again.key, f.again.name, ""); err != nil {
			s.Note(err.Error())
		}
		return nil
	}
	if a.Name != featureName {
		return nil
	}
	if s.Uninstalling() {
		s.Note(text.T("The Windows Hypervisor Platform stays switched on; \"Turn Windows features on or off\" switches it off."))
		return nil
	}
	if state, err := f.state(ctx); err != nil || state != stateOn && state != statePending {
		return nil
	}
	if _, err := f.set(ctx, s, "/disable-feature"); err != nil {
		s.Note(err.Error()) // what else was done has to be taken back all the same
	}
	return nil
}
