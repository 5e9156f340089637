package rfb

import (
	"bytes"
	"context"
	"encoding/binary"
	"image"
	"image/color"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// server is the other end, played by a test.
type server struct {
	t *testing.T
	net.Conn
}

const hang = 5 * time.Minute // a guard against hanging, not a measure

// connect gives a client of a w x h screen, through the handshake, and the
// server's end behind its first update request.
func connect(t *testing.T, w, h int, o Options) (*Client, *server) {
	t.Helper()
	ours, theirs := net.Pipe()
	s := &server{t, theirs}
	theirs.SetDeadline(time.Now().Add(hang))
	t.Cleanup(func() { theirs.Close() })
	shaken := make(chan struct{})
	go func() {
		defer close(shaken)
		s.write([]byte(version38))
		s.read(12)
		s.write(byte(1), byte(1))
		s.read(1)
		s.write(u32(0))
		s.read(1)
		s.write(u16(w), u16(h), make([]byte, 16), u32(4), []byte("test"))
	}()
	c, err := Connect(context.Background(), ours, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	<-shaken
	if got := s.read(20); got[0] != msgSetPixelFormat || got[4] != 32 {
		t.Errorf("pixel format message: % x", got)
	}
	if head := s.read(4); head[0] != msgSetEncodings {
		t.Errorf("encodings message: % x", head)
	} else {
		s.read(4 * int(binary.BigEndian.Uint16(head[2:])))
	}
	s.wantUpdateRequest(false)
	return c, s
}

func (s *server) write(parts ...any) {
	if _, err := s.Write(appendParts(nil, parts...)); err != nil {
		s.t.Errorf("server write: %v", err)
	}
}

func (s *server) read(n int) []byte {
	b := make([]byte, n)
	if _, err := io.ReadFull(s, b); err != nil {
		s.t.Errorf("server read: %v", err)
	}
	return b
}

func (s *server) wantUpdateRequest(incremental bool) {
	s.t.Helper()
	got := s.read(10)
	want := byte(0)
	if incremental {
		want = 1
	}
	if got[0] != msgUpdateRequest || got[1] != want {
		s.t.Fatalf("update request (incremental %v): got % x", incremental, got)
	}
}

// wantNothing is for when the client has nothing left to do but wait for us.
func (s *server) wantNothing(c *Client) {
	s.t.Helper()
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	if len(c.out.buf) > 0 {
		s.t.Fatalf("the client sends % x", c.out.buf)
	}
}

func rect(x, y, w, h int, enc int32) []any {
	return []any{u16(x), u16(y), u16(w), u16(h), enc}
}

func (s *server) update(rects ...[]any) {
	parts := []any{msgUpdate, byte(0), u16(len(rects))}
	for _, r := range rects {
		parts = append(parts, r...)
	}
	s.write(parts...)
}

func solid(n int, b, g, r byte) []byte { return bytes.Repeat([]byte{b, g, r, 0}, n) }

func run(c *Client) chan error {
	done := make(chan error, 1)
	go func() { done <- c.Run() }()
	return done
}

func TestPictureFollowsTheServer(t *testing.T) {
	updated := make(chan image.Rectangle, 1)
	var size image.Point
	c, s := connect(t, 8, 4, Options{Handler: Handler{
		Updated: func(r image.Rectangle) { updated <- r },
		Resized: func(p image.Point) { size = p },
	}})
	run(c)
	at := func(x, y int) color.RGBA { return c.Frame().CopyTo(nil, image.Rectangle{}).RGBAAt(x, y) }

	s.update(append(rect(1, 1, 3, 2, encRaw), solid(6, 10, 20, 30)), append(rect(6, 3, 1, 1, encRaw), solid(1, 1, 2, 3)))
	if got, want := <-updated, image.Rect(1, 1, 7, 4); got != want {
		t.Errorf("damage %v, want %v", got, want)
	}
	for _, p := range []image.Point{{1, 1}, {3, 2}} {
		if got := at(p.X, p.Y); got != (color.RGBA{30, 20, 10, 255}) {
			t.Errorf("pixel %v is %v", p, got)
		}
	}
	if got := at(0, 0); got != (color.RGBA{0, 0, 0, 255}) {
		t.Errorf("a pixel never sent is %v, want opaque black", got)
	}
	if got := at(6, 3); got != (color.RGBA{3, 2, 1, 255}) {
		t.Errorf("an odd pixel is %v", got)
	}
	s.wantUpdateRequest(true)

	// Overlapping copy, downwards and to the right.
	s.update(append(rect(2, 2, 3, 2, encCopyRect), u16(1), u16(1)))
	<-updated
	for _, p := range []image.Point{{1, 1}, {2, 2}, {4, 3}} {
		if got := at(p.X, p.Y); got != (color.RGBA{30, 20, 10, 255}) {
			t.Errorf("after the copy pixel %v is %v", p, got)
		}
	}
	c.Painted()
	s.wantUpdateRequest(true)

	s.update(rect(0, 0, 20, 10, encDesktopSize))
	if got := <-updated; got != image.Rect(0, 0, 20, 10) || size != image.Pt(20, 10) {
		t.Errorf("resize: damage %v, told %v", got, size)
	}
	if got := at(4, 3); got != (color.RGBA{30, 20, 10, 255}) {
		t.Errorf("after the resize pixel 4,3 is %v", got)
	}
	s.wantUpdateRequest(true)
	s.wantUpdateRequest(false) // the first was for the old size
}

func TestSwizzle(t *testing.T) {
	for n := range 9 {
		src := make([]byte, 4*n)
		for i := range src {
			src[i] = byte(i + 1)
		}
		dst := make([]byte, 4*n)
		swizzle(dst, src)
		for p := 0; p < 4*n; p += 4 {
			want := []byte{src[p+2], src[p+1], src[p], 255}
			if !bytes.Equal(dst[p:p+4], want) {
				t.Errorf("%d pixels: at %d % x, want % x", n, p/4, dst[p:p+4], want)
			}
		}
		opaque(dst, src)
		for p := 0; p < 4*n; p += 4 {
			if want := []byte{src[p], src[p+1], src[p+2], 255}; !bytes.Equal(dst[p:p+4], want) {
				t.Errorf("%d pixels made opaque: at %d % x, want % x", n, p/4, dst[p:p+4], want)
			}
		}
	}
}

// An update that is not painted must not be followed by ever more requests.
func TestNoRequestsWhenNothingIsPainted(t *testing.T) {
	updated := make(chan image.Rectangle, 1)
	c, s := connect(t, 2, 2, Options{Handler: Handler{Updated: func(r image.Rectangle) { updated <- r }}})
	run(c)
	one := append(rect(0, 0, 2, 2, encRaw), solid(4, 1, 1, 1))
	for range maxUnpainted - 1 {
		s.update(one)
		s.wantUpdateRequest(true)
		<-updated
	}
	s.update(one)
	<-updated
	s.wantNothing(c)
	c.Painted()
	s.wantUpdateRequest(true)

	c.SetActive(false)
	s.update(one)
	<-updated
	c.Painted()
	s.wantNothing(c)
	c.SetActive(true)
	s.wantUpdateRequest(true)
	c.RequestUpdate(false)
	s.wantUpdateRequest(false)
}

func TestWhatTheServerTells(t *testing.T) {
	told := make(chan any, 1)
	type cursor struct {
		img *image.RGBA
		hot image.Point
	}
	c, s := connect(t, 4, 4, Options{Audio: true, Handler: Handler{
		Cursor:      func(i *image.RGBA, hot image.Point) { told <- cursor{i, hot} },
		PointerMode: func(abs bool) { told <- abs },
		LEDs:        func(l LEDs) { told <- l },
		Bell:        func() { told <- "bell" },
		Clipboard:   func(s string) { told <- s },
		Audio:       func(b []byte) { told <- len(b) },
	}})
	run(c)

	s.update(append(rect(1, 0, 2, 1, encCursor), solid(2, 1, 2, 3), byte(0x40)))
	cur := (<-told).(cursor)
	if cur.hot != image.Pt(1, 0) || cur.img.RGBAAt(0, 0).A != 0 || cur.img.RGBAAt(1, 0) != (color.RGBA{3, 2, 1, 255}) {
		t.Errorf("cursor %+v", cur)
	}
	s.wantUpdateRequest(true)
	s.update(append(rect(0, 0, 1, 1, encAlphaCursor), encRaw, []byte{200, 50, 10, 100}))
	cur = (<-told).(cursor)
	if got := cur.img.RGBAAt(0, 0); got != (color.RGBA{10, 50, 100, 100}) {
		t.Errorf("alpha cursor %v", got)
	}
	s.wantUpdateRequest(true)
	s.update(rect(0, 0, 0, 0, encCursor))
	if cur = (<-told).(cursor); cur.img != nil {
		t.Error("an empty cursor is not hidden")
	}
	s.wantUpdateRequest(true)

	s.update(rect(0, 0, 4, 4, encPointerMode))
	if <-told != false || c.Absolute() {
		t.Error("pointer mode 0 is not relative")
	}
	s.wantUpdateRequest(true)
	s.update(append(rect(0, 0, 1, 1, encLED), byte(6)), rect(0, 0, 4, 4, encExtKey))
	if got := <-told; got != NumLock|CapsLock {
		t.Errorf("lights %v", got)
	}
	s.wantUpdateRequest(true)
	if !c.CanKey() {
		t.Error("the extended key confirmation is not noticed")
	}

	s.write(msgBell)
	if <-told != "bell" {
		t.Error("no bell")
	}
	s.write(msgColourMap, byte(0), u16(0), u16(2), make([]byte, 12), msgServerCutText, []byte{0, 0, 0}, u32(2), []byte{'h', 0xe9})
	if got := <-told; got != "hé" {
		t.Errorf("clipboard %q", got)
	}

	s.update(rect(0, 0, 0, 0, encAudio))
	s.wantUpdateRequest(true)
	if got, want := s.read(14), appendParts(nil, msgQEMU, qemuAudio, u16(audioSetFormat), audioS16, byte(2), u32(44100), msgQEMU, qemuAudio, u16(audioEnable)); !bytes.Equal(got, want) {
		t.Errorf("audio: % x, want % x", got, want)
	}
	s.write(msgQEMU, qemuAudio, u16(audioBegin))
	if got := <-told; got != 0 {
		t.Errorf("audio begin %v", got)
	}
	s.write(msgQEMU, qemuAudio, u16(audioData), u32(8), make([]byte, 8))
	if got := <-told; got != 8 {
		t.Errorf("audio %v bytes", got)
	}
	c.SetAudio(false)
	if got, want := s.read(4), appendParts(nil, msgQEMU, qemuAudio, u16(audioDisable)); !bytes.Equal(got, want) {
		t.Errorf("audio off: % x", got)
	}
}

func TestInputReachesTheServer(t *testing.T) {
	c, s := connect(t, 100, 50, Options{})
	run(c)
	want := func(what string, parts ...any) {
		t.Helper()
		b := appendParts(nil, parts...)
		if got := s.read(len(b)); !bytes.Equal(got, b) {
			t.Errorf("%s: % x, want % x", what, got, b)
		}
	}
	// Between the steps come the nudge's repeats, which skipNudge passes over.
	c.Key(0x9d, true)
	want("key", msgQEMU, qemuKey, u16(1), u32(0), u32(0x9d))
	skipNudge := func(x, y int, b Buttons) {
		t.Helper()
		wanted := appendParts(nil, msgPointer, byte(b), u16(x), u16(y))
		for {
			if got := s.read(6); bytes.Equal(got, wanted) {
				return
			} else if got[0] != msgPointer {
				t.Fatalf("waiting for the pointer at %d,%d: % x", x, y, got)
			}
		}
	}
	c.Pointer(image.Pt(10, 20), Left)
	skipNudge(10, 20, Left)
	c.Pointer(image.Pt(500, -3), 0)
	skipNudge(99, 0, 0)
	c.Wheel(0, -1)
	skipNudge(99, 0, WheelDown)
	skipNudge(99, 0, 0)
	c.Move(image.Pt(5, 5), 0) // ignored: absolute
	s.update(rect(0, 0, 100, 50, encPointerMode))
	for c.Absolute() {
		s.SetReadDeadline(time.Now().Add(hang))
		s.read(1) // nudges and the update request, until the mode has arrived
	}
}

func TestRelativeMotion(t *testing.T) {
	c, s := connect(t, 100, 50, Options{})
	mode := make(chan bool, 1)
	c.handler.PointerMode = func(abs bool) { mode <- abs }
	run(c)
	s.update(rect(0, 0, 100, 50, encPointerMode))
	<-mode
	s.wantUpdateRequest(true)
	c.Move(image.Pt(50, -40), Right)
	if got, want := s.read(6), appendParts(nil, msgPointer, byte(Right), u16(relativeZero+50), u16(relativeZero-40)); !bytes.Equal(got, want) {
		t.Errorf("motion: % x, want % x", got, want)
	}
	// What the nudge repeats is no motion.
	if got, want := s.read(6), appendParts(nil, msgPointer, byte(Right), u16(relativeZero), u16(relativeZero)); !bytes.Equal(got, want) {
		t.Errorf("nudge: % x, want % x", got, want)
	}
}

func extSize(reason, status, w, h int) []any {
	return append(rect(reason, status, w, h, encExtDesktopSize), byte(1), []byte{0, 0, 0},
		u32(7), u16(0), u16(0), u16(w), u16(h), u32(9))
}

func TestOneSizeRequestAtATime(t *testing.T) {
	resized := make(chan image.Point, 1)
	c, s := connect(t, 10, 10, Options{Handler: Handler{Resized: func(p image.Point) { resized <- p }}})
	run(c)
	want := func(w, h int) {
		t.Helper()
		b := appendParts(nil, msgSetDesktopSize, byte(0), u16(w), u16(h), byte(1), byte(0), u32(7), u16(0), u16(0), u16(w), u16(h), u32(9))
		if got := s.read(len(b)); !bytes.Equal(got, b) {
			t.Fatalf("size request: % x, want % x", got, b)
		}
	}
	c.RequestSize(20, 20) // before the server said that it can
	s.wantNothing(c)
	s.update(extSize(0, 0, 10, 10))
	s.wantUpdateRequest(true)
	want(20, 20)
	c.RequestSize(30, 30)
	c.RequestSize(40, 40)
	s.wantNothing(c)
	s.update(extSize(reasonThisClient, 4, 10, 10)) // forwarded to the guest
	s.wantUpdateRequest(true)
	want(40, 40)
	s.update(extSize(reasonThisClient, 4, 10, 10))
	s.wantUpdateRequest(true)
	s.wantNothing(c) // the answer alone starts nothing
	s.update(extSize(0, 0, 40, 40))
	if got := <-resized; got != image.Pt(40, 40) {
		t.Errorf("resized to %v", got)
	}
	s.wantUpdateRequest(true)
	s.wantUpdateRequest(false)
}

func TestClipboard(t *testing.T) {
	got := make(chan string, 1)
	c, s := connect(t, 4, 4, Options{Handler: Handler{Clipboard: func(s string) { got <- s }}})
	run(c)
	send := func(flags uint32, body []byte) {
		s.write(msgServerCutText, []byte{0, 0, 0}, int32(-(4 + len(body))), u32(flags), body)
	}
	want := func(flags uint32) []byte {
		t.Helper()
		head := s.read(12)
		if head[0] != msgClientCutText || binary.BigEndian.Uint32(head[8:]) != flags {
			t.Fatalf("clipboard message % x, want flags %x", head, flags)
		}
		return s.read(int(-int32(binary.BigEndian.Uint32(head[4:]))) - 4)
	}
	if err := c.SetClipboard("é\n"); err != nil {
		t.Fatal(err)
	}
	if b := s.read(10); !bytes.Equal(b, []byte{msgClientCutText, 0, 0, 0, 0, 0, 0, 2, 0xe9, '\n'}) {
		t.Errorf("plain clipboard % x", b)
	}
	send(clipCaps|clipText|clipNotify|clipRequest|clipProvide, make([]byte, 4))
	want(clipCaps | clipText | clipRequest | clipPeek | clipNotify | clipProvide)
	want(clipNotify | clipText)
	c.SetClipboard("Grüße, 世界")
	want(clipNotify | clipText)
	send(clipRequest|clipText, nil)
	if text, err := inflateText(want(clipProvide | clipText)); err != nil || text != "Grüße, 世界" {
		t.Errorf("provided %q, %v", text, err)
	}
	send(clipPeek, nil)
	want(clipNotify | clipText)
	send(clipNotify|clipText, nil)
	want(clipRequest | clipText)
	send(clipProvide|clipText, deflateText("from\r\nthe guest\x00"))
	if text := <-got; text != "from\nthe guest" {
		t.Errorf("received %q", text)
	}
	if err := c.SetClipboard(strings.Repeat("x", maxClipText)); err == nil {
		t.Error("a text that the guest cannot take is not refused")
	}
}

func TestInflateIsBounded(t *testing.T) {
	bomb := deflateText(strings.Repeat("x", maxClipText+1))
	if _, err := inflateText(bomb); err == nil {
		t.Error("text beyond the bound is taken")
	}
	// A size that announces more than there is must not be believed.
	short := deflateText(strings.Repeat("0123456789 and so on", 100))
	if _, err := inflateText(short[:len(short)/2]); err == nil {
		t.Error("cut text is taken")
	}
}

func TestHandshakeRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		server []byte
		want   string
	}{
		"not rfb":     {[]byte("HTTP/1.1 400"), "no screen server"},
		"old":         {[]byte("RFB 003.003\n"), "older"},
		"cut":         {[]byte("RFB 003."), "version"},
		"password":    {append([]byte(version38), 1, 2), "password"},
		"no types":    {appendParts([]byte(version38), byte(0), u32(4), []byte("full")), `"full"`},
		"refused":     {appendParts([]byte(version38), byte(1), byte(1), u32(1), u32(4), []byte("busy")), `"busy"`},
		"long reason": {appendParts([]byte(version38), byte(0), u32(1<<31)), "broke off"},
		"huge":        {appendParts([]byte(version38), byte(1), byte(1), u32(0), u16(65535), u16(65535), make([]byte, 16), u32(0)), "65535x65535"},
		"area":        {appendParts([]byte(version38), byte(1), byte(1), u32(0), u16(16384), u16(16384), make([]byte, 16), u32(0)), "16384x16384"},
		"empty":       {appendParts([]byte(version38), byte(1), byte(1), u32(0), u16(0), u16(5), make([]byte, 16), u32(0)), "0x5"},
		"long name":   {appendParts([]byte(version38), byte(1), byte(1), u32(0), u16(5), u16(5), make([]byte, 16), u32(1<<31)), "name"},
	} {
		_, err := Connect(context.Background(), &script{Reader: bytes.NewReader(c.server)}, Options{})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want something about %s", name, err, c.want)
		}
	}
}

