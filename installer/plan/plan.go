// Package plan is the installer's engine: what is to be done (Plan), the steps
// that do it (Step), and a journal on disk that makes every run end well: a run
// that fails takes back what it did; one that was killed is gone on with, or
// taken back, by the next. Upgrade and repair are the same run again, and
// uninstalling is the journal backwards.
//
//	plan.go     Plan, Options, Step, Act
//	journal.go  the journal: what was done, written before it is done
//	run.go      Install, Uninstall
//
// It knows nothing of files, packages or services; package steps does.
package plan

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"slices"
)

// Format is the version of Plan's JSON form.
const Format = 1

// Action is what a plan is for.
type Action string

const (
	Install   Action = "install" // also upgrades, repairs and changes what is there
	Uninstall Action = "uninstall"
)

// Scope is whom an installation is for.
type Scope string

const (
	System Scope = "system" // everybody; needs an administrator
	User   Scope = "user"   // one user, in the user's home
)

// Component is a part that the user can choose.
type Component string

const (
	Command Component = "command" // the command line and what runs guests: always there
	Window  Component = "window"
	QEMU    Component = "qemu" // from the distribution's packages
	Example Component = "example"
)

// Components are all, in the order in which they are shown.
var Components = []Component{Command, Window, QEMU, Example}

// Options are what the user chose.
type Options struct {
	Scope      Scope       `json:"scope"`
	Prefix     string      `json:"prefix"`  // the folder that everything is put below
	Account    string      `json:"account"` // the login name of the user who will have guests
	Components []Component `json:"components"`
	Service    bool        `json:"service"`  // start guests at boot
	Packages   []string    `json:"packages"` // of the distribution, still to be installed
	KVM        bool        `json:"kvm"`      // let Account use /dev/kvm
	// RemoveGuests and RemovePackages are for uninstalling; without them guests
	// and the distribution's packages stay.
	RemoveGuests   bool `json:"remove_guests,omitempty"`
	RemovePackages bool `json:"remove_packages,omitempty"`
}

// Has reports whether a component was chosen.
func (o Options) Has(c Component) bool { return slices.Contains(o.Components, c) }

// Plan is all that a program with the same version and payload needs to do what
// was agreed on: it carries choices and names of steps, never commands.
type Plan struct {
	Format  int    `json:"format"`
	Action  Action `json:"action"`
	Version string `json:"version"` // of HXEN as installed by this plan
	Stamp   int64  `json:"stamp"`   // when that version was made, in Unix seconds
	Payload string `json:"payload"` // sha256 of the payload's list of files, in hex
	Options
	Steps []string `json:"steps"` // ids in order
}

// Hash names the plan: the sha256 of its JSON form, in hex. It is shown before
// an administrator's password is asked for.
func (p Plan) Hash() string {
	b, err := json.Marshal(p)
	if err != nil {
		panic("plan: a plan is always JSON: " + err.Error())
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// Read decodes one plan from JSON and refuses what it does not know.
func Read(r io.Reader) (Plan, error) {
	var p Plan
	d := json.NewDecoder(io.LimitReader(r, 1<<20))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		return Plan{}, fmt.Errorf("read the plan: %w", err)
	}
	rest, err := io.ReadAll(io.MultiReader(d.Buffered(), io.LimitReader(r, 1)))
	if err != nil || len(bytes.TrimSpace(rest)) > 0 {
		return Plan{}, fmt.Errorf("read the plan: something follows it")
	}
	if p.Format != Format {
		return Plan{}, fmt.Errorf("read the plan: it has format %d, this program knows %d", p.Format, Format)
	}
	return p, nil
}

// Act is one change to the computer, noted before it is made. Steps give the
// fields their meaning; Undo is called with what Apply noted.
type Act struct {
	Step string   `json:"step"`
	Kind string   `json:"kind"`
	Name string   `json:"name"`          // with Step and Kind: the thing that is changed
	Sum  string   `json:"sum,omitempty"` // what it is made into
	Mode uint32   `json:"mode,omitempty"`
	Old  string   `json:"old,omitempty"` // what it was before; empty if it was not there
	Args []string `json:"args,omitempty"`
	// Gone says that the act removes a thing that an earlier run made.
	Gone bool `json:"gone,omitempty"`
}

// Key tells acts on different things apart.
func (a Act) Key() string { return a.Step + "\x00" + a.Kind + "\x00" + a.Name }

// Status is what a step has to do.
type Status struct {
	Done   bool
	Detail string // in words for the user
	Bytes  int64  // to be written to disk
}

// Step is one thing that the installer sees to. All methods may be called again
// after any kind of end.
type Step interface {
	ID() string
	Title() string // for the user, in the present tense
	// Check looks, changes nothing, and says whether Apply has anything to do.
	Check(ctx context.Context, s *Session) (Status, error)
	// Apply notes each change with s.Intend before making it. Changes that this
	// session noted in an earlier, interrupted run are in s.Pending.
	Apply(ctx context.Context, s *Session) error
	// Undo takes one act back: when a run failed, or when uninstalling. The act
	// may have been noted only and never made.
	Undo(ctx context.Context, s *Session, a Act) error
}

// Finisher is a step that keeps things for Undo, which can go when a run has
// ended well.
type Finisher interface {
	Finish(a Act) error
}

// Optional is a step whose failure is told and does not take the rest back.
type Optional interface{ Optional() bool }

// Event is what a run tells while it goes on, and the last one its result.
type Event struct {
	Step  string  `json:"step,omitempty"`
	Title string  `json:"title,omitempty"`
	State State   `json:"state,omitempty"`
	Done  int64   `json:"done,omitempty"` // of Total, while State is Working
	Total int64   `json:"total,omitempty"`
	Log   string  `json:"log,omitempty"`  // one line for the log
	Note  string  `json:"note,omitempty"` // one sentence that the user should read at the end
	End   *Result `json:"end,omitempty"`
}

// State is how far a step is.
type State string

const (
	Working State = "working"
	Ready   State = "ready" // done, or nothing was to be done
	Failed  State = "failed"
	Undone  State = "undone"
)

// Result is how a run ended, for programs.
type Result struct {
	OK      bool     `json:"ok"`
	Action  Action   `json:"action"`
	Version string   `json:"version"`
	Hash    string   `json:"plan"`
	Step    string   `json:"step,omitempty"`   // that failed
	Error   string   `json:"error,omitempty"`  // why, in one sentence
	Undone  bool     `json:"undone"`           // the computer is as it was before
	Rights  bool     `json:"rights,omitempty"` // it failed for want of an administrator
	Notes   []string `json:"notes,omitempty"`
}
