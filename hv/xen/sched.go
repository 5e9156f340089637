package xen

import (
	"slices"

	"github.com/hxen-project/hxen/hv/xenabi"
)

// maxPoll bounds SCHEDOP_poll's ports, as Xen does.
const maxPoll = 128

// schedOp is sched_op(cmd, ptr), sched.h.
func (d *Domain) schedOp(c *Call) Action {
	d.mu.Lock()
	action := d.schedOpLocked(c)
	d.mu.Unlock()
	if action == Stop {
		reason := uint32(c.Result) // schedOpLocked left it here
		c.Result = 0
		if reason == xenabi.SHUTDOWN_suspend {
			// The guest goes on here, saved meanwhile or not. 1 tells it that all it
			// has with Xen is as it was (Linux: "cancelled").
			c.Result, action = 1, Park
		}
		d.cfg.Shutdown(reason)
	}
	return action
}

func (d *Domain) schedOpLocked(c *Call) Action {
	v := d.vcpus[c.VCPU]
	v.up = true
	c.Result = 0
	switch ptr := c.Args[1]; c.Args[0] {
	case xenabi.SCHEDOP_yield:
		d.freshTime(v)
		return Yield
	case xenabi.SCHEDOP_block:
		if d.upcallPending(v) {
			return Continue
		}
		v.parked = true
		return Park
	case xenabi.SCHEDOP_poll:
		return d.pollOp(c, v, ptr)
	case xenabi.SCHEDOP_shutdown:
		var a xenabi.Shutdown
		if !get(c, ptr, &a) {
			c.Result = -xenabi.XEN_EFAULT
			return Continue
		}
		if a.Reason > xenabi.SHUTDOWN_MAX {
			a.Reason = xenabi.SHUTDOWN_crash
		}
		c.Result = int64(a.Reason)
		return Stop
	case xenabi.SCHEDOP_shutdown_code:
		c.Result = 0 // only recorded for who asks; the shutdown itself brings its own
	case xenabi.SCHEDOP_remote_shutdown:
		var a xenabi.RemoteShutdown
		if !get(c, ptr, &a) {
			c.Result = -xenabi.XEN_EFAULT
		} else {
			c.Result = wrongDomain(a.Domain)
		}
	case xenabi.SCHEDOP_watchdog:
		var a xenabi.Watchdog
		if !get(c, ptr, &a) {
			c.Result = -xenabi.XEN_EFAULT
		} else {
			c.Result = d.watchdogOp(a)
		}
	case xenabi.SCHEDOP_pin_override:
		c.Result = -xenabi.XEN_EPERM
	default:
		c.Result = -xenabi.XEN_ENOSYS
	}
	return Continue
}

// freshTime has the time info in the shared info page begin now. Under Xen it does
// whenever the vCPU is scheduled, and NetBSD, which leaves it there, waits for its
// system_time itself to pass, yielding (xen_delay in sys/arch/xen/xen/xen_clock.c).
// Where a vCPU has registered a place of its own it reads the TSC too, and one
// beginning for all vCPUs never lets their times differ.
func (d *Domain) freshTime(v *vcpu) {
	if v.registered {
		return
	}
	steady, tsc := d.clock, d.cfg.TSC()
	if tsc > steady.base {
		d.clock.base, d.clock.offset = tsc, steady.at(tsc)
	}
	d.writeTime(v)
	d.clock = steady
}

func (d *Domain) pollOp(c *Call, v *vcpu, ptr uint64) Action {
	a, errno := readPoll(c, ptr)
	if errno != 0 {
		c.Result = errno
		return Continue
	}
	ports := make([]uint32, a.NrPorts)
	for i := range ports {
		if !get(c, a.Ports+uint64(4*i), &ports[i]) {
			c.Result = -xenabi.XEN_EFAULT
			return Continue
		}
		if !d.validPort(uint64(ports[i])) {
			c.Result = -xenabi.XEN_EINVAL
			return Continue
		}
	}
	if slices.ContainsFunc(ports, d.pending) || d.upcallPending(v) || a.Timeout != 0 && a.Timeout <= d.now() {
		return Continue
	}
	v.parked, v.poll = true, ports
	if a.Timeout != 0 {
		d.arm(&v.pollTimer, a.Timeout, func() { d.wake(v) })
	}
	return Park
}

func readPoll(c *Call, ptr uint64) (a xenabi.Poll, errno int64) {
	if c.Long {
		if !get(c, ptr, &a) {
			return a, -xenabi.XEN_EFAULT
		}
	} else {
		var a32 xenabi.Poll32
		if !get(c, ptr, &a32) {
			return a, -xenabi.XEN_EFAULT
		}
		a.Ports, a.NrPorts, a.Timeout = uint64(a32.Ports), a32.NrPorts, a32.Timeout.Value()
	}
	if a.NrPorts > maxPoll {
		return a, -xenabi.XEN_EINVAL
	}
	return a, 0
}

// wakePollers ends the park of vCPUs that poll the port, masked or not.
func (d *Domain) wakePollers(number uint32) {
	for _, v := range d.vcpus {
		if v.parked && slices.Contains(v.poll, number) {
			d.wake(v)
		}
	}
}

// wake ends a park if there is one.
func (d *Domain) wake(v *vcpu) {
	if v.parked {
		d.endPark(v)
		v.Wake()
	}
}

func (d *Domain) endPark(v *vcpu) {
	v.parked, v.poll = false, nil
	v.pollTimer.stop()
}
