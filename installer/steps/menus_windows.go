package steps

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/hxen-project/hxen/app/text"
	"github.com/hxen-project/hxen/installer/plan"
)

// menus is the step that puts HXEN into the Start menu.
type menus struct {
	tree   *tree
	file   string // the shortcut's
	target string // the program that it starts; empty: there is to be none
}

const kindShortcut = "shortcut"

func (*menus) ID() string     { return "menus" }
func (*menus) Title() string  { return text.T("Adding HXEN to the menus") }
func (*menus) Optional() bool { return true }

// leads is where the shortcut leads; empty if there is none, or none that can be
// read.
func (m *menus) leads() string {
	if there, err := m.tree.exists(m.file); err != nil || !there {
		return ""
	}
	target, err := readShortcut(m.file)
	if err != nil {
		return ""
	}
	return target
}

// Check implements plan.Step.
func (m *menus) Check(_ context.Context, s *plan.Session) (plan.Status, error) {
	if m.target == "" {
		return plan.Status{Done: len(s.Stands()) == 0, Detail: text.T("not without the window")}, nil
	}
	return plan.Status{Done: strings.EqualFold(m.leads(), m.target), Detail: text.T("HXEN in the Start menu")}, nil
}

// Apply implements plan.Step.
func (m *menus) Apply(_ context.Context, s *plan.Session) error {
	known := func(a plan.Act) bool { return a.Name == m.file }
	noted := slices.ContainsFunc(s.Pending(), known)
	if m.target == "" {
		return m.take(s, noted)
	}
	there, err := m.tree.exists(m.file)
	if err != nil {
		return err
	}
	if there && !noted && !slices.ContainsFunc(s.Stands(), known) {
		return errors.New(text.T("%s is there already and is not from this setup; move it away or choose another place", m.file))
	}
	if !noted {
		if err := s.Intend(plan.Act{Kind: kindShortcut, Name: m.file, Sum: m.target, Old: m.leads()}); err != nil {
			return err
		}
	}
	return m.write(m.target)
}

// take removes the shortcut of an installation that has a window no more.
func (m *menus) take(s *plan.Session, noted bool) error {
	for _, a := range s.Stands() {
		if !noted {
			if err := s.Intend(plan.Act{Kind: a.Kind, Name: a.Name, Sum: a.Sum, Old: a.Sum, Gone: true}); err != nil {
				return err
			}
		}
		if err := m.remove(a); err != nil {
			return err
		}
	}
	return nil
}

// write makes the shortcut beside its place, and then puts it there.
func (m *menus) write(target string) error {
	if err := m.tree.remove(stage(m.file)); err != nil {
		return err
	}
	if err := writeShortcut(stage(m.file), target, text.T("Run virtual machines")); err != nil {
		return err
	}
	return m.tree.rename(stage(m.file), m.file)
}

// remove deletes a shortcut that still leads where it was made to lead.
func (m *menus) remove(a plan.Act) error {
	if err := m.tree.remove(stage(m.file)); err != nil {
		return err
	}
	if a.Name != m.file || !strings.EqualFold(m.leads(), a.Sum) {
		return nil
	}
	return m.tree.remove(m.file)
}

// Undo implements plan.Step.
func (m *menus) Undo(_ context.Context, s *plan.Session, a plan.Act) error {
	if s.Uninstalling() || a.Old == "" {
		return m.remove(a)
	}
	if a.Name != m.file || m.leads() == a.Old {
		return m.tree.remove(stage(m.file))
	}
	return m.write(a.Old)
}
