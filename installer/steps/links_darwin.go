package steps

import (
	"context"
	"errors"
	"io/fs"
	"slices"

	"github.com/hxen-project/hxen/app/text"
	"github.com/hxen-project/hxen/installer/plan"
)

// link is the step that has the Terminal find the command line, which is inside of
// the app.
type link struct {
	tree         *tree
	file, target string
}

func (*link) ID() string     { return "command" }
func (*link) Title() string  { return text.T("Adding HXEN to PATH") }
func (*link) Optional() bool { return true }

// leads is where the link leads; empty if there is none. foreign says that
// something else is in its place.
func (l *link) leads() (target string, foreign bool, err error) {
	st, err := l.tree.lstat(l.file)
	if errors.Is(err, fs.ErrNotExist) {
		return "", false, nil
	}
	if err != nil || st.Mode()&fs.ModeSymlink == 0 {
		return "", err == nil, err
	}
	target, err = l.tree.readlink(l.file)
	return target, false, err
}

// Check implements plan.Step.
func (l *link) Check(context.Context, *plan.Session) (plan.Status, error) {
	target, _, err := l.leads()
	return plan.Status{Done: target == l.target, Detail: text.T("hxen can be typed in terminals that are opened from now on")}, err
}

// Apply implements plan.Step.
func (l *link) Apply(_ context.Context, s *plan.Session) error {
	target, foreign, err := l.leads()
	if err != nil {
		return err
	}
	mine := func(a plan.Act) bool { return a.Name == l.file }
	known := slices.ContainsFunc(append(s.Stands(), s.Pending()...), mine)
	if foreign || target != "" && !known {
		return errors.New(text.T("%s is there already and is not from this setup; move it away or choose another place", l.file))
	}
	if !slices.ContainsFunc(s.Pending(), mine) {
		if err := s.Intend(plan.Act{Kind: kindLink, Name: l.file, Sum: l.target, Old: target}); err != nil {
			return err
		}
	}
	return l.put(l.target)
}

func (l *link) put(target string) error {
	if err := l.tree.symlink(target, stage(l.file)); err != nil {
		return err
	}
	return l.tree.rename(stage(l.file), l.file)
}

// Undo implements plan.Step.
func (l *link) Undo(_ context.Context, s *plan.Session, a plan.Act) error {
	if err := l.tree.remove(stage(l.file)); err != nil {
		return err
	}
	target, _, err := l.leads()
	if err != nil || target != a.Sum || a.Name != l.file {
		return err
	}
	if a.Old != "" && !s.Uninstalling() {
		return l.put(a.Old)
	}
	return l.tree.remove(l.file)
}
