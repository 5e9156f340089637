package xen

import (
	"encoding/binary"
	"fmt"

	"github.com/hxen-project/hxen/hv/guestmem"
	"github.com/hxen-project/hxen/hv/xenabi"
)

// hvmOp is hvm_op(cmd, ptr), hvm/hvm_op.h.
func (d *Domain) hvmOp(c *Call) int64 {
	switch c.Args[0] {
	case xenabi.HVMOP_get_param, xenabi.HVMOP_set_param:
		return d.hvmParam(c)
	case xenabi.HVMOP_set_evtchn_upcall_vector:
		var a xenabi.HVMEvtchnUpcallVector
		if !get(c, c.Args[1], &a) {
			return -xenabi.XEN_EFAULT
		}
		switch {
		case a.Vector < 16:
			return -xenabi.XEN_EINVAL
		case a.VCPU >= uint32(len(d.vcpus)):
			return -xenabi.XEN_ENOENT
		}
		v := d.vcpus[a.VCPU]
		v.vector = a.Vector
		d.injectPending(v)
		return 0
	}
	return -xenabi.XEN_ENOSYS // pagetable_dying among them: Linux then leaves its hook out
}

// hvmParam gets any parameter; a guest may set only how it is called back.
func (d *Domain) hvmParam(c *Call) int64 {
	var a xenabi.HVMParam
	if !get(c, c.Args[1], &a) {
		return -xenabi.XEN_EFAULT
	}
	switch {
	case !d.self(a.Domid):
		return wrongDomain(a.Domid)
	case a.Index >= xenabi.HVM_NR_PARAMS:
		return -xenabi.XEN_EINVAL
	case c.Args[0] == xenabi.HVMOP_get_param:
		a.Value = d.params[a.Index]
		if !put(c, c.Args[1], &a) {
			return -xenabi.XEN_EFAULT
		}
		return 0
	case a.Index != xenabi.HVM_PARAM_CALLBACK_IRQ:
		return -xenabi.XEN_EPERM
	}
	d.params[a.Index] = a.Value
	d.latch(c.Long)
	for _, v := range d.vcpus {
		d.injectPending(v)
	}
	return 0
}

// hypercallStub is the distance between the entries of a hypercall page.
const hypercallStub = 32

// HypercallPage serves the write of value to the MSR of CPUID leaf +2: it
// fills the page with "mov $n,%eax; instr; ret" for each call n, instr being
// what reaches Hypercall on this host. The bytes mean the same in both widths.
func (d *Domain) HypercallPage(value uint64, long bool, instr []byte) error {
	if value&(guestmem.PageSize-1) != 0 {
		return fmt.Errorf("make a hypercall page at %#x: there is only page 0", value)
	}
	if len(instr) > hypercallStub-6 {
		return fmt.Errorf("make a hypercall page: %d bytes are no instruction", len(instr))
	}
	page, err := d.cfg.Memory.Page(value >> guestmem.PageShift)
	if err != nil {
		return fmt.Errorf("make a hypercall page: %w", err)
	}
	var b [guestmem.PageSize]byte
	for n := range len(b) / hypercallStub {
		stub := b[n*hypercallStub:][:hypercallStub]
		for i := range stub {
			stub[i] = 0xcc
		}
		stub[0] = 0xb8
		binary.LittleEndian.PutUint32(stub[1:], uint32(n))
		stub[5+copy(stub[5:], instr)] = 0xc3
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.latch(long)
	return page.Write(0, b[:])
}
