// Package xen is the hypervisor that a PVH guest believes it runs on: its
// hypercalls, event channels, grant table, shared info, clock and timers, for
// 64- and 32-bit callers, and the CPUID leaves that announce them. hxen plays
// Xen and domain 0; back ends connect to event channels and map grants here.
//
// It does not know what runs the vCPUs (VCPU is all it needs of one), what the
// devices are, or what XenStore holds. Whatever a guest passes is hostile:
// every call ends soon with a result or -errno and reaches no memory but the
// guest's own. References are to Xen's public headers (xen/include/public).
package xen

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hxen-project/hxen/hv/accel"
	"github.com/hxen-project/hxen/hv/guestmem"
	"github.com/hxen-project/hxen/hv/xenabi"
)

// Version of Xen's interface that guests are told, major<<16 | minor.
const Version = 4<<16 | 17

// MaxVCPUs bounds a domain; vCPUs from 32 on have no place in shared_info and
// must register one, as Linux does for all.
const MaxVCPUs = 128

// VCPU is what Xen needs of a vCPU. The methods are called from any goroutine
// with the domain locked: they neither wait nor call back.
type VCPU interface {
	// Raise injects vector: as an edge interrupt of the local APIC, which the
	// guest ends with an EOI, or, with eoi false, as the domain-wide callback,
	// which it does not.
	Raise(vector uint8, eoi bool) error
	// Wake ends the park that a call asked for, also when the vCPU has not begun
	// to wait yet. It may come more than once.
	Wake()
}

// Config is a domain's fixed side. All functions are required unless said.
type Config struct {
	Domid  uint16
	UUID   [16]byte
	Memory *guestmem.Memory
	VCPUs  []VCPU // by id; at most MaxVCPUs

	E820     []xenabi.MemmapEntry // what XENMEM_memory_map tells
	RAMPages uint64               // the guest's reservation in pages

	StorePFN, ConsolePFN uint64 // gfns of the ring pages

	// TSC is the guest's time stamp counter now, the same on all vCPUs, at TSCHz.
	TSC   func() uint64
	TSCHz uint64
	// Wallclock is the host's time of day; nil means time.Now.
	Wallclock func() time.Time
	// NewTimer makes a timer of the host's.
	NewTimer func(func()) accel.Timer
	// NewBell makes a bell for vCPUs' threads to ring.
	NewBell func(func()) accel.Bell

	// Console takes text of CONSOLEIO_write; it must not keep it or wait.
	Console func(text []byte)
	// Shutdown tells a SHUTDOWN_ reason; the call that caused it returns Stop, or
	// Park if the guest only waits to be saved. It must not wait or call back.
	Shutdown func(reason uint32)
	// Discard gives RAM pages back to the host; they read as zeros afterwards.
	// nil: pages that a guest gives up stay.
	Discard func(gpa, n uint64) error
}

// Domain is one guest. Its methods may be called from any goroutine.
//
// Lock order: Domain.mu, then whatever a VCPU locks. Back ends' callbacks run
// without it.
type Domain struct {
	cfg Config

	mu     sync.Mutex
	clock  clock                        // guarded by mu
	vcpus  []*vcpu                      // fixed; the fields of each are guarded by mu
	ports  []port                       // guarded by mu; index is the port's number
	shared guestmem.Page                // guarded by mu
	layout xenabi.SharedInfo            // guarded by mu
	params [xenabi.HVM_NR_PARAMS]uint64 // guarded by mu, but for the store's and console's, which stay
	grants []guestmem.Page              // guarded by mu; the table's frames, zero Page where the guest maps none
	gone   gfnSet                       // guarded by mu; gfns that the guest has given up and not taken back
	wall   time.Time                    // guarded by mu; time of day at system time 0
	closed bool                         // guarded by mu

	watchdogs [maxWatchdogs]watchdog // guarded by mu
	still     bool                   // guarded by mu; the vCPUs stand still

	returned atomic.Int64 // pages that the guest has given back

	limbo *guestmem.Memory // shared_info and vcpu_info until the guest places them
}

