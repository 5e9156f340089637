package rfb

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"io"
	"time"
)

// viewer is one viewer of a Server: a goroutine that reads what it says and one
// that writes what it shall see.
type viewer struct {
	server *Server
	rwc    io.ReadWriteCloser
	r      *bufio.Reader
	poked  chan struct{} // has room for one
	done   chan struct{} // closed: the writer shall end

	// Of the reader.
	held    map[uint16]bool
	at      image.Point
	placed  bool // at is known
	buttons Buttons

	// Guarded by Server.mu.
	conv    *converter
	palette bool // its colours are still to be told
	able    abilities
	told    struct{ extKey, pointerMode, relative bool }
	size    image.Point // of the screen, as it knows it
	dirty   tiles       // what it has not been sent
	want    bool        // it has asked for an update
	force   bool        // even if nothing has changed

	next time.Time // of the writer: no other update with pixels before
}

// abilities are the pseudo-encodings that a viewer knows.
type abilities struct{ resize, extKey, pointerMode bool }

func newViewer(s *Server, rwc io.ReadWriteCloser) *viewer {
	return &viewer{
		server: s, rwc: rwc, r: bufio.NewReaderSize(rwc, 4<<10),
		poked: make(chan struct{}, 1), done: make(chan struct{}),
		held: map[uint16]bool{}, conv: newConverter(nativeFormat),
	}
}

func (v *viewer) wake() {
	select {
	case v.poked <- struct{}{}:
	default:
	}
}

// resizedLocked has all of a screen of another size sent.
func (v *viewer) resizedLocked() {
	size := v.server.seen.size
	v.dirty = newTiles(size)
	v.dirty.mark(image.Rectangle{Max: size})
}

// run is the viewer's life.
func (v *viewer) run() error {
	if err := v.handshake(); err != nil {
		return err
	}
	written := make(chan error, 1)
	go func() {
		err := v.write()
		v.rwc.Close() // has the reader end
		written <- err
	}()
	err := v.read()
	select {
	case <-written: // it has gone; the reader only felt it
		return nil
	default:
	}
	close(v.done)
	v.rwc.Close()
	<-written
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.ErrClosedPipe) {
		return nil
	}
	return err
}

// handshake is RFC 6143 sections 7.1 to 7.3. No security type but None is
// spoken: who reaches us has been checked.
func (v *viewer) handshake() error {
	if _, err := io.WriteString(v.rwc, version38); err != nil {
		return err
	}
	var version [12]byte
	if _, err := io.ReadFull(v.r, version[:]); err != nil {
		return fmt.Errorf("read the viewer's version: %w", err)
	}
	switch s := string(version[:]); {
	case s[:4] != "RFB " || s < "RFB 003.003\n":
		return fmt.Errorf("the other end is no viewer: it says %q", s)
	case s < "RFB 003.007\n":
		if _, err := v.rwc.Write([]byte{0, 0, 0, securityNone}); err != nil {
			return err
		}
	default:
		if err := v.security(s >= version38); err != nil {
			return err
		}
	}
	if _, err := v.r.ReadByte(); err != nil { // whether it would share: it has to
		return err
	}
	s := v.server
	s.mu.Lock()
	v.size = s.seen.size
	s.mu.Unlock()
	_, err := v.rwc.Write(appendParts(nil, u16(v.size.X), u16(v.size.Y), nativeFormat.encode(),
		u32(len(s.opt.Name)), []byte(s.opt.Name)))
	return err
}

func (v *viewer) security(result bool) error {
	if _, err := v.rwc.Write([]byte{1, securityNone}); err != nil {
		return err
	}
	chosen, err := v.r.ReadByte()
	if err != nil {
		return err
	}
	if chosen != securityNone {
		return fmt.Errorf("the viewer wants security type %d, which was not offered", chosen)
	}
	if result {
		_, err = v.rwc.Write([]byte{0, 0, 0, 0})
	}
	return err
}

// refuse tells a viewer why it cannot be served, if it listens.
func (v *viewer) refuse(why error) {
	var version [12]byte
	if _, err := io.WriteString(v.rwc, version38); err != nil {
		return
	}
	if _, err := io.ReadFull(v.r, version[:]); err != nil {
		return
	}
	_, _ = v.rwc.Write(appendParts(nil, byte(0), u32(len(why.Error())), []byte(why.Error())))
}

// write sends updates until done, or the viewer's end.
func (v *viewer) write() error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	b := make([]byte, 0, chunkBytes+maxSide*bytesPerPixel+4<<10)
	for {
		u, wait := v.take(time.Now())
		if u.some {
			if err := v.send(b, u); err != nil {
				return err
			}
			continue
		}
		var due <-chan time.Time
		if wait > 0 {
			timer.Reset(wait)
			due = timer.C
		}
		select {
		case <-v.done:
			return nil
		case <-v.poked:
		case <-due:
		}
	}
}

