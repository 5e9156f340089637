package xen

import (
	"github.com/hxen-project/hxen/hv/guestmem"
	"github.com/hxen-project/hxen/hv/xenabi"
)

// features are what a PVH guest may rely on (XENFEAT_, features.h). hvm_pirqs
// stays clear: it would draw in physdev_op; so does dom0.
const features = 1<<xenabi.XENFEAT_writable_page_tables | 1<<xenabi.XENFEAT_auto_translated_physmap |
	1<<xenabi.XENFEAT_supervisor_mode_kernel | 1<<xenabi.XENFEAT_pae_pgdir_above_4gb |
	1<<xenabi.XENFEAT_hvm_callback_vector | 1<<xenabi.XENFEAT_hvm_safe_pvclock

// xenVersion is xen_version(cmd, ptr), version.h. What is returned in a buffer
// fills all of it: some guests look for garbage behind strings.
func (d *Domain) xenVersion(c *Call) int64 {
	out := func(size int, text string) int64 {
		b := make([]byte, size)
		copy(b[:size-1], text)
		if !c.write(c.Args[1], b) {
			return -xenabi.XEN_EFAULT
		}
		return 0
	}
	switch c.Args[0] {
	case xenabi.XENVER_version:
		return Version
	case xenabi.XENVER_extraversion:
		return out(16, ".0-hxen")
	case xenabi.XENVER_compile_info:
		return out(len(xenabi.Bytes(&xenabi.CompileInfo{})), "")
	case xenabi.XENVER_capabilities:
		return out(1024, "xen-3.0-x86_64 hvm-3.0-x86_32 hvm-3.0-x86_32p hvm-3.0-x86_64 ")
	case xenabi.XENVER_changeset:
		return out(64, "")
	case xenabi.XENVER_platform_parameters:
		if c.Long {
			return out(8, "")
		}
		return out(4, "")
	case xenabi.XENVER_get_features:
		var f xenabi.FeatureInfo
		if !get(c, c.Args[1], &f) {
			return -xenabi.XEN_EFAULT
		}
		f.Submap = 0
		if f.SubmapIdx == 0 {
			f.Submap = features
		}
		if !put(c, c.Args[1], &f) {
			return -xenabi.XEN_EFAULT
		}
		return 0
	case xenabi.XENVER_pagesize:
		return guestmem.PageSize
	case xenabi.XENVER_guest_handle:
		if !c.write(c.Args[1], d.cfg.UUID[:]) {
			return -xenabi.XEN_EFAULT
		}
		return 0
	case xenabi.XENVER_commandline:
		return -xenabi.XEN_EPERM
	case xenabi.XENVER_build_id:
		return -xenabi.XEN_ENODATA
	}
	return -xenabi.XEN_ENOSYS
}

// maxConsoleWrite bounds one CONSOLEIO_write; the rest is dropped.
const maxConsoleWrite = 64 << 10

// consoleIO is console_io(cmd, count, ptr), xen.h: the guest's early text.
func (d *Domain) consoleIO(c *Call) int64 {
	switch c.Args[0] {
	case xenabi.CONSOLEIO_read:
		return 0
	case xenabi.CONSOLEIO_write:
	default:
		return -xenabi.XEN_ENOSYS
	}
	buf := make([]byte, min(c.Args[1], guestmem.PageSize))
	for at, n := uint64(0), min(c.Args[1], maxConsoleWrite); at < n; {
		piece := buf[:min(n-at, uint64(len(buf)))]
		if !c.read(c.Args[2]+at, piece) {
			return -xenabi.XEN_EFAULT
		}
		d.cfg.Console(piece)
		at += uint64(len(piece))
	}
	return 0
}

// maxMulticall bounds the entries of one multicall, which keeps its vCPU from
// being stopped meanwhile.
const maxMulticall = 512

// multicall is multicall(list, entries), xen.h. An entry that parks, yields or
// stops ends the list after it is answered; the rest waits for nobody.
func (d *Domain) multicall(c *Call) Action {
	if c.Args[1] > maxMulticall {
		c.Result = -xenabi.XEN_E2BIG
		return Continue
	}
	list, n := c.Args[0], c.Args[1]
	c.Result = 0
	for ; n > 0; n-- {
		action, next, ok := d.multicallEntry(c, list)
		if !ok {
			c.Result = -xenabi.XEN_EFAULT
			return Continue
		}
		c.Result = 0
		if action != Continue {
			return action
		}
		list = next
	}
	return Continue
}

func (d *Domain) multicallEntry(c *Call, at uint64) (action Action, next uint64, ok bool) {
	var e xenabi.MulticallEntry
	var e32 xenabi.MulticallEntry32
	if c.Long {
		ok, next = get(c, at, &e), at+uint64(len(xenabi.Bytes(&e)))
	} else {
		ok, next = get(c, at, &e32), at+uint64(len(xenabi.Bytes(&e32)))
		e.Op = uint64(e32.Op)
		for i, a := range e32.Args {
			e.Args[i] = uint64(a)
		}
	}
	if !ok {
		return Continue, 0, false
	}
	c.Nr, c.Args = e.Op, e.Args
	if e.Op == xenabi.HYPERVISOR_multicall {
		c.Result = -xenabi.XEN_EINVAL
	} else {
		action = d.dispatch(c)
	}
	if c.Long {
		e.Result = uint64(c.Result)
		return action, next, put(c, at, &e)
	}
	e32.Result = uint32(c.Result)
	return action, next, put(c, at, &e32)
}
