package rfb

import (
	"encoding/binary"
	"fmt"
	"image"
	"io"
)

// message reads and serves one server message.
func (c *Client) message() error {
	kind, err := c.u8()
	if err != nil {
		return err
	}
	switch kind {
	case msgUpdate:
		return c.update()
	case msgColourMap:
		return c.colourMap()
	case msgBell:
		if c.handler.Bell != nil {
			c.handler.Bell()
		}
		return nil
	case msgServerCutText:
		return c.cutText()
	case msgQEMU:
		return c.qemuMessage()
	}
	return fmt.Errorf("unknown message %d", kind)
}

// update reads a FramebufferUpdate (RFC 6143, section 7.6.1).
func (c *Client) update() error {
	if _, err := c.u8(); err != nil {
		return err
	}
	n, err := c.u16()
	if err != nil {
		return err
	}
	c.began()
	var damage image.Rectangle
	for range n {
		r, err := c.rectangle()
		if err != nil {
			return err
		}
		damage = damage.Union(r)
	}
	// A resize inside the message may have left damage outside.
	c.updated(damage.Intersect(image.Rectangle{Max: c.frame.Size()}))
	return nil
}

// rectangle reads one rectangle and returns what it changed of the picture.
func (c *Client) rectangle() (image.Rectangle, error) {
	var none image.Rectangle
	var b [12]byte
	if _, err := io.ReadFull(c.r, b[:]); err != nil {
		return none, err
	}
	x, y := int(binary.BigEndian.Uint16(b[0:])), int(binary.BigEndian.Uint16(b[2:]))
	w, h := int(binary.BigEndian.Uint16(b[4:])), int(binary.BigEndian.Uint16(b[6:]))
	enc := int32(binary.BigEndian.Uint32(b[8:]))
	r := image.Rect(x, y, x+w, y+h)
	switch enc {
	case encRaw:
		return r, c.raw(r)
	case encCopyRect:
		return r, c.copyRect(r)
	case encDesktopSize:
		return c.resized(w, h)
	case encExtDesktopSize:
		return c.extDesktopSize(x, y, w, h)
	case encCursor:
		return none, c.cursor(r)
	case encAlphaCursor:
		return none, c.alphaCursor(r)
	case encPointerMode:
		c.pointerMode(x == 1)
		return none, nil
	case encExtKey:
		c.mu.Lock()
		c.features.extKey = true
		c.mu.Unlock()
		return none, nil
	case encAudio:
		c.mu.Lock()
		c.features.audio = true
		c.enableAudioLocked()
		c.mu.Unlock()
		return none, nil
	case encLED:
		leds, err := c.u8()
		if err == nil && c.handler.LEDs != nil {
			c.handler.LEDs(LEDs(leds))
		}
		return none, err
	}
	return none, fmt.Errorf("unknown encoding %d", enc)
}

func (c *Client) checkInside(r image.Rectangle) error {
	size := c.frame.Size()
	if r.Max.X > size.X || r.Max.Y > size.Y {
		return fmt.Errorf("rectangle %v outside the %v screen", r, size)
	}
	return nil
}

// raw reads pixels in pieces out of the read buffer, so that the frame is never
// locked while the network is waited for.
func (c *Client) raw(r image.Rectangle) error {
	if err := c.checkInside(r); err != nil {
		return err
	}
	row := r.Dx() * bytesPerPixel
	if row == 0 {
		return nil
	}
	for y := r.Min.Y; y < r.Max.Y; {
		rows := min(max(stripBytes/row, 1), r.Max.Y-y)
		// Take what is there already before waiting for a full strip.
		if have := c.r.Buffered() / row; have > 0 {
			rows = min(rows, have)
		}
		b, err := c.r.Peek(rows * row)
		if err != nil {
			return unexpected(err)
		}
		c.frame.put(r.Min.X, y, r.Dx(), b)
		if _, err := c.r.Discard(len(b)); err != nil {
			return err
		}
		y += rows
	}
	return nil
}

func (c *Client) copyRect(r image.Rectangle) error {
	var b [4]byte
	if _, err := io.ReadFull(c.r, b[:]); err != nil {
		return err
	}
	src := image.Pt(int(binary.BigEndian.Uint16(b[0:])), int(binary.BigEndian.Uint16(b[2:])))
	if err := c.checkInside(r); err != nil {
		return err
	}
	if err := c.checkInside(image.Rectangle{src, src.Add(r.Size())}); err != nil {
		return err
	}
	c.frame.move(r, src)
	return nil
}

func (c *Client) resized(w, h int) (image.Rectangle, error) {
	if err := c.checkSize(w, h); err != nil {
		return image.Rectangle{}, err
	}
	if c.frame.Size() == image.Pt(w, h) {
		return image.Rectangle{}, nil
	}
	c.frame.resize(w, h)
	c.mu.Lock()
	c.flow.full = true
	c.mu.Unlock()
	if c.handler.Resized != nil {
		c.handler.Resized(image.Pt(w, h))
	}
	return image.Rect(0, 0, w, h), nil
}

