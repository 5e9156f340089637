package native

import "encoding/binary"

// ACPIConfig is what a guest's ACPI tables say. The ports take one byte each.
type ACPIConfig struct {
	Base  uint64 // where the tables will lie; the RSDP is at their start
	VCPUs int

	SleepControl, SleepStatus, Reset uint16
	ResetValue                       uint8

	Generation uint64 // address of the virtual machine's generation id; 0: none
}

// Bits of the FADT (ACPI 6.4, section 5.2.9). No VGA and no CMOS clock also let
// a Linux that GRUB has started see that it is a PVH guest.
const (
	bootNoVGA, bootNoRTC = 1 << 2, 1 << 5 // IAPC_BOOT_ARCH

	fadtWBINVD        = 1 << 0
	fadtPowerButton   = 1 << 4 // there is none as a fixed feature
	fadtSleepButton   = 1 << 5
	fadtResetReg      = 1 << 10
	fadtHWReducedACPI = 1 << 20
)

// SleepEnable and SleepTypeS5 are what the guest writes to SleepControl to
// switch itself off: SleepEnable | SleepTypeS5<<2.
const (
	SleepEnable = 1 << 5
	SleepTypeS5 = 5
)

// ACPITables makes the tables that Linux needs to find its processors and its
// off switch: RSDP, XSDT, FADT, MADT and DSDT, to be put at c.Base.
func ACPITables(c ACPIConfig) []byte {
	const rsdpSize, align = 36, 64
	out := make([]byte, rsdpSize)
	place := func(table []byte) uint64 {
		for len(out)%align != 0 {
			out = append(out, 0)
		}
		at := c.Base + uint64(len(out))
		out = append(out, table...)
		return at
	}
	code := []byte("\x08_S5_\x12\x07\x04\x0a\x05\x00\x00\x00") // Name(_S5, Package{5, 0, 0, 0})
	if c.Generation != 0 {
		code = append(code, acpiGeneration(c.Generation)...)
	}
	dsdt := place(acpiTable("DSDT", 2, code))
	fadt := place(acpiFADT(c, dsdt))
	madt := place(acpiMADT(c.VCPUs))
	var list []byte
	for _, t := range []uint64{fadt, madt} {
		list = binary.LittleEndian.AppendUint64(list, t)
	}
	xsdt := place(acpiTable("XSDT", 1, list))

	rsdp := out[:rsdpSize]
	copy(rsdp, "RSD PTR ")
	copy(rsdp[9:], "HXEN  ")
	rsdp[15] = 2
	binary.LittleEndian.PutUint32(rsdp[20:], rsdpSize)
	binary.LittleEndian.PutUint64(rsdp[24:], xsdt)
	rsdp[8] = acpiSum(rsdp[:20])
	rsdp[32] = acpiSum(rsdp)
	return out
}

// acpiSum is the byte that makes all bytes add up to 0.
func acpiSum(b []byte) (sum byte) {
	for _, x := range b {
		sum -= x
	}
	return sum
}

// acpiTable puts the standard header (section 5.2.6) before body.
func acpiTable(signature string, revision byte, body []byte) []byte {
	t := make([]byte, 36, 36+len(body))
	copy(t, signature)
	binary.LittleEndian.PutUint32(t[4:], uint32(36+len(body)))
	t[8] = revision
	copy(t[10:], "HXEN  ")
	copy(t[16:], "HXENPVH ")
	binary.LittleEndian.PutUint32(t[24:], 1)
	copy(t[28:], "HXEN")
	binary.LittleEndian.PutUint32(t[32:], 1)
	t = append(t, body...)
	t[9] = acpiSum(t)
	return t
}

func acpiFADT(c ACPIConfig, dsdt uint64) []byte {
	const size = 268 // revision 5
	t := make([]byte, size)
	put32 := func(off int, v uint32) { binary.LittleEndian.PutUint32(t[off:], v) }
	port := func(off int, port uint16) { // a generic address: system I/O, one byte
		copy(t[off:], []byte{1, 8, 0, 1})
		binary.LittleEndian.PutUint64(t[off+4:], uint64(port))
	}
	put32(40, uint32(dsdt))
	binary.LittleEndian.PutUint16(t[109:], bootNoVGA|bootNoRTC)
	put32(112, fadtWBINVD|fadtPowerButton|fadtSleepButton|fadtResetReg|fadtHWReducedACPI)
	port(116, c.Reset)
	t[128] = c.ResetValue
	t[131] = 1 // minor revision: 5.1
	binary.LittleEndian.PutUint64(t[140:], dsdt)
	port(244, c.SleepControl)
	port(256, c.SleepStatus)
	return acpiTable("FACP", 5, t[36:])
}

// acpiMADT lists the local APICs; ids from 255 on exist as x2APICs only.
func acpiMADT(vcpus int) []byte {
	var b []byte
	b = binary.LittleEndian.AppendUint32(b, 0xfee00000)
	b = binary.LittleEndian.AppendUint32(b, 0) // no 8259
	for id := range vcpus {
		if id < 255 {
			b = append(b, 0, 8, byte(id), byte(id), 1, 0, 0, 0)
			continue
		}
		b = append(b, 9, 16, 0, 0)
		b = binary.LittleEndian.AppendUint32(b, uint32(id))
		b = binary.LittleEndian.AppendUint32(b, 1)
		b = binary.LittleEndian.AppendUint32(b, uint32(id))
	}
	return acpiTable("APIC", 4, b)
}

// acpiGeneration is the device that tells where the generation id lies, as AML
// (ACPI 6.4, section 20.2; Microsoft's "Virtual Machine Generation ID"):
//
//	Device (\VGEN) {
//		Name (_HID, "HXEN0001") Name (_CID, "VM_GEN_COUNTER") Name (_DDN, "VM_GEN_COUNTER")
//		Name (ADDR, Package { low, high })
//	}
//
// There is nothing through which the guest could be notified of a new id: that takes
// an interrupt that ACPI can name, and so an I/O APIC, which a PVH guest of ours does
// not have. Linux reads the id when it boots.
func acpiGeneration(at uint64) []byte {
	text := func(name, value string) string { return "\x08" + name + "\x0d" + value + "\x00" }
	address := []byte("\x08ADDR\x12\x0c\x02\x0c") // a package of 12 bytes with 2 elements
	address = binary.LittleEndian.AppendUint32(address, uint32(at))
	address = append(address, 0x0c)
	address = binary.LittleEndian.AppendUint32(address, uint32(at>>32))
	body := "VGEN" + text("_HID", "HXEN0001") + text("_CID", "VM_GEN_COUNTER") + text("_DDN", "VM_GEN_COUNTER") + string(address)
	n := len(body) + 2 // with its length, in two bytes: four bits and eight
	return append([]byte{0x5b, 0x82, byte(0x40 | n&0xf), byte(n >> 4)}, body...)
}
