package xen

import (
	"math/bits"
	"time"

	"github.com/hxen-project/hxen/hv/accel"
	"github.com/hxen-project/hxen/hv/guestmem"
	"github.com/hxen-project/hxen/hv/xenabi"
)

// clock computes system time from the guest's TSC exactly as guests do from
// struct vcpu_time_info (xen.h), so that both mean the same instant. The host's
// own clocks are steered and drift from it by seconds a day.
type clock struct {
	base   uint64 // the TSC at which system time was offset
	offset uint64 // ns
	mul    uint32
	shift  int8
}

// newClock begins system time 0 at tsc.
func newClock(tsc, hz uint64) clock {
	c := clock{base: tsc}
	c.mul, c.shift = scale(hz)
	return c
}

// scale finds mul and shift with ns = (ticks << shift) * mul >> 32, mul as
// large as it gets in 32 bits, rounded down so that time never runs ahead
// (set_time_scale in Xen's arch/x86/time.c, which loses the bits shifted out).
func scale(hz uint64) (mul uint32, shift int8) {
	for hz > 2e9<<-shift {
		shift--
	}
	for shift >= 0 && hz<<shift <= 1e9 {
		shift++
	}
	hi, lo := bits.Mul64(1e9, 1<<(32-shift))
	q, _ := bits.Div64(hi, lo, hz)
	return uint32(min(q, 1<<32-1)), shift
}

// at is the system time in ns at a TSC value; before the base it stands still.
func (c clock) at(tsc uint64) uint64 {
	if tsc < c.base {
		return c.offset
	}
	d := tsc - c.base
	if c.shift < 0 {
		d >>= -c.shift
	} else {
		d <<= c.shift
	}
	hi, lo := bits.Mul64(d, uint64(c.mul))
	return c.offset + hi<<32 + lo>>32
}

// now is the system time; Domain.mu is held.
func (d *Domain) now() uint64 { return d.clock.at(d.cfg.TSC()) }

// Now is the guest's system time in ns.
func (d *Domain) Now() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.now()
}

// Resync is for after the guest's TSC has jumped, and after the host has slept or
// its date was set: timers wait for what is left of their time, as those of the
// host stand still in its sleep, and the guest finds the host's time of day.
func (d *Domain) Resync() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.readWall()
	d.writeTimes()
	for _, v := range d.vcpus {
		for _, a := range []*alarm{&v.single, &v.periodic, &v.pollTimer} {
			if a.f != nil {
				d.arm(a, a.deadline, a.f)
			}
		}
	}
}

// readWall learns the time of day at system time 0: both clocks are read several
// times, and the closest pair counts, as a busy host may hold us up in between.
func (d *Domain) readWall() {
	best := ^uint64(0)
	for range 8 {
		before, wall, after := d.now(), d.cfg.Wallclock(), d.now()
		if after-before < best {
			best, d.wall = after-before, wall.Add(-time.Duration(before+(after-before)/2))
		}
	}
}

// timeInfo is what each vCPU's time info says; all vCPUs have one TSC.
func (d *Domain) timeInfo(version uint32) xenabi.VCPUTimeInfo {
	const stable = 1 << 0 // XEN_PVCLOCK_TSC_STABLE_BIT
	return xenabi.VCPUTimeInfo{Version: version, TSCTimestamp: d.clock.base, SystemTime: d.clock.offset,
		TSCToSystemMul: d.clock.mul, TSCShift: d.clock.shift, Flags: stable}
}

// writeTime fills a vCPU's time info at both its places.
func (d *Domain) writeTime(v *vcpu) {
	_ = writeVersioned(d, func(b []byte) error { return v.info.page.Write(v.info.off+xenabi.VCPUTimeOffset, b) },
		func(b []byte) error { return v.info.page.Read(v.info.off+xenabi.VCPUTimeOffset, b) })
	if v.timeArea.set {
		_ = writeVersioned(d, func(b []byte) error { return v.timeArea.write(d.cfg.Memory, b) },
			func(b []byte) error { return v.timeArea.read(d.cfg.Memory, b) })
	}
}

