package accel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"structs"

	"golang.org/x/sys/unix"
)

func cannotEver() string { return "" }

// linux/kvm.h; testdata/kvm.txt holds the numbers that a C compiler printed.
const (
	KVM_GET_API_VERSION        = 0xae00
	KVM_CREATE_VM              = 0xae01
	KVM_GET_VCPU_MMAP_SIZE     = 0xae04
	KVM_GET_SUPPORTED_CPUID    = 0xc008ae05
	KVM_CREATE_VCPU            = 0xae41
	KVM_SET_USER_MEMORY_REGION = 0x4020ae46
	KVM_SET_TSS_ADDR           = 0xae47
	KVM_RUN                    = 0xae80
	KVM_SET_REGS               = 0x4090ae82
	KVM_GET_SREGS              = 0x8138ae83
	KVM_SET_SREGS              = 0x4138ae84
	KVM_SET_CPUID2             = 0x4008ae90

	KVM_EXIT_IO             = 2
	KVM_EXIT_HLT            = 5
	KVM_EXIT_SHUTDOWN       = 8
	KVM_EXIT_FAIL_ENTRY     = 9
	KVM_EXIT_INTERNAL_ERROR = 17

	KVM_EXIT_IO_OUT = 1
)

// kvmAPI is the only version there has been since 2.6.22
// (Documentation/virt/kvm/api.rst, 4.1).
const kvmAPI = 12

// regs is struct kvm_regs, asm/kvm.h.
type regs struct {
	_                                              structs.HostLayout
	rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp         uint64
	r8, r9, r10, r11, r12, r13, r14, r15, rip, flg uint64
}

// segment is struct kvm_segment, asm/kvm.h.
type segment struct {
	_                             structs.HostLayout
	base                          uint64
	limit                         uint32
	selector                      uint16
	typ, present, dpl, db         uint8
	s, l, g, avl, unusable, spare uint8
}

// dtable is struct kvm_dtable, asm/kvm.h.
type dtable struct {
	_     structs.HostLayout
	base  uint64
	limit uint16
	_     [3]uint16
}

// sregs is struct kvm_sregs, asm/kvm.h.
type sregs struct {
	_                              structs.HostLayout
	cs, ds, es, fs, gs, ss, tr, ld segment
	gdt, idt                       dtable
	cr0, cr2, cr3, cr4, cr8        uint64
	efer, apicBase                 uint64
	interruptBitmap                [4]uint64
}

// memoryRegion is struct kvm_userspace_memory_region, linux/kvm.h.
type memoryRegion struct {
	_              structs.HostLayout
	slot, flags    uint32
	guest, size    uint64
	userspaceStart uint64
}

// cpuid is struct kvm_cpuid2 with room for 256 struct kvm_cpuid_entry2, as QEMU
// would pass it on: it is taken from KVM and given back unread.
type cpuid struct {
	_       structs.HostLayout
	nent    uint32
	_       uint32
	entries [256][40]byte
}

// runArea is the start of struct kvm_run with the io member of its union.
type runArea struct {
	_          structs.HostLayout
	_          [8]byte
	exitReason uint32
	_          [20]byte
	direction  uint8
	size       uint8
	port       uint16
	count      uint32
	dataOffset uint64
}

// Guest memory: four pages of use, and page tables that map the first 2 MiB.
const (
	memSize  = 0x8000
	realAt   = 0x1000
	longAt   = 0x2000
	dataAt   = 0x3000 // longCode writes here
	pml4At   = 0x4000
	pdptAt   = 0x5000
	pdAt     = 0x6000
	outPort  = 0x10
	tssAt    = 0xfffbd000 // three pages that Intel processors need; any place without memory does
	longSum  = 1000 * 1001 / 2
	pagePW   = 3    // present, writable: SDM 3A 4.5
	pageHuge = 0x80 // a 2 MiB page
)

// realCode is real mode: mov $'x',%al; out %al,$0x10; hlt.
var realCode = []byte{0xb0, 'x', 0xe6, outPort, 0xf4}