// script is a server that says what is written down and listens to nothing.
type script struct{ io.Reader }

func (*script) Write(b []byte) (int, error) { return len(b), nil }
func (*script) Close() error                { return nil }

func TestConnectEndsWithItsContext(t *testing.T) {
	ours, theirs := net.Pipe()
	defer theirs.Close()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Connect(ctx, ours, Options{}); err == nil || !strings.Contains(err.Error(), "canceled") {
		t.Errorf("got %v", err)
	}
}

func TestHostileMessages(t *testing.T) {
	for name, b := range map[string][]byte{
		"unknown message":  {77},
		"unknown encoding": appendParts(nil, append([]any{msgUpdate, byte(0), u16(1)}, rect(0, 0, 1, 1, 5)...)...),
		"raw outside":      appendParts(nil, append([]any{msgUpdate, byte(0), u16(1)}, rect(5, 5, 10, 10, encRaw)...)...),
		"raw far outside":  appendParts(nil, append([]any{msgUpdate, byte(0), u16(1)}, rect(65535, 65535, 65535, 65535, encRaw)...)...),
		"copy outside":     appendParts(nil, append([]any{msgUpdate, byte(0), u16(1)}, append(rect(0, 0, 8, 8, encCopyRect), u16(4), u16(4))...)...),
		"too large":        appendParts(nil, append([]any{msgUpdate, byte(0), u16(1)}, rect(0, 0, 16384, 16384, encDesktopSize)...)...),
		"no size":          appendParts(nil, append([]any{msgUpdate, byte(0), u16(1)}, rect(0, 0, 0, 0, encDesktopSize)...)...),
		"big cursor":       appendParts(nil, append([]any{msgUpdate, byte(0), u16(1)}, rect(0, 0, 60000, 60000, encCursor)...)...),
		"big alpha cursor": appendParts(nil, append([]any{msgUpdate, byte(0), u16(1)}, rect(0, 0, 60000, 60000, encAlphaCursor)...)...),
		"cursor encoding":  appendParts(nil, append([]any{msgUpdate, byte(0), u16(1)}, append(rect(0, 0, 1, 1, encAlphaCursor), int32(7))...)...),
		"much sound":       appendParts(nil, msgQEMU, qemuAudio, u16(audioData), u32(1<<31)),
		"odd sound":        appendParts(nil, msgQEMU, qemuAudio, u16(audioData), u32(3)),
		"unknown audio":    appendParts(nil, msgQEMU, qemuAudio, u16(9)),
		"unknown qemu":     appendParts(nil, msgQEMU, byte(9), u16(0)),
		"clip flags":       appendParts(nil, msgServerCutText, []byte{0, 0, 0}, int32(-2), []byte{1, 2}),
		"clip bomb":        appendParts(nil, msgServerCutText, []byte{0, 0, 0}, int32(-8), u32(clipProvide|clipText), u32(1)),
	} {
		c := newClient(&script{bytes.NewReader(b)}, Options{})
		c.frame.resize(8, 8)
		if err := c.message(); err == nil || err == io.EOF || err == io.ErrUnexpectedEOF {
			t.Errorf("%s: %v, want a refusal before more is read", name, err)
		}
	}
}

