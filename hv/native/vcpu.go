package native

import (
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/accel"
	"github.com/hxen-project/hxen/hv/guestmem"
	"github.com/hxen-project/hxen/hv/xen"
)

// maxPark bounds a wait: an interrupt that does not come from Xen, such as
// another processor's INIT, ends none.
const maxPark = 100 * time.Millisecond

// processor is one of a machine's processors: what serves its exits and what
// Xen knows it as. Fields without a word on them belong to its thread.
type processor struct {
	m    *Machine
	id   int
	cpu  accel.VCPU    // fixed before the machine's domain is made
	call xen.Call      // kept, as it holds on to its buffers
	wake chan struct{} // of one element: the park is over
}

func newProcessor(m *Machine, id int) *processor {
	p := &processor{m: m, id: id, wake: make(chan struct{}, 1)}
	p.call.VCPU, p.call.Paging = id, p.paging
	return p
}

// Raise and Wake are xen.VCPU.
func (p *processor) Raise(vector uint8, eoi bool) error { return p.cpu.Raise(vector, eoi) }

func (p *processor) Wake() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// thread is the processor's life. It begins in state, or at the kernel's entry if
// that is nil. made tells when there is a processor, or why not.
func (p *processor) thread(ids []accel.CPUID, state *accel.State, made chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer p.m.threads.Done()
	cpu, err := p.m.vm.NewVCPU(p.id, ids)
	if err != nil {
		p.m.running.Done()
		made <- err
		return
	}
	p.cpu = cpu
	switch {
	case state != nil:
		err = cpu.SetState(*state)
	case p.id == 0:
		err = cpu.SetRegs(entryRegs(p.m.config.Kernel.Entry, p.m.boot))
	}
	made <- err
	select {
	case <-p.m.begin:
		p.loop()
	case <-p.m.ended:
	}
	p.m.running.Done()
	<-p.m.release
	if err := cpu.Close(); err != nil {
		p.m.log.Warn("close a processor", "vcpu", p.id, "err", err)
	}
}

// loop runs the guest until the machine ends.
func (p *processor) loop() {
	for !p.m.over() {
		p.m.gate.enter(p.id)
		exit, err := p.cpu.Run(p)
		switch {
		case errors.Is(err, accel.ErrGuest):
			p.m.crash(fmt.Sprintf("processor %d: %v", p.id, err))
		case err != nil:
			p.m.end(hv.ExitFailed, fmt.Errorf("run processor %d of the guest: %w", p.id, err))
		case exit == accel.Parked:
			p.park()
		case exit == accel.Shutdown:
			p.m.crash(fmt.Sprintf("a triple fault of processor %d", p.id))
		case exit == accel.Halted:
			p.m.end(hv.ExitFailed, fmt.Errorf("run processor %d of the guest: it halted outside of the accelerator", p.id))
		}
		p.m.gate.leave()
	}
}

// park waits as the guest asked to.
func (p *processor) park() {
	p.m.domain.SetBlocked(p.id, true)
	timer := time.NewTimer(maxPark)
	select {
	case <-p.wake:
	case <-timer.C:
	case <-p.m.ended:
	}
	timer.Stop()
	p.m.domain.SetBlocked(p.id, false)
}

// PIO, Hypercall, MSR and LongMode are accel.Handler. There are no devices at
// ports but the switches that ACPI tells of.
func (p *processor) PIO(port uint16, data []byte, write bool) {
	if write {
		switch {
		case port == portSleepControl && data[0]&SleepEnable != 0:
			p.m.end(hv.ExitPoweroff, nil)
		case port == portReset && data[0] == resetValue:
			p.m.end(hv.ExitReboot, nil)
		}
		return
	}
	for i := range data {
		data[i] = 0xff
	}
	switch port {
	case portPIT, // Linux would read a counter of all ones a hundred thousand times
		portSleepStatus:
		clear(data)
	}
}

func (p *processor) Hypercall(h *accel.Hypercall) (park bool) {
	c := &p.call
	c.Nr, c.Long, c.CPL = h.Number, h.Long, h.CPL
	c.Args = [6]uint64{}
	copy(c.Args[:], h.Args[:])
	action := p.m.domain.Hypercall(c)
	h.Result = uint64(c.Result)
	if action == xen.Yield {
		runtime.Gosched()
	}
	return action == xen.Park
}

// paging tells Xen how the guest's addresses are translated now.
func (p *processor) paging() (guestmem.Paging, error) {
	r, err := p.cpu.Regs()
	return guestmem.Paging{CR0: r.CR0, CR3: r.CR3, CR4: r.CR4, EFER: r.EFER}, err
}

func (p *processor) MSR(index uint32, v *uint64, write bool) bool {
	if index != xen.HypercallMSR || !write {
		return false
	}
	r, err := p.cpu.Regs()
	if err != nil {
		return false
	}
	return p.m.domain.HypercallPage(*v, r.Long(), p.m.caps.Call[:]) == nil
}

// LongMode looks for a kernel that was not there at the start: one that a boot
// loader has brought.
func (p *processor) LongMode() {
	p.m.patch.Lock()
	defer p.m.patch.Unlock()
	if p.m.patched {
		return
	}
	r, err := p.cpu.Regs()
	if err != nil {
		return
	}
	at, ok := p.m.mem.Translate(guestmem.Paging{CR0: r.CR0, CR3: r.CR3, CR4: r.CR4, EFER: r.EFER}, r.RIP, false)
	if !ok {
		return
	}
	from := at &^ (2<<20 - 1)
	n := min(lazySpan, p.m.layout.rest(from))
	p.m.patched = patchRange(p.m.mem, []guestmem.Range{{GPA: from, N: n}}, p.m.caps.Call) == nil
}

// lazySpan is how far from where a kernel runs its text may lie.
const lazySpan = 64 << 20