// writeVersioned writes a time info under an odd version, which keeps readers
// out, and then the next even one.
func writeVersioned(d *Domain, write, read func([]byte) error) error {
	var version [4]byte
	if err := read(version[:]); err != nil {
		return err
	}
	odd := (uint32(version[0]) | uint32(version[1])<<8 | uint32(version[2])<<16 | uint32(version[3])<<24) | 1
	info := d.timeInfo(odd)
	if err := write(xenabi.Bytes(&odd)); err != nil {
		return err
	}
	if err := write(xenabi.Bytes(&info)); err != nil {
		return err
	}
	even := odd + 1
	return write(xenabi.Bytes(&even))
}

// area is a structure of the guest's, registered by linear address and
// translated once, which may lie across two pages.
type area struct {
	set   bool
	gpa   [2]uint64
	first int // bytes at gpa[0]
}

// place translates size bytes at the caller's linear address.
func (a *area) place(c *Call, linear uint64, size int) bool {
	if !c.translate() {
		return false
	}
	first := min(size, guestmem.PageSize-int(linear%guestmem.PageSize))
	var ok bool
	if a.gpa[0], ok = c.mem.Translate(c.paging, linear, true); !ok || !c.mem.Backed(a.gpa[0], uint64(first)) {
		return false
	}
	if rest := size - first; rest > 0 {
		if a.gpa[1], ok = c.mem.Translate(c.paging, linear+uint64(first), true); !ok || !c.mem.Backed(a.gpa[1], uint64(rest)) {
			return false
		}
	}
	a.set, a.first = true, first
	return true
}

func (a *area) write(m *guestmem.Memory, b []byte) error {
	n := min(len(b), a.first)
	if err := m.Write(a.gpa[0], b[:n]); err != nil {
		return err
	}
	return m.Write(a.gpa[1], b[n:])
}

func (a *area) read(m *guestmem.Memory, b []byte) error {
	n := min(len(b), a.first)
	if err := m.Read(a.gpa[0], b[:n]); err != nil {
		return err
	}
	return m.Read(a.gpa[1], b[n:])
}

// alarm is one timer of a vCPU; Domain.mu guards it.
type alarm struct {
	timer    accel.Timer // nil: it was never armed
	deadline uint64
	f        func() // nil: not armed
}

func (a *alarm) stop() {
	if a.f != nil {
		a.f = nil
		a.timer.Stop()
	}
}

func (a *alarm) close() {
	a.f = nil
	if a.timer != nil {
		a.timer.Close()
		a.timer = nil
	}
}

// longestSleep keeps far deadlines within what a Duration holds.
const longestSleep = uint64(time.Hour)

// arm has f run, locked, when system time reaches deadline, at once if it has.
func (d *Domain) arm(a *alarm, deadline uint64, f func()) {
	if d.closed {
		return
	}
	now := d.now()
	if deadline <= now {
		a.stop()
		f()
		return
	}
	a.deadline, a.f = deadline, f
	if a.timer == nil {
		a.timer = d.cfg.NewTimer(func() { d.expire(a) })
	}
	a.timer.Set(time.Duration(min(deadline-now, longestSleep)))
}

// expire is for an alarm whose timer was due, which may have been for an earlier
// deadline, or early by the guest's clock.
func (d *Domain) expire(a *alarm) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if a.f == nil || d.closed {
		return
	}
	if now := d.now(); now < a.deadline {
		a.timer.Set(time.Duration(min(a.deadline-now, longestSleep)))
		return
	}
	f := a.f
	a.f = nil
	f()
}

// setTimerOp is set_timer_op(timeout), xen.h: the calling vCPU's single shot.
func (d *Domain) setTimerOp(c *Call) int64 {
	timeout := c.Args[0]
	if !c.Long {
		timeout |= c.Args[1] << 32
	}
	v := d.vcpus[c.VCPU]
	if timeout == 0 {
		v.single.stop()
	} else {
		d.armSingle(v, timeout)
	}
	return 0
}

func (d *Domain) armSingle(v *vcpu, deadline uint64) {
	d.arm(&v.single, deadline, func() { d.tick(v) })
}

// tick raises the vCPU's VIRQ_TIMER if it has bound one.
func (d *Domain) tick(v *vcpu) {
	if p := v.virqs[xenabi.VIRQ_TIMER]; p != 0 {
		d.raise(p)
	}
}

// armPeriodic ticks at multiples of the period; ticks that were missed while
// the host was busy come as one.
func (d *Domain) armPeriodic(v *vcpu, deadline uint64) {
	d.arm(&v.periodic, deadline, func() {
		d.tick(v)
		late := d.now() - deadline
		d.armPeriodic(v, deadline+v.period*(1+late/v.period))
	})
}
