// Package native is the engine for guests of type pvh: it unpacks and loads
// their kernels, describes the machine to them, and runs their processors over
// the host's hypervisor as Xen would.
//
// It does not know which hypervisor that is (hv/accel is its port to it), what
// Xen's calls mean (hv/xen), or where files and sockets lie.
package native

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/accel"
	"github.com/hxen-project/hxen/hv/backend/console"
	"github.com/hxen-project/hxen/hv/guestmem"
	"github.com/hxen-project/hxen/hv/xen"
	"github.com/hxen-project/hxen/hv/xenabi"
	"github.com/hxen-project/hxen/hv/xenstore"
)

// domid is the guest's: it is alone with us, domain 0.
const domid = 1

// Config describes a machine and what it starts with.
type Config struct {
	UUID   [16]byte
	Name   string
	VCPUs  int
	Memory uint64 // bytes of RAM, a multiple of 4096

	KernelFile io.ReaderAt // with Kernel, as OpenKernel gives them; free after Start
	Kernel     *Kernel
	Initrd     *Image // nil: none; free after Start
	Cmdline    string

	Devices []Device // what the guest finds on its XenBus; they outlive the machine

	// Outside, if not nil, tells what a saved guest depends on beside its memory.
	Outside func() (outside, error)

	Hold bool // the processors stand still until Resume

	// Ready, if not nil, is called when all that the machine needs has been made,
	// before the guest's first instruction; its error ends the start.
	Ready func() error

	// Saved, if not nil, is where the guest goes on instead of starting the kernel,
	// for which the above may be missing then; free after Start.
	Saved    *Saved
	Progress func(done, total int64) // of loading Saved, in bytes; may be nil

	// Slept, if not nil, tells how long the host has slept since it started.
	Slept func() time.Duration

	Log *slog.Logger
	// OnCrash and OnWatchdog are the Spec's, and Work a folder for the memory that
	// they may have written into a file.
	OnCrash, OnWatchdog, Work string
	Stopped                   func() // told when a policy has the guest stand still; may be nil

	// Notice, if not nil, is told in a sentence what went wrong in the guest. It
	// must not wait.
	Notice func(text string)
}

// Machine is one running guest. Its methods may be called from any goroutine.
type Machine struct {
	config  Config
	log     *slog.Logger
	layout  layout
	boot    uint64 // where the start info is; 0: it was saved, and is started no more
	vm      accel.VM
	caps    accel.Caps
	mem     *guestmem.Memory
	ram     accel.RAM // all of the layout's
	special accel.RAM // what lies at specialAt
	hyp     accel.Hypervisor

	from        *mapped       // nil: memory is zero at first
	cpuid       []accel.CPUID // what the processors' leaves are made from
	incarnation uint32        // how often the guest was restored, and one

	cpus    []*processor
	domain  *xen.Domain
	console *console.Console
	client  *xenstore.Client
	ring    *xenstore.Ring

	gate    *gate
	begin   chan struct{}  // closed: processors run
	ended   chan struct{}  // closed: they shall stop
	release chan struct{}  // closed: nobody uses them any more
	gone    chan struct{}  // closed: nothing is left
	running sync.WaitGroup // processors that may run guest code
	threads sync.WaitGroup // processors that exist
	servers sync.WaitGroup // XenStore, and a Save or a plugging that is going on
	cancel  context.CancelFunc

	plugs   sync.Mutex // held while devices are added or removed; before mu
	devices []*plugged // guarded by plugs; of devices, some twice while they are replaced

	patch   sync.Mutex
	patched bool // guarded by patch; the kernel's calls reach us

	still     sync.Mutex    // held while somebody decides whether the processors run
	since     moment        // guarded by still; when the clocks were last compared
	fallen    atomic.Bool   // its end was seen, and it has not gone on since
	asked     atomic.Bool   // the guest was asked to suspend itself
	suspended chan struct{} // of one element: it has, and the gate is closed

	mu     sync.Mutex
	rams   []accel.RAM   // guarded by mu; all there are
	grown  []grown       // guarded by mu
	reason hv.ExitReason // guarded by mu; set once
	fault  error         // guarded by mu
}

