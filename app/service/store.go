package service

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/savefile"
	"github.com/hxen-project/hxen/platform/paths"
)

// store is the folder that holds the guests. It reads and writes files and
// knows nothing of what runs.
type store struct {
	paths.Store
	log *slog.Logger

	domidMu sync.Mutex // held while a domid is given
}

// newUUID returns a random uuid (RFC 9562, version 4).
func newUUID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return formUUID(b)
}

// derive returns the uuid (version 8) that always belongs to these words, for
// objects that are parts of another and need no record of their own.
func derive(words ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(words, "\x00")))
	b := [16]byte(sum[:16])
	b[6], b[8] = b[6]&0x0f|0x80, b[8]&0x3f|0x80
	return formUUID(b)
}

func formUUID(b [16]byte) string {
	h := hex.EncodeToString(b[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// newMAC returns a random, locally administered unicast address in QEMU's and
// libvirt's well-known range for virtual machines.
func newMAC() string {
	var b [3]byte
	rand.Read(b[:])
	return fmt.Sprintf("52:54:00:%02x:%02x:%02x", b[0], b[1], b[2])
}

// identity is host.json: who this host is to clients, for good.
type identity struct {
	Version int    `json:"version"`
	Host    string `json:"host"`
	Pool    string `json:"pool"`
}

// prepare makes the store's folders and reads or makes its identity.
func (s *store) prepare() (identity, error) {
	for _, d := range []string{s.Root, s.Guests(), s.Networks(), s.Media(), s.Trash()} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return identity{}, fmt.Errorf("make the store: %w", err)
		}
	}
	b, err := os.ReadFile(s.Hosts())
	var id identity
	if !errors.Is(err, fs.ErrNotExist) {
		if err == nil && json.Unmarshal(b, &id) == nil && hv.IsUUID(id.Host) && hv.IsUUID(id.Pool) {
			return id, nil
		}
		// Nothing but references is lost with it; still it is kept.
		aside, err := putAside(s.Hosts())
		if err != nil {
			return identity{}, fmt.Errorf("set the broken identity aside: %w", err)
		}
		s.log.Warn("the host's identity was damaged; made a new one", "old", aside)
	}
	id = identity{Version: 1, Host: newUUID(), Pool: newUUID()}
	if err := writeJSON(s.Hosts(), id); err != nil {
		return identity{}, fmt.Errorf("write the host's identity: %w", err)
	}
	return id, nil
}

// nextDomID gives the next number, never one that was given before. seen is the
// highest number known otherwise, for a counter that was lost.
func (s *store) nextDomID(seen int) (int, error) {
	s.domidMu.Lock()
	defer s.domidMu.Unlock()
	b, err := os.ReadFile(s.DomID())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("read the last domid: %w", err)
	}
	last, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || last < 0 {
		last = 0
	}
	next := max(last, seen) + 1
	if err := writeFile(s.DomID(), []byte(strconv.Itoa(next)+"\n")); err != nil {
		return 0, fmt.Errorf("write the last domid: %w", err)
	}
	return next, nil
}

// writeSpec replaces spec.json in a guest's folder.
func (s *store) writeSpec(dir string, spec *hv.Spec) error {
	if err := spec.Check(); err != nil {
		return fmt.Errorf("write the guest's settings: %w", err)
	}
	files := paths.GuestDir(dir, "")
	if err := writeJSON(files.Spec(), spec); err != nil {
		return fmt.Errorf("write the guest's settings: %w", err)
	}
	// What repair takes back when somebody has edited spec.json wrongly, or a disk
	// has lost it. Nothing depends on it.
	if err := writeJSON(files.SpecCopy(), spec); err != nil {
		s.log.Warn("write the copy of a guest's settings", "guest", spec.Name, "err", err)
	}
	return nil
}

func writeJSON(path string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(path, append(b, '\n'))
}

// writeFile replaces the file at path so that a power cut leaves the old or the
// new one whole: write beside it, fsync, rename, fsync the folder.
func writeFile(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // what failed; after the rename there is nothing to remove
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	if err := savefile.Rename(f.Name(), path); err != nil {
		return err
	}
	savefile.SyncDir(filepath.Dir(path))
	return nil
}

// putAside gives what is damaged another name, and returns that.
func putAside(path string) (string, error) {
	aside := path + ".broken-" + stamp(time.Now())
	for n := 2; ; n++ {
		if _, err := os.Lstat(aside); errors.Is(err, fs.ErrNotExist) {
			return aside, savefile.Rename(path, aside)
		}
		aside = fmt.Sprintf("%s.broken-%s-%d", path, stamp(time.Now()), n)
	}
}

func stamp(t time.Time) string { return t.UTC().Format("20060102T150405") }

// fileName makes a guest's name fit for a file name anywhere.
func fileName(name string) string {
	out := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '_', r == '.':
			return r
		}
		return '_'
	}, name)
	out = strings.Trim(out, ".")
	if len(out) > 40 {
		out = out[:40]
	}
	if out == "" {
		return "guest"
	}
	return out
}
