package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Go's linker signs programs for Macs with Apple's processors ad hoc, by nobody;
// here all are, with entitlements, which a Mac asks of who uses its hypervisor.
// The records are mach-o/loader.h's and xnu's osfmk/kern/cs_blobs.h's; a signature's
// numbers have their highest byte first, a program's their lowest.

const (
	machMagic64   = 0xfeedfacf
	machHeader    = 32 // bytes
	loadSegment64 = 0x19
	loadSignature = 0x1d
	sectionStart  = 72 // of a segment's first section, in its command
	sectionOffset = 48 // of a section's place in the file, in its record
	sectionSize   = 80
	commandSize   = 16 // of LC_CODE_SIGNATURE
	segmentAlign  = 0x4000

	magicRequirements  = 0xfade0c01
	magicDirectory     = 0xfade0c02
	magicSignature     = 0xfade0cc0
	magicWrapper       = 0xfade0b01
	magicEntitlements  = 0xfade7171
	magicEntitlementsD = 0xfade7172 // in DER

	slotDirectory, slotRequirements, slotEntitlements, slotEntitlementsD, slotWrapper = 0, 2, 5, 7, 0x10000

	directoryVersion = 0x20400
	directorySize    = 88
	flagAdHoc        = 2
	hashSHA256       = 2
	pageBits         = 12
	mainBinary       = 1 // CS_EXECSEG_MAIN_BINARY
)

// hypervisor is the entitlement, as assets/hxen.entitlements says it, in DER: a
// version, and a list of pairs of which this is the only one.
func hypervisor() []byte {
	wrap := func(tag byte, b []byte) []byte { return append([]byte{tag, byte(len(b))}, b...) } // all are short
	pair := append(wrap(0x0c, []byte("com.apple.security.hypervisor")), 0x01, 0x01, 0xff)
	return wrap(0x70, append([]byte{0x02, 0x01, 0x01}, wrap(0xb0, wrap(0x30, pair))...))
}

// signMac signs programs in place.
func (j job) signMac() error {
	entitlements, err := assets.ReadFile("assets/hxen.entitlements")
	if err != nil {
		return err
	}
	for _, name := range j.args {
		b, err := os.ReadFile(name)
		if err == nil {
			b, err = signMachO(b, "io.github.hxen_project."+filepath.Base(name), entitlements)
		}
		if err == nil {
			err = os.WriteFile(name, b, 0o755)
		}
		if err != nil {
			return fmt.Errorf("sign %s: %w", name, err)
		}
	}
	return nil
}

// machO is where things are in a program.
type machO struct {
	text, linkedit, signature int // their commands' places; 0: not there
	room                      int // where the first section begins
	end                       int // of the commands
}

func readMachO(b []byte) (m machO, err error) {
	le := binary.LittleEndian
	if len(b) < machHeader || le.Uint32(b) != machMagic64 {
		return m, errors.New("it is no 64-bit Mach-O program")
	}
	m.room, m.end = len(b), machHeader+int(le.Uint32(b[20:]))
	at := machHeader
	for range le.Uint32(b[16:]) {
		if at+8 > len(b) || at+int(le.Uint32(b[at+4:])) > len(b) || le.Uint32(b[at+4:]) < 8 {
			return m, errors.New("its load commands are cut short")
		}
		switch le.Uint32(b[at:]) {
		case loadSegment64:
			switch string(bytes.TrimRight(b[at+8:at+24], "\x00")) {
			case "__TEXT":
				m.text = at
			case "__LINKEDIT":
				m.linkedit = at
			}
			for i := range int(le.Uint32(b[at+64:])) {
				if off := int(le.Uint32(b[at+sectionStart+i*sectionSize+sectionOffset:])); off > 0 {
					m.room = min(m.room, off)
				}
			}
		case loadSignature:
			m.signature = at
		}
		at += int(le.Uint32(b[at+4:]))
	}
	if m.text == 0 || m.linkedit == 0 {
		return m, errors.New("it has no segment __TEXT or __LINKEDIT")
	}
	return m, nil
}

