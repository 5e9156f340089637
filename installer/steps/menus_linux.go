package steps

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"path/filepath"
	"strings"

	"github.com/hxen-project/hxen/app/text"
	"github.com/hxen-project/hxen/installer/plan"
)

// menus is the step that has the desktop read menu entries, file types and icons
// again. What it makes are caches; the first run's own are removed with HXEN.
type menus struct {
	host   *Host
	tree   *tree
	prefix string
}

const kindCache = "cache"

// cache is one of the desktop's caches below the prefix's share folder.
type cache struct {
	made    string   // a file that says whether the cache is there
	command []string // the folder is put behind it
	folder  string
	all     []string // what the command makes, for removing; patterns
}

var caches = []cache{
	{"applications/mimeinfo.cache", []string{"update-desktop-database", "-q"}, "applications", []string{"applications/mimeinfo.cache"}},
	// shared-mime-info's list of files: update-mime-database(1).
	{"mime/mime.cache", []string{"update-mime-database", "-n"}, "mime", []string{
		"mime/mime.cache", "mime/aliases", "mime/generic-icons", "mime/globs", "mime/globs2", "mime/icons", "mime/magic",
		"mime/subclasses", "mime/treemagic", "mime/types", "mime/version", "mime/XMLnamespaces", "mime/application/x-xva.xml",
		"mime/application"}},
	{"icons/hicolor/icon-theme.cache", []string{"gtk-update-icon-cache", "-q", "-t", "-f"}, "icons/hicolor", []string{"icons/hicolor/icon-theme.cache"}},
}

func (*menus) ID() string     { return "menus" }
func (*menus) Title() string  { return text.T("Adding HXEN to the menus") }
func (*menus) Optional() bool { return true }

func (m *menus) share(name string) string {
	return filepath.Join(m.prefix, "share", filepath.FromSlash(name))
}

func (m *menus) there(name string) bool {
	there, _ := m.tree.exists(m.share(name))
	return there
}

// Check implements plan.Step. Caches do not tell what they were made from.
func (m *menus) Check(context.Context, *plan.Session) (plan.Status, error) {
	return plan.Status{Detail: text.T("menu entry, icon and file types")}, nil
}

// Apply implements plan.Step.
func (m *menus) Apply(ctx context.Context, s *plan.Session) error {
	noted := map[string]bool{}
	for _, a := range append(s.Stands(), s.Pending()...) {
		noted[a.Name] = true
	}
	var acts []plan.Act
	for _, c := range caches {
		if m.wanted(c) && !m.there(c.made) && !noted[m.share(c.made)] {
			acts = append(acts, plan.Act{Kind: kindCache, Name: m.share(c.made)})
		}
	}
	if err := s.Intend(acts...); err != nil {
		return err
	}
	for _, c := range caches {
		if m.wanted(c) {
			m.update(ctx, s, c)
		}
	}
	return nil
}

// wanted: an icon cache that does not exist is not needed; the folder's time is
// looked at instead.
func (m *menus) wanted(c cache) bool {
	return m.there(c.folder) && m.host.has(c.command[0]) && (c.folder != "icons/hicolor" || m.there(c.made))
}

func (m *menus) update(ctx context.Context, s *plan.Session, c cache) {
	args := append(c.command[1:len(c.command):len(c.command)], m.share(c.folder))
	s.Log("%s %s", c.command[0], strings.Join(args, " "))
	if _, err := m.host.Run.Run(ctx, nil, c.command[0], args...); err != nil {
		s.Log("%v", err) // the menus show HXEN after the next login
	}
}

// Undo implements plan.Step. It runs before the files are removed, which the
// caches name; so the caches are made from what will be left.
func (m *menus) Undo(ctx context.Context, s *plan.Session, a plan.Act) error {
	for _, c := range caches {
		if a.Name != m.share(c.made) {
			continue
		}
		for _, name := range c.all {
			name = m.share(name)
			st, err := m.tree.lstat(name)
			if err != nil || st.IsDir() && !m.tree.empty(name) {
				continue
			}
			if err := m.tree.remove(name); err != nil {
				return err
			}
		}
	}
	return nil
}

func writeText(s string) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := io.WriteString(w, s)
		return err
	}
}

func sumOf(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}