// update is one message to a viewer.
type update struct {
	some    bool
	palette bool
	pseudo  []byte // pseudo-rectangles
	pseudos int
	rects   []image.Rectangle
	conv    *converter
}

// take decides what to send now, and when to look again; 0: when woken.
func (v *viewer) take(now time.Time) (u update, wait time.Duration) {
	s := v.server
	s.mu.Lock()
	defer s.mu.Unlock()
	if !v.want {
		return u, 0
	}
	u.palette, u.conv = v.palette, v.conv
	resized := v.pseudoLocked(&u)
	// A change of size is a message of its own: pixels follow in the next.
	if !resized && (v.force || v.dirty.some || s.stale.some) {
		if wait = v.next.Sub(now); wait <= 0 {
			s.lookLocked()
			u.rects = clip(v.dirty.take(), v.size)
			v.next = now.Add(frameTime)
		}
	}
	u.some = u.pseudos > 0 || len(u.rects) > 0 || v.force && wait <= 0
	if u.some {
		v.want, v.palette = false, false
		v.force = v.force && (resized || wait > 0)
		wait = 0
	}
	return u, wait
}

// clip leaves out what a viewer that cannot follow a change of size has no place
// for.
func clip(rects []image.Rectangle, size image.Point) []image.Rectangle {
	out := rects[:0]
	for _, r := range rects {
		if r = r.Intersect(image.Rectangle{Max: size}); !r.Empty() {
			out = append(out, r)
		}
	}
	return out
}

// pseudoLocked adds what else is to be told, and reports whether the screen's
// size is.
func (v *viewer) pseudoLocked(u *update) (resized bool) {
	s := v.server
	add := func(x, y, w, h int, enc int32) {
		u.pseudo = appendParts(u.pseudo, u16(x), u16(y), u16(w), u16(h), enc)
		u.pseudos++
	}
	if v.able.extKey && !v.told.extKey {
		v.told.extKey = true
		add(0, 0, 0, 0, encExtKey)
	}
	if v.able.pointerMode && (!v.told.pointerMode || v.told.relative != s.relative) {
		v.told.pointerMode, v.told.relative = true, s.relative
		x := 1
		if s.relative {
			x = 0
		}
		add(x, 0, 0, 0, encPointerMode)
	}
	if v.able.resize && v.size != s.seen.size {
		v.size = s.seen.size
		add(0, 0, v.size.X, v.size.Y, encDesktopSize)
		return true
	}
	return false
}

// send writes an update; b is room for it.
func (v *viewer) send(b []byte, u update) error {
	if u.palette {
		b = append(b, paletteMessage()...)
	}
	b = appendParts(b, msgUpdate, byte(0), u16(u.pseudos+len(u.rects)), u.pseudo)
	for _, r := range u.rects {
		b = appendParts(b, u16(r.Min.X), u16(r.Min.Y), u16(r.Dx()), u16(r.Dy()), encRaw)
		for y := r.Min.Y; y < r.Max.Y; {
			b, y = v.convert(b, u.conv, r, y)
			if len(b) < chunkBytes {
				continue
			}
			if _, err := v.rwc.Write(b); err != nil {
				return err
			}
			b = b[:0]
		}
	}
	_, err := v.rwc.Write(b)
	return err
}

// convert adds rows of r from y on until b is full.
func (v *viewer) convert(b []byte, c *converter, r image.Rectangle, y int) ([]byte, int) {
	v.server.mu.Lock()
	defer v.server.mu.Unlock()
	for ; y < r.Max.Y && len(b) < chunkBytes; y++ {
		b = v.server.appendRowLocked(b, c, r.Min.X, r.Max.X, y)
	}
	return b, y
}

// read serves what the viewer says, to its end.
func (v *viewer) read() error {
	for {
		kind, err := v.r.ReadByte()
		if err != nil {
			return err
		}
		switch kind {
		case msgSetPixelFormat:
			err = v.setFormat()
		case msgSetEncodings:
			err = v.setEncodings()
		case msgUpdateRequest:
			err = v.updateRequest()
		case msgKey:
			err = v.keySym()
		case msgPointer:
			err = v.pointer()
		case msgClientCutText:
			err = v.cutText()
		case msgQEMU:
			err = v.qemuMessage()
		default:
			err = fmt.Errorf("the viewer sent a message of kind %d, which was not offered", kind)
		}
		if err != nil {
			return err
		}
	}
}