// signMachO returns the program with a signature in place of any that it has.
func signMachO(b []byte, id string, entitlements []byte) ([]byte, error) {
	m, err := readMachO(b)
	if err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	b = bytes.Clone(b)
	if m.signature != 0 {
		b = b[:le.Uint32(b[m.signature+8:])]
	} else {
		if m.end+commandSize > m.room {
			return nil, errors.New("its header has no room for a signature's command")
		}
		m.signature = m.end
		le.PutUint32(b[16:], le.Uint32(b[16:])+1)
		le.PutUint32(b[20:], le.Uint32(b[20:])+commandSize)
		le.PutUint32(b[m.signature:], loadSignature)
		le.PutUint32(b[m.signature+4:], commandSize)
	}
	b = append(b, make([]byte, -len(b)&15)...)
	limit := len(b)
	// The size does not depend on what is hashed, so it is known before.
	size := (len(signature(b, m, id, entitlements)) + 15) &^ 15
	le.PutUint32(b[m.signature+8:], uint32(limit))
	le.PutUint32(b[m.signature+12:], uint32(size))
	held := uint64(limit+size) - le.Uint64(b[m.linkedit+40:])
	le.PutUint64(b[m.linkedit+48:], held)
	le.PutUint64(b[m.linkedit+32:], (held+segmentAlign-1)&^(segmentAlign-1))
	out := append(b, signature(b, m, id, entitlements)...)
	return append(out, make([]byte, limit+size-len(out))...), nil
}

// blob is a part of a signature with its header.
func blob(magic uint32, content []byte) []byte {
	out := binary.BigEndian.AppendUint32(nil, magic)
	return append(binary.BigEndian.AppendUint32(out, uint32(len(content)+8)), content...)
}

// slot is a part of a signature and its number.
type slot struct {
	number  uint32
	content []byte
}

// signature signs a whole program, whose commands know its size already.
func signature(b []byte, m machO, id string, entitlements []byte) []byte {
	be := binary.BigEndian
	parts := []slot{
		{slotRequirements, blob(magicRequirements, make([]byte, 4))},
		{slotEntitlements, blob(magicEntitlements, entitlements)},
		{slotEntitlementsD, blob(magicEntitlementsD, hypervisor())},
	}
	var hashes [][]byte // of the parts, by falling slot, then of the pages
	for n := slotEntitlementsD; n > 0; n-- {
		h := make([]byte, sha256.Size)
		for _, p := range parts {
			if p.number == uint32(n) {
				sum := sha256.Sum256(p.content)
				h = sum[:]
			}
		}
		hashes = append(hashes, h)
	}
	pages := 0
	for off := 0; off < len(b); off += 1 << pageBits {
		sum := sha256.Sum256(b[off:min(off+1<<pageBits, len(b))])
		hashes = append(hashes, sum[:])
		pages++
	}
	ident := directorySize
	first := ident + len(id) + 1 + slotEntitlementsD*sha256.Size
	var d []byte // behind magic and length
	for _, n := range []uint32{directoryVersion, flagAdHoc, uint32(first), uint32(ident), slotEntitlementsD, uint32(pages), uint32(len(b))} {
		d = be.AppendUint32(d, n)
	}
	d = append(d, sha256.Size, hashSHA256, 0, pageBits)
	d = append(d, make([]byte, 4+4+4+4+8)...) // spare, scatter, team, spare, a limit of 64 bits
	le := binary.LittleEndian
	for _, n := range []uint64{le.Uint64(b[m.text+40:]), le.Uint64(b[m.text+48:]), mainBinary} {
		d = be.AppendUint64(d, n)
	}
	d = append(append(d, id...), 0)
	d = append(d, bytes.Join(hashes, nil)...)
	all := append([]slot{{slotDirectory, blob(magicDirectory, d)}}, parts...)
	all = append(all, slot{slotWrapper, blob(magicWrapper, nil)})
	index, content := be.AppendUint32(nil, uint32(len(all))), []byte(nil)
	at := 12 + 8*len(all)
	for _, p := range all {
		index = be.AppendUint32(be.AppendUint32(index, p.number), uint32(at+len(content)))
		content = append(content, p.content...)
	}
	return blob(magicSignature, append(index, content...))
}
