// Package paths is the only home of folder and file names: where a store is,
// what lies in it, in a guest's folder, in a network's folder and in the
// runtime folder. It creates nothing but the record of the runtime folder.
package paths

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// HomeVar is the environment variable that moves all state to another folder.
const HomeVar = "HXEN_HOME"

// MaxSocket is the longest path, in bytes, that a socket may have: macOS allows
// 104 with the final NUL (sys/un.h), Linux 108.
const MaxSocket = 100

// Store is the folder that holds one person's guests.
type Store struct{ Root string }

// Default returns the store of this user: HXEN_HOME; else that of the computer's
// service, where this has the user's guests in a folder of its own (Windows, where it
// has an account of its own too); else the user's own.
func Default() (Store, error) {
	if h := os.Getenv(HomeVar); h != "" {
		return At(h)
	}
	if root, ok := serviceData(); ok {
		return At(root)
	}
	return Own()
}

// Own returns the store in the system's place for the user's data.
func Own() (Store, error) {
	root, err := userData()
	if err != nil {
		return Store{}, fmt.Errorf("find the folder for your guests: %w; set %s to a folder of your choice", err, HomeVar)
	}
	return At(root)
}

// At returns the store in folder root.
func At(root string) (Store, error) {
	abs, err := filepath.Abs(root)
	if err != nil {
		return Store{}, fmt.Errorf("store %s: %w", root, err)
	}
	return Store{Root: abs}, nil
}

func (s Store) Lock() string     { return filepath.Join(s.Root, "store.lock") }
func (s Store) Log() string      { return filepath.Join(s.Root, "service.log") }
func (s Store) Guests() string   { return filepath.Join(s.Root, "guests") }
func (s Store) Networks() string { return filepath.Join(s.Root, "networks") }
func (s Store) Media() string    { return filepath.Join(s.Root, "media") }       // records of images outside the store
func (s Store) Trash() string    { return filepath.Join(s.Root, "trash") }       // deleted guests, a folder each
func (s Store) Boot() string     { return filepath.Join(s.Root, "boot") }        // the boot of the host for which guests were started
func (s Store) DomID() string    { return filepath.Join(s.Root, "domid") }       // the last domid given
func (s Store) Hosts() string    { return filepath.Join(s.Root, "host.json") }   // identity of this host and pool
func (s Store) Probes() string   { return filepath.Join(s.Root, "probes.json") } // remembered verdicts on accelerators

// OwnerRecord holds the security identifier of the user whose guests these are, if
// the service has another account than theirs (Windows).
func (s Store) OwnerRecord() string { return filepath.Join(s.Root, "owner") }

