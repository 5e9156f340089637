package hostinfo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// QEMUVar names the environment variable that chooses the QEMU to use: the
// program qemu-system-x86_64 or the folder that holds it.
const QEMUVar = "HXEN_QEMU"

const (
	qemuName = "qemu-system-x86_64"
	imgName  = "qemu-img"
	storage  = "qemu-storage-daemon"
)

// QEMU is the device model that was found.
type QEMU struct {
	Path         string   // of qemu-system-x86_64
	Img          string   // of qemu-img; empty if missing
	Storage      string   // of qemu-storage-daemon; empty if missing
	Version      string   // "7.2.22"
	Accelerators []string // as `-accel help` lists them: "tcg", "kvm", ...
	Machine      string   // the newest versioned q35 machine type: "pc-q35-7.2"
}

func (q QEMU) has(accelerator string) bool { return slices.Contains(q.Accelerators, accelerator) }

// MissingError says that a part is not installed, with the command that installs it.
type MissingError struct {
	Parts []Part
	What  string // one sentence
	Cure  string
}

func (e *MissingError) Error() string {
	if rest, words := strings.CutPrefix(e.Cure, "Install "); words { // no command is known here
		return e.What + "; install " + rest
	}
	return e.What + "; install it with: " + e.Cure
}

// known keeps what a QEMU said of itself; a program that is replaced is asked again.
var known struct {
	mu   sync.Mutex
	key  string // guarded by mu
	qemu QEMU   // guarded by mu
}

// FindQEMU finds QEMU and asks what it can do. HXEN_QEMU comes first, then PATH,
// then the places where it is installed. The answer is remembered in this
// process while the program file stays the same.
func FindQEMU(ctx context.Context) (QEMU, error) {
	path, err := locateQEMU(folders())
	if err != nil {
		return QEMU{}, err
	}
	fi, err := os.Stat(path)
	if err != nil {
		return QEMU{}, fmt.Errorf("QEMU: %w", err)
	}
	key := fmt.Sprintf("%s %d %s", path, fi.Size(), fi.ModTime().Format(time.RFC3339Nano))
	known.mu.Lock() // held while asking: others want the same answer
	defer known.mu.Unlock()
	if known.key == key {
		q := known.qemu
		q.Img, q.Storage = locateImg(path), LocateStorage(path) // may have come or gone meanwhile
		return q, nil
	}
	q, err := askQEMU(ctx, path)
	if err != nil {
		return QEMU{}, err
	}
	known.key, known.qemu = key, q
	return q, nil
}

// locateQEMU returns the program's path; dirs are searched after PATH.
func locateQEMU(dirs []string) (string, error) {
	if chosen := os.Getenv(QEMUVar); chosen != "" {
		fi, err := os.Stat(chosen)
		if err == nil && fi.IsDir() {
			chosen = filepath.Join(chosen, exe(qemuName))
			_, err = os.Stat(chosen)
		}
		if err != nil {
			return "", fmt.Errorf("%s names a QEMU that is not there: %w; correct it, or unset it to have QEMU searched", QEMUVar, err)
		}
		return filepath.Abs(chosen)
	}
	if p, ok := search(append([]string{qemuName}, otherNames...), "", dirs); ok {
		return p, nil
	}
	return "", &MissingError{Parts: []Part{PartQEMU}, What: "QEMU (" + qemuName + ") is not installed", Cure: InstallCommand(PartQEMU)}
}

// otherNames are what some distributions call QEMU for x86: RHEL and its like
// have it outside of PATH.
var otherNames = []string{"qemu-kvm"}

// folders are where QEMU is installed without being in a service's PATH.
func folders() []string {
	switch runtime.GOOS {
	case "windows":
		var dirs []string
		for _, v := range []string{"ProgramFiles", "ProgramW6432", "ProgramFiles(x86)"} {
			if d := os.Getenv(v); d != "" {
				dirs = append(dirs, filepath.Join(d, "qemu"))
			}
		}
		return dirs
	case "darwin":
		return []string{"/opt/homebrew/bin", "/usr/local/bin", "/opt/local/bin"}
	default:
		return []string{"/usr/bin", "/usr/local/bin", "/usr/libexec", "/run/current-system/sw/bin", "/home/linuxbrew/.linuxbrew/bin"}
	}
}

