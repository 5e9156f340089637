package xen

import (
	"errors"
	"fmt"
	"slices"

	"github.com/hxen-project/hxen/hv/guestmem"
	"github.com/hxen-project/hxen/hv/xenabi"
)

// State is a domain at rest: all but what lies in the guest's memory. It comes
// out of a file, and Restore checks all of it.
type State struct {
	ClockBase, ClockOffset uint64 // of system time, which goes on with the guest's TSC
	TSCHz                  uint64
	Long                   bool     // the guest's latched width
	Returned               int64    // pages that it has given back
	Params                 []uint64 // HVM_NR_PARAMS
	Shared                 *uint64  // gfn of shared_info, if the guest has placed it
	Limbo                  []byte   // what it has not placed
	Grants                 []*uint64
	Ports                  []PortState // from port 1 on
	VCPUs                  []VCPUState
	Watchdogs              []uint32 // seconds of each; 0: not in use
}

// PortState is one event channel. Those with a back end are saved as offered:
// the next back end connects again.
type PortState struct {
	State  uint8
	Pinned bool
	VCPU   int
	Remote uint16
	VIRQ   uint32
}

// VCPUState is the Xen side of one vCPU. Nil alarms are not armed.
type VCPUState struct {
	InfoGFN  *uint64 // of a registered vcpu_info
	InfoOff  int
	Up       bool
	Vector   uint8
	Single   *uint64
	Periodic *uint64
	Period   uint64
	Runstate RunstateState
	TimeArea *AreaState
}

// RunstateState is where a vCPU's time went.
type RunstateState struct {
	State int32
	Entry uint64
	Times [4]uint64
	Area  *AreaState
	Long  bool
}

// AreaState is a structure that the guest has registered.
type AreaState struct {
	GPA   [2]uint64
	First int
}

// Save tells the domain's state. All vCPUs stand still between two of their
// Runs, where no call of theirs is going on and none is parked, and so do the
// back ends.
func (d *Domain) Save() State {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := State{
		ClockBase: d.clock.base, ClockOffset: d.clock.offset, TSCHz: d.cfg.TSCHz,
		Returned: d.returned.Load(), Long: d.layout == xenabi.SharedInfo64, Params: slices.Clone(d.params[:]), Limbo: make([]byte, limboPages*guestmem.PageSize),
	}
	_ = d.limbo.Read(0, s.Limbo) // it is as long
	if d.shared.In(d.cfg.Memory) {
		s.Shared = new(d.shared.GFN())
	}
	for _, p := range d.grants {
		if p.Valid() {
			s.Grants = append(s.Grants, new(p.GFN()))
		} else {
			s.Grants = append(s.Grants, nil)
		}
	}
	for _, p := range d.ports[1:] {
		state := p.state
		if state == portInterdomain {
			state = portUnbound
		}
		s.Ports = append(s.Ports, PortState{uint8(state), p.pinned, p.vcpu, p.remote, p.virq})
	}
	for _, v := range d.vcpus {
		s.VCPUs = append(s.VCPUs, v.save())
	}
	for _, w := range d.watchdogs {
		s.Watchdogs = append(s.Watchdogs, w.seconds)
	}
	return s
}

func (v *vcpu) save() VCPUState {
	s := VCPUState{
		Up: v.up, Vector: v.vector, Period: v.period, Single: v.single.save(), Periodic: v.periodic.save(), TimeArea: v.timeArea.save(),
		Runstate: RunstateState{v.runstate.state, v.runstate.entry, v.runstate.times, v.runstate.area.save(), v.runstate.long},
	}
	if v.registered {
		s.InfoGFN, s.InfoOff = new(v.info.page.GFN()), v.info.off
	}
	return s
}

func (a *alarm) save() *uint64 {
	if a.f == nil {
		return nil
	}
	return new(a.deadline)
}

func (a *area) save() *AreaState {
	if !a.set {
		return nil
	}
	return &AreaState{a.gpa, a.first}
}

var errSaved = errors.New("the saved state is damaged")

// Restore makes the domain that s was, over the same memory and a TSC that goes
// on from where it was: system time goes on too, and the time of day is the
// host's. Ports wait for their back ends, timers run, and every vCPU with
// pending events is told again.
func Restore(cfg Config, s State) (*Domain, error) {
	d, err := New(cfg)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.restore(s); err != nil {
		return nil, fmt.Errorf("restore a Xen domain: %w", err)
	}
	return d, nil
}

