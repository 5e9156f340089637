package service

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/savefile"
	"github.com/hxen-project/hxen/platform/proc"
)

// removal is what deleting a guest does with its files.
type removal struct {
	into  string            // the folder in the trash
	trash []string          // what goes there
	kept  []string          // what stays, by the path it then has
	moves map[string]string // own disks that are kept: name in the folder -> name under media/
}

// planRemoval says what a delete would do. s.mu is held.
func (s *Service) planRemoval(g *guest, keepDisks bool) removal {
	r := removal{
		into:  filepath.Join(s.store.Trash(), fmt.Sprintf("%s-%s-%s", stamp(time.Now()), fileName(g.name), shortUUID(g.uuid))),
		moves: map[string]string{},
	}
	kept := map[string]bool{}
	if g.sound() {
		for _, d := range g.spec.Disks {
			switch {
			case d.Path == "":
			case filepath.IsAbs(d.Path):
				r.kept = append(r.kept, d.Path) // somebody else's file: only forgotten
			case keepDisks && !d.IsCD():
				name := fileName(g.name) + "-" + shortUUID(d.VDI) + filepath.Ext(d.Path)
				r.moves[d.Path] = name
				r.kept = append(r.kept, filepath.Join(s.store.Media(), name))
				kept[filepath.Base(d.Path)] = true
			}
		}
		for _, f := range []string{g.spec.Boot.Kernel, g.spec.Boot.Initrd} {
			if f != "" {
				r.kept = append(r.kept, f)
			}
		}
	}
	entries, err := os.ReadDir(g.dir)
	if err != nil {
		r.trash = []string{g.dir}
	}
	for _, e := range entries {
		if !kept[e.Name()] {
			r.trash = append(r.trash, filepath.Join(g.dir, e.Name()))
		}
	}
	return r
}

func (r removal) answer() api.Deleted {
	return api.Deleted{Trash: r.trash, Into: r.into, Kept: r.kept}
}

// remove deletes a guest that the caller has claimed: its folder moves to the
// trash whole, and nothing outside the store is touched. Disks to be kept move
// out of it first, each with a record, so that whatever is interrupted loses
// nothing.
func (s *Service) remove(g *guest, keepDisks bool) (api.Deleted, error) {
	if err := s.builtOn(g); err != nil {
		return api.Deleted{}, err
	}
	lock, err := proc.TryLock(g.files.Lock())
	if err != nil {
		return api.Deleted{}, refuse("delete", fmt.Sprintf("guest %q cannot be deleted: %v", g.name, err), "wait until the guest has ended")
	}
	// Windows moves no folder with an open file in it, so the lock ends before the move.
	defer lock.Close()
	s.mu.Lock()
	r := s.planRemoval(g, keepDisks)
	var disks []hv.Disk
	if g.sound() {
		disks = g.spec.Disks
	}
	s.mu.Unlock()
	for _, d := range disks {
		if name, moves := r.moves[d.Path]; moves {
			if err := s.keepDisk(g, d, name); err != nil {
				return api.Deleted{}, err
			}
		}
	}
	lock.Close()
	if err := savefile.Rename(g.dir, r.into); err != nil {
		return api.Deleted{}, fmt.Errorf("move guest %q to the trash: %w", g.name, err)
	}
	savefile.SyncDir(s.store.Guests())
	savefile.SyncDir(s.store.Trash())
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.guests, g.uuid)
	s.conceal(g)
	for _, m := range s.media {
		s.publishMedia(m)
	}
	s.publishSets()
	s.publishSpace()
	s.log.Info("deleted a guest", "guest", g.name, "uuid", g.uuid, "into", r.into)
	return r.answer(), nil
}

// keepDisk moves a disk out of a guest's folder and records it as a medium.
func (s *Service) keepDisk(g *guest, d hv.Disk, name string) error {
	from, to := diskPath(g.dir, d), filepath.Join(s.store.Media(), name)
	if _, err := os.Lstat(to); err == nil {
		return refuse("delete", to+" is there already", "move it away")
	}
	s.recording.Lock()
	defer s.recording.Unlock()
	m := &medium{Version: mediumVersion, UUID: d.VDI, Name: g.name + " (kept disk)", Path: name, Kind: mediumDisk, Format: d.Format, Size: factsOf(from, d.Format).size}
	// The record first: a move without one would hide the disk (settleMedia).
	if err := writeJSON(s.store.mediumFile(m.UUID), m); err != nil {
		return fmt.Errorf("record the kept disk %s: %w", to, err)
	}
	if err := savefile.Rename(from, to); err != nil {
		return fmt.Errorf("keep disk %s: %w", from, errors.Join(err, os.Remove(s.store.mediumFile(m.UUID))))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.media[m.UUID] = m
	return nil
}

func shortUUID(uuid string) string {
	if len(uuid) > 8 {
		return uuid[:8]
	}
	return uuid
}
