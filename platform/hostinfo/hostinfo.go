// Package hostinfo says what this computer has for guests: processor, memory,
// disk, QEMU, firmware, accelerators, display. Each check comes with a reason
// and, where something is wrong, a cure.
//
//	Collect(ctx, store) []Check           everything, for `hxen doctor`
//	Accelerators(ctx, store, fresh)       verdicts, best first, tcg last
//	FindQEMU(ctx) (QEMU, error)           program, version, accelerators, machine type
//	FindFirmware(qemu) (Firmware, bool)   UEFI code and variables
//	Processor(), Memory(), MemoryShort(), DiskFree(path), System()
//	InstallCommand(missing...) string     for this system's package manager
//	Packages(parts...)                    the same for programs
//	Window() error                        why no window can be shown
//	ServiceManager() (name, ok)           what starts guests at boot, and whether it runs
//
// It knows nothing of guests, and changes nothing.
package hostinfo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/hxen-project/hxen/platform/accel"
	"github.com/hxen-project/hxen/platform/paths"
)

// State is how a check came out.
type State string

const (
	OK   State = "ok"
	Warn State = "warn" // guests run, something is missing
	Fail State = "fail" // guests, or some of them, cannot run
	Info State = "info" // neither good nor bad
)

// Check is one line of `hxen doctor`.
type Check struct {
	ID     string         `json:"id"` // stable, for programs
	Title  string         `json:"title"`
	State  State          `json:"state"`
	Detail string         `json:"detail"`         // one sentence: what is, or why not
	Cure   string         `json:"cure,omitempty"` // one sentence or command
	Data   map[string]any `json:"data,omitempty"` // the same for programs
}

// Collect makes every check, all at the same time, and returns them in a fixed
// order. store is where guests are kept. A check that hangs gives up by itself.
func Collect(ctx context.Context, store paths.Store) []Check {
	checks := []func(context.Context, paths.Store) []Check{
		checkSystem, checkProcessor, checkMemory, checkDisk,
		checkQEMU, checkFirmware, checkAccelerators, checkConflicts,
		checkDisplay, checkSockets,
	}
	found := make([][]Check, len(checks))
	var wg sync.WaitGroup
	for i, check := range checks {
		wg.Go(func() { found[i] = check(ctx, store) })
	}
	wg.Wait()
	var all []Check
	for _, cs := range found {
		all = append(all, cs...)
	}
	return all
}

// Accelerators returns the verdict on each accelerator that this system and its
// QEMU have, best first and tcg last. The verdict of running guest code is
// remembered in the store until the next boot; fresh asks again. The main of the
// calling program must begin with accel.ProbeChild.
func Accelerators(ctx context.Context, store paths.Store, fresh bool) []accel.Result {
	rs := accel.Probe(ctx, accel.Options{Cache: store.Probes(), Fresh: fresh})
	q, err := FindQEMU(ctx)
	if err != nil {
		return rs // without QEMU its abilities are not the question
	}
	for i, r := range rs {
		if r.Usable && !q.has(r.Name) {
			rs[i] = accel.Result{Name: r.Name, Native: r.Native, // which needs no QEMU
				Reason: fmt.Sprintf("%s %s was built without %s", q.Path, q.Version, r.Name),
				Cure:   "Install a QEMU that was built with it: " + InstallCommand(PartQEMU)}
		}
	}
	return rs
}

// commandLimit is what a program gets that is asked about itself.
const commandLimit = 10 * time.Second

// run starts a program and returns what it writes. The sentence of the error is
// made for the user.
func run(ctx context.Context, path string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, commandLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.WaitDelay = time.Second // for what it may have started
	hideWindow(cmd)
	out, err := cmd.Output()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return "", fmt.Errorf("%s %s does not answer: %w", path, strings.Join(args, " "), ctx.Err())
	case errors.As(err, &exit):
		line, _, _ := strings.Cut(strings.TrimSpace(string(exit.Stderr)), "\n")
		return "", fmt.Errorf("%s %s failed (%s): %s", path, strings.Join(args, " "), exit.ProcessState, line)
	case err != nil:
		return "", fmt.Errorf("start %s: %w", path, err)
	}
	return string(out), nil
}

// DiskFree tells how many bytes this user can still write where path is or, if
// it does not exist yet, will be, and how many there are in all.
func DiskFree(path string) (free, total uint64, err error) {
	for p := path; ; p = filepath.Dir(p) {
		if _, err := os.Stat(p); errors.Is(err, fs.ErrNotExist) && p != filepath.Dir(p) {
			continue
		}
		free, total, err = diskFree(p)
		if err != nil {
			return 0, 0, fmt.Errorf("ask for the free space of %s: %w", path, err)
		}
		return free, total, nil
	}
}

// shortOf is how little memory is too little to go on with, of so much: a
// thirty-second, from 32 to 512 MiB.
func shortOf(total uint64) uint64 { return max(32<<20, min(total/32, 512<<20)) }

// CPU is the processor.
type CPU struct {
	Model string // as the maker calls it
	Count int    // logical processors that this program may use
	// Virtual is what the processor and firmware offer for guests: "vmx", "svm",
	// "hvf" or, if they offer nothing, empty.
	Virtual string
}

// OS is the operating system.
type OS struct {
	ID      string   // "debian", "fedora", "macos", "windows", ...
	Like    []string // what it descends from
	Version string   // "12", "15.1", "11 24H2 (26100)"
	Name    string   // as people call it
	Kernel  string   // release
}