// grown is memory that the guest made appear.
type grown struct {
	gpa uint64
	ram accel.RAM
}

// maxGrown is how often it can.
const maxGrown = 8

// Start builds a machine over h and lets its guest run. h stays open for the
// machine's life.
func Start(h accel.Hypervisor, c Config) (*Machine, error) {
	l, err := newLayout(c.Memory)
	if err != nil {
		return nil, err
	}
	if c.VCPUs < 1 || c.VCPUs > xen.MaxVCPUs {
		return nil, fmt.Errorf("a guest with %d processors cannot be: 1 to %d are possible", c.VCPUs, xen.MaxVCPUs)
	}
	m := &Machine{
		config: c, log: c.Log, layout: l, hyp: h, gate: newGate(c.Hold),
		begin: make(chan struct{}), ended: make(chan struct{}),
		release: make(chan struct{}), gone: make(chan struct{}),
		suspended: make(chan struct{}, 1), incarnation: 1,
	}
	err = m.build()
	if err == nil && c.Ready != nil {
		err = c.Ready()
	}
	if err != nil {
		m.end(hv.ExitFailed, err)
		m.tearDown()
		return nil, err
	}
	m.since = m.moment()
	m.domain.Still(c.Hold)
	m.config.KernelFile, m.config.Initrd, m.config.Saved, m.config.Ready = nil, nil, nil, nil
	close(m.begin)
	go m.life()
	return m, nil
}

// life looks at the clocks now and then, and takes apart what has ended.
func (m *Machine) life() {
	now := time.NewTicker(compareEvery)
	defer now.Stop()
	for {
		select {
		case <-now.C:
			m.compare()
		case <-m.ended:
			m.tearDown()
			return
		}
	}
}

func (m *Machine) build() error {
	if m.config.Saved != nil {
		return m.rebuild(m.config.Saved)
	}
	if err := m.makeVM(accel.Config{}); err != nil {
		return err
	}
	m.cpuid = m.caps.CPUID
	if err := m.makeMemory(); err != nil {
		return err
	}
	var err error
	if m.boot, err = place(m.config, m.layout, m.mem); err != nil {
		return err
	}
	if err := m.patchKernel(); err != nil {
		return err
	}
	if err := m.makeProcessors(nil); err != nil {
		return err
	}
	if m.domain, err = xen.New(m.domainConfig()); err != nil {
		return err
	}
	store := xenstore.New(xenstore.DefaultQuota)
	err = m.connect(store, func(page guestmem.Page, notify func()) (*xenstore.Ring, error) {
		return store.NewRing(domid, page, notify)
	})
	if err != nil {
		return err
	}
	if err := m.client.Introduce(m.introduction()); err != nil {
		return fmt.Errorf("tell XenStore of the guest: %w", err)
	}
	return m.attachDevices()
}

// makeVM makes what c says, for this machine's processors and hypercalls.
func (m *Machine) makeVM(c accel.Config) error {
	c.VCPUs, c.MSRs = m.config.VCPUs, []uint32{xen.HypercallMSR}
	var err error
	if m.vm, err = m.hyp.NewVM(c); err != nil {
		return fmt.Errorf("make a machine: %w", err)
	}
	m.caps = m.vm.Caps()
	if !m.caps.LAPIC {
		return fmt.Errorf("%s offers no local APIC, without which guests of type pvh cannot run", m.hyp.Name())
	}
	return nil
}

// makeMemory maps what the guest has from the start.
func (m *Machine) makeMemory() error {
	m.mem = guestmem.New(guestmem.Config{
		Grow: m.grow, MaxGrown: maxGrown,
		Reserved: []guestmem.Range{reserved()},
		Limit:    physicalLimit(m.caps.CPUID),
	})
	ram, err := m.newRAM(accel.RAMConfig{Size: m.config.Memory})
	if err != nil {
		return err
	}
	special, err := m.newRAM(accel.RAMConfig{Size: specialSize})
	if err != nil {
		return err
	}
	m.ram, m.special = ram, special
	for _, s := range m.layout.slots() {
		from, off := ram, uint64(0)
		if s.GPA == specialAt {
			from = special
		} else {
			off, _ = m.layout.offset(s.GPA, s.N)
		}
		if err := m.vm.Map(s.GPA, from, off, s.N); err != nil {
			return fmt.Errorf("map the guest's memory: %w", err)
		}
		if err := m.mem.Add(s.GPA, from.Bytes()[off:off+s.N]); err != nil {
			return err
		}
	}
	return nil
}

