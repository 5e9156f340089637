package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/app/control"
	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/disk"
)

// Kinds of media.
const (
	mediumISO  = "iso"
	mediumDisk = "disk"
)

// mediumVersion is the version of the files under media/.
const mediumVersion = 1

// medium is an image that no guest's folder holds: media/UUID.json. The image
// itself is where the user has it, or, kept from a deleted guest, beside its
// record. It is never deleted, only forgotten.
type medium struct {
	Version int    `json:"version"`
	UUID    string `json:"uuid"`
	Name    string `json:"name"`
	Path    string `json:"path"` // absolute, or relative to media/
	Kind    string `json:"kind"`
	Format  string `json:"format"` // decided once, by Inspect, when it was added
	Size    int64  `json:"size"`   // that a guest sees

	missing bool  // as of the last look
	used    int64 // bytes of its file, likewise
}

// lookAt finds out about an image's file. s.mu is held, or nobody else has m yet.
func (s *Service) lookAt(m *medium) {
	path := s.mediumPath(m)
	m.missing = readable(path) != nil
	m.used = m.Size // unless a file tells: it may be sparse, and a device has no size of its own
	if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() {
		m.used = st.Size()
	}
}

func (s *Service) mediumPath(m *medium) string {
	if filepath.IsAbs(m.Path) {
		return m.Path
	}
	return filepath.Join(s.store.Media(), m.Path)
}

func (s *store) mediumFile(uuid string) string { return filepath.Join(s.Media(), uuid+".json") }

// readMedia reads all records; a damaged one is left alone and logged.
func (s *store) readMedia() (map[string]*medium, error) {
	files, err := filepath.Glob(filepath.Join(s.Media(), "*.json"))
	if err != nil {
		return nil, fmt.Errorf("read the media: %w", err)
	}
	out := map[string]*medium{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		var m medium
		if err == nil {
			err = json.Unmarshal(b, &m)
		}
		if err == nil && (!hv.IsUUID(m.UUID) || m.UUID+".json" != filepath.Base(f) || m.Path == "" || m.Version > mediumVersion) {
			err = fmt.Errorf("it is not a record that this version knows")
		}
		if err != nil {
			s.log.Warn("read a medium's record", "file", f, "err", err)
			continue
		}
		out[m.UUID] = &m
	}
	return out, nil
}

// settleMedia resolves what an interrupted delete left: a disk that was to be
// kept has its record, but is still in its guest's folder. s.mu is held.
func (s *Service) settleMedia() {
	for _, g := range s.guests {
		if !g.sound() {
			continue
		}
		for _, d := range g.spec.Disks {
			m := s.media[d.VDI]
			if m == nil || filepath.IsAbs(d.Path) || filepath.IsAbs(m.Path) || readable(diskPath(g.dir, d)) != nil {
				continue
			}
			delete(s.media, m.UUID)
			if err := os.Remove(s.store.mediumFile(m.UUID)); err != nil {
				s.log.Warn("drop the record of a disk that was not kept", "err", err)
			}
		}
	}
}

// looked is an image after inspection.
type looked struct {
	path string
	info disk.Info
}

// inspect looks at an image that a user has named and refuses what cannot be
// used as want.
func (s *Service) inspect(path string, want disk.Kind) (looked, error) {
	if !filepath.IsAbs(path) {
		return looked{}, refuse("image", fmt.Sprintf("%q is not an absolute path", path), "give the whole path of the file")
	}
	path = filepath.Clean(path)
	info, err := disk.Inspect(path)
	if err != nil {
		return looked{}, refuse("image", err.Error(), "choose another file")
	}
	if info.Problem != "" {
		return looked{}, refuse("image", path+": "+info.Problem, "")
	}
	if info.Kind != want {
		return looked{}, refuse("image", fmt.Sprintf("%s is a %s image, not a %s image", path, info.Kind, want), "choose another file")
	}
	return looked{path, info}, nil
}

