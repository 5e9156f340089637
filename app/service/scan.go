package service

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"github.com/hxen-project/hxen/app/control"
	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/disk"
	"github.com/hxen-project/hxen/platform/paths"
)

// newPrefix begins the names of folders in which a guest is being made. They
// are not guests yet; scan removes what a killed service left of them.
const newPrefix = ".new-"

// found is one folder under guests/.
type found struct {
	dir     string
	uuid    string   // of the record: the folder's name, or derived from it
	name    string   // to show
	spec    *hv.Spec // nil when it cannot be read
	problem string   // why the guest cannot be used; it is then shown and never touched
	repair  string   // what repair would do then; empty: nothing can be done here
	last    *control.Status
	images  map[string]imageFacts // by the disk's path as in the spec
}

// imageFacts are what a record says of an image file.
type imageFacts struct {
	size     int64 // that a guest sees
	fileSize int64
	missing  bool
}

// scan reads every guest's folder, several at a time. What cannot be read is
// returned with the reason; nothing is left out and nothing is changed.
func (s *store) scan() ([]*found, error) {
	entries, err := os.ReadDir(s.Guests())
	if err != nil {
		return nil, fmt.Errorf("read the guests: %w", err)
	}
	var dirs []string
	for _, e := range entries {
		dir := filepath.Join(s.Guests(), e.Name())
		if strings.HasPrefix(e.Name(), newPrefix) {
			s.sweep(dir)
			continue
		}
		if st, err := os.Stat(dir); err == nil && !st.IsDir() {
			continue // a stray file is nobody's guest
		}
		dirs = append(dirs, dir)
	}
	out := make([]*found, len(dirs))
	var next sync.Mutex
	var wg sync.WaitGroup
	i := 0
	take := func() int {
		next.Lock()
		defer next.Unlock()
		i++
		return i - 1
	}
	for range min(len(dirs), 4*runtime.NumCPU()) {
		wg.Go(func() {
			for k := take(); k < len(dirs); k = take() {
				out[k] = readGuest(dirs[k])
			}
		})
	}
	wg.Wait()
	return out, nil
}

// sweep removes what is left of a guest that was never finished. The service
// makes these folders itself and holds nothing but its own copies in them.
func (s *store) sweep(dir string) {
	if err := os.RemoveAll(dir); err != nil {
		s.log.Warn("remove an unfinished guest", "dir", dir, "err", err)
		return
	}
	s.log.Info("removed an unfinished guest", "dir", dir)
}

// readGuest reads one folder.
func readGuest(dir string) *found {
	base := filepath.Base(dir)
	f := &found{dir: dir, uuid: base, name: base}
	if !hv.IsUUID(base) {
		f.uuid = derive("folder", base)
	}
	spec, err := readSpec(dir)
	f.spec = spec
	if spec != nil && hv.CheckName(spec.Name) == nil {
		f.name = spec.Name
	}
	switch {
	case err != nil:
		f.problem, f.repair = err.Error(), repairOf(dir, spec, err)
		return f
	case spec.UUID != base:
		f.repair = repairOf(dir, spec, nil)
		f.problem = fmt.Sprintf("this folder (%s) is a copy of guest %s: a folder bears the uuid of its guest; give the copy a uuid of its own to use it", base, spec.UUID)
		return f
	}
	f.last = readState(dir)
	f.images = map[string]imageFacts{}
	for _, d := range spec.Disks {
		if d.Path != "" {
			f.images[d.Path] = factsOf(diskPath(dir, d), d.Format)
		}
	}
	return f
}

// readSpec returns the spec, also with an error where enough of it can be read
// to show a name.
func readSpec(dir string) (*hv.Spec, error) { return readSpecFile(paths.GuestDir(dir, "").Spec()) }

func readSpecFile(path string) (*hv.Spec, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errors.New("its settings (spec.json) are missing")
	}
	if err != nil {
		return nil, fmt.Errorf("its settings cannot be read: %w", err)
	}
	var head struct{ Version int }
	if err := json.Unmarshal(b, &head); err != nil {
		return nil, fmt.Errorf("its settings (spec.json) are damaged: %w", err)
	}
	if head.Version > hv.SpecVersion {
		var some struct{ UUID, Name string }
		_ = json.Unmarshal(b, &some)
		return &hv.Spec{UUID: some.UUID, Name: some.Name}, fmt.Errorf("it was made by a newer HXEN (settings of version %d, this one knows %d); %w", head.Version, hv.SpecVersion, errNewer)
	}
	var spec hv.Spec
	if err := json.Unmarshal(b, &spec); err != nil {
		return nil, fmt.Errorf("its settings (spec.json) are damaged: %w", err)
	}
	if err := spec.Check(); err != nil {
		return &spec, fmt.Errorf("its settings (spec.json) cannot be: %w", err)
	}
	return &spec, nil
}

// readState reads what the last worker wrote; nil if there is nothing to read.
func readState(dir string) *control.Status {
	b, err := os.ReadFile(paths.GuestDir(dir, "").State())
	if err != nil {
		return nil
	}
	var st control.Status
	if json.Unmarshal(b, &st) != nil {
		return nil
	}
	return &st
}

// diskPath is where a disk's image is.
func diskPath(dir string, d hv.Disk) string {
	if filepath.IsAbs(d.Path) {
		return d.Path
	}
	return filepath.Join(dir, d.Path)
}

// factsOf measures an image whose format is known.
func factsOf(path, format string) imageFacts {
	st, err := os.Stat(path)
	if err != nil || st.IsDir() {
		return imageFacts{missing: true}
	}
	f := imageFacts{size: st.Size(), fileSize: st.Size()}
	if format == hv.QCOW2 || st.Mode()&os.ModeDevice != 0 {
		if in, err := disk.Inspect(path); err == nil {
			f.size = in.Size
		}
	}
	return f
}