// A server that stops reading must cost neither memory without end nor a
// waiting caller.
func TestServerThatStopsReading(t *testing.T) {
	c, _ := connect(t, 4, 4, Options{})
	done := run(c)
	for range 2*maxQueue/12 + 1000 {
		c.Key(30, true)
	}
	select {
	case err := <-done:
		if err == nil || !strings.Contains(err.Error(), "read the guest's screen") {
			t.Errorf("ended with %v", err)
		}
	default:
		// The writer is stuck inside Write, as it is on a socket; closing frees it.
		c.out.mu.Lock()
		queued, full := len(c.out.buf), c.out.full
		c.out.mu.Unlock()
		if !full || queued > maxQueue+12 {
			t.Errorf("queued %d bytes, full %v", queued, full)
		}
		c.Close()
		if err := <-done; err != nil {
			t.Errorf("after Close: %v", err)
		}
	}
}

// The nudge must be unseen by the guest: it repeats where the pointer is, and
// before anybody has moved it, it moves it nowhere.
func TestNudgeMovesNothing(t *testing.T) {
	c := newClient(&script{}, Options{})
	c.frame.resize(100, 100)
	nudged := func() []byte {
		c.out.buf = nil
		c.nudgeOnce()
		return c.out.buf
	}
	if b := nudged(); len(b) != 0 {
		t.Errorf("before anything is known: % x", b)
	}
	c.clip.extended = true
	if b := nudged(); len(b) < 12 || b[0] != msgClientCutText || binary.BigEndian.Uint32(b[8:])&clipCaps == 0 {
		t.Errorf("before the pointer is known: % x", b)
	}
	c.Pointer(image.Pt(7, 8), Left)
	if b, want := nudged(), appendParts(nil, msgPointer, byte(Left), u16(7), u16(8)); !bytes.Equal(b, want) {
		t.Errorf("% x, want % x", b, want)
	}
	c.input.absolute = false
	if b, want := nudged(), appendParts(nil, msgPointer, byte(Left), u16(relativeZero), u16(relativeZero)); !bytes.Equal(b, want) {
		t.Errorf("% x, want % x", b, want)
	}
}
