package native

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/hxen-project/hxen/hv/accel"
	"github.com/hxen-project/hxen/hv/guestmem"
	"github.com/hxen-project/hxen/hv/xenabi"
)

// Image is a file's content for the guest, such as an initial ramdisk.
type Image struct {
	Data io.ReaderAt
	Size uint64
}

// place puts everything into memory that the kernel is started with, and returns
// where its start info is.
func place(c Config, l layout, mem *guestmem.Memory) (startInfo uint64, err error) {
	if err := checkCmdline(c.Cmdline); err != nil {
		return 0, err
	}
	initrdAt := pageUp(c.Kernel.Top)
	startInfo = initrdAt
	if c.Initrd != nil {
		startInfo = pageUp(initrdAt + min(c.Initrd.Size, l.low)) // more does not go in anyway
	}
	if startInfo > min(l.low, bootMax)-bootSize {
		startInfo = bootLow
	}
	for _, s := range c.Kernel.Segments {
		if s.Paddr < startInfo+bootSize && s.Paddr+s.MemSize > startInfo {
			return 0, fmt.Errorf("the kernel lies at %#x, where a guest finds what it is started with; it cannot run here", s.Paddr)
		}
	}
	if err := c.Kernel.Load(c.KernelFile, mem); err != nil {
		return 0, err
	}
	// Linux reads in its first 2 MiB before it writes there. Of a huge page of zeros
	// the host then makes small pages one by one, with two exits each; what was
	// written to is a huge page.
	if err := mem.Write(0, []byte{0}); err != nil {
		return 0, err
	}
	if err := placeInitrd(c, l, mem, initrdAt); err != nil {
		return 0, err
	}
	tables := ACPITables(ACPIConfig{
		Base: acpiAt, VCPUs: c.VCPUs,
		SleepControl: portSleepControl, SleepStatus: portSleepStatus, Reset: portReset, ResetValue: resetValue,
		Generation: genIDAt,
	})
	if len(tables) > acpiSize {
		return 0, fmt.Errorf("the ACPI tables of %d processors take %d bytes of %d", c.VCPUs, len(tables), acpiSize)
	}
	if err := mem.Write(acpiAt, tables); err != nil {
		return 0, fmt.Errorf("place the ACPI tables: %w", err)
	}
	if err := newGeneration(mem); err != nil {
		return 0, err
	}
	if err := placeStartInfo(c, l, mem, startInfo, initrdAt); err != nil {
		return 0, fmt.Errorf("place the start info: %w", err)
	}
	return startInfo, nil
}

// newGeneration gives the virtual machine another generation id.
func newGeneration(mem *guestmem.Memory) error {
	id := make([]byte, 16)
	_, _ = rand.Read(id) // it never fails
	if err := mem.Write(genIDAt, id); err != nil {
		return fmt.Errorf("place the generation id: %w", err)
	}
	return nil
}

func pageUp(gpa uint64) uint64 { return (gpa + guestmem.PageSize - 1) &^ (guestmem.PageSize - 1) }

func checkCmdline(s string) error {
	if len(s) > maxCmdline {
		return fmt.Errorf("the kernel command line has %d bytes; at most %d are possible", len(s), maxCmdline)
	}
	if strings.ContainsRune(s, 0) {
		return errors.New("the kernel command line has a zero byte in it, where it would end")
	}
	return nil
}

// placeInitrd copies the initial ramdisk, if there is one, behind the kernel.
func placeInitrd(c Config, l layout, mem *guestmem.Memory, at uint64) error {
	if c.Initrd == nil {
		return nil
	}
	if at > l.low || c.Initrd.Size > l.low-at {
		return fmt.Errorf("the guest's memory of %d MiB is too small for its kernel and its initial ramdisk of %d MiB; give it more",
			(l.low+l.high)>>20, (c.Initrd.Size+1<<20-1)>>20)
	}
	if err := mem.ReadFrom(c.Initrd.Data, 0, at, c.Initrd.Size); err != nil {
		return fmt.Errorf("read the initial ramdisk: %w", err)
	}
	return nil
}

// placeStartInfo writes struct hvm_start_info (arch-x86/hvm/start_info.h) and
// what it points to.
func placeStartInfo(c Config, l layout, mem *guestmem.Memory, at, initrdAt uint64) error {
	e820 := l.e820()
	info := xenabi.StartInfo{
		Magic: xenabi.XEN_HVM_START_MAGIC_VALUE, Version: 1,
		CmdlinePaddr: at + cmdlineOff, RSDPPaddr: acpiAt,
		MemmapPaddr: at + memmapOff, MemmapEntries: uint32(len(e820)),
	}
	if c.Initrd != nil {
		info.NrModules, info.ModlistPaddr = 1, at+modlistOff
		if err := mem.Write(info.ModlistPaddr, xenabi.Bytes(&xenabi.ModlistEntry{Paddr: initrdAt, Size: c.Initrd.Size})); err != nil {
			return err
		}
	}
	for i := range e820 {
		b := xenabi.Bytes(&e820[i])
		if err := mem.Write(info.MemmapPaddr+uint64(i*len(b)), b); err != nil {
			return err
		}
	}
	if err := mem.Write(info.CmdlinePaddr, append([]byte(c.Cmdline), 0)); err != nil {
		return err
	}
	return mem.Write(at, xenabi.Bytes(&info))
}

// entryRegs is processor 0 as a PVH guest starts (Xen's docs/misc/pvh.pandoc):
// flat 32-bit protected mode without paging, EBX at the start info.
func entryRegs(entry, startInfo uint64) accel.Regs {
	const attrCode, attrData, attrTSS = 0xc09b, 0xc093, 0x008b
	data := accel.Segment{Limit: 0xffffffff, Selector: 16, Attr: attrData}
	return accel.Regs{
		RIP: entry, RBX: startInfo, RFLAGS: 2,
		CS: accel.Segment{Limit: 0xffffffff, Selector: 8, Attr: attrCode},
		DS: data, ES: data, FS: data, GS: data, SS: data,
		TR:  accel.Segment{Limit: 0x67, Attr: attrTSS},
		CR0: 0x11, // PE, ET
	}
}
