package service

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/app/service/rpc"
	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/savefile"
)

// registerTrash adds what can be done with deleted guests.
func (s *Service) registerTrash(srv *rpc.Server) {
	srv.RegisterPlugin(api.Plugin, api.FnTrash, func(*rpc.Call) ([]api.Trashed, error) { return s.trashed() })
	srv.RegisterPlugin(api.Plugin, api.FnUntrash, func(_ *rpc.Call, t api.TrashArg) (api.Created, error) { return s.untrash(t.ID) })
	srv.RegisterPlugin(api.Plugin, api.FnEmpty, func(c *rpc.Call, t api.TrashArg) (int64, error) { return s.empty(c, t.ID) })
}

// trashed lists the deleted guests, the last first.
func (s *Service) trashed() ([]api.Trashed, error) {
	entries, err := os.ReadDir(s.store.Trash())
	if err != nil {
		return nil, fmt.Errorf("read the trash: %w", err)
	}
	out := []api.Trashed{}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		out = append(out, s.look(e.Name()))
	}
	slices.SortFunc(out, func(a, b api.Trashed) int { return b.Deleted.Time.Compare(a.Deleted.Time) })
	return out, nil
}

// look describes one thing in the trash.
func (s *Service) look(id string) api.Trashed {
	dir := filepath.Join(s.store.Trash(), id)
	t := api.Trashed{ID: id, Path: dir, Name: id, Size: usedBy(dir)}
	if when, _, ok := strings.Cut(id, "-"); ok {
		if at, err := time.Parse("20060102T150405", when); err == nil {
			t.Deleted = api.Time{Time: at}
		}
	}
	spec, err := readSpec(dir)
	if spec != nil && hv.CheckName(spec.Name) == nil {
		t.Name, t.UUID = spec.Name, spec.UUID
	}
	if err != nil {
		t.Problem = err.Error()
		return t
	}
	for _, d := range spec.Disks {
		if d.Path != "" && factsOf(diskPath(dir, d), d.Format).missing {
			t.Problem = fmt.Sprintf("its disk %s was kept or moved elsewhere", diskPath(dir, d))
		}
	}
	return t
}

// usedBy is how many bytes the files of a folder hold.
func usedBy(dir string) (n int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil // what cannot be read is not counted
		}
		if fi, err := d.Info(); err == nil {
			n += fi.Size()
		}
		return nil
	})
	return n
}

// inTrash finds what an id names, which never leads out of the trash.
func (s *Service) inTrash(id string) (string, error) {
	if id == "" || id != filepath.Base(id) || strings.HasPrefix(id, ".") {
		return "", refuse("trash", fmt.Sprintf("%q names nothing in the trash", id), "hxen trash list shows what is there")
	}
	dir := filepath.Join(s.store.Trash(), id)
	if _, err := os.Lstat(dir); err != nil {
		return "", refuse("trash", fmt.Sprintf("%q is not in the trash", id), "hxen trash list shows what is there")
	}
	return dir, nil
}

// untrash makes a deleted guest one again. It keeps its uuid; a name that is taken
// gets a number.
func (s *Service) untrash(id string) (api.Created, error) {
	from, err := s.inTrash(id)
	if err != nil {
		return api.Created{}, err
	}
	spec, err := readSpec(from)
	if err != nil {
		return api.Created{}, refuse("trash", fmt.Sprintf("%s cannot be restored: %v", id, err), "its files are in "+from)
	}
	s.naming.Lock()
	defer s.naming.Unlock()
	s.mu.Lock()
	_, taken := s.guests[spec.UUID]
	s.mu.Unlock()
	to := s.store.Guest(spec.UUID, s.run).Dir
	if _, err := os.Lstat(to); err == nil || taken {
		return api.Created{}, refuse("trash", fmt.Sprintf("there is a guest with the uuid %s already", spec.UUID), "delete that one first")
	}
	name := spec.Name
	for n := 2; s.nameFree(name, "") != nil; n++ {
		name = fmt.Sprintf("%s (%d)", spec.Name, n)
	}
	if err := savefile.Rename(from, to); err != nil {
		return api.Created{}, fmt.Errorf("restore guest %q: %w", spec.Name, err)
	}
	savefile.SyncDir(s.store.Trash())
	savefile.SyncDir(s.store.Guests())
	if name != spec.Name {
		spec.Name = name
		if err := s.store.writeSpec(to, spec); err != nil {
			return api.Created{}, err
		}
	}
	g := newGuest(readGuest(to), s.run)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.guests[g.uuid] = g
	s.settleMedia()
	s.publish(g)
	s.publishSets()
	s.publishSpace()
	s.networksChanged()
	s.log.Info("restored a deleted guest", "guest", g.name, "uuid", g.uuid)
	return api.Created{VM: g.ref(), UUID: g.uuid}, nil
}

// empty erases one thing in the trash, or all of it, and returns the bytes freed.
func (s *Service) empty(c *rpc.Call, id string) (int64, error) {
	ids := []string{id}
	if id == "" {
		all, err := s.trashed()
		if err != nil {
			return 0, err
		}
		ids = nil
		for _, t := range all {
			ids = append(ids, t.ID)
		}
	}
	var freed int64
	var failed []error
	for i, id := range ids {
		dir, err := s.inTrash(id)
		if err != nil {
			return freed, err
		}
		if c.Context().Err() != nil {
			return freed, c.Context().Err()
		}
		n := usedBy(dir)
		if err := os.RemoveAll(dir); err != nil {
			failed = append(failed, err)
			continue
		}
		freed += n
		s.log.Info("erased a deleted guest", "id", id)
		c.Task.Progress(float64(i+1) / float64(len(ids)))
	}
	s.mu.Lock()
	s.publishSpace()
	s.mu.Unlock()
	return freed, errors.Join(failed...)
}
