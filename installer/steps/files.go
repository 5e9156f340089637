package steps

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/hxen-project/hxen/app/text"
	"github.com/hxen-project/hxen/installer/plan"
	"github.com/hxen-project/hxen/platform/hostinfo"
)

// files is the step that puts our own files below the prefix. All are written
// beside their places and checked first; then each takes its place in one
// rename, the one before being kept until the whole run has ended well.
type files struct {
	payload *Payload
	tree    *tree
	prefix  string
	chosen  plan.Options
	free    func(path string) (uint64, error)
}

// Kinds of acts.
const (
	kindDir   = "dir"
	kindFile  = "file"
	kindLink  = "link"
	kindSaved = "saved" // a file of ours that the user had changed, under another name
)

func (*files) ID() string    { return "files" }
func (*files) Title() string { return text.T("Copying HXEN's files") }

// beside is a name in the same folder that no user chooses.
func beside(name, ending string) string {
	return filepath.Join(filepath.Dir(name), "."+filepath.Base(name)+".hxen-"+ending)
}

func stage(name string) string { return beside(name, "new") }
func keep(name string) string  { return beside(name, "old") }

// todo is one file or link that has to change.
type todo struct {
	File
	name  string // absolute
	old   string // what is there: sum or link target; empty if nothing
	saved string // where the user's version goes
}

// todos compares what should be with what is. gone are files of earlier runs
// that are not wanted any more.
func (f *files) todos(s *plan.Session) (list []todo, gone []plan.Act, err error) {
	want, err := f.payload.For(f.chosen, f.prefix)
	if err != nil {
		return nil, nil, err
	}
	ours := known{stands: map[string]plan.Act{}, pending: map[string]bool{}, saved: map[string]string{}}
	for _, a := range s.Stands() {
		ours.stands[a.Name] = a
	}
	for _, a := range s.Pending() {
		ours.pending[a.Name] = true
		if a.Kind == kindSaved {
			ours.saved[a.Sum] = a.Name
		}
	}
	wanted := map[string]bool{}
	for _, w := range want {
		name := filepath.Join(f.prefix, filepath.FromSlash(w.Path))
		wanted[name] = true
		t, same, err := f.look(w, name, ours)
		if err != nil {
			return nil, nil, err
		}
		if !same {
			list = append(list, t)
		}
	}
	for _, a := range s.Stands() {
		if (a.Kind == kindFile || a.Kind == kindLink) && !wanted[a.Name] {
			gone = append(gone, plan.Act{Kind: a.Kind, Name: a.Name, Sum: a.Sum, Old: a.Sum, Gone: true})
		}
	}
	return list, gone, nil
}

// known is what the journal knows of files, by name.
type known struct {
	stands  map[string]plan.Act
	pending map[string]bool   // noted by this session before it was interrupted
	saved   map[string]string // names for files that the user changed, by sum
}

// look compares one file.
func (f *files) look(w File, name string, ours known) (t todo, same bool, err error) {
	t = todo{File: w, name: name}
	st, err := f.tree.lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return t, false, nil
	}
	if err != nil {
		return t, false, err
	}
	foreign := errors.New(text.T("%s is there already and is not from this setup; move it away or choose another place", name))
	mine, isOurs := ours.stands[name]
	switch {
	case st.Mode()&fs.ModeSymlink != 0:
		if t.old, err = f.tree.readlink(name); err != nil {
			return t, false, err
		}
		if w.Link != "" && t.old == w.Link {
			return t, true, nil
		}
		if !ours.pending[name] && (!isOurs || mine.Kind != kindLink) {
			return t, false, foreign
		}
	case st.Mode().IsRegular():
		if t.old, err = f.tree.sum(name); err != nil {
			return t, false, err
		}
		if w.Link == "" && t.old == w.Sum && sameMode(st, w.Mode) {
			return t, true, nil
		}
		if !isOurs && !ours.pending[name] {
			return t, false, foreign
		}
		if t.old != mine.Sum && t.old != w.Sum {
			if t.saved = ours.saved[t.old]; t.saved == "" {
				t.saved = f.savedName(name)
			}
		}
	default:
		return t, false, foreign
	}
	return t, false, nil
}

// savedName is a free name for a file that the user changed.
func (f *files) savedName(name string) string {
	for n := 1; ; n++ {
		saved := name + ".saved"
		if n > 1 {
			saved = fmt.Sprintf("%s%d", saved, n)
		}
		if there, err := f.tree.exists(saved); err != nil || !there {
			return saved
		}
	}
}

