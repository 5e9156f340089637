package xen

import (
	"encoding/binary"

	"github.com/hxen-project/hxen/hv/guestmem"
	"github.com/hxen-project/hxen/hv/xenabi"
)

// legacyInfos is how many vcpu_info structures lie in shared_info
// (XEN_LEGACY_MAX_VCPUS, arch-x86/xen.h).
const legacyInfos = 32

// limboPages hold shared_info and the vcpu_info of every vCPU.
const limboPages = 1 + (MaxVCPUs*xenabi.VCPUInfoSize+guestmem.PageSize-1)/guestmem.PageSize

// makeLimbo makes the pages that stand for shared_info and for the vcpu_info of
// later vCPUs until the guest has placed them: back ends may raise events
// before the guest has run its first instruction.
func (d *Domain) makeLimbo() error {
	d.limbo = guestmem.New(guestmem.Config{})
	if err := d.limbo.Add(0, guestmem.Host(limboPages)); err != nil {
		return err
	}
	d.shared, _ = d.limbo.Page(0)
	return nil
}

// unplacedInfo is where vcpu_info is before VCPUOP_register_vcpu_info.
func (d *Domain) unplacedInfo(id int) place {
	if id < legacyInfos {
		return place{d.shared, d.layout.VCPUInfo + id*xenabi.VCPUInfoSize}
	}
	at := id * xenabi.VCPUInfoSize
	page, _ := d.limbo.Page(uint64(1 + at/guestmem.PageSize))
	return place{page, at % guestmem.PageSize}
}

// moveShared puts shared_info at page with its contents: pending events,
// masks and times survive the hand-over from a boot loader to a kernel.
func (d *Domain) moveShared(page guestmem.Page) {
	if page.GFN() == d.shared.GFN() && page.In(d.cfg.Memory) == d.shared.In(d.cfg.Memory) {
		return
	}
	copyPage(page, d.shared)
	d.shared = page
	for _, v := range d.vcpus {
		if !v.registered {
			v.info = d.unplacedInfo(v.id)
		}
	}
	d.writeTimes()
}

func copyPage(to, from guestmem.Page) {
	var b [guestmem.PageSize]byte
	_ = from.Read(0, b[:])
	_ = to.Write(0, b[:])
}

// latch sets the guest's width, a property of the domain (Xen's
// hvm_latch_shinfo_size). When it flips, open ports keep their state at its new
// places.
func (d *Domain) latch(long bool) {
	next := xenabi.SharedInfo32
	if long {
		next = xenabi.SharedInfo64
	}
	if next == d.layout {
		return
	}
	type state struct{ pending, mask bool }
	states := make([]state, len(d.ports))
	for i := range states {
		if d.validPort(uint64(i)) {
			off, bit := d.bit(d.layout.EvtchnMask, uint32(i))
			w, _ := d.shared.Load64(off)
			states[i] = state{d.pending(uint32(i)), w&bit != 0}
		}
	}
	old := d.layout
	_ = d.shared.Write(old.EvtchnPending, make([]byte, max(old.WCSecHi, next.WCSecHi)+4-old.EvtchnPending))
	for _, v := range d.vcpus {
		_ = v.info.page.Write(v.info.off, make([]byte, xenabi.VCPUTimeOffset))
	}
	d.layout = next
	for i, s := range states {
		if !d.validPort(uint64(i)) || d.ports[i].state == portFree {
			continue
		}
		if s.mask {
			off, bit := d.bit(next.EvtchnMask, uint32(i))
			_, _ = d.shared.Or64(off, bit)
		}
		if s.pending {
			d.raise(uint32(i))
		}
	}
	d.writeTimes()
}

// writeTimes fills the wall clock and every vCPU's time info.
func (d *Domain) writeTimes() {
	var b [8]byte
	secs := uint64(d.wall.Unix())
	binary.LittleEndian.PutUint32(b[:], uint32(secs))
	binary.LittleEndian.PutUint32(b[4:], uint32(d.wall.Nanosecond()))
	version, _ := d.shared.Load32(d.layout.WCVersion)
	_ = d.shared.Store32(d.layout.WCVersion, version|1)
	_ = d.shared.Write(d.layout.WCSec, b[:]) // wc_nsec follows
	_ = d.shared.Store32(d.layout.WCSecHi, uint32(secs>>32))
	_ = d.shared.Store32(d.layout.WCVersion, (version|1)+1)
	for _, v := range d.vcpus {
		d.writeTime(v)
	}
}

// registerInfo is VCPUOP_register_vcpu_info: the old contents move, and what
// was pending is told again. Xen instead marks all events pending and injects,
// which a local APIC that is still off would lose for good.
func (d *Domain) registerInfo(c *Call, v *vcpu, ptr uint64) int64 {
	var a xenabi.RegisterVCPUInfo
	if !get(c, ptr, &a) {
		return -xenabi.XEN_EFAULT
	}
	if v.registered || a.Offset > guestmem.PageSize-xenabi.VCPUInfoSize || a.Offset%8 != 0 {
		return -xenabi.XEN_EINVAL
	}
	page, err := d.cfg.Memory.Page(a.MFN)
	if err != nil {
		return -xenabi.XEN_EINVAL
	}
	var b [xenabi.VCPUInfoSize]byte
	_ = v.info.page.Read(v.info.off, b[:])
	_ = page.Write(int(a.Offset), b[:])
	v.info, v.registered = place{page, int(a.Offset)}, true
	d.writeTime(v)
	d.injectPending(v)
	return 0
}