// Owner is what OwnerRecord holds; empty if the service runs as the user.
func (s Store) Owner() string {
	b, err := os.ReadFile(s.OwnerRecord())
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// runRecord names the runtime folder in use, so that clients find the sockets
// whatever environment the service was started in.
func (s Store) runRecord() string { return filepath.Join(s.Root, "run") }

// Tag is 8 hex digits of the store's path; it keeps stores apart.
func (s Store) Tag() string {
	sum := sha256.Sum256([]byte(s.Root))
	return hex.EncodeToString(sum[:4])
}

// RunDir returns the recorded runtime folder; fs.ErrNotExist if no service ever ran.
func (s Store) RunDir() (string, error) {
	b, err := os.ReadFile(s.runRecord())
	if err != nil {
		return "", fmt.Errorf("read the runtime folder's record: %w", err)
	}
	dir := strings.TrimSpace(string(b))
	if !filepath.IsAbs(dir) {
		return "", fmt.Errorf("%s does not hold a folder: %w", s.runRecord(), fs.ErrNotExist)
	}
	return dir, nil
}

// ClaimRunDir is for the holder of the store's lock: it returns the recorded
// runtime folder while that exists (guests may be running on sockets in it),
// else picks one for this environment and records it. The caller creates and
// verifies the folder.
func (s Store) ClaimRunDir() (string, error) {
	old, err := s.RunDir()
	if err == nil {
		if _, err := os.Lstat(old); err == nil {
			return old, nil
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	dir := runDir(s.Tag())
	if dir == old {
		return dir, nil // Windows replaces no file that a client is reading
	}
	tmp := s.runRecord() + ".new"
	if err := os.WriteFile(tmp, []byte(dir+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("record the runtime folder: %w", err)
	}
	if err := os.Rename(tmp, s.runRecord()); err != nil {
		return "", fmt.Errorf("record the runtime folder: %w", err)
	}
	return dir, nil
}

// Socket is the service's API socket in runtime folder run.
func Socket(run string) string { return socket(run, "service", "api") }

// Guest names the files of one guest.
type Guest struct {
	Dir string // its folder in the store
	Run string // the runtime folder
	ID  string // first 8 hex digits of its uuid
}

// Guest returns the names of the guest with this uuid; run may be empty when no
// socket is needed.
func (s Store) Guest(uuid, run string) Guest {
	return Guest{Dir: filepath.Join(s.Guests(), uuid), Run: run, ID: short(uuid)}
}

// GuestDir returns the names for a guest's folder given by a worker's arguments.
func GuestDir(dir, run string) Guest {
	return Guest{Dir: dir, Run: run, ID: short(filepath.Base(dir))}
}

func (g Guest) Spec() string       { return filepath.Join(g.Dir, "spec.json") }
func (g Guest) SpecCopy() string   { return filepath.Join(g.Dir, "spec.copy.json") }  // as HXEN wrote spec.json last
func (g Guest) State() string      { return filepath.Join(g.Worker(), "state.json") } // written only by the lock's holder
func (g Guest) Lock() string       { return filepath.Join(g.Dir, "lock") }
func (g Guest) Log() string        { return filepath.Join(g.Dir, "worker.log") }
func (g Guest) ConsoleLog() string { return filepath.Join(g.Worker(), "console.log") }

// Worker is the folder of what a worker writes while its guest runs: the one
// that a confined worker may make files in. What says which files the guest has
// is not in it.
func (g Guest) Worker() string { return filepath.Join(g.Dir, "worker") }

// What a suspended guest consists of besides.
func (g Guest) Saved() string       { return filepath.Join(g.Worker(), "memory.save") }
func (g Guest) SavedScreen() string { return filepath.Join(g.Worker(), "memory.save.png") }  // its screen as it was
func (g Guest) GoesOn() string      { return filepath.Join(g.Worker(), "memory.save.boot") } // mark: it was saved because the host stopped

// Clone is the saved state of a template from which the guest, its clone, goes on
// the first time: a hard link, which its worker must not be able to write to.
func (g Guest) Clone() string { return filepath.Join(g.Dir, "memory.clone") }

// Grant names a file that a confined worker may have opened for it now: Grant.
func (g Guest) Grant() string { return filepath.Join(g.Dir, "grant.json") }

func (g Guest) Ctl() string { return socket(g.Run, g.ID, "ctl") }

// Net is the socket of one of the guest's network cards, by its place in the
// spec: the worker listens and the engine connects. An engine names its other
// sockets itself, in the runtime folder and with ID as their stem
// (hv/qemu/names.go).
func (g Guest) Net(nic int) string { return socket(g.Run, g.ID, fmt.Sprintf("n%d", nic)) }

// Disk is a new disk image in a guest's folder; format is its ending.
func Disk(guestDir, uuid, format string) string {
	return filepath.Join(guestDir, "disk-"+short(uuid)+"."+format)
}

// Network names the files of one network.
type Network struct {
	Dir, Run, ID string
}

// Network returns the names of the network with this uuid.
func (s Store) Network(uuid, run string) Network {
	return Network{Dir: filepath.Join(s.Networks(), uuid), Run: run, ID: short(uuid)}
}

// NetworkDir returns the names for a network's folder given by netd's arguments.
func NetworkDir(dir, run string) Network {
	return Network{Dir: dir, Run: run, ID: short(filepath.Base(dir))}
}

func (n Network) Config() string { return filepath.Join(n.Dir, "network.json") } // desired state, as last set
func (n Network) Leases() string { return filepath.Join(n.Dir, "leases.json") }
func (n Network) Lock() string   { return filepath.Join(n.Dir, "lock") }
func (n Network) Log() string    { return filepath.Join(n.Dir, "netd.log") }
func (n Network) Ctl() string    { return socket(n.Run, "net-"+n.ID, "ctl") }
func (n Network) Frames() string { return socket(n.Run, "net-"+n.ID, "net") }

// IsFrames reports whether path is the frames socket of some network in the
// runtime folder run.
func IsFrames(path, run string) bool {
	base := filepath.Base(path)
	return filepath.Dir(path) == filepath.Clean(run) && strings.HasPrefix(base, "net-") && strings.HasSuffix(base, ".net")
}

func short(uuid string) string {
	if len(uuid) > 8 {
		return uuid[:8]
	}
	return uuid
}

// Cache is the folder for what can be made again (kernels of the example guest).
func Cache() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the cache folder: %w; set HOME", err)
	}
	return filepath.Join(dir, "hxen"), nil
}

// Preferences is the file that keeps the window's size and the like.
func Preferences() (string, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("find the folder for settings: %w; set HOME", err)
	}
	return filepath.Join(dir, "hxen", "window.json"), nil
}

// SetupDir is where the setup keeps its journal: of what it did as administrator
// for everybody (account empty) or for one account, or, with a home, of what it
// did in that home as its owner.
func SetupDir(home, account string) string {
	switch {
	case home != "":
		return filepath.Join(home, setupState, "hxen-setup")
	case account != "":
		return filepath.Join(setupRoot(), "users", account)
	}
	return setupRoot()
}

// Program returns the path of one of our own programs: beside the running one,
// else by name through PATH.
func Program(name string) (string, error) {
	name += exeSuffix
	self, err := os.Executable()
	if err == nil {
		if real, err := filepath.EvalSymlinks(self); err == nil {
			self = real
		}
		p := filepath.Join(filepath.Dir(self), name)
		if _, err := os.Stat(p); err == nil {
			return p, nil
		}
	}
	return lookPath(name)
}
