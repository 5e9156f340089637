package xen

import "github.com/hxen-project/hxen/hv/xenabi"

// minPeriod is the shortest periodic timer that Xen takes (vcpu.h).
const minPeriod = 1e6

// runstate is what VCPUOP_get_runstate_info tells: where a vCPU's time went.
type runstate struct {
	state int32
	entry uint64
	times [4]uint64
	area  area
	long  bool // the width of area's structure
}

// SetBlocked tells that a vCPU began to wait or went on, for the guest's own
// accounts of its time.
func (d *Domain) SetBlocked(id int, blocked bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	state := int32(xenabi.RUNSTATE_running)
	if blocked {
		state = xenabi.RUNSTATE_blocked
	}
	v := d.vcpus[id]
	if !blocked {
		d.endPark(v)
	}
	if v.runstate.state == state {
		return
	}
	now := d.now()
	v.runstate.times[v.runstate.state] += now - v.runstate.entry
	v.runstate.state, v.runstate.entry = state, now
	d.writeRunstate(v)
}

// bytes is struct vcpu_runstate_info in the caller's width.
func (r *runstate) bytes(long bool, now uint64) []byte {
	times := r.times
	times[r.state] += now - r.entry
	if long {
		return xenabi.Bytes(&xenabi.RunstateInfo{State: r.state, StateEntryTime: r.entry, Time: times})
	}
	out := xenabi.RunstateInfo32{State: r.state, StateEntryTime: xenabi.MakeU64(r.entry)}
	for i, t := range times {
		out.Time[i] = xenabi.MakeU64(t)
	}
	return xenabi.Bytes(&out)
}

func (d *Domain) writeRunstate(v *vcpu) {
	if v.runstate.area.set {
		_ = v.runstate.area.write(d.cfg.Memory, v.runstate.bytes(v.runstate.long, v.runstate.entry))
	}
}

// vcpuOp is vcpu_op(cmd, vcpu, ptr), vcpu.h.
func (d *Domain) vcpuOp(c *Call) int64 {
	cmd, ptr := c.Args[0], c.Args[2]
	if c.Args[1] >= uint64(len(d.vcpus)) {
		return -xenabi.XEN_ENOENT
	}
	v := d.vcpus[c.Args[1]]
	switch cmd {
	case xenabi.VCPUOP_is_up:
		if v.up {
			return 1
		}
		return 0
	case xenabi.VCPUOP_register_vcpu_info:
		return d.registerInfo(c, v, ptr)
	case xenabi.VCPUOP_get_runstate_info:
		if !c.write(ptr, v.runstate.bytes(c.Long, d.now())) {
			return -xenabi.XEN_EFAULT
		}
		return 0
	case xenabi.VCPUOP_register_runstate_memory_area:
		var a xenabi.RegisterArea
		if !get(c, ptr, &a) {
			return -xenabi.XEN_EFAULT
		}
		next := area{}
		if a.Addr != 0 && !next.place(c, a.Addr, len(v.runstate.bytes(c.Long, 0))) {
			return -xenabi.XEN_EFAULT
		}
		v.runstate.area, v.runstate.long = next, c.Long
		d.writeRunstate(v)
		return 0
	case xenabi.VCPUOP_register_vcpu_time_memory_area:
		return d.registerTimeArea(c, v, ptr)
	}
	return d.vcpuTimerOp(c, v)
}

func (d *Domain) registerTimeArea(c *Call, v *vcpu, ptr uint64) int64 {
	var a xenabi.RegisterArea
	if !get(c, ptr, &a) {
		return -xenabi.XEN_EFAULT
	}
	next := area{}
	if a.Addr != 0 && !next.place(c, a.Addr, len(xenabi.Bytes(&xenabi.VCPUTimeInfo{}))) {
		return -xenabi.XEN_EFAULT
	}
	v.timeArea = next
	d.writeTime(v)
	return 0
}

// vcpuTimerOp is the timer part of vcpu_op. Starting APs (initialise, up, down)
// is the local APIC's affair in a PVH guest, and refused here.
func (d *Domain) vcpuTimerOp(c *Call, v *vcpu) int64 {
	ptr, own := c.Args[2], v.id == c.VCPU
	switch c.Args[0] {
	case xenabi.VCPUOP_set_periodic_timer:
		var a xenabi.SetPeriodicTimer
		if !get(c, ptr, &a) {
			return -xenabi.XEN_EFAULT
		}
		if a.PeriodNS < minPeriod || a.PeriodNS > 1<<62 {
			return -xenabi.XEN_EINVAL
		}
		v.period = a.PeriodNS
		d.armPeriodic(v, d.now()+a.PeriodNS)
		return 0
	case xenabi.VCPUOP_stop_periodic_timer:
		v.periodic.stop()
		return 0
	case xenabi.VCPUOP_set_singleshot_timer:
		if !own {
			return -xenabi.XEN_EINVAL
		}
		return d.setSingleshot(c, v, ptr)
	case xenabi.VCPUOP_stop_singleshot_timer:
		if !own {
			return -xenabi.XEN_EINVAL
		}
		v.single.stop()
		return 0
	}
	return -xenabi.XEN_ENOSYS
}

func (d *Domain) setSingleshot(c *Call, v *vcpu, ptr uint64) int64 {
	var a xenabi.SetSingleshotTimer
	if c.Long {
		if !get(c, ptr, &a) {
			return -xenabi.XEN_EFAULT
		}
	} else {
		var a32 xenabi.SetSingleshotTimer32
		if !get(c, ptr, &a32) {
			return -xenabi.XEN_EFAULT
		}
		a.TimeoutAbsNS, a.Flags = a32.TimeoutAbsNS.Value(), a32.Flags
	}
	if a.Flags&xenabi.VCPU_SSHOTTMR_future != 0 && a.TimeoutAbsNS < d.now() {
		return -xenabi.XEN_ETIME
	}
	d.armSingle(v, a.TimeoutAbsNS)
	return 0
}