// Check implements plan.Step.
func (f *files) Check(_ context.Context, s *plan.Session) (plan.Status, error) {
	list, gone, err := f.todos(s)
	if err != nil {
		return plan.Status{}, err
	}
	var st plan.Status
	for _, t := range list {
		st.Bytes += t.Size
	}
	left := slices.ContainsFunc(s.Pending(), func(a plan.Act) bool { return a.Gone && f.there(a.Name) })
	switch st.Done = len(list) == 0 && len(gone) == 0 && !left; {
	case st.Done:
		st.Detail = text.T("everything is there")
	case len(gone) > 0:
		st.Detail = text.T("files: %d (%s), into %s; removed of the version before: %d", len(list), text.Size(st.Bytes), f.prefix, len(gone))
	default:
		st.Detail = text.T("files: %d (%s), into %s", len(list), text.Size(st.Bytes), f.prefix)
	}
	return st, nil
}

func (f *files) there(name string) bool {
	there, _ := f.tree.exists(name)
	return there
}

// spare is left free on the disk.
const spare = 16 << 20

// Apply implements plan.Step.
func (f *files) Apply(ctx context.Context, s *plan.Session) error {
	list, gone, err := f.todos(s)
	if err != nil {
		return err
	}
	var total int64
	for _, t := range list {
		total += t.Size
	}
	if free, err := f.free(f.prefix); err == nil && total > 0 && free < uint64(total)+spare {
		return errors.New(text.T("there is not enough room in %s: %s are needed and %s are free; free some space or choose another place", f.prefix, text.Size(total+spare), text.Size(int64(free))))
	}
	dirs, err := f.missing(list)
	if err != nil {
		return err
	}
	if err := s.Intend(f.acts(s, dirs, list, gone)...); err != nil {
		return err
	}
	for _, d := range dirs {
		if err := f.tree.mkdir(d); err != nil {
			return f.explain(err)
		}
	}
	var done int64
	for _, t := range list {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := f.stage(t); err != nil {
			return f.explain(err)
		}
		done += t.Size
		s.Progress(done, total)
	}
	for _, t := range list {
		if err := f.swap(s, t); err != nil {
			return f.explain(err)
		}
	}
	for _, a := range gone {
		if !f.there(a.Name) {
			continue
		}
		if err := f.tree.rename(a.Name, keep(a.Name)); err != nil {
			return f.explain(err)
		}
		s.Log("removed %s", a.Name)
	}
	return nil
}

// explain adds what to do to an error of the file system.
func (f *files) explain(err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission), readOnly(err):
		return fmt.Errorf("%w; %s", err, text.T("the setup may not write there: choose another place"))
	case noSpace(err):
		return fmt.Errorf("%w; %s", err, text.T("free some space or choose another place"))
	}
	return err
}

// missing lists the folders that have to be made, outermost first.
func (f *files) missing(list []todo) ([]string, error) {
	seen := map[string]bool{}
	var out []string
	for _, t := range list {
		var chain []string
		for dir := filepath.Dir(t.name); !seen[dir]; dir = filepath.Dir(dir) {
			seen[dir] = true
			if _, err := f.tree.base(dir); err != nil {
				break // the base itself
			}
			there, err := f.tree.exists(dir)
			if err != nil {
				return nil, err
			}
			if !there {
				chain = append(chain, dir)
			}
		}
		slices.Reverse(chain)
		out = append(out, chain...)
	}
	return out, nil
}

// acts are the changes that were not noted before this session was interrupted.
func (f *files) acts(s *plan.Session, dirs []string, list []todo, gone []plan.Act) []plan.Act {
	noted := map[string]bool{}
	for _, a := range s.Pending() {
		noted[a.Kind+a.Name] = true
	}
	var acts []plan.Act
	add := func(a plan.Act) {
		if !noted[a.Kind+a.Name] {
			acts = append(acts, a)
		}
	}
	for _, d := range dirs {
		add(plan.Act{Kind: kindDir, Name: d, Mode: 0o755})
	}
	for _, t := range list {
		if t.saved != "" {
			add(plan.Act{Kind: kindSaved, Name: t.saved, Sum: t.old})
		}
		if t.Link != "" {
			add(plan.Act{Kind: kindLink, Name: t.name, Sum: t.Link, Old: t.old})
		} else {
			add(plan.Act{Kind: kindFile, Name: t.name, Sum: t.Sum, Mode: t.Mode, Old: t.old})
		}
	}
	for _, g := range gone {
		add(g)
	}
	return acts
}