// introduce records an image outside the store, once for each path, and
// returns it.
func (s *Service) introduce(img looked, name string) (*medium, error) {
	s.recording.Lock() // one path gets one record
	defer s.recording.Unlock()
	s.mu.Lock()
	for _, m := range s.media {
		if s.mediumPath(m) == img.path {
			s.lookAt(m)
			s.publishMedia(m)
			s.mu.Unlock()
			return m, nil
		}
	}
	s.mu.Unlock()
	m := &medium{Version: mediumVersion, UUID: newUUID(), Name: name, Path: img.path, Kind: mediumDisk, Format: img.info.Format, Size: img.info.Size}
	if img.info.Kind == disk.ISO {
		m.Kind, m.Format = mediumISO, hv.Raw // to a device model a CD is raw sectors
	}
	if m.Name == "" {
		m.Name = filepath.Base(img.path)
	}
	s.lookAt(m)
	if err := writeJSON(s.store.mediumFile(m.UUID), m); err != nil {
		return nil, fmt.Errorf("record image %s: %w", img.path, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.media[m.UUID] = m
	s.publishMedia(m)
	s.publishSets()
	return m, nil
}

// forget drops the record of an image that no guest uses. The image stays.
func (s *Service) forget(ref api.Ref) error {
	s.recording.Lock()
	defer s.recording.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.media[ref.UUID()]
	if m == nil {
		if s.db.Has(api.ClassVDI, ref) {
			return api.NewError(api.ErrOperationNotAllowed, "this disk belongs to a guest: delete the guest, or keep its disks when you do")
		}
		return api.NewError(api.ErrHandleInvalid, "VDI", string(ref))
	}
	for _, g := range s.guests {
		if g.sound() && usesVDI(g.spec, m.UUID) {
			return api.NewError(api.ErrVDIInUse, string(ref), "forget")
		}
	}
	if err := os.Remove(s.store.mediumFile(m.UUID)); err != nil {
		return fmt.Errorf("forget image %s: %w", m.Path, err)
	}
	delete(s.media, m.UUID)
	s.db.Delete(api.ClassVDI, ref)
	s.publishSets()
	return nil
}

func usesVDI(spec *hv.Spec, vdi string) bool {
	for _, d := range spec.Disks {
		if d.VDI == vdi {
			return true
		}
	}
	return false
}

// cdDrive finds the guest and drive that a VBD is. s.mu is held.
func (s *Service) cdDrive(vbd api.Ref) (*guest, hv.Disk, error) {
	for _, g := range s.guests {
		if !g.sound() {
			continue
		}
		for _, d := range g.spec.Disks {
			if d.UUID != vbd.UUID() {
				continue
			}
			if !d.IsCD() {
				return nil, d, api.NewError(api.ErrVBDNotRemovable, string(vbd))
			}
			return g, d, nil
		}
	}
	return nil, hv.Disk{}, api.NewError(api.ErrHandleInvalid, "VBD", string(vbd))
}

// insert puts an image into a drive, of a running guest at once.
func (s *Service) insert(ctx context.Context, vbd, vdi, task api.Ref) error {
	s.mu.Lock()
	g, drive, err := s.cdDrive(vbd)
	m := s.media[vdi.UUID()]
	s.mu.Unlock()
	switch {
	case err != nil:
		return err
	case m == nil:
		return api.NewError(api.ErrHandleInvalid, "VDI", string(vdi))
	case drive.Path != "":
		return api.NewError(api.ErrVBDNotEmpty, string(vbd))
	case m.Kind != mediumISO:
		return refuse("media", m.Name+" is a disk, not a CD image", "insert an ISO image")
	}
	if err := readable(s.mediumPath(m)); err != nil {
		return refuse("media", err.Error(), "put the file back, or choose another")
	}
	drive.VDI, drive.Path, drive.Format = m.UUID, s.mediumPath(m), m.Format
	return s.changeMedia(ctx, g, drive, task)
}

// eject empties a drive.
func (s *Service) eject(ctx context.Context, vbd, task api.Ref) error {
	s.mu.Lock()
	g, drive, err := s.cdDrive(vbd)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	if drive.Path == "" {
		return api.NewError(api.ErrVBDIsEmpty, string(vbd))
	}
	drive.VDI, drive.Path, drive.Format = "", "", ""
	return s.changeMedia(ctx, g, drive, task)
}

// changeMedia makes a drive hold what drive says: in the running guest first,
// for it may refuse, then in its settings.
func (s *Service) changeMedia(ctx context.Context, g *guest, drive hv.Disk, task api.Ref) error {
	g, end, err := s.begin(g.ref(), hv.OpChangeMedia, task)
	if err != nil {
		return err
	}
	defer end()
	s.mu.Lock()
	runs := g.link != nil
	s.mu.Unlock()
	if runs {
		err := s.granted(g, drive.Path, false, func() error {
			return s.call(ctx, g, control.VerbMedia, control.Media{Drive: drive.UUID, Disk: drive}, nil)
		})
		if err != nil {
			return err
		}
	}
	err = s.update(g, func(spec *hv.Spec) error {
		for i := range spec.Disks {
			if spec.Disks[i].UUID == drive.UUID {
				spec.Disks[i] = drive
			}
		}
		return nil
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.media {
		s.publishMedia(m)
	}
	return err
}

// readable says why a file cannot be read.
func readable(path string) error {
	st, err := os.Stat(path)
	if err != nil {
		return fileError(path, "looked at", err)
	}
	if st.IsDir() {
		return fmt.Errorf("%s is a folder", path)
	}
	if st.Mode()&os.ModeNamedPipe != 0 || st.Mode()&os.ModeCharDevice != 0 {
		return fmt.Errorf("%s is neither a file nor a disk", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return fileError(path, "read", err)
	}
	f.Close()
	return nil
}

// fileError says that a file could not be done something to, and names it once.
func fileError(path, done string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s does not exist", path)
	}
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		err = p.Err
	}
	return fmt.Errorf("%s cannot be %s: %w", path, done, err)
}

// lookAgain shows which of a guest's images are where they should be.
func (s *Service) lookAgain(g *guest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.measure(g)
	s.publish(g)
	for _, d := range g.spec.Disks {
		if m := s.media[d.VDI]; m != nil {
			s.lookAt(m)
			s.publishMedia(m)
		}
	}
}

// size in words.
func sizeText(n int64) string {
	switch {
	case n >= int64(hv.GiB):
		return strings.Replace(fmt.Sprintf("%.1f GiB", float64(n)/float64(hv.GiB)), ".0 ", " ", 1)
	default:
		return fmt.Sprintf("%d MiB", n/int64(hv.MiB))
	}
}