// vcpu is the Xen side of one vCPU.
type vcpu struct {
	VCPU
	id int

	info       place // of vcpu_info
	registered bool  // by VCPUOP_register_vcpu_info
	up         bool  // it has called us
	vector     uint8 // HVMOP_set_evtchn_upcall_vector; 0 = none
	virqs      [xenabi.NR_VIRQS]uint32

	parked bool
	poll   []uint32 // ports that end the park

	single, periodic, pollTimer alarm
	period                      uint64
	runstate                    runstate
	timeArea                    area
}

// place is a structure's home inside one page.
type place struct {
	page guestmem.Page
	off  int
}

// New makes a domain with its store and console ports allocated. The guest's
// system time begins now.
func New(cfg Config) (*Domain, error) {
	if n := len(cfg.VCPUs); n == 0 || n > MaxVCPUs {
		return nil, fmt.Errorf("make a Xen domain: %d vCPUs, not 1 to %d", n, MaxVCPUs)
	}
	if cfg.TSCHz < 1e6 {
		return nil, fmt.Errorf("make a Xen domain: a TSC of %d Hz is no clock", cfg.TSCHz)
	}
	if cfg.Wallclock == nil {
		cfg.Wallclock = time.Now
	}
	d := &Domain{cfg: cfg, layout: xenabi.SharedInfo64, ports: make([]port, 1)}
	d.clock = newClock(cfg.TSC(), cfg.TSCHz)
	d.readWall()
	if err := d.makeLimbo(); err != nil {
		return nil, err
	}
	for i, v := range cfg.VCPUs {
		d.vcpus = append(d.vcpus, &vcpu{VCPU: v, id: i, info: d.unplacedInfo(i), up: i == 0})
	}
	d.params[xenabi.HVM_PARAM_STORE_PFN] = cfg.StorePFN
	d.params[xenabi.HVM_PARAM_CONSOLE_PFN] = cfg.ConsolePFN
	d.params[xenabi.HVM_PARAM_PAE_ENABLED] = 1
	for _, p := range []int{xenabi.HVM_PARAM_STORE_EVTCHN, xenabi.HVM_PARAM_CONSOLE_EVTCHN} {
		n, _ := d.allocPort(port{state: portUnbound, pinned: true})
		d.params[p] = uint64(n)
	}
	d.writeTimes()
	return d, nil
}

// StorePort and ConsolePort are the ports that the guest finds in its HVM
// parameters; the back ends Connect to them.
func (d *Domain) StorePort() uint32   { return uint32(d.params[xenabi.HVM_PARAM_STORE_EVTCHN]) }
func (d *Domain) ConsolePort() uint32 { return uint32(d.params[xenabi.HVM_PARAM_CONSOLE_EVTCHN]) }

// Close stops the timers and cuts the back ends off. Calls of vCPUs that still
// run are answered, but nothing is injected any more.
func (d *Domain) Close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	for _, v := range d.vcpus {
		for _, a := range []*alarm{&v.single, &v.periodic, &v.pollTimer} {
			a.close()
		}
	}
	for i := range d.watchdogs {
		d.watchdogs[i].stop()
	}
	for i := range d.ports {
		d.ports[i].cut()
	}
}

// Call is one hypercall as a vCPU made it.
type Call struct {
	VCPU   int
	Nr     uint64
	Args   [6]uint64
	Long   bool // a 64-bit caller: EFER.LMA and CS.L
	CPL    uint8
	Result int64
	// Paging tells how the caller's addresses are translated; called at most once,
	// and only for calls that pass pointers.
	Paging func() (guestmem.Paging, error)

	mem    *guestmem.Memory
	paging guestmem.Paging
	walks  int8       // 0 not asked, 1 known, -1 failed
	after  []*Channel // the guest has sent to them
}

// Action is what a vCPU does after its call.
type Action uint8