func (f *files) stage(t todo) error {
	if t.Link != "" {
		return f.tree.symlink(t.Link, stage(t.name))
	}
	return f.tree.write(stage(t.name), fs.FileMode(t.Mode), func(w io.Writer) error {
		return f.payload.copyTo(w, t.File, f.prefix)
	})
}

// swap puts a staged file into its place.
func (f *files) swap(s *plan.Session, t todo) error {
	if t.saved != "" && !f.there(t.saved) {
		if err := f.tree.link(t.name, t.saved); err != nil {
			return err
		}
		s.Note(text.T("%s had been changed; the changed file is kept as %s", t.name, t.saved))
	}
	if t.Link == "" && t.old != "" && !f.there(keep(t.name)) {
		if err := f.tree.setAside(t.name, keep(t.name)); err != nil {
			return err
		}
	}
	if err := f.tree.rename(stage(t.name), t.name); err != nil {
		return err
	}
	s.Log("wrote %s", t.name)
	return nil
}

// Finish implements plan.Finisher.
func (f *files) Finish(a plan.Act) error {
	if a.Kind == kindFile || a.Kind == kindLink {
		return f.tree.remove(keep(a.Name))
	}
	return nil
}

// Undo implements plan.Step.
func (f *files) Undo(_ context.Context, s *plan.Session, a plan.Act) error {
	if s.Uninstalling() {
		return f.explain(f.uninstall(s, a))
	}
	return f.explain(f.back(a))
}

func (f *files) back(a plan.Act) error {
	switch a.Kind {
	case kindDir:
		return f.rmdir(a.Name)
	case kindSaved:
		if sum, err := f.tree.sum(a.Name); err != nil || sum != a.Sum {
			return err
		}
		return f.tree.remove(a.Name)
	}
	if err := f.tree.remove(stage(a.Name)); err != nil {
		return err
	}
	if f.there(keep(a.Name)) {
		if f.tree.sameFile(keep(a.Name), a.Name) {
			return f.tree.remove(keep(a.Name)) // renaming one to the other does nothing
		}
		return f.tree.rename(keep(a.Name), a.Name)
	}
	if a.Gone {
		return nil
	}
	is, err := f.is(a)
	switch {
	case err != nil || !is:
		return err
	case a.Old == "":
		return f.tree.remove(a.Name)
	case a.Kind == kindLink:
		if err := f.tree.symlink(a.Old, stage(a.Name)); err != nil {
			return err
		}
		return f.tree.rename(stage(a.Name), a.Name)
	}
	return nil
}

// is reports whether the thing is as the act made it.
func (f *files) is(a plan.Act) (bool, error) {
	if a.Kind == kindFile {
		sum, err := f.tree.sum(a.Name)
		return sum == a.Sum, err
	}
	st, err := f.tree.lstat(a.Name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && st.Mode()&fs.ModeSymlink == 0 {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	target, err := f.tree.readlink(a.Name)
	return target == a.Sum, err
}

func (f *files) rmdir(name string) error {
	if !f.tree.empty(name) {
		return nil // gone, or somebody else's files are in it
	}
	return f.tree.remove(name)
}

func (f *files) uninstall(s *plan.Session, a plan.Act) error {
	switch a.Kind {
	case kindDir:
		return f.rmdir(a.Name)
	case kindSaved:
		if f.there(a.Name) {
			s.Note(text.T("%s stays: it was changed by you", a.Name))
		}
		return nil
	}
	is, err := f.is(a)
	if err != nil {
		return err
	}
	if is {
		s.Log("removed %s", a.Name)
		return f.tree.remove(a.Name)
	}
	if a.Kind == kindFile && f.there(a.Name) {
		saved := f.savedName(a.Name)
		if err := f.tree.rename(a.Name, saved); err != nil {
			return err
		}
		s.Note(text.T("%s had been changed; the changed file is kept as %s", a.Name, saved))
	}
	return nil
}

// freeSpace is how much may still be written at path.
func freeSpace(path string) (uint64, error) {
	free, _, err := hostinfo.DiskFree(path)
	return free, err
}
