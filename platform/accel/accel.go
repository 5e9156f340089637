// Package accel says which hardware acceleration for guests this computer
// really has, by running a few bytes of guest code.
//
//	Open() (accel.Hypervisor, error)  the system's own hypervisor, for pvh guests
//	Probe(ctx, Options) []Result      a verdict on each accelerator, best first, tcg last
//	ProbeChild()                      first line of every main whose program calls Probe
//
// A device file proves nothing: nested, emulated or half-disabled hypervisors
// open, create machines, and then hang or fail on the first real code. Such code
// is therefore run in a child process that can be given up.
//
// The package knows nothing of QEMU: whether an accelerator's name is also in
// QEMU's list is hostinfo's and the engine's question.
package accel

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/hxen-project/hxen/hv/accel"
)

// Result is the verdict on one accelerator.
type Result struct {
	Name   string `json:"name"` // QEMU's name: kvm, whpx, hvf, tcg
	Usable bool   `json:"usable"`
	Reason string `json:"reason,omitempty"` // why not, in one sentence
	Cure   string `json:"cure,omitempty"`   // what to do, where something can be done
	Native Native `json:"native"`           // whether pvh guests run on it
}

// Native is the verdict on an accelerator for the native engine, which runs pvh
// guests and asks for more than QEMU does.
type Native struct {
	Usable bool   `json:"usable"`
	Reason string `json:"reason,omitempty"`
	Cure   string `json:"cure,omitempty"`
	How    string `json:"how,omitempty"` // how hypercalls reach it, where it is usable
}

// UnavailableError says that this system has no hypervisor that Open could open.
type UnavailableError struct{ Reason, Cure string }

func (e *UnavailableError) Error() string {
	if e.Cure == "" {
		return e.Reason
	}
	return e.Reason + "; " + e.Cure
}

// Open opens the system's own hypervisor. That it opens does not mean that it
// runs guests: Probe says that.
func Open() (accel.Hypervisor, error) { return open() }

// Options says where a verdict is remembered.
type Options struct {
	// Cache is a file for the verdict of running guest code, which holds until
	// the next boot; empty: nothing is remembered.
	Cache string
	// Fresh runs the guest code even if a verdict is remembered.
	Fresh bool
}

// deadline is what the child gets. It needs milliseconds.
const deadline = 3 * time.Second

// software is QEMU's translator: it runs everywhere and needs no probe.
var software = Result{Name: "tcg", Usable: true, Native: Native{
	Reason: "TCG is QEMU's emulation of a processor; guests of type pvh run on a real one"}}

// Probe returns a verdict on each accelerator of this system, best first. TCG,
// which always works, is the last. It takes milliseconds, as a rule at worst the
// deadline of three seconds (five times that where the child waits for a processor),
// and never waits for a child that hangs.
func Probe(ctx context.Context, o Options) []Result {
	r := probeHost(ctx, o)
	r.Native = forNative(r, unstableTSC())
	return []Result{r, software}
}

// forNative makes the verdict for pvh guests. That the hypervisor has a LAPIC
// and a way for hypercalls is part of running guest code at all: the back end
// does not open without them. unstable says why the guests' clocks would be
// wrong; empty if they are right.
func forNative(r Result, unstable string) Native {
	n := Native{How: r.Native.How}
	switch {
	case !r.Usable:
		return Native{Reason: r.Reason, Cure: r.Cure}
	case unstable != "":
		n.Reason = unstable
		n.Cure = "Look for \"TSC\" in the kernel's log; if this computer is itself a virtual machine, give it a stable time-stamp counter."
	default:
		n.Usable = true
	}
	return n
}

// remembered is the content of a cache file.
type remembered struct {
	Key    string `json:"key"` // what the verdict depends on
	Result Result `json:"result"`
}

// recall returns the verdict that the file remembers for key.
func recall(file, key string) (Result, bool) {
	if file == "" {
		return Result{}, false
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return Result{}, false
	}
	var r remembered
	if json.Unmarshal(b, &r) != nil || r.Key != key || r.Result.Name == "" {
		return Result{}, false
	}
	return r.Result, true
}

// remember keeps a verdict. Failing to is no fault: the next probe asks again.
func remember(file, key string, r Result) {
	if file == "" {
		return
	}
	b, err := json.Marshal(remembered{key, r})
	if err != nil {
		return
	}
	f, err := os.CreateTemp(filepath.Dir(file), ".probe-*")
	if err != nil {
		return
	}
	_, err = f.Write(append(b, '\n'))
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		os.Remove(f.Name())
	}
}

// noGuests is the verdict on an accelerator that is there and does not work.
func noGuests(name, title, why string) Result {
	return Result{
		Name:   name,
		Reason: fmt.Sprintf("%s is present but does not run guests: %s", title, why),
		Cure:   "If this computer is itself a virtual machine, switch on nested virtualisation for it.",
	}
}
