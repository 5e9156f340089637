package native

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/hxen-project/hxen/hv/guestmem"
	"github.com/hxen-project/hxen/hv/xenabi"
)

const (
	maxSegments = 64
	maxNotes    = 1 << 20
)

// Segment is one piece of a kernel: FileSize bytes at Off in its file belong
// at guest physical address Paddr, with zeros behind them up to MemSize.
type Segment struct {
	Paddr, Off, FileSize, MemSize uint64

	Code bool // it can be executed
}

// Kernel is what an ELF file says about a kernel for Xen PVH guests.
type Kernel struct {
	Entry    uint64 // physical address of the 32-bit entry, XEN_ELFNOTE_PHYS32_ENTRY
	Top      uint64 // the first address behind all segments
	Bits     int    // of the ELF file, 32 or 64
	Segments []Segment
}

// ParseELF reads the headers and notes of the ELF file r of size bytes.
func ParseELF(r io.ReaderAt, size int64) (*Kernel, error) {
	t, err := readTable(r)
	if err != nil {
		return nil, err
	}
	k := &Kernel{Bits: t.bits}
	entries := 0
	for _, p := range t.progs {
		if p.Filesz > uint64(size) || p.Off > uint64(size)-p.Filesz {
			return nil, errors.New("it is cut off: a segment lies outside of the file")
		}
		switch elf.ProgType(p.Type) {
		case elf.PT_LOAD:
			err = k.add(p)
		case elf.PT_NOTE:
			if !k.notes(r, p) {
				continue
			}
			entries++
		}
		if err != nil {
			return nil, err
		}
	}
	switch {
	case entries == 0:
		return nil, errors.New("it does not start as a Xen PVH guest (it has no PHYS32_ENTRY note): Linux needs CONFIG_PVH or CONFIG_XEN_PVH")
	case len(k.Segments) == 0:
		return nil, errors.New("it holds nothing to load")
	case !k.inside(k.Entry):
		return nil, fmt.Errorf("it is damaged: its entry %#x is not in what it loads", k.Entry)
	}
	return k, nil
}

// table is an ELF file's program headers and where they are in it.
type table struct {
	bits  int // of the file, 32 or 64
	off   uint64
	progs []elf.Prog64
}

func readTable(r io.ReaderAt) (t table, err error) {
	var ident [16]byte
	if _, err := r.ReadAt(ident[:], 0); err != nil || string(ident[:4]) != elf.ELFMAG {
		return t, errors.New("it is not an ELF file")
	}
	switch {
	case ident[elf.EI_DATA] != byte(elf.ELFDATA2LSB):
		return t, errors.New("it is not for x86 processors")
	case ident[elf.EI_CLASS] == byte(elf.ELFCLASS64):
		return table64(r)
	case ident[elf.EI_CLASS] == byte(elf.ELFCLASS32):
		return table32(r)
	}
	return t, errors.New("it is a damaged ELF file")
}

func table64(r io.ReaderAt) (t table, err error) {
	var h elf.Header64
	if err := readStruct(r, 0, 64, &h); err != nil {
		return t, err
	}
	if h.Phentsize != 56 || elf.Machine(h.Machine) != elf.EM_X86_64 {
		return t, errors.New("it is not an ELF file for x86-64 processors")
	}
	t = table{bits: 64, off: h.Phoff}
	t.progs, err = readProgs(r, t.off, int(h.Phnum), 56, func(b []byte) (p elf.Prog64) {
		_, _ = binary.Decode(b, binary.LittleEndian, &p)
		return p
	})
	return t, err
}

func table32(r io.ReaderAt) (t table, err error) {
	var h elf.Header32
	if err := readStruct(r, 0, 52, &h); err != nil {
		return t, err
	}
	// XTF's 64-bit kernels come in a 32-bit container too.
	if m := elf.Machine(h.Machine); h.Phentsize != 32 || m != elf.EM_386 && m != elf.EM_X86_64 {
		return t, errors.New("it is not an ELF file for x86 processors")
	}
	t = table{bits: 32, off: uint64(h.Phoff)}
	t.progs, err = readProgs(r, t.off, int(h.Phnum), 32, func(b []byte) elf.Prog64 {
		var p elf.Prog32
		_, _ = binary.Decode(b, binary.LittleEndian, &p)
		return elf.Prog64{Type: p.Type, Off: uint64(p.Off), Paddr: uint64(p.Paddr), Filesz: uint64(p.Filesz), Memsz: uint64(p.Memsz)}
	})
	return t, err
}

