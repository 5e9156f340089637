package xen

import (
	"fmt"

	"github.com/hxen-project/hxen/hv/accel"
	"github.com/hxen-project/hxen/hv/guestmem"
	"github.com/hxen-project/hxen/hv/xenabi"
)

type portState uint8

const (
	portFree portState = iota
	portUnbound
	portInterdomain
	portVIRQ
	portIPI
)

// port is one event channel's end in the guest.
type port struct {
	state  portState
	pinned bool // store and console: the guest finds them in its parameters, again after kexec
	vcpu   int
	remote uint16
	virq   uint32
	ch     *Channel // the back end, if interdomain
}

// cut ends what is behind the port; a Channel that is still held does nothing.
func (p *port) cut() {
	if p.ch != nil {
		p.ch.bell.Close()
		p.ch = nil
	}
}

// Channel is a back end's end of an event channel.
type Channel struct {
	d    *Domain
	port uint32
	now  func() bool // may be nil
	bell accel.Bell
}

// Connect binds a back end to a port that the guest offers to domain 0. notify is
// called on a goroutine of the channel's after the guest has sent; it may still be
// on its way after Close. now, which may be nil, is called before on the vCPU's
// thread, must not wait, and reports whether that was enough.
func (d *Domain) Connect(number uint32, now func() bool, notify func()) (*Channel, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.portAt(uint64(number))
	if p == nil || p.state != portUnbound || p.remote != 0 {
		return nil, fmt.Errorf("connect event channel %d: the guest does not offer it", number)
	}
	p.state, p.ch = portInterdomain, &Channel{d, number, now, d.cfg.NewBell(notify)}
	return p.ch, nil
}

// sent tells the back end that the guest has sent.
func (ch *Channel) sent() {
	if ch.now == nil || !ch.now() {
		ch.bell.Ring()
	}
}

// NewTimer is one of the host's, for a back end.
func (d *Domain) NewTimer(f func()) accel.Timer { return d.cfg.NewTimer(f) }

// Notify raises the event in the guest; nothing happens when the guest has
// closed its end or the channel was closed.
func (ch *Channel) Notify() {
	ch.d.mu.Lock()
	defer ch.d.mu.Unlock()
	if p := &ch.d.ports[ch.port]; p.ch == ch {
		ch.d.raise(ch.port)
	}
}

// Close unbinds the back end's end; the guest's port waits for another.
func (ch *Channel) Close() {
	ch.bell.Close()
	ch.d.mu.Lock()
	defer ch.d.mu.Unlock()
	if p := &ch.d.ports[ch.port]; p.ch == ch {
		p.state, p.ch = portUnbound, nil
	}
}

// portAt returns an open or free port that exists, else nil. The pointer is
// good until the next allocPort.
func (d *Domain) portAt(number uint64) *port {
	if number == 0 || number >= uint64(len(d.ports)) {
		return nil
	}
	return &d.ports[number]
}

// validPort reports whether the number is one that the guest's bitmaps hold.
func (d *Domain) validPort(number uint64) bool {
	return number != 0 && number < uint64(d.layout.Ports)
}

func (d *Domain) allocPort(p port) (number uint32, errno int64) {
	for i := 1; i < d.layout.Ports; i++ {
		if i == len(d.ports) {
			d.ports = append(d.ports, port{})
		}
		if d.ports[i].state == portFree {
			d.ports[i] = p
			return uint32(i), 0
		}
	}
	return 0, -xenabi.XEN_ENOSPC
}

func (d *Domain) closePort(number uint64) int64 {
	p := d.portAt(number)
	if p == nil || p.state == portFree {
		return -xenabi.XEN_EINVAL
	}
	d.clearPending(uint32(number))
	if p.pinned {
		p.vcpu = 0
		return 0
	}
	if p.state == portVIRQ {
		d.vcpus[p.vcpu].virqs[p.virq] = 0
		if !perVCPU(p.virq) {
			d.vcpus[0].virqs[p.virq] = 0
		}
	}
	p.cut()
	*p = port{}
	return 0
}

