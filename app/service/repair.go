package service

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/app/service/rpc"
	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/savefile"
	"github.com/hxen-project/hxen/platform/paths"
	"github.com/hxen-project/hxen/platform/proc"
)

// errNewer marks settings that a newer HXEN has written: they are not damaged.
var errNewer = errors.New("update HXEN")

// repairOf says what repair would do for a folder that cannot be used, in words;
// empty if nothing can be done here.
func repairOf(dir string, spec *hv.Spec, err error) string {
	switch {
	case err == nil && spec.UUID != filepath.Base(dir):
		return "make the copy a guest of its own, with an identity of its own"
	case err == nil || errors.Is(err, errNewer):
		return ""
	}
	copied, fi, cerr := readCopy(dir)
	if cerr != nil {
		return ""
	}
	return fmt.Sprintf("take back the settings of %q as HXEN wrote them last, on %s", copied.Name, fi.ModTime().Format(time.DateTime))
}

// readCopy reads the settings that HXEN itself wrote last, beside spec.json.
func readCopy(dir string) (*hv.Spec, fs.FileInfo, error) {
	path := paths.GuestDir(dir, "").SpecCopy()
	fi, err := os.Stat(path)
	if err != nil {
		return nil, nil, err
	}
	spec, err := readSpecFile(path)
	return spec, fi, err
}

// repair makes a guest whose folder cannot be used one that can. Nothing of it is
// deleted: settings that cannot be read are put aside.
func (s *Service) repair(_ *rpc.Call, want api.RepairArg) (api.Created, error) {
	s.naming.Lock()
	defer s.naming.Unlock()
	s.mu.Lock()
	g, err := s.lookup(want.VM)
	s.mu.Unlock()
	if err != nil {
		return api.Created{}, err
	}
	if g.sound() {
		return api.Created{}, refuse("repair", fmt.Sprintf("guest %q is whole", g.name), "")
	}
	lock, err := proc.TryLock(g.files.Lock())
	if err != nil {
		return api.Created{}, refuse("repair", fmt.Sprintf("guest %q cannot be repaired: %v", g.name, err), "wait until the guest has ended")
	}
	defer lock.Close()
	spec, err := readSpec(g.dir)
	if err == nil && spec.UUID != filepath.Base(g.dir) {
		return s.ownIdentity(g, spec.Clone(), lock)
	}
	if errors.Is(err, errNewer) {
		return api.Created{}, refuse("repair", err.Error(), "")
	}
	copied, _, cerr := readCopy(g.dir)
	if cerr != nil || copied.UUID != filepath.Base(g.dir) {
		return api.Created{}, refuse("repair", fmt.Sprintf("there are no earlier settings of guest %q to take back", g.name),
			fmt.Sprintf("its disks are in %s: a new guest can use them", g.dir))
	}
	if s.nameFree(copied.Name, g.uuid) != nil {
		copied.Name = s.freeName(copied.Name)
	}
	aside, err := putAside(g.files.Spec())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return api.Created{}, fmt.Errorf("put the damaged settings aside: %w", err)
	}
	if err := s.store.writeSpec(g.dir, copied); err != nil {
		return api.Created{}, err
	}
	s.log.Info("took back the last settings of a guest", "guest", copied.Name, "uuid", copied.UUID, "damaged", aside)
	return s.replaceGuest(g, g.dir), nil
}

// ownIdentity gives a copied folder uuids and addresses that nobody else has.
func (s *Service) ownIdentity(g *guest, spec *hv.Spec, lock *proc.Lock) (api.Created, error) {
	becomeAnother(spec)
	if s.nameFree(spec.Name, g.uuid) != nil {
		spec.Name = s.freeName(spec.Name)
	}
	for i := range spec.Disks { // the images in the folder are copies, too
		if d := &spec.Disks[i]; d.VDI != "" && !filepath.IsAbs(d.Path) {
			d.VDI = newUUID()
		}
	}
	if err := s.store.writeSpec(g.dir, spec); err != nil {
		return api.Created{}, err
	}
	lock.Close() // Windows moves no folder with an open file in it
	to := s.store.Guest(spec.UUID, s.run).Dir
	if err := savefile.Rename(g.dir, to); err != nil {
		return api.Created{}, fmt.Errorf("name the guest's folder: %w", err)
	}
	savefile.SyncDir(s.store.Guests())
	s.log.Info("made a copied folder a guest of its own", "guest", spec.Name, "uuid", spec.UUID, "was", g.dir)
	return s.replaceGuest(g, to), nil
}

// freeName is a name with a number that nobody has. s.naming is held.
func (s *Service) freeName(name string) string {
	for n := 2; ; n++ {
		if next := fmt.Sprintf("%s (%d)", name, n); s.nameFree(next, "") == nil {
			return next
		}
	}
}

// replaceGuest reads a guest's folder anew.
func (s *Service) replaceGuest(old *guest, dir string) api.Created {
	g := newGuest(readGuest(dir), s.run)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.guests, old.uuid)
	if old.uuid != g.uuid {
		s.conceal(old)
	}
	s.guests[g.uuid] = g
	s.settleMedia()
	s.publish(g)
	s.publishSets()
	s.networksChanged()
	return api.Created{VM: g.ref(), UUID: g.uuid}
}