func (d *Domain) restore(s State) error {
	if s.TSCHz != d.cfg.TSCHz {
		return fmt.Errorf("its TSC ran at %d Hz, and this one runs at %d Hz", s.TSCHz, d.cfg.TSCHz)
	}
	if len(s.Watchdogs) > maxWatchdogs || len(s.VCPUs) != len(d.vcpus) || len(s.Params) != len(d.params) || len(s.Grants) > maxGrantFrames || len(s.Limbo) != limboPages*guestmem.PageSize {
		return errSaved
	}
	d.account(s.Returned)
	d.layout = xenabi.SharedInfo32
	if s.Long {
		d.layout = xenabi.SharedInfo64
	}
	d.clock.base, d.clock.offset = s.ClockBase, s.ClockOffset
	d.readWall()
	if err := d.limbo.Write(0, s.Limbo); err != nil {
		return err
	}
	if err := d.restorePages(s); err != nil {
		return err
	}
	if err := d.restorePorts(s); err != nil {
		return err
	}
	for i, v := range d.vcpus {
		if err := d.restoreVCPU(v, s.VCPUs[i]); err != nil {
			return err
		}
	}
	d.writeTimes()
	for i, v := range d.vcpus {
		if at := s.VCPUs[i].Single; at != nil {
			d.armSingle(v, *at)
		}
		if at := s.VCPUs[i].Periodic; at != nil {
			d.armPeriodic(v, *at)
		}
		d.injectPending(v)
	}
	for i, seconds := range s.Watchdogs {
		d.setWatchdog(&d.watchdogs[i], seconds)
	}
	return nil
}

// restorePages finds shared_info and the grant table again.
func (d *Domain) restorePages(s State) error {
	if s.Shared != nil {
		page, err := d.cfg.Memory.Page(*s.Shared)
		if err != nil {
			return err
		}
		d.shared = page
	}
	for _, gfn := range s.Grants {
		var page guestmem.Page
		if gfn != nil {
			var err error
			if page, err = d.cfg.Memory.Page(*gfn); err != nil {
				return err
			}
		}
		d.grants = append(d.grants, page)
	}
	return nil
}

func (d *Domain) restorePorts(s State) error {
	if len(s.Ports) >= d.layout.Ports {
		return errSaved
	}
	d.ports = make([]port, 1, len(s.Ports)+1)
	for i, p := range s.Ports {
		state := portState(p.State)
		if state > portIPI || state == portInterdomain || p.VCPU < 0 || p.VCPU >= len(d.vcpus) || p.VIRQ >= xenabi.NR_VIRQS {
			return errSaved
		}
		if state == portVIRQ {
			owner := d.vcpus[0]
			if perVCPU(p.VIRQ) {
				owner = d.vcpus[p.VCPU]
			}
			owner.virqs[p.VIRQ] = uint32(i + 1)
		}
		d.ports = append(d.ports, port{state: state, pinned: p.Pinned, vcpu: p.VCPU, remote: p.Remote, virq: p.VIRQ})
	}
	// Where the pages lie is the engine's to say, not the file's.
	store, console := d.params[xenabi.HVM_PARAM_STORE_PFN], d.params[xenabi.HVM_PARAM_CONSOLE_PFN]
	copy(d.params[:], s.Params)
	d.params[xenabi.HVM_PARAM_STORE_PFN], d.params[xenabi.HVM_PARAM_CONSOLE_PFN] = store, console
	for _, i := range []int{xenabi.HVM_PARAM_STORE_EVTCHN, xenabi.HVM_PARAM_CONSOLE_EVTCHN} {
		if p := d.portAt(d.params[i]); p == nil || !p.pinned {
			return errSaved
		}
	}
	return nil
}

func (d *Domain) restoreVCPU(v *vcpu, s VCPUState) error {
	r := s.Runstate
	if r.State < 0 || int(r.State) >= len(r.Times) || s.Vector > 0 && s.Vector < 16 ||
		s.Periodic != nil && (s.Period < minPeriod || s.Period > 1<<62) {
		return errSaved
	}
	v.up, v.vector, v.period = s.Up, s.Vector, s.Period
	v.info = d.unplacedInfo(v.id)
	if s.InfoGFN != nil {
		page, err := d.cfg.Memory.Page(*s.InfoGFN)
		if err != nil {
			return err
		}
		if s.InfoOff < 0 || s.InfoOff > guestmem.PageSize-xenabi.VCPUInfoSize || s.InfoOff%8 != 0 {
			return errSaved
		}
		v.info, v.registered = place{page, s.InfoOff}, true
	}
	v.runstate = runstate{state: r.State, entry: r.Entry, times: r.Times, long: r.Long}
	if !v.runstate.area.restore(r.Area, d.cfg.Memory, len(v.runstate.bytes(r.Long, r.Entry))) ||
		!v.timeArea.restore(s.TimeArea, d.cfg.Memory, len(xenabi.Bytes(&xenabi.VCPUTimeInfo{}))) {
		return errSaved
	}
	return nil
}

// restore places a structure of size bytes again.
func (a *area) restore(s *AreaState, m *guestmem.Memory, size int) bool {
	if s == nil {
		return true
	}
	if s.First < 1 || s.First > size || !m.Backed(s.GPA[0], uint64(s.First)) || !m.Backed(s.GPA[1], uint64(size-s.First)) {
		return false
	}
	*a = area{set: true, gpa: s.GPA, first: s.First}
	return true
}