// perVCPU reports which VIRQs each vCPU has of its own (xen.h).
func perVCPU(virq uint32) bool {
	switch virq {
	case xenabi.VIRQ_TIMER, xenabi.VIRQ_DEBUG, xenabi.VIRQ_XENOPROF, xenabi.VIRQ_XENPMU:
		return true
	}
	return false
}

// eventChannelOp is event_channel_op(cmd, ptr), event_channel.h.
func (d *Domain) eventChannelOp(c *Call) int64 {
	ptr := c.Args[1]
	switch c.Args[0] {
	case xenabi.EVTCHNOP_send, xenabi.EVTCHNOP_close, xenabi.EVTCHNOP_unmask:
		var a xenabi.EvtchnPort
		if !get(c, ptr, &a) {
			return -xenabi.XEN_EFAULT
		}
		switch c.Args[0] {
		case xenabi.EVTCHNOP_send:
			return d.send(c, a.Port)
		case xenabi.EVTCHNOP_close:
			return d.closePort(uint64(a.Port))
		}
		return d.unmask(a.Port)
	case xenabi.EVTCHNOP_bind_virq:
		return d.bindVIRQ(c, ptr)
	case xenabi.EVTCHNOP_bind_ipi:
		return d.bindIPI(c, ptr)
	case xenabi.EVTCHNOP_alloc_unbound:
		return d.allocUnbound(c, ptr)
	case xenabi.EVTCHNOP_bind_vcpu:
		return d.bindVCPU(c, ptr)
	case xenabi.EVTCHNOP_status:
		return d.portStatus(c, ptr)
	case xenabi.EVTCHNOP_reset:
		return d.resetPorts(c, ptr)
	case xenabi.EVTCHNOP_init_control:
		return d.initControl(c, ptr)
	case xenabi.EVTCHNOP_bind_interdomain:
		// Nobody offers ports to a guest: not domain 0, and there is no other.
		var a xenabi.EvtchnBindInterdomain
		if !get(c, ptr, &a) {
			return -xenabi.XEN_EFAULT
		}
		return -xenabi.XEN_EINVAL
	}
	return -xenabi.XEN_ENOSYS // expand_array, set_priority: FIFO only; bind_pirq: no pirqs
}

func (d *Domain) send(c *Call, number uint32) int64 {
	p := d.portAt(uint64(number))
	if p == nil {
		return -xenabi.XEN_EINVAL
	}
	switch p.state {
	case portInterdomain:
		if p.ch != nil {
			c.after = append(c.after, p.ch)
		}
		return 0
	case portIPI:
		d.raise(number)
		return 0
	case portUnbound:
		return 0 // nobody listens yet
	}
	return -xenabi.XEN_EINVAL
}

func (d *Domain) bindVIRQ(c *Call, ptr uint64) int64 {
	var a xenabi.EvtchnBindVIRQ
	if !get(c, ptr, &a) {
		return -xenabi.XEN_EFAULT
	}
	switch {
	case a.VIRQ >= xenabi.NR_VIRQS || a.VCPU != 0 && !perVCPU(a.VIRQ):
		return -xenabi.XEN_EINVAL
	case a.VCPU >= uint32(len(d.vcpus)):
		return -xenabi.XEN_ENOENT
	case d.vcpus[a.VCPU].virqs[a.VIRQ] != 0:
		return -xenabi.XEN_EEXIST // what kexec'd kernels go by
	}
	n, errno := d.allocPort(port{state: portVIRQ, vcpu: int(a.VCPU), virq: a.VIRQ})
	if errno != 0 {
		return errno
	}
	d.vcpus[a.VCPU].virqs[a.VIRQ] = n
	a.Port = n
	if !put(c, ptr, &a) {
		return -xenabi.XEN_EFAULT
	}
	return 0
}

func (d *Domain) bindIPI(c *Call, ptr uint64) int64 {
	var a xenabi.EvtchnBindIPI
	if !get(c, ptr, &a) {
		return -xenabi.XEN_EFAULT
	}
	if a.VCPU >= uint32(len(d.vcpus)) {
		return -xenabi.XEN_ENOENT
	}
	n, errno := d.allocPort(port{state: portIPI, vcpu: int(a.VCPU)})
	if errno != 0 {
		return errno
	}
	a.Port = n
	if !put(c, ptr, &a) {
		return -xenabi.XEN_EFAULT
	}
	return 0
}