// search looks for the first of the names beside a program, in PATH and in dirs.
func search(names []string, beside string, dirs []string) (string, bool) {
	for _, name := range names {
		name = exe(name)
		if beside != "" {
			if p := filepath.Join(filepath.Dir(beside), name); isFile(p) {
				return p, true
			}
		}
		if p, err := exec.LookPath(name); err == nil {
			if p, err = filepath.Abs(p); err == nil {
				return p, true
			}
		}
		for _, dir := range dirs {
			if p := filepath.Join(dir, name); isFile(p) {
				return p, true
			}
		}
	}
	return "", false
}

func isFile(path string) bool {
	fi, err := os.Stat(path)
	return err == nil && fi.Mode().IsRegular()
}

// locateImg returns qemu-img, first that of the same installation.
func locateImg(qemu string) string {
	p, _ := search([]string{imgName}, qemu, folders())
	return p
}

// LocateStorage returns qemu-storage-daemon, first that of the same installation
// as qemu, which may be empty.
func LocateStorage(qemu string) string {
	p, _ := search([]string{storage}, qemu, folders())
	return p
}

// askQEMU asks a QEMU about itself, three questions at the same time.
func askQEMU(ctx context.Context, path string) (QEMU, error) {
	q := QEMU{Path: path, Img: locateImg(path), Storage: LocateStorage(path)}
	var errs [3]error
	var wg sync.WaitGroup
	ask := func(i int, parse func(string) error, args ...string) {
		wg.Go(func() {
			out, err := run(ctx, path, args...)
			if err == nil {
				err = parse(out)
			}
			errs[i] = err
		})
	}
	ask(0, func(s string) (err error) { q.Version, err = parseVersion(s); return err }, "--version")
	ask(1, func(s string) error { q.Accelerators = parseAccelerators(s); return nil }, "-accel", "help")
	ask(2, func(s string) (err error) { q.Machine, err = parseMachines(s); return err }, "-machine", "help")
	wg.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		var notExec *fs.PathError
		if errors.As(err, &notExec) {
			return QEMU{}, fmt.Errorf("QEMU cannot be started: %w; reinstall it: %s", notExec, InstallCommand(PartQEMU))
		}
		return QEMU{}, fmt.Errorf("QEMU does not say what it can do: %w", err)
	}
	return q, nil
}

var versionLine = regexp.MustCompile(`\bversion (\d+\.\d+(?:\.\d+)*)`)

// parseVersion reads "QEMU emulator version 7.2.22 (Debian ...)".
func parseVersion(out string) (string, error) {
	m := versionLine.FindStringSubmatch(out)
	if m == nil {
		return "", fmt.Errorf("it calls itself %.80q", out)
	}
	return m[1], nil
}

var word = regexp.MustCompile(`^[a-z][a-z0-9]*$`)

// parseAccelerators reads what follows the heading of `-accel help`, a name a line.
func parseAccelerators(out string) (names []string) {
	for line := range strings.Lines(out) {
		if line = strings.TrimSpace(line); word.MatchString(line) {
			names = append(names, line)
		}
	}
	return names
}

var (
	aliasOfQ35   = regexp.MustCompile(`(?m)^q35\s.*\(alias of (pc-q35-[\w.]+)\)`)
	versionedQ35 = regexp.MustCompile(`(?m)^pc-q35-(?:rhel)?(\d+(?:\.\d+)*)\s`)
)

// parseMachines finds the newest versioned q35 machine in `-machine help`: what
// "q35" stands for, where it says so, else the one with the highest version.
func parseMachines(out string) (string, error) {
	if m := aliasOfQ35.FindStringSubmatch(out); m != nil {
		return m[1], nil
	}
	best, name := []int(nil), ""
	for _, m := range versionedQ35.FindAllStringSubmatch(out, -1) {
		if v := numbers(m[1]); slices.Compare(v, best) > 0 {
			best, name = v, strings.TrimSpace(m[0])
		}
	}
	if name == "" {
		return "", errors.New("it has no q35 machine")
	}
	return name, nil
}

// numbers splits a version; parts too large to be real count as 0.
func numbers(version string) (out []int) {
	for part := range strings.SplitSeq(version, ".") {
		n, _ := strconv.ParseUint(part, 10, 31)
		out = append(out, int(n))
	}
	return out
}

// oldest is the oldest QEMU that HXEN is made for.
var oldest = []int{7, 2}
