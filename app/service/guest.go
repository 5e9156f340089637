package service

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/app/control"
	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/platform/paths"
)

// guest is one guest as the service knows it: its settings and what it does now.
type guest struct {
	uuid  string
	dir   string
	files paths.Guest

	// saving is held while spec.json is being replaced. Lock order: saving, then
	// Service.mu.
	saving sync.Mutex

	// The rest is guarded by Service.mu.
	name    string
	spec    *hv.Spec // replaced, never changed in place; not to be used if problem is set
	problem string   // why the folder cannot be used; empty for a sound guest
	repair  string   // what repair would do then; empty if nothing
	images  map[string]imageFacts

	power    hv.PowerState
	domid    int  // -1 when halted
	seen     int  // the highest domid it ever had, as far as is known
	active   bool // its disks are, or are about to be, in a worker's hands
	link     *link
	status   control.Status           // of the run; zero when halted
	ops      map[api.Ref]hv.Operation // under way, by task
	last     *control.Exit            // how the last run ended
	waiting  string                   // why it has not been started yet, although it is to
	restarts int                      // by policy, in a row, after runs that ended at once
	notice   string                   // the last thing the user should know of this run
	asked    *link                    // whose worker has a question to answer (silent.go)
	silent   *link                    // whose worker does not answer it
	pulled   bool                     // it was powered off although nobody answered
	lowDisk  string                   // what was last found of its disks' room; empty: there is some
	leases   map[string]control.Lease // by NIC uuid
	info     *hv.GuestInfo            // what its agent last said
	infoAt   time.Time                // when it said so
	samples  samples
	// unplugged are disks and cards of the settings that the run does not have.
	unplugged map[string]bool

	savedAt   time.Time // of a suspended guest's state
	savedSize int64     // likewise, in bytes
}

// newGuest makes a guest of a folder that scan found.
func newGuest(f *found, run string) *guest {
	g := &guest{
		uuid: f.uuid, dir: f.dir, files: paths.GuestDir(f.dir, run),
		name: f.name, spec: f.spec, problem: f.problem, repair: f.repair, images: f.images,
		power: hv.Halted, domid: -1, ops: map[api.Ref]hv.Operation{}, unplugged: map[string]bool{},
	}
	if f.last != nil {
		g.last, g.seen = f.last.Exit, f.last.DomID
	}
	g.power = g.rest()
	return g
}

func (g *guest) ref() api.Ref { return api.RefOf(g.uuid) }

// isTemplate reports whether it never runs.
func (g *guest) isTemplate() bool { return g.sound() && g.spec.Template }

// sound reports whether the guest's folder can be used.
func (g *guest) sound() bool { return g.problem == "" }

// overrides are the operations that may begin while another is under way: power
// can be pulled while a guest is being asked to shut down.
var overrides = map[hv.Operation][]hv.Operation{
	hv.OpHardShutdown: {hv.OpCleanShutdown, hv.OpCleanReboot, hv.OpSuspend},
	hv.OpHardReboot:   {hv.OpCleanShutdown, hv.OpCleanReboot},
	hv.OpClone:        {hv.OpClone},
}

// free reports whether op may begin beside the operations under way.
func (g *guest) free(op hv.Operation) bool {
	for _, running := range g.ops {
		if !slices.Contains(overrides[op], running) {
			return false
		}
	}
	return true
}

// allowed lists what a client may ask for now.
func (g *guest) allowed() []string {
	out := []string{}
	if !g.sound() && g.power == hv.Halted {
		if g.free(hv.OpDestroy) {
			out = append(out, string(hv.OpDestroy))
		}
		return out
	}
	ops := hv.Allowed(g.power)
	if g.isTemplate() {
		ops = hv.TemplateOps
	}
	for _, op := range ops {
		if g.free(op) {
			out = append(out, string(op))
		}
	}
	return out
}

