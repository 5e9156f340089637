package screen

import (
	"context"
	"encoding/binary"
	"fmt"
	"image"
	"image/color"
	"io"
	"net"
	"testing"
	"time"
)

const hang = 5 * time.Minute // a guard against hanging, not a measure

// guest is a scripted RFB server: it answers the handshake, turns what it is
// told into lines and says what the test wants.
type guest struct {
	t     *testing.T
	size  image.Point
	dials chan *wire
	told  chan string
}

// wire is one connection to the guest.
type wire struct {
	net.Conn
}

func newGuest(t *testing.T, w, h int) *guest {
	return &guest{t: t, size: image.Pt(w, h), dials: make(chan *wire, 8), told: make(chan string, 1000)}
}

// dial is what the screen is given.
func (g *guest) dial(context.Context) (io.ReadWriteCloser, error) {
	ours, theirs := net.Pipe()
	g.t.Cleanup(func() { ours.Close() })
	w := &wire{ours}
	go func() {
		if err := g.serve(w); err != nil && g.t.Context().Err() == nil {
			g.told <- "end"
		}
	}()
	return theirs, nil
}

func be(parts ...any) []byte {
	var b []byte
	for _, p := range parts {
		switch v := p.(type) {
		case int: // the protocol's usual two bytes
			b = binary.BigEndian.AppendUint16(b, uint16(v))
		case int32:
			b = binary.BigEndian.AppendUint32(b, uint32(v))
		case byte:
			b = append(b, v)
		case []byte:
			b = append(b, v...)
		}
	}
	return b
}

func (g *guest) serve(w *wire) error {
	read := func(n int) []byte {
		b := make([]byte, n)
		if _, err := io.ReadFull(w, b); err != nil {
			return nil
		}
		return b
	}
	w.Write([]byte("RFB 003.008\n"))
	read(12)
	w.Write([]byte{1, 1})
	read(1)
	w.Write(be(int32(0)))
	read(1)
	w.Write(be(g.size.X, g.size.Y, make([]byte, 16), int32(1), []byte("g")))
	read(20)
	head := read(4)
	if head == nil {
		return io.EOF
	}
	read(4 * int(binary.BigEndian.Uint16(head[2:])))
	g.dials <- w
	last := ""
	pointer := func(b []byte) {
		s := fmt.Sprintf("pointer %d,%d %#x", binary.BigEndian.Uint16(b[1:]), binary.BigEndian.Uint16(b[3:]), b[0])
		if s != last { // the nudge repeats itself
			last = s
			g.told <- s
		}
	}
	for {
		kind := read(1)
		if kind == nil {
			return io.EOF
		}
		size, known := map[byte]int{3: 9, 5: 5, 251: 23, 255: 11}[kind[0]]
		if !known {
			return fmt.Errorf("message %d", kind[0])
		}
		b := read(size)
		if b == nil { // the screen went in the middle of a message
			return io.EOF
		}
		switch kind[0] {
		case 3:
			g.told <- "update?"
		case 5:
			pointer(b)
		case 251:
			g.told <- fmt.Sprintf("size %dx%d", binary.BigEndian.Uint16(b[1:]), binary.BigEndian.Uint16(b[3:]))
		case 255:
			g.told <- fmt.Sprintf("key %#x %d", binary.BigEndian.Uint32(b[7:]), binary.BigEndian.Uint16(b[1:]))
		}
	}
}

// paint fills the part r of the screen.
func (w *wire) paint(r image.Rectangle, c color.RGBA) {
	b := be(byte(0), byte(0), 1, r.Min.X, r.Min.Y, r.Dx(), r.Dy(), int32(0))
	for range r.Dx() * r.Dy() {
		b = append(b, c.B, c.G, c.R, 0)
	}
	w.Write(b)
}

// say sends one pseudo rectangle.
func (w *wire) say(x, y, width, height int, enc int32, body ...any) {
	w.Write(be(append([]any{byte(0), byte(0), 1, x, y, width, height, enc}, body...)...))
}