// newRAM makes memory that goes with the machine.
func (m *Machine) newRAM(c accel.RAMConfig) (accel.RAM, error) {
	m.from.next(&c)
	r, err := m.hyp.NewRAM(c)
	if err != nil {
		return nil, fmt.Errorf("get %d MiB of memory for the guest: %w", (c.Size+1<<20-1)>>20, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rams = append(m.rams, r)
	return r, nil
}

// grow backs addresses that the guest has chosen for grant frames and the like.
func (m *Machine) grow(gpa uint64) ([]byte, error) {
	r, err := m.newRAM(accel.RAMConfig{Size: guestmem.GrowSize, Sparse: true})
	if err != nil {
		return nil, err
	}
	for _, h := range m.layout.holes(gpa, guestmem.GrowSize) {
		if err := m.vm.Map(h.GPA, r, h.GPA-gpa, h.N); err != nil {
			return nil, err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.grown = append(m.grown, grown{gpa, r})
	return r.Bytes(), nil
}

// patchKernel has the kernel's hypercalls reach us where the host's hypervisor
// would keep them to itself.
func (m *Machine) patchKernel() error {
	if !m.caps.Patched {
		return nil
	}
	var ranges []guestmem.Range
	for _, s := range m.config.Kernel.Segments {
		if !s.Code {
			continue
		}
		ranges = append(ranges, guestmem.Range{GPA: s.Paddr, N: s.FileSize})
	}
	m.patch.Lock()
	defer m.patch.Unlock()
	err := patchRange(m.mem, ranges, m.caps.Call)
	m.patched = err == nil
	if err == errNoCalls { // it has a hypercall page, or brings the kernel that calls
		return nil
	}
	return err
}

// makeProcessors starts the threads one after the other: processor 0 sets what
// the others' counters follow. They go on in states, if there are any.
func (m *Machine) makeProcessors(states []accel.State) error {
	makeRoom(m.config.VCPUs)
	c := xen.CPUIDConfig{Domid: domid, VCPUs: m.config.VCPUs, TSCHz: m.caps.TSCHz, Incarnation: m.incarnation, Callback: m.caps.EOIExits}
	for id := range m.config.VCPUs {
		p := newProcessor(m, id)
		var state *accel.State
		if states != nil {
			state = &states[id]
		}
		made := make(chan error, 1)
		m.running.Add(1)
		m.threads.Add(1)
		go p.thread(xen.CPUID(m.cpuid, c, id), state, made)
		if err := <-made; err != nil {
			return fmt.Errorf("make processor %d of the guest: %w", id, err)
		}
		m.cpus = append(m.cpus, p)
	}
	return nil
}

// makeRoom has Go run this many threads beside those of the guest's processors.
// A thread in guest code holds one of Go's places (GOMAXPROCS); while there is
// none free, Go's monitor looks every 20 microseconds for one to take away, which
// stops the guest thousands of times a second.
func makeRoom(vcpus int) {
	if want := vcpus + 2; runtime.GOMAXPROCS(0) < want {
		runtime.GOMAXPROCS(want)
	}
}

func (m *Machine) domainConfig() xen.Config {
	vcpus := make([]xen.VCPU, len(m.cpus))
	for i, p := range m.cpus {
		vcpus[i] = p
	}
	return xen.Config{
		Domid: domid, UUID: m.config.UUID, Memory: m.mem, VCPUs: vcpus,
		E820: m.layout.e820(), RAMPages: m.config.Memory / guestmem.PageSize,
		StorePFN: storeAt / guestmem.PageSize, ConsolePFN: consoleAt / guestmem.PageSize,
		TSC: m.cpus[0].cpu.TSC, TSCHz: m.caps.TSCHz, NewTimer: m.vm.NewTimer, NewBell: m.vm.NewBell,
		Console:  func(text []byte) { m.console.Print(text) },
		Shutdown: m.shutdown,
		Discard:  m.discard,
	}
}

// discard gives RAM back that the guest has given up.
func (m *Machine) discard(gpa, n uint64) error {
	off, ok := m.layout.offset(gpa, n)
	if !ok {
		return fmt.Errorf("discard %#x bytes at %#x: this is no RAM", n, gpa)
	}
	return m.ram.Discard(off, n)
}

// shutdown is what the guest told Xen.
func (m *Machine) shutdown(reason uint32) {
	switch reason {
	case xenabi.SHUTDOWN_poweroff:
		m.end(hv.ExitPoweroff, nil)
	case xenabi.SHUTDOWN_suspend:
		m.onSuspend()
	case xenabi.SHUTDOWN_reboot:
		m.end(hv.ExitReboot, nil)
	case xenabi.SHUTDOWN_watchdog:
		m.hung()
	case xenabi.SHUTDOWN_crash:
		m.crash("its kernel panicked; the console has its last words")
	default: // what nobody has asked it for
		m.crash(fmt.Sprintf("it shut down with reason %d", reason))
	}
}

// connect makes the console and XenStore's ring, and starts to serve them.
func (m *Machine) connect(store *xenstore.Store, ring func(guestmem.Page, func()) (*xenstore.Ring, error)) error {
	page, err := m.mem.Page(consoleAt / guestmem.PageSize)
	if err != nil {
		return err
	}
	var consoleEnd, storeEnd *xen.Channel
	m.console = console.New(page, func() { consoleEnd.Notify() })
	if consoleEnd, err = m.domain.Connect(m.domain.ConsolePort(), nil, m.console.Kick); err != nil {
		return fmt.Errorf("connect the console: %w", err)
	}

	m.client = store.NewClient()
	if page, err = m.mem.Page(storeAt / guestmem.PageSize); err != nil {
		return err
	}
	m.ring, err = ring(page, func() { storeEnd.Notify() })
	if err != nil {
		return fmt.Errorf("make XenStore's ring: %w", err)
	}
	if storeEnd, err = m.domain.Connect(m.domain.StorePort(), nil, m.ring.Kick); err != nil {
		return fmt.Errorf("connect XenStore: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	m.cancel = cancel
	m.servers.Go(func() { m.ring.Serve(ctx) })
	return nil
}

func (m *Machine) introduction() xenstore.DomainConfig {
	return xenstore.DomainConfig{
		Domid: domid, Name: m.config.Name,
		UUID:      uuidText(m.config.UUID),
		MemoryKiB: m.config.Memory >> 10, VCPUs: m.config.VCPUs,
		StorePort: m.domain.StorePort(), StoreGFN: storeAt / guestmem.PageSize,
		ConsolePort: m.domain.ConsolePort(), ConsoleGFN: consoleAt / guestmem.PageSize,
	}
}

func uuidText(u [16]byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[0:4], u[4:6], u[6:8], u[8:10], u[10:16])
}

// Console is the guest's serial line. Read ends with io.EOF after the guest.
func (m *Machine) Console() io.ReadWriter { return m.console }

// Ask asks the guest to power itself off, or to restart.
func (m *Machine) Ask(reboot bool) error {
	command := "poweroff"
	if reboot {
		command = "reboot"
	}
	if err := m.client.Write(xenstore.Home(domid)+"/control/shutdown", command); err != nil {
		return fmt.Errorf("ask the guest for its %s: %w", command, err)
	}
	return nil
}

// Wait waits for the machine's end. The error is a fault of the host only.
func (m *Machine) Wait() (hv.ExitReason, error) {
	<-m.gone
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.reason, m.fault
}

// Close takes the guest's power if it has not gone yet, and waits.
func (m *Machine) Close() error {
	m.end(hv.ExitDestroyed, nil)
	_, err := m.Wait()
	return err
}