// can says why op cannot be done now, in XenAPI's words; nil if it can.
func (g *guest) can(op hv.Operation) error {
	if !g.sound() && op != hv.OpDestroy && g.power == hv.Halted {
		return api.NewError(api.ErrOperationNotAllowed, fmt.Sprintf("guest %q cannot be used: %s", g.name, g.problem))
	}
	if g.isTemplate() {
		if !slices.Contains(hv.TemplateOps, op) {
			return api.NewError(api.ErrVMIsTemplate, string(g.ref()), string(op))
		}
	} else if !hv.CanDo(op, g.power) {
		var want []string
		for _, st := range hv.Accepts(op) {
			want = append(want, strings.ToLower(string(st)))
		}
		return api.NewError(api.ErrVMBadPowerState, string(g.ref()), strings.Join(want, " or "), strings.ToLower(string(g.power)))
	}
	if !g.free(op) {
		return api.NewError(api.ErrOtherOperation, "VM", string(g.ref()))
	}
	return nil
}

// lookup finds a guest by reference. s.mu is held.
func (s *Service) lookup(ref api.Ref) (*guest, error) {
	if g := s.guests[ref.UUID()]; g != nil {
		return g, nil
	}
	return nil, api.NewError(api.ErrHandleInvalid, "VM", string(ref))
}

// begin claims a guest for op, which shows in current_operations under task
// until end is called.
func (s *Service) begin(ref api.Ref, op hv.Operation, task api.Ref) (g *guest, end func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, err = s.lookup(ref)
	if err != nil {
		return nil, nil, err
	}
	if err := g.can(op); err != nil {
		return nil, nil, err
	}
	if task == "" || task == api.NullRef {
		task = api.RefOf(newUUID())
	}
	g.ops[task] = op
	s.publish(g)
	return g, sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(g.ops, task)
		if s.guests[g.uuid] == g {
			s.publish(g)
		}
	}), nil
}

// update changes a guest's settings: change gets a copy, which is checked,
// written and then shown. Who calls it has claimed the guest, or changes only
// what no operation reads.
func (s *Service) update(g *guest, change func(*hv.Spec) error) error {
	g.saving.Lock()
	defer g.saving.Unlock()
	s.mu.Lock()
	if !g.sound() { // what cannot be read is never rewritten
		defer s.mu.Unlock()
		return api.NewError(api.ErrOperationNotAllowed, fmt.Sprintf("guest %q cannot be changed: %s", g.name, g.problem))
	}
	spec := g.spec.Clone()
	s.mu.Unlock()
	if err := change(spec); err != nil {
		return err
	}
	if err := spec.Check(); err != nil {
		return refuse("settings", err.Error(), "")
	}
	if err := s.store.writeSpec(g.dir, spec); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	g.spec, g.name = spec, spec.Name
	s.publish(g)
	return nil
}

// rename gives a guest another name, unless one has it. xl and XenAPI's xl-like
// clients name guests by it, so it must be unique.
func (s *Service) rename(g *guest, name string) error {
	if err := hv.CheckName(name); err != nil {
		return refuse("name", err.Error(), "choose another name")
	}
	s.naming.Lock() // between the look and the change nobody else may take it
	defer s.naming.Unlock()
	if err := s.nameFree(name, g.uuid); err != nil {
		return err
	}
	return s.update(g, func(spec *hv.Spec) error { spec.Name = name; return nil })
}

// nameFree says who has the name, if another than except does. s.naming is held.
func (s *Service) nameFree(name, except string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.guests {
		if g.name == name && g.uuid != except && g.sound() {
			return refuse("name", fmt.Sprintf("there is a guest named %q already", name), "choose another name")
		}
	}
	return nil
}

// sorted returns all guests in the order of their names. s.mu is held.
func (s *Service) sorted() []*guest {
	return slices.SortedFunc(maps.Values(s.guests), func(a, b *guest) int {
		if c := strings.Compare(a.name, b.name); c != 0 {
			return c
		}
		return strings.Compare(a.uuid, b.uuid)
	})
}

// refuse is a request that cannot be, in the user's words.
func refuse(stage, text, cure string) error {
	return api.NewError(api.ErrRefused, stage, text, cure)
}