// longCode adds 1000 + 999 + ... + 1 in 64-bit mode, every number through memory
// and the SSE2 registers: what runs guests by emulating a few instructions does
// not get through it.
var longCode = []byte{
	0x66, 0x0f, 0xef, 0xc0, // pxor %xmm0,%xmm0
	0xbf, dataAt & 0xff, dataAt >> 8, 0, 0, // mov $dataAt,%edi
	0xb9, 0xe8, 0x03, 0, 0, // mov $1000,%ecx
	0x89, 0x0f, // again: mov %ecx,(%rdi)
	0x89, 0x4f, 0x04, // mov %ecx,4(%rdi)
	0xf3, 0x0f, 0x7e, 0x0f, // movq (%rdi),%xmm1
	0x66, 0x0f, 0xfe, 0xc1, // paddd %xmm1,%xmm0
	0xff, 0xc9, // dec %ecx
	0x75, 0xef, // jnz again
	0x66, 0x0f, 0x7e, 0xc0, // movd %xmm0,%eax
	0xe7, outPort, // out %eax,$0x10
	0xf4, // hlt
}

// guest is a virtual machine of one processor and 32 KiB.
type guest struct {
	mem  []byte
	area []byte // the vCPU's struct kvm_run and what follows it
	vcpu int
}

// runGuest makes a machine, runs realCode and longCode in it and looks at their
// answers. It is called in the child only, whose end frees everything.
func runGuest(stage func(string)) error {
	stage("creating a machine")
	g, err := newGuest()
	if err != nil {
		return err
	}
	var s sregs
	if err := ioctlPtr(g.vcpu, KVM_GET_SREGS, &s); err != nil {
		return fmt.Errorf("KVM_GET_SREGS: %w", err)
	}
	stage("starting 16-bit code")
	copy(g.mem[realAt:], realCode)
	s.cs.base, s.cs.selector = 0, 0
	if err := g.expect(s, realAt, 1, 'x'); err != nil {
		return fmt.Errorf("16-bit code: %w", err)
	}
	stage("starting 64-bit code")
	copy(g.mem[longAt:], longCode)
	binary.LittleEndian.PutUint64(g.mem[pml4At:], pdptAt|pagePW)
	binary.LittleEndian.PutUint64(g.mem[pdptAt:], pdAt|pagePW)
	binary.LittleEndian.PutUint64(g.mem[pdAt:], pagePW|pageHuge)
	if err := g.expect(longMode(s), longAt, 4, longSum); err != nil {
		return fmt.Errorf("64-bit code: %w", err)
	}
	return nil
}

func newGuest() (*guest, error) {
	kvm, err := unix.Open(device, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", device, err)
	}
	v, err := ioctl(kvm, KVM_GET_API_VERSION, 0)
	if err != nil {
		return nil, fmt.Errorf("KVM_GET_API_VERSION: %w", err)
	}
	if v != kvmAPI {
		return nil, fmt.Errorf("it speaks API version %d, not %d", v, kvmAPI)
	}
	vm, err := ioctl(kvm, KVM_CREATE_VM, 0)
	if err != nil {
		return nil, fmt.Errorf("KVM_CREATE_VM: %w", err)
	}
	if _, err := ioctl(vm, KVM_SET_TSS_ADDR, tssAt); err != nil {
		return nil, fmt.Errorf("KVM_SET_TSS_ADDR: %w", err)
	}
	g := &guest{}
	g.mem, err = unix.Mmap(-1, 0, memSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, fmt.Errorf("guest memory: %w", err)
	}
	if err := ioctlPtr(vm, KVM_SET_USER_MEMORY_REGION, &memoryRegion{size: memSize, userspaceStart: address(g.mem)}); err != nil {
		return nil, fmt.Errorf("KVM_SET_USER_MEMORY_REGION: %w", err)
	}
	if g.vcpu, err = ioctl(vm, KVM_CREATE_VCPU, 0); err != nil {
		return nil, fmt.Errorf("KVM_CREATE_VCPU: %w", err)
	}
	ids := &cpuid{nent: 256}
	if err := ioctlPtr(kvm, KVM_GET_SUPPORTED_CPUID, ids); err != nil {
		return nil, fmt.Errorf("KVM_GET_SUPPORTED_CPUID: %w", err)
	}
	if err := ioctlPtr(g.vcpu, KVM_SET_CPUID2, ids); err != nil {
		return nil, fmt.Errorf("KVM_SET_CPUID2: %w", err)
	}
	size, err := ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0)
	if err != nil {
		return nil, fmt.Errorf("KVM_GET_VCPU_MMAP_SIZE: %w", err)
	}
	g.area, err = unix.Mmap(g.vcpu, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map the processor: %w", err)
	}
	if len(g.area) < os.Getpagesize() {
		return nil, fmt.Errorf("the processor's page has %d bytes", len(g.area))
	}
	return g, nil
}

