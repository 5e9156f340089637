package native

import (
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

func sum(b []byte) (s byte) {
	for _, x := range b {
		s += x
	}
	return s
}

func TestACPI(t *testing.T) {
	const base = 0xfc000000
	for _, vcpus := range []int{1, 8, 300} {
		b := ACPITables(ACPIConfig{Base: base, VCPUs: vcpus, SleepControl: 0x600, SleepStatus: 0x601, Reset: 0x602, ResetValue: 6})
		u32 := func(at uint64) uint32 { return binary.LittleEndian.Uint32(b[at-base:]) }
		u64 := func(at uint64) uint64 { return binary.LittleEndian.Uint64(b[at-base:]) }
		table := func(at uint64, signature string) []byte {
			t.Helper()
			n := u32(at + 4)
			raw := b[at-base:][:n]
			if string(raw[:4]) != signature || sum(raw) != 0 || at%16 != 0 {
				t.Fatalf("%s at %#x: %q, sum %d", signature, at, raw[:4], sum(raw))
			}
			return raw
		}
		if string(b[:8]) != "RSD PTR " || sum(b[:20]) != 0 || sum(b[:36]) != 0 || b[15] != 2 || u32(base+20) != 36 {
			t.Fatalf("RSDP % x", b[:36])
		}
		xsdt := u64(base + 24)
		if n := len(table(xsdt, "XSDT")); n != 36+16 {
			t.Errorf("XSDT has %d bytes", n)
		}
		fadt, madt := u64(xsdt+36), u64(xsdt+44)
		f := table(fadt, "FACP")
		if len(f) != 268 || binary.LittleEndian.Uint16(f[109:]) != 0x24 || binary.LittleEndian.Uint32(f[112:]) != 1|1<<4|1<<5|1<<10|1<<20 {
			t.Errorf("FADT: %d bytes, boot %#x, flags %#x", len(f), f[109], binary.LittleEndian.Uint32(f[112:]))
		}
		for off, port := range map[int]uint64{116: 0x602, 244: 0x600, 256: 0x601} {
			if f[off] != 1 || f[off+1] != 8 || f[off+3] != 1 || binary.LittleEndian.Uint64(f[off+4:]) != port {
				t.Errorf("register at %d: % x", off, f[off:off+12])
			}
		}
		dsdt := u64(fadt + 140)
		if uint64(u32(fadt+40)) != dsdt || f[128] != 6 {
			t.Error("FADT names two DSDTs")
		}
		if d := table(dsdt, "DSDT"); string(d[36:]) != "\x08_S5_\x12\x07\x04\x0a\x05\x00\x00\x00" {
			t.Errorf("DSDT % x", d[36:])
		}
		m, ids := table(madt, "APIC"), 0
		for e := m[44:]; len(e) > 0; e = e[e[1]:] {
			id := int(e[3])
			if e[0] == 9 {
				id = int(binary.LittleEndian.Uint32(e[4:]))
			}
			if id != ids {
				t.Fatalf("processor %d has id %d", ids, id)
			}
			ids++
		}
		if ids != vcpus || binary.LittleEndian.Uint32(m[36:]) != 0xfee00000 {
			t.Errorf("%d processors of %d", ids, vcpus)
		}
	}
}

// TestACPICompiler has ACPICA's own disassembler read the tables.
func TestACPICompiler(t *testing.T) {
	iasl, err := exec.LookPath("iasl")
	if err != nil {
		t.Skip("iasl is not installed")
	}
	dir := t.TempDir()
	for name, b := range map[string][]byte{
		"facp": acpiFADT(ACPIConfig{SleepControl: 0x600, SleepStatus: 0x601, Reset: 0x602}, 0xfc000040), "apic": acpiMADT(300),
		"dsdt": ACPITables(ACPIConfig{VCPUs: 1})[64:][:36+13],
		"ssdt": acpiTable("SSDT", 2, acpiGeneration(genIDAt)),
	} {
		path := filepath.Join(dir, name+".aml")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(iasl, "-d", path).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
		if _, err := os.Stat(filepath.Join(dir, name+".dsl")); err != nil {
			t.Errorf("%s was not understood", name)
		}
	}
}
