package steps

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/hxen-project/hxen/app/text"
)

// tree is the part of the file system that the installer may write to: what lies
// below some base folders. Names are absolute paths. No operation follows a
// symbolic link below a base, and none leaves it (os.Root).
type tree struct {
	bases []string // which may be links themselves: /usr/local is one on some systems
	open  map[string]*os.Root
	point func(op, name string) error // tests: called before each change
}

func newTree(bases ...string) *tree {
	return &tree{bases: bases, open: map[string]*os.Root{}}
}

func (t *tree) close() {
	for _, r := range t.open {
		r.Close()
	}
	clear(t.open)
}

// base returns the base that holds name.
func (t *tree) base(name string) (string, error) {
	if !filepath.IsAbs(name) || filepath.Clean(name) != name {
		return "", fmt.Errorf("%q is no clean absolute path", name)
	}
	for _, b := range t.bases {
		if strings.HasPrefix(name, strings.TrimSuffix(b, string(filepath.Separator))+string(filepath.Separator)) {
			return b, nil
		}
	}
	return "", errors.New(text.T("%s lies outside of the folders that the setup may write to (%s)", name, strings.Join(t.bases, ", ")))
}

// at opens the base of name and returns the path in it. It fails if a folder on
// the way is a link or no folder.
func (t *tree) at(name string) (*os.Root, string, error) {
	base, err := t.base(name)
	if err != nil {
		return nil, "", err
	}
	r := t.open[base]
	if r == nil {
		if r, err = os.OpenRoot(base); err != nil {
			return nil, "", err
		}
		t.open[base] = r
	}
	rel, err := filepath.Rel(base, name)
	if err != nil {
		return nil, "", err
	}
	for i, c := range rel { // outermost first: what lies behind a link is not looked at
		if c != filepath.Separator {
			continue
		}
		dir := rel[:i]
		switch st, err := r.Lstat(dir); {
		case errors.Is(err, fs.ErrNotExist):
			return r, rel, nil
		case err != nil:
			return nil, "", err
		case st.Mode()&fs.ModeSymlink != 0:
			return nil, "", errors.New(text.T("%s is a link, and the setup does not write through links; remove it or choose another place", filepath.Join(base, dir)))
		case !st.IsDir():
			return nil, "", errors.New(text.T("%s is in the way: it is no folder; move it or choose another place", filepath.Join(base, dir)))
		}
	}
	return r, rel, nil
}

// change is at for an operation that writes.
func (t *tree) change(op, name string) (*os.Root, string, error) {
	if t.point != nil {
		if err := t.point(op, name); err != nil {
			return nil, "", err
		}
	}
	return t.at(name)
}

func (t *tree) lstat(name string) (fs.FileInfo, error) {
	r, rel, err := t.at(name)
	if err != nil {
		return nil, err
	}
	return r.Lstat(rel)
}

// exists reports whether something, also a broken link, has this name.
func (t *tree) exists(name string) (bool, error) {
	_, err := t.lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

func (t *tree) readlink(name string) (string, error) {
	r, rel, err := t.at(name)
	if err != nil {
		return "", err
	}
	return r.Readlink(rel)
}

// sum is the sha256 of a regular file, in hex; empty if there is none.
func (t *tree) sum(name string) (string, error) {
	r, rel, err := t.at(name)
	if err != nil {
		return "", err
	}
	st, err := r.Lstat(rel)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !st.Mode().IsRegular() {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	f, err := r.Open(rel)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("read %s: %w", name, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func (t *tree) mkdir(name string) error {
	r, rel, err := t.change("mkdir", name)
	if err != nil {
		return err
	}
	if err := r.Mkdir(rel, 0o755); err != nil {
		return err
	}
	return r.Chmod(rel, 0o755) // whatever the umask says
}

// write makes a new file with what fill writes, and has it on the disk.
func (t *tree) write(name string, mode fs.FileMode, fill func(io.Writer) error) error {
	r, rel, err := t.change("write", name)
	if err != nil {
		return err
	}
	if err := r.Remove(rel); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := r.OpenFile(rel, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := fill(f); err != nil {
		return err
	}
	if err := f.Chmod(mode); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return f.Close()
}

func (t *tree) rename(from, to string) error {
	r, rel, err := t.change("rename", from)
	if err != nil {
		return err
	}
	_, relTo, err := t.at(to)
	if err != nil {
		return err
	}
	return r.Rename(rel, relTo)
}

// link gives a file a second name.
func (t *tree) link(from, to string) error {
	r, rel, err := t.change("link", from)
	if err != nil {
		return err
	}
	_, relTo, err := t.at(to)
	if err != nil {
		return err
	}
	return r.Link(rel, relTo)
}

func (t *tree) symlink(target, name string) error {
	r, rel, err := t.change("symlink", name)
	if err != nil {
		return err
	}
	if err := r.Remove(rel); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return r.Symlink(target, rel)
}

// remove deletes a file, a link or an empty folder; one that is not there is
// deleted already.
func (t *tree) remove(name string) error {
	r, rel, err := t.change("remove", name)
	if err != nil {
		return err
	}
	// A file system that is read-only refuses also to delete what is not there.
	st, err := r.Lstat(rel)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := r.Remove(rel); err != nil && !errors.Is(err, fs.ErrNotExist) {
		switch {
		case st != nil && st.Mode().IsRegular():
			return moveAway(name, err)
		case st != nil && st.IsDir():
			return leaveBehind(name, err)
		}
		return err
	}
	return nil
}

// sameFile reports whether two names are those of one file.
func (t *tree) sameFile(a, b string) bool {
	x, err := t.lstat(a)
	if err != nil {
		return false
	}
	y, err := t.lstat(b)
	return err == nil && os.SameFile(x, y)
}

// empty reports whether a folder has nothing in it; false if it is none.
func (t *tree) empty(name string) bool {
	r, rel, err := t.at(name)
	if err != nil {
		return false
	}
	d, err := r.Open(rel)
	if err != nil {
		return false
	}
	defer d.Close()
	_, err = d.ReadDir(1)
	return errors.Is(err, io.EOF)
}