// longMode is the state of a processor in 64-bit mode over the page tables at
// pml4At: SDM 3A 10.8.5 and, for CR4.OSFXSR, 2.5.
func longMode(s sregs) sregs {
	const (
		cr0PE, cr0MP, cr0ET, cr0NE, cr0WP, cr0PG = 1, 1 << 1, 1 << 4, 1 << 5, 1 << 16, 1 << 31
		cr4PAE, cr4OSFXSR, cr4OSXMMEXCPT         = 1 << 5, 1 << 9, 1 << 10
		eferLME, eferLMA                         = 1 << 8, 1 << 10
	)
	s.cr0 = cr0PE | cr0MP | cr0ET | cr0NE | cr0WP | cr0PG
	s.cr3 = pml4At
	s.cr4 = cr4PAE | cr4OSFXSR | cr4OSXMMEXCPT
	s.efer = eferLME | eferLMA
	flat := segment{limit: 0xffffffff, selector: 16, typ: 3, present: 1, db: 1, s: 1, g: 1}
	s.ds, s.es, s.fs, s.gs, s.ss = flat, flat, flat, flat, flat
	s.cs = segment{limit: 0xffffffff, selector: 8, typ: 11, present: 1, s: 1, l: 1, g: 1}
	return s
}

// expect runs code at rip until it writes size bytes to the port and halts.
func (g *guest) expect(s sregs, rip uint64, size uint8, want uint32) error {
	if err := ioctlPtr(g.vcpu, KVM_SET_SREGS, &s); err != nil {
		return fmt.Errorf("KVM_SET_SREGS: %w", err)
	}
	if err := ioctlPtr(g.vcpu, KVM_SET_REGS, &regs{rip: rip, flg: 2}); err != nil { // bit 1 is always set
		return fmt.Errorf("KVM_SET_REGS: %w", err)
	}
	r, err := g.run()
	if err != nil {
		return err
	}
	if r.exitReason != KVM_EXIT_IO || r.direction != KVM_EXIT_IO_OUT || r.port != outPort || r.size != size || r.count != 1 {
		return fmt.Errorf("it ended in %s instead of answering", exitName(r.exitReason))
	}
	if r.dataOffset > uint64(len(g.area)-4) {
		return fmt.Errorf("its answer lies at %#x, outside of the processor's page", r.dataOffset)
	}
	got := binary.LittleEndian.Uint32(g.area[r.dataOffset:])
	if size == 1 {
		got &= 0xff
	}
	if got != want {
		return fmt.Errorf("it answered %#x instead of %#x", got, want)
	}
	if r, err = g.run(); err != nil {
		return err
	}
	if r.exitReason != KVM_EXIT_HLT {
		return fmt.Errorf("it ended in %s instead of halting", exitName(r.exitReason))
	}
	return nil
}

func exitName(reason uint32) string {
	switch reason {
	case KVM_EXIT_SHUTDOWN:
		return "a triple fault"
	case KVM_EXIT_FAIL_ENTRY:
		return "a failed entry"
	case KVM_EXIT_INTERNAL_ERROR:
		return "an emulation failure"
	}
	return fmt.Sprintf("exit %d", reason)
}

// run enters the guest until it leaves for a reason of its own.
func (g *guest) run() (runArea, error) {
	for {
		_, err := ioctl(g.vcpu, KVM_RUN, 0)
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN) {
			continue // a signal for the Go runtime
		}
		if err != nil {
			return runArea{}, fmt.Errorf("KVM_RUN: %w", err)
		}
		return readRunArea(g.area), nil
	}
}