func (d *Domain) allocUnbound(c *Call, ptr uint64) int64 {
	var a xenabi.EvtchnAllocUnbound
	if !get(c, ptr, &a) {
		return -xenabi.XEN_EFAULT
	}
	if !d.self(a.Dom) {
		return wrongDomain(a.Dom)
	}
	if a.RemoteDom == xenabi.DOMID_SELF {
		a.RemoteDom = d.cfg.Domid
	}
	n, errno := d.allocPort(port{state: portUnbound, remote: a.RemoteDom})
	if errno != 0 {
		return errno
	}
	a.Port = n
	if !put(c, ptr, &a) {
		return -xenabi.XEN_EFAULT
	}
	return 0
}

func (d *Domain) bindVCPU(c *Call, ptr uint64) int64 {
	var a xenabi.EvtchnBindVCPU
	if !get(c, ptr, &a) {
		return -xenabi.XEN_EFAULT
	}
	if a.VCPU >= uint32(len(d.vcpus)) {
		return -xenabi.XEN_ENOENT
	}
	p := d.portAt(uint64(a.Port))
	if p == nil {
		return -xenabi.XEN_EINVAL
	}
	switch p.state {
	case portUnbound, portInterdomain:
	case portVIRQ:
		if perVCPU(p.virq) {
			return -xenabi.XEN_EINVAL
		}
	default:
		return -xenabi.XEN_EINVAL
	}
	p.vcpu = int(a.VCPU)
	return 0
}

func (d *Domain) portStatus(c *Call, ptr uint64) int64 {
	var a xenabi.EvtchnStatus
	if !get(c, ptr, &a) {
		return -xenabi.XEN_EFAULT
	}
	if !d.self(a.Dom) {
		return wrongDomain(a.Dom)
	}
	if !d.validPort(uint64(a.Port)) {
		return -xenabi.XEN_EINVAL
	}
	a.Status, a.VCPU, a.VIRQOrDom, a.RemotePort = xenabi.EVTCHNSTAT_closed, 0, 0, 0
	if p := d.portAt(uint64(a.Port)); p != nil {
		a.VCPU = uint32(p.vcpu)
		switch p.state {
		case portUnbound:
			a.Status, a.VIRQOrDom = xenabi.EVTCHNSTAT_unbound, uint32(p.remote)
		case portInterdomain:
			a.Status, a.VIRQOrDom, a.RemotePort = xenabi.EVTCHNSTAT_interdomain, uint32(p.remote), a.Port
		case portVIRQ:
			a.Status, a.VIRQOrDom = xenabi.EVTCHNSTAT_virq, p.virq
		case portIPI:
			a.Status = xenabi.EVTCHNSTAT_ipi
		}
	}
	if !put(c, ptr, &a) {
		return -xenabi.XEN_EFAULT
	}
	return 0
}

func (d *Domain) resetPorts(c *Call, ptr uint64) int64 {
	var a xenabi.EvtchnReset
	if !get(c, ptr, &a) {
		return -xenabi.XEN_EFAULT
	}
	if !d.self(a.Dom) {
		return wrongDomain(a.Dom)
	}
	for i := range d.ports {
		if d.ports[i].state != portFree {
			d.closePort(uint64(i))
		}
	}
	return 0
}

// initControl refuses the FIFO ABI after the checks that Xen makes; Linux
// then uses the 2-level one.
func (d *Domain) initControl(c *Call, ptr uint64) int64 {
	var a xenabi.EvtchnInitControl
	if !get(c, ptr, &a) {
		return -xenabi.XEN_EFAULT
	}
	const controlBlock = 72 // sizeof(struct evtchn_fifo_control_block)
	switch {
	case a.VCPU >= uint32(len(d.vcpus)):
		return -xenabi.XEN_ENOENT
	case a.Offset > 4096-controlBlock || a.Offset&7 != 0,
		a.ControlGFN > 1<<52 || !d.cfg.Memory.Backed(a.ControlGFN*guestmem.PageSize, guestmem.PageSize):
		return -xenabi.XEN_EINVAL
	}
	return -xenabi.XEN_ENOSYS
}