// trimZeros has segments end in the file where their last zeros begin, as memory is
// zero anyway: those of a Debian kernel's last one, a quarter of what it loads, are
// there because a section behind them is not declared to be empty.
func trimZeros(f interface {
	io.ReaderAt
	io.WriterAt
}) error {
	t, err := readTable(f)
	if err != nil {
		return err
	}
	buf := make([]byte, 64<<10)
	for i, p := range t.progs {
		if elf.ProgType(p.Type) != elf.PT_LOAD {
			continue
		}
		n := p.Filesz
		for n > 0 {
			part := buf[:min(uint64(len(buf)), n)]
			if _, err := f.ReadAt(part, int64(p.Off+n)-int64(len(part))); err != nil {
				return err
			}
			kept := len(bytes.TrimRight(part, "\x00"))
			n -= uint64(len(part) - kept)
			if kept > 0 {
				break
			}
		}
		if n == p.Filesz {
			continue
		}
		// Where p_filesz is: elf.Prog64 and Prog32.
		at, field := t.off+uint64(i)*56+32, binary.LittleEndian.AppendUint64(nil, n)
		if t.bits == 32 {
			at, field = t.off+uint64(i)*32+16, field[:4]
		}
		if _, err := f.WriteAt(field, int64(at)); err != nil {
			return err
		}
	}
	return nil
}

// readStruct reads n bytes at off, the packed size of v as the ELF
// specification has it.
func readStruct(r io.ReaderAt, off int64, n int, v any) error {
	b := make([]byte, n)
	if _, err := r.ReadAt(b, off); err != nil {
		return errors.New("it is a damaged ELF file: its header is cut off")
	}
	_, err := binary.Decode(b, binary.LittleEndian, v)
	return err
}

func readProgs(r io.ReaderAt, off uint64, n, size int, decode func([]byte) elf.Prog64) ([]elf.Prog64, error) {
	if n == 0 || n > maxSegments || off > 1<<40 {
		return nil, fmt.Errorf("it is a damaged ELF file: %d program headers", n)
	}
	b := make([]byte, n*size)
	if _, err := r.ReadAt(b, int64(off)); err != nil {
		return nil, errors.New("it is a damaged ELF file: its program headers are cut off")
	}
	out := make([]elf.Prog64, n)
	for i := range out {
		out[i] = decode(b[i*size:])
	}
	return out, nil
}

// add takes a PT_LOAD segment. p_vaddr does not matter: the guest starts
// without paging.
func (k *Kernel) add(p elf.Prog64) error {
	if p.Memsz == 0 {
		return nil
	}
	end := p.Paddr + p.Memsz
	if p.Filesz > p.Memsz || end < p.Paddr || end > 1<<32 {
		return fmt.Errorf("it is damaged: a segment of %d bytes at %#x", p.Memsz, p.Paddr)
	}
	for _, s := range k.Segments {
		if p.Paddr < s.Paddr+s.MemSize && s.Paddr < end {
			return fmt.Errorf("it is damaged: two segments at %#x", p.Paddr)
		}
	}
	k.Segments = append(k.Segments, Segment{p.Paddr, p.Off, p.Filesz, p.Memsz, p.Flags&uint32(elf.PF_X) != 0})
	k.Top = max(k.Top, end)
	return nil
}

func (k *Kernel) inside(addr uint64) bool {
	for _, s := range k.Segments {
		if addr >= s.Paddr && addr-s.Paddr < s.MemSize {
			return true
		}
	}
	return false
}

// notes looks for the entry in a PT_NOTE segment (elfnote.h): its description
// is 4 or 8 bytes wide.
func (k *Kernel) notes(r io.ReaderAt, p elf.Prog64) (found bool) {
	b := make([]byte, min(p.Filesz, maxNotes))
	if _, err := r.ReadAt(b, int64(p.Off)); err != nil && !errors.Is(err, io.EOF) {
		return false
	}
	for len(b) >= 12 {
		namesz, descsz := uint64(binary.LittleEndian.Uint32(b)), uint64(binary.LittleEndian.Uint32(b[4:]))
		typ := binary.LittleEndian.Uint32(b[8:])
		b = b[12:]
		name, rest, ok := cutPadded(b, namesz)
		if !ok {
			return found
		}
		desc, rest, ok := cutPadded(rest, descsz)
		if !ok {
			return found
		}
		b = rest
		if typ != xenabi.XEN_ELFNOTE_PHYS32_ENTRY || !bytes.Equal(name, []byte("Xen\x00")) {
			continue
		}
		switch len(desc) {
		case 4:
			k.Entry, found = uint64(binary.LittleEndian.Uint32(desc)), true
		case 8:
			k.Entry, found = binary.LittleEndian.Uint64(desc), true
		}
	}
	return found
}

// cutPadded takes n bytes and the padding to 4 behind them, which the last
// note of a segment may lack.
func cutPadded(b []byte, n uint64) (head, rest []byte, ok bool) {
	if n > uint64(len(b)) {
		return nil, nil, false
	}
	return b[:n], b[min((n+3)&^3, uint64(len(b))):], true
}

// Load reads the kernel into a guest's memory, which is fresh: what a segment has
// beyond its file is zero already.
func (k *Kernel) Load(r io.ReaderAt, mem *guestmem.Memory) error {
	for _, s := range k.Segments {
		if !mem.Backed(s.Paddr, s.MemSize) {
			return fmt.Errorf("the kernel needs memory up to %d MiB, more than the guest has", (k.Top+1<<20-1)>>20)
		}
	}
	for _, s := range k.Segments {
		if err := mem.ReadFrom(r, int64(s.Off), s.Paddr, s.FileSize); err != nil {
			return fmt.Errorf("load the kernel: %w", err)
		}
	}
	return nil
}
