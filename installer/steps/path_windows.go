package steps

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/hxen-project/hxen/app/text"
	"github.com/hxen-project/hxen/installer/plan"
)

// searchPath is the step that puts HXEN's folder into PATH, behind what is there.
type searchPath struct {
	reg *hive
	key string // that holds the environment
	dir string
}

const kindPath = "path"

func (*searchPath) ID() string     { return "path" }
func (*searchPath) Title() string  { return text.T("Adding HXEN to PATH") }
func (*searchPath) Optional() bool { return true }

// isDir compares folders of PATH, which people write with quotes and backslashes
// at the end.
func (p *searchPath) isDir(entry string) bool {
	return strings.EqualFold(strings.TrimRight(strings.Trim(strings.TrimSpace(entry), `"`), `\`), p.dir)
}

// now is what PATH holds, and its kind; a new one may name variables, as Windows'
// own do.
func (p *searchPath) now() (all data, kind, list string, err error) {
	if all, err = p.reg.get(p.key, "Path"); err != nil {
		return "", "", "", err
	}
	if kind, list = all.parts(); all == "" {
		kind = "x"
	}
	if kind != "s" && kind != "x" {
		return "", "", "", errors.New(text.T("PATH in the registry is no text, so it stays as it is; type the folder before the commands' names: %s", p.dir))
	}
	return all, kind, list, nil
}

// Check implements plan.Step.
func (p *searchPath) Check(context.Context, *plan.Session) (plan.Status, error) {
	_, _, list, err := p.now()
	if err != nil {
		return plan.Status{Detail: err.Error()}, nil // Apply says it again, and the rest goes on
	}
	return plan.Status{Done: slices.ContainsFunc(strings.Split(list, ";"), p.isDir),
		Detail: text.T("hxen can be typed in terminals that are opened from now on")}, nil
}

// Apply implements plan.Step.
func (p *searchPath) Apply(_ context.Context, s *plan.Session) error {
	all, kind, list, err := p.now()
	if err != nil {
		return err
	}
	if list != "" && !strings.HasSuffix(list, ";") {
		list += ";"
	}
	next := data(kind + ":" + list + p.dir)
	if !slices.ContainsFunc(s.Pending(), func(a plan.Act) bool { return a.Name == p.dir }) {
		if err := s.Intend(plan.Act{Kind: kindPath, Name: p.dir, Sum: string(next), Old: string(all)}); err != nil {
			return err
		}
	}
	if err := p.reg.put(p.key, "Path", next); err != nil {
		return err
	}
	tellEnvironment()
	return nil
}

// Undo implements plan.Step.
func (p *searchPath) Undo(_ context.Context, _ *plan.Session, a plan.Act) error {
	all, kind, list, err := p.now()
	if err != nil || a.Name != p.dir {
		return nil // it is no text any more, or not ours
	}
	next := data(a.Old)
	if string(all) != a.Sum { // somebody else has changed it since
		entries := strings.Split(list, ";")
		rest := slices.DeleteFunc(slices.Clone(entries), p.isDir)
		if len(rest) == len(entries) {
			return nil
		}
		next = data(kind + ":" + strings.Join(rest, ";"))
	}
	if err := p.reg.put(p.key, "Path", next); err != nil {
		return err
	}
	tellEnvironment()
	return nil
}
