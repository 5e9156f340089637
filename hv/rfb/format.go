package rfb

import (
	"encoding/binary"
	"errors"
)

// pixelFormat is how a viewer wants its pixels (RFC 6143, section 7.4).
type pixelFormat struct {
	bits, depth           byte
	bigEndian             bool
	palette               bool // it takes colours by number
	maxR, maxG, maxB      uint16
	shiftR, shiftG, shftB byte
}

// nativeFormat is what pictures are in: nothing is converted for who takes it.
var nativeFormat = pixelFormat{bits: 32, depth: 24, maxR: 255, maxG: 255, maxB: 255, shiftR: 16, shiftG: 8}

// paletteFormat serves viewers without true colour: the numbers of its 256
// colours are made of three bits of red, three of green and two of blue.
var paletteFormat = pixelFormat{bits: 8, depth: 8, palette: true, maxR: 7, maxG: 7, maxB: 3, shiftR: 5, shiftG: 2}

var errFormat = errors.New("a pixel format that cannot be")

// parseFormat reads the 16 bytes of a PIXEL_FORMAT.
func parseFormat(b []byte) (pixelFormat, error) {
	f := pixelFormat{
		bits: b[0], depth: b[1], bigEndian: b[2] != 0,
		maxR: binary.BigEndian.Uint16(b[4:]), maxG: binary.BigEndian.Uint16(b[6:]), maxB: binary.BigEndian.Uint16(b[8:]),
		shiftR: b[10], shiftG: b[11], shftB: b[12],
	}
	if f.bits != 8 && f.bits != 16 && f.bits != 32 {
		return f, errFormat
	}
	if b[3] == 0 {
		if f.bits != 8 {
			return f, errFormat
		}
		return paletteFormat, nil
	}
	if f.shiftR >= f.bits || f.shiftG >= f.bits || f.shftB >= f.bits {
		return f, errFormat
	}
	if f.bits == 8 {
		f.bigEndian = false
	}
	return f, nil
}

// bytes are the 16 bytes of a PIXEL_FORMAT.
func (f pixelFormat) encode() []byte {
	flag := func(b bool) byte {
		if b {
			return 1
		}
		return 0
	}
	return appendParts(nil, f.bits, f.depth, flag(f.bigEndian), flag(!f.palette),
		u16(f.maxR), u16(f.maxG), u16(f.maxB), f.shiftR, f.shiftG, f.shftB, []byte{0, 0, 0})
}

// converter turns native pixels into a viewer's.
type converter struct {
	size    int // bytes of a pixel
	plain   bool
	r, g, b [256]uint32 // what a colour of 0 to 255 adds, in the viewer's order of bytes
}

func newConverter(f pixelFormat) *converter {
	c := &converter{size: int(f.bits) / 8}
	same := f
	same.depth = nativeFormat.depth
	if same == nativeFormat {
		c.plain = true
		return c
	}
	for _, ch := range []struct {
		table *[256]uint32
		max   uint16
		shift byte
	}{{&c.r, f.maxR, f.shiftR}, {&c.g, f.maxG, f.shiftG}, {&c.b, f.maxB, f.shftB}} {
		for i := range ch.table {
			v := (uint32(i)*uint32(ch.max) + 127) / 255 << ch.shift
			if f.bigEndian {
				v = swapBytes(v, c.size)
			}
			ch.table[i] = v
		}
	}
	return c
}

// swapBytes turns the lowest n bytes of v around.
func swapBytes(v uint32, n int) uint32 {
	var b [4]byte
	binary.LittleEndian.PutUint32(b[:], v)
	return binary.BigEndian.Uint32(b[:]) >> (32 - 8*n)
}

// append converts native pixels and adds them to dst.
func (c *converter) append(dst, bgrx []byte) []byte {
	if c.plain {
		return append(dst, bgrx...)
	}
	for ; len(bgrx) >= bytesPerPixel; bgrx = bgrx[bytesPerPixel:] {
		v := c.r[bgrx[2]] | c.g[bgrx[1]] | c.b[bgrx[0]]
		switch c.size {
		case 1:
			dst = append(dst, byte(v))
		case 2:
			dst = binary.LittleEndian.AppendUint16(dst, uint16(v))
		default:
			dst = binary.LittleEndian.AppendUint32(dst, v)
		}
	}
	return dst
}

// paletteMessage tells the colours of paletteFormat (SetColourMapEntries).
func paletteMessage() []byte {
	b := appendParts(nil, msgColourMap, byte(0), u16(0), u16(256))
	for i := range uint32(256) {
		b = appendParts(b, u16(i>>5*0xffff/7), u16(i>>2&7*0xffff/7), u16(i&3*0xffff/3))
	}
	return b
}