const (
	Continue Action = iota // enter the guest again
	Yield                  // let others run for a moment first
	Park                   // wait for VCPU.Wake, or for any reason to look again
	Stop                   // the domain is down (Config.Shutdown knows the reason)
)

func (a Action) String() string {
	return [...]string{"continue", "yield", "park", "stop"}[a]
}

// Hypercall serves c and leaves the result in it.
func (d *Domain) Hypercall(c *Call) Action {
	c.mem, c.walks, c.after = d.cfg.Memory, 0, c.after[:0]
	if c.CPL != 0 || c.VCPU < 0 || c.VCPU >= len(d.vcpus) {
		c.Result = -xenabi.XEN_EPERM
		return Continue
	}
	if !c.Long {
		c.Nr &= 0xffff_ffff
		for i := range c.Args {
			c.Args[i] &= 0xffff_ffff
		}
	}
	action := d.dispatch(c)
	if !c.Long {
		c.Result = int64(uint32(c.Result))
	}
	for _, ch := range c.after {
		ch.sent()
	}
	return action
}

// dispatch serves a call with its arguments in c.
func (d *Domain) dispatch(c *Call) Action {
	switch c.Nr {
	case xenabi.HYPERVISOR_sched_op:
		return d.schedOp(c)
	case xenabi.HYPERVISOR_multicall:
		return d.multicall(c)
	case xenabi.HYPERVISOR_console_io:
		c.Result = d.consoleIO(c)
		return Continue
	case xenabi.HYPERVISOR_memory_op:
		c.Result = d.memoryOp(c)
		return Continue
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.vcpus[c.VCPU].up = true
	switch c.Nr {
	case xenabi.HYPERVISOR_event_channel_op:
		c.Result = d.eventChannelOp(c)
	case xenabi.HYPERVISOR_vcpu_op:
		c.Result = d.vcpuOp(c)
	case xenabi.HYPERVISOR_set_timer_op:
		c.Result = d.setTimerOp(c)
	case xenabi.HYPERVISOR_xen_version:
		c.Result = d.xenVersion(c)
	case xenabi.HYPERVISOR_hvm_op:
		c.Result = d.hvmOp(c)
	case xenabi.HYPERVISOR_grant_table_op:
		c.Result = d.grantTableOp(c)
	case xenabi.HYPERVISOR_sysctl, xenabi.HYPERVISOR_domctl, xenabi.HYPERVISOR_platform_op: // domain 0's
		c.Result = -xenabi.XEN_EPERM
	default: // vm_assist, physdev_op, argo_op, xenpmu_op ... among them
		c.Result = -xenabi.XEN_ENOSYS
	}
	return Continue
}

// get copies in the structure that the caller's ptr points to.
func get[T any](c *Call, ptr uint64, v *T) bool { return c.read(ptr, xenabi.Bytes(v)) }

// put copies v out to the caller's ptr.
func put[T any](c *Call, ptr uint64, v *T) bool { return c.write(ptr, xenabi.Bytes(v)) }

func (c *Call) translate() bool {
	if c.walks == 0 {
		c.walks = -1
		if c.Paging != nil {
			if p, err := c.Paging(); err == nil {
				c.paging, c.walks = p, 1
			}
		}
	}
	return c.walks > 0
}

func (c *Call) read(ptr uint64, b []byte) bool {
	return c.translate() && c.mem.ReadLinear(c.paging, ptr, b) == nil
}

func (c *Call) write(ptr uint64, b []byte) bool {
	return c.translate() && c.mem.WriteLinear(c.paging, ptr, b) == nil
}

// self reports whether a guest's domid means itself, the only domain it may
// do anything to.
func (d *Domain) self(domid uint16) bool {
	return domid == xenabi.DOMID_SELF || domid == d.cfg.Domid
}

// wrongDomain is the errno for another domain than the caller's own.
func wrongDomain(domid uint16) int64 {
	if domid >= xenabi.DOMID_FIRST_RESERVED {
		return -xenabi.XEN_ESRCH
	}
	return -xenabi.XEN_EPERM
}
