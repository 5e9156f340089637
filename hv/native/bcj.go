package native

import (
	"encoding/binary"
	"io"
)

// x86Filter undoes xz's branch filter for x86: the targets of CALL and JMP
// (opcodes E8 and E9), which it made absolute so that they compress better,
// become relative again. It is a stream: what may still be part of an
// instruction is kept until more comes.
//
// Which bytes are taken for an instruction is the format, and depends on the
// opcodes seen in the three bytes before (liblzma, simple/x86.c).
type x86Filter struct {
	w    io.Writer
	buf  []byte
	pos  uint32 // of buf[0] in the stream
	mask uint32 // which of the last bytes were opcodes that were not converted
}

const x86Chunk = 64 << 10

func (f *x86Filter) Write(b []byte) (int, error) {
	f.buf = append(f.buf, b...)
	if len(f.buf) < x86Chunk {
		return len(b), nil
	}
	n := f.convert()
	if _, err := f.w.Write(f.buf[:n]); err != nil {
		return 0, err
	}
	f.pos += uint32(n)
	f.buf = append(f.buf[:0], f.buf[n:]...)
	return len(b), nil
}

// flush writes the rest, whose last four bytes are never an instruction's start.
func (f *x86Filter) flush() error {
	f.convert()
	_, err := f.w.Write(f.buf)
	f.buf = nil
	return err
}

// By mask: how far into an operand an earlier opcode's conversion may reach,
// and whether this opcode may be one at all.
var (
	x86Allowed = [8]bool{true, true, true, false, true, false, false, false}
	x86Reach   = [8]uint32{0, 1, 2, 2, 3, 3, 3, 3}
)

// near reports whether an operand's high byte is that of a target within the
// first 16 MiB around, the only ones that were converted.
func near(b byte) bool { return b == 0 || b == 0xff }

// convert does what is whole in buf and returns how much that is.
func (f *x86Filter) convert() int {
	buf, end := f.buf, len(f.buf)-4
	if end <= 0 {
		return 0
	}
	i, last := 0, -1 // last: where the mask's newest bit stands
	for ; i < end; i++ {
		if buf[i]&0xfe != 0xe8 {
			continue
		}
		if gap := i - last; gap > 3 {
			f.mask = 0
		} else if f.mask = f.mask << (gap - 1) & 7; f.mask != 0 {
			if !x86Allowed[f.mask] || near(buf[i+4-int(x86Reach[f.mask])]) {
				last, f.mask = i, f.mask<<1|1
				continue
			}
		}
		last = i
		if !near(buf[i+4]) {
			f.mask = f.mask<<1 | 1
			continue
		}
		operand := buf[i+1 : i+5]
		binary.LittleEndian.PutUint32(operand, f.relative(binary.LittleEndian.Uint32(operand), f.pos+uint32(i)+5))
		i += 4
	}
	if gap := i - last; gap > 3 {
		f.mask = 0
	} else {
		f.mask <<= gap - 1
	}
	return i
}

// relative turns an absolute target back, next being the address behind the
// instruction.
func (f *x86Filter) relative(target, next uint32) uint32 {
	for {
		rel := target - next
		shift := x86Reach[f.mask&7] * 8
		if f.mask == 0 || !near(byte(rel>>(24-shift))) {
			rel &= 0x01ff_ffff
			return rel | -(rel & 0x0100_0000)
		}
		target = rel ^ (1<<(32-shift) - 1)
	}
}