// extDesktopSize reads a list of screens; its first one is the one we resize.
func (c *Client) extDesktopSize(reason, status, w, h int) (image.Rectangle, error) {
	var none image.Rectangle
	var b [4]byte
	if _, err := io.ReadFull(c.r, b[:]); err != nil {
		return none, err
	}
	screens := int(b[0])
	var list [maxScreenInfoBytes]byte
	if _, err := io.ReadFull(c.r, list[:screens*16]); err != nil {
		return none, err
	}
	c.mu.Lock()
	c.resize.able = true
	if screens > 0 {
		c.resize.screen = binary.BigEndian.Uint32(list[0:])
		c.resize.flags = binary.BigEndian.Uint32(list[12:])
	}
	if reason == reasonThisClient {
		c.resize.busy = false
	}
	c.sendResizeLocked()
	c.mu.Unlock()
	if reason == reasonThisClient && status != 0 {
		// Refused, or forwarded to the guest, which answers by resizing later.
		return none, nil
	}
	return c.resized(w, h)
}

// cursor reads a shape of BGRX pixels and a one-bit mask.
func (c *Client) cursor(r image.Rectangle) error {
	w, h := r.Dx(), r.Dy()
	if w > maxCursor || h > maxCursor {
		return fmt.Errorf("a cursor of %dx%d pixels", w, h)
	}
	stride := (w + 7) / 8
	b := make([]byte, w*h*bytesPerPixel+stride*h)
	if _, err := io.ReadFull(c.r, b); err != nil {
		return unexpected(err)
	}
	mask := b[w*h*bytesPerPixel:]
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			if mask[y*stride+x/8]>>(7-x%8)&1 == 1 {
				i := img.PixOffset(x, y)
				swizzle(img.Pix[i:i+4], b[i:i+4])
			}
		}
	}
	c.setCursor(img, r.Min)
	return nil
}

// alphaCursor reads "Cursor With Alpha" (rfbproto). QEMU sends its pixels as
// little-endian ARGB words (vnc_cursor_define in ui/vnc.c).
func (c *Client) alphaCursor(r image.Rectangle) error {
	w, h := r.Dx(), r.Dy()
	if w > maxCursor || h > maxCursor {
		return fmt.Errorf("a cursor of %dx%d pixels", w, h)
	}
	enc, err := c.u32()
	if err != nil {
		return err
	}
	if int32(enc) != encRaw {
		return fmt.Errorf("a cursor in encoding %d", int32(enc))
	}
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	if _, err := io.ReadFull(c.r, img.Pix); err != nil {
		return unexpected(err)
	}
	for i := 0; i+4 <= len(img.Pix); i += 4 {
		p := img.Pix[i : i+4]
		a := p[3]
		// Premultiplied colour is never above alpha; a server may say otherwise.
		p[0], p[1], p[2] = min(p[2], a), min(p[1], a), min(p[0], a)
	}
	c.setCursor(img, r.Min)
	return nil
}

func (c *Client) setCursor(img *image.RGBA, hot image.Point) {
	if c.handler.Cursor == nil {
		return
	}
	if img.Rect.Empty() {
		img = nil
	}
	c.handler.Cursor(img, hot)
}

func (c *Client) pointerMode(absolute bool) {
	c.mu.Lock()
	c.input.absolute = absolute
	c.mu.Unlock()
	if c.handler.PointerMode != nil {
		c.handler.PointerMode(absolute)
	}
}

// colourMap skips a palette: true colour has none, yet a server may send one.
func (c *Client) colourMap() error {
	var b [5]byte
	if _, err := io.ReadFull(c.r, b[:]); err != nil {
		return err
	}
	return c.skip(int(binary.BigEndian.Uint16(b[3:])) * 6)
}

// qemuMessage reads QEMU's audio messages, the only ones a server sends.
func (c *Client) qemuMessage() error {
	kind, err := c.u8()
	if err != nil {
		return err
	}
	op, err := c.u16()
	if err != nil {
		return err
	}
	if kind != qemuAudio {
		return fmt.Errorf("unknown QEMU message %d", kind)
	}
	var pcm []byte
	switch op {
	case audioBegin, audioEnd:
	case audioData:
		if pcm, err = c.audioPiece(); err != nil {
			return err
		}
	default:
		return fmt.Errorf("unknown QEMU audio operation %d", op)
	}
	if c.handler.Audio != nil {
		c.handler.Audio(pcm)
	}
	return nil
}

func (c *Client) audioPiece() ([]byte, error) {
	n, err := c.u32()
	if err != nil {
		return nil, err
	}
	if n > maxAudio || n%4 != 0 {
		return nil, fmt.Errorf("%d bytes of sound at once", n)
	}
	if cap(c.sound) < int(n) {
		c.sound = make([]byte, n)
	}
	_, err = io.ReadFull(c.r, c.sound[:n])
	return c.sound[:n], unexpected(err)
}

func (c *Client) skip(n int) error {
	_, err := c.r.Discard(n)
	return unexpected(err)
}

// unexpected turns an end inside a message into what it is.
func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
