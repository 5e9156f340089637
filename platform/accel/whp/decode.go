package whp

// prefix is what stands before an opcode (SDM 2A 2.1.1, 2.2.1).
type prefix struct {
	n       int    // bytes
	rex     byte   // 0 if there is none
	operand uint64 // size of operands in bytes
	address uint64 // size of addresses in bytes
	segment byte   // the last override, or 0
	bad     bool   // LOCK
}

// prefixes reads them in code of mode bits.
func prefixes(b []byte, mode int) prefix {
	p := prefix{operand: 4, address: uint64(mode / 8)}
	if mode == 16 {
		p.operand = 2
	}
	for ; p.n < len(b); p.n++ {
		switch c := b[p.n]; {
		case c == 0x66:
			p.operand = 2
			if mode == 16 {
				p.operand = 4
			}
		case c == 0x67:
			p.address = 4
			if mode == 32 {
				p.address = 2
			}
		case c == 0x26 || c == 0x2e || c == 0x36 || c == 0x3e || c == 0x64 || c == 0x65:
			if p.segment = c; c == 0x3e {
				p.segment = 0 // DS
			}
		case c == 0xf2 || c == 0xf3:
		case c == 0xf0:
			p.bad = true
		case mode == 64 && c>>4 == 4:
			if p.rex = c; c&8 != 0 {
				p.operand = 8
			}
			p.n++
			return p // it stands last
		default:
			return p
		}
	}
	return p
}

// move is an instruction that moves between memory and a register, or writes a
// number to memory.
type move struct {
	length   uint64
	load     bool
	register byte   // 0 is RAX, as encoded
	high     bool   // AH to BH
	size     uint64 // bytes of the register that are written
	zeroFrom uint64 // bytes that are read, where the rest becomes zero; 0: all is read, or the sign extended
}

// decode reads the moves (SDM 2B, MOV, MOVZX, MOVSX, MOVNTI) that drivers use for
// memory of devices; ok is false for everything else.
func decode(b []byte, mode int) (m move, ok bool) {
	p := prefixes(b, mode)
	if p.bad {
		return m, false
	}
	d := decoder{b: b[p.n:], p: p, mode: mode}
	op := d.byte()
	if op == 0x0f {
		return d.finish(d.twoByte(d.byte()))
	}
	switch op {
	case 0x88, 0x89:
		d.modRM()
		return d.finish(move{}, true)
	case 0x8a, 0x8b:
		r := d.modRM()
		if op == 0x8a {
			return d.finish(d.toByte(r), true)
		}
		return d.finish(move{load: true, register: r, size: p.operand}, true)
	case 0xa0, 0xa1, 0xa2, 0xa3:
		d.skip(p.address)
		m = move{load: op < 0xa2, size: p.operand}
		if op == 0xa0 {
			m.size = 1
		}
		return d.finish(m, true)
	case 0xc6, 0xc7:
		extension := d.modRM() & 7
		if n := min(p.operand, 4); op == 0xc6 {
			d.skip(1)
		} else {
			d.skip(n)
		}
		return d.finish(move{}, extension == 0)
	case 0x63:
		return d.finish(move{load: true, register: d.modRM(), size: p.operand}, mode == 64)
	}
	return m, false
}

// decoder walks through an instruction behind its prefixes.
type decoder struct {
	b      []byte
	p      prefix
	mode   int
	at     uint64
	direct bool // the operand is a register
}

func (d *decoder) twoByte(op byte) (move, bool) {
	switch op {
	case 0xb6, 0xb7: // MOVZX
		m := move{load: true, register: d.modRM(), size: d.p.operand, zeroFrom: uint64(op-0xb6) + 1}
		return m, true
	case 0xbe, 0xbf: // MOVSX
		return move{load: true, register: d.modRM(), size: d.p.operand}, true
	case 0xc3: // MOVNTI
		d.modRM()
		return move{}, true
	}
	return move{}, false
}

// toByte is a load into a register of a byte; without REX, 4 to 7 are AH to BH.
func (d *decoder) toByte(r byte) move {
	if d.p.rex == 0 && r >= 4 {
		return move{load: true, register: r - 4, high: true, size: 1}
	}
	return move{load: true, register: r, size: 1}
}

// finish checks that the instruction was whole and went to memory.
func (d *decoder) finish(m move, ok bool) (move, bool) {
	m.length = uint64(d.p.n) + d.at
	return m, ok && !d.direct && d.at <= uint64(len(d.b)) && m.length <= 15
}

// byte returns the next one; behind the end it is 0, and finish says no.
func (d *decoder) byte() byte {
	d.at++
	if d.at > uint64(len(d.b)) {
		return 0
	}
	return d.b[d.at-1]
}

func (d *decoder) skip(n uint64) { d.at += n }

// modRM passes over ModRM, SIB and displacement (SDM 2A 2.1.5) and returns the
// register.
func (d *decoder) modRM() byte {
	c := d.byte()
	mod, rm := c>>6, c&7
	d.direct = mod == 3
	switch {
	case d.direct:
	case d.p.address == 2:
		if mod == 1 {
			d.skip(1)
		} else if mod == 2 || mod == 0 && rm == 6 {
			d.skip(2)
		}
	default:
		base := rm
		if rm == 4 {
			base = d.byte() & 7
		}
		if mod == 1 {
			d.skip(1)
		} else if mod == 2 || mod == 0 && base == 5 {
			d.skip(4)
		}
	}
	return c>>3&7 | d.p.rex<<1&8
}