// fixed reads a message of a known size.
func (v *viewer) fixed(b []byte) error {
	_, err := io.ReadFull(v.r, b)
	return err
}

func (v *viewer) setFormat() error {
	var b [19]byte
	if err := v.fixed(b[:]); err != nil {
		return err
	}
	f, err := parseFormat(b[3:])
	if err != nil {
		return fmt.Errorf("the viewer asks for %w", err)
	}
	c := newConverter(f)
	v.server.mu.Lock()
	defer v.server.mu.Unlock()
	v.conv, v.palette = c, f.palette
	return nil
}

func (v *viewer) setEncodings() error {
	var b [4]byte
	if err := v.fixed(b[:3]); err != nil {
		return err
	}
	var able abilities
	for range binary.BigEndian.Uint16(b[1:3]) {
		if err := v.fixed(b[:]); err != nil {
			return err
		}
		switch int32(binary.BigEndian.Uint32(b[:])) {
		case encDesktopSize:
			able.resize = true
		case encExtKey:
			able.extKey = true
		case encPointerMode:
			able.pointerMode = true
		}
	}
	v.server.mu.Lock()
	defer v.server.mu.Unlock()
	v.able = able
	return nil
}

func (v *viewer) updateRequest() error {
	var b [9]byte
	if err := v.fixed(b[:]); err != nil {
		return err
	}
	n := func(at int) int { return int(binary.BigEndian.Uint16(b[at:])) }
	v.server.mu.Lock()
	defer v.server.mu.Unlock()
	v.want = true
	if b[0] == 0 {
		v.force = true
		v.dirty.mark(image.Rect(n(1), n(3), n(1)+n(5), n(3)+n(7)))
	}
	v.wake()
	return nil
}

func (v *viewer) keySym() error {
	var b [7]byte
	if err := v.fixed(b[:]); err != nil {
		return err
	}
	v.key(symCode(binary.BigEndian.Uint32(b[3:])), b[0] != 0)
	return nil
}

// qemuMessage is the QEMU Extended Key Event, the only one offered.
func (v *viewer) qemuMessage() error {
	var b [11]byte
	if err := v.fixed(b[:]); err != nil {
		return err
	}
	if b[0] != qemuKey {
		return fmt.Errorf("the viewer sent QEMU's message %d, which was not offered", b[0])
	}
	code := KeyCode(binary.BigEndian.Uint32(b[7:]))
	if code == 0 {
		code = symCode(binary.BigEndian.Uint32(b[3:]))
	}
	v.key(code, binary.BigEndian.Uint16(b[1:]) != 0)
	return nil
}

func (v *viewer) key(code uint16, down bool) {
	if code == 0 || !down && !v.held[code] {
		return
	}
	if down {
		v.held[code] = true
	} else {
		delete(v.held, code)
	}
	v.server.opt.Key(code, down)
}

func (v *viewer) pointer() error {
	var b [5]byte
	if err := v.fixed(b[:]); err != nil {
		return err
	}
	at := image.Pt(int(binary.BigEndian.Uint16(b[1:])), int(binary.BigEndian.Uint16(b[3:])))
	if !v.placed {
		v.at, v.placed = at, true
	}
	was := v.at
	v.at, v.buttons = at, Buttons(b[0])
	if delta, relative := v.motion(was); relative {
		v.server.opt.Motion(delta, v.buttons)
	} else {
		v.point()
	}
	return nil
}

// motion is how far the pointer went from where it was, if the guest wants to know
// that; viewers that know of it send it around relativeZero.
func (v *viewer) motion(was image.Point) (delta image.Point, relative bool) {
	v.server.mu.Lock()
	defer v.server.mu.Unlock()
	if v.told.relative {
		return v.at.Sub(image.Pt(relativeZero, relativeZero)), v.server.relative
	}
	return v.at.Sub(was), v.server.relative
}

// point tells where the pointer is and what it holds.
func (v *viewer) point() {
	v.server.mu.Lock()
	size, relative := v.server.seen.size, v.server.relative
	v.server.mu.Unlock()
	if relative {
		v.server.opt.Motion(image.Point{}, v.buttons)
		return
	}
	at := image.Pt(min(v.at.X, size.X-1), min(v.at.Y, size.Y-1))
	v.server.opt.Pointer(at, size, v.buttons)
}

// cutText passes over the viewer's clipboard, which has no way into the guest.
func (v *viewer) cutText() error {
	var b [7]byte
	if err := v.fixed(b[:]); err != nil {
		return err
	}
	n := int64(int32(binary.BigEndian.Uint32(b[3:])))
	if n < 0 { // the extended clipboard
		n = -n
	}
	_, err := io.CopyN(io.Discard, v.r, n)
	return err
}
