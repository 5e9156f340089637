package rfb

import (
	"bytes"
	"encoding/binary"
	"errors"
	"image"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// canvas is a Picture that a test paints.
type canvas struct {
	size  image.Point
	mu    sync.Mutex
	pix   []byte // guarded by mu
	reads int    // guarded by mu; rows
}

func newCanvas(w, h int) *canvas { return &canvas{size: image.Pt(w, h), pix: make([]byte, w*h*4)} }

func (c *canvas) Size() image.Point { return c.size }

func (c *canvas) Read(dst []byte, x, y int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reads++
	if n := copy(dst, c.pix[(y*c.size.X+x)*4:(y+1)*c.size.X*4]); n < len(dst) {
		panic("a row is read beyond its end")
	}
}

// fill paints r, which is inside, with one colour.
func (c *canvas) fill(r image.Rectangle, b, g, red byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for y := r.Min.Y; y < r.Max.Y; y++ {
		copy(c.pix[(y*c.size.X+r.Min.X)*4:], solid(r.Dx(), b, g, red))
	}
}

// noise paints r at random.
func (c *canvas) noise(rnd *rand.Rand, r image.Rectangle) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for y := r.Min.Y; y < r.Max.Y; y++ {
		for x := r.Min.X; x < r.Max.X; x++ {
			binary.LittleEndian.PutUint32(c.pix[(y*c.size.X+x)*4:], rnd.Uint32()&0xffffff)
		}
	}
}

func (c *canvas) image() *image.RGBA {
	c.mu.Lock()
	defer c.mu.Unlock()
	img := image.NewRGBA(image.Rectangle{Max: c.size})
	swizzle(img.Pix, c.pix)
	return img
}

// watcher is our client looking at a Server.
type watcher struct {
	*Client
	updates chan struct{} // has room for one
}

func newServer(t *testing.T, o ServerOptions) *Server {
	if o.Size == (image.Point{}) {
		o.Size = image.Pt(64, 32)
	}
	s := NewServer(o)
	t.Cleanup(s.Close)
	return s
}

// watch connects our client to s.
func watch(t *testing.T, s *Server) *watcher {
	t.Helper()
	ours, theirs := net.Pipe()
	served := make(chan error, 1)
	go func() { served <- s.Serve(theirs) }()
	w := &watcher{updates: make(chan struct{}, 1)}
	c, err := Connect(t.Context(), ours, Options{Handler: Handler{Updated: func(image.Rectangle) {
		select {
		case w.updates <- struct{}{}:
		default:
		}
	}}})
	if err != nil {
		t.Fatal(err)
	}
	w.Client = c
	done := run(c)
	t.Cleanup(func() {
		c.Close()
		<-done
		if err := <-served; err != nil {
			t.Errorf("the server says: %v", err)
		}
	})
	return w
}

// sees waits until the viewer has the picture.
func (w *watcher) sees(t *testing.T, want *image.RGBA) {
	t.Helper()
	guard := time.After(hang)
	for {
		w.Painted()
		got := w.Frame().CopyTo(nil, image.Rectangle{})
		if got.Rect == want.Rect && bytes.Equal(got.Pix, want.Pix) {
			return
		}
		select {
		case <-w.updates:
		case <-guard:
			t.Fatalf("the viewer has a picture of %v and not the one of %v", got.Rect, want.Rect)
		}
	}
}

func TestViewersSeeThePicture(t *testing.T) {
	s := newServer(t, ServerOptions{Name: "web"})
	a := watch(t, s)
	if a.Name() != "web" || a.Frame().Size() != image.Pt(64, 32) {
		t.Errorf("the screen before the first picture is %q of %v", a.Name(), a.Frame().Size())
	}
	pic := newCanvas(203, 101)
	rnd := rand.New(rand.NewPCG(1, 2))
	pic.noise(rnd, image.Rect(0, 0, 203, 101))
	if err := s.Show(pic); err != nil {
		t.Fatal(err)
	}
	a.sees(t, pic.image())
	b := watch(t, s) // it comes later
	for range 50 {
		x, y := rnd.IntN(203), rnd.IntN(101)
		r := image.Rect(x, y, x+1+rnd.IntN(203-x), y+1+rnd.IntN(101-y))
		pic.noise(rnd, r)
		s.Damage(r)
	}
	a.sees(t, pic.image())
	b.sees(t, pic.image())
	if got := s.Image(); !bytes.Equal(got.Pix, pic.image().Pix) {
		t.Error("the server's own picture is another")
	}

	small := newCanvas(40, 30)
	small.fill(image.Rect(3, 3, 9, 9), 1, 2, 3)
	if err := s.Show(small); err != nil {
		t.Fatal(err)
	}
	a.sees(t, small.image())
	b.sees(t, small.image())
	if err := s.Show(nil); err != nil {
		t.Fatal(err)
	}
	a.sees(t, newCanvas(40, 30).image())
}

// What has not changed is neither read nor sent, whatever the guest says.
func TestOnlyChangesAreSent(t *testing.T) {
	s := newServer(t, ServerOptions{})
	pic := newCanvas(640, 480)
	if err := s.Show(pic); err != nil {
		t.Fatal(err)
	}
	raw := newRawViewer(t, s, "RFB 003.008\n")
	raw.ask(false)
	if got := raw.update(4); len(got) != 1 || got[0].r != image.Rect(0, 0, 640, 480) {
		t.Fatalf("the first update has %d rectangles", len(got))
	}
	pic.fill(image.Rect(100, 100, 101, 101), 9, 9, 9)
	s.Damage(image.Rect(0, 0, 640, 480))
	raw.ask(true)
	got := raw.update(4)
	if len(got) != 1 || got[0].r != image.Rect(96, 96, 112, 112) {
		t.Fatalf("a pixel at 100,100 is sent as %v", got)
	}
	if px := got[0].pix[(4*16+4)*4:]; px[0] != 9 {
		t.Errorf("the pixel is % x", px[:4])
	}

	pic.mu.Lock()
	pic.reads = 0
	pic.mu.Unlock()
	raw.ask(true)
	s.Damage(image.Rect(0, 0, 640, 480)) // and nothing has changed
	s.Damage(image.Rect(-5, -5, -1, 4000))
	s.Damage(image.Rect(0, 0, 1<<30, 1<<30))
	pic.fill(image.Rect(639, 479, 640, 480), 7, 7, 7)
	s.Damage(image.Rect(639, 479, 640, 480))
	if got := raw.update(4); len(got) != 1 || got[0].r != image.Rect(624, 464, 640, 480) {
		t.Fatalf("the last pixel is sent as %v", got)
	}
}

// rawViewer speaks RFB by hand.
type rawViewer struct {
	t *testing.T
	*server
}

type sent struct {
	r   image.Rectangle
	enc int32
	pix []byte
}

// newRawViewer shakes hands in a version of the protocol.
func newRawViewer(t *testing.T, s *Server, version string) *rawViewer {
	t.Helper()
	ours, theirs := net.Pipe()
	ours.SetDeadline(time.Now().Add(hang))
	go s.Serve(theirs)
	t.Cleanup(func() { ours.Close() })
	v := &rawViewer{t, &server{t, ours}}
	if got := v.read(12); string(got) != version38 {
		t.Fatalf("the server begins with %q", got)
	}
	v.write([]byte(version))
	switch version {
	case "RFB 003.003\n":
		if got := v.read(4); got[3] != 1 {
			t.Errorf("security % x", got)
		}
	default:
		if got := v.read(2); !bytes.Equal(got, []byte{1, 1}) {
			t.Errorf("security % x", got)
		}
		v.write(byte(1))
		if version == version38 {
			v.read(4)
		}
	}
	v.write(byte(1))
	v.read(int(binary.BigEndian.Uint32(v.read(24)[20:])))
	return v
}

func (v *rawViewer) ask(incremental bool) {
	i := byte(0)
	if incremental {
		i = 1
	}
	v.write(msgUpdateRequest, i, u16(0), u16(0), u16(0xffff), u16(0xffff))
}

// update reads one, of pixels of some bytes.
func (v *rawViewer) update(size int) (out []sent) {
	v.t.Helper()
	head := v.read(4)
	if head[0] != msgUpdate {
		v.t.Fatalf("no update: % x", head)
	}
	for range binary.BigEndian.Uint16(head[2:]) {
		b := v.read(12)
		n := func(i int) int { return int(binary.BigEndian.Uint16(b[i:])) }
		p := sent{r: image.Rect(n(0), n(2), n(0)+n(4), n(2)+n(6)), enc: int32(binary.BigEndian.Uint32(b[8:]))}
		if p.enc == encRaw {
			p.pix = v.read(p.r.Dx() * p.r.Dy() * size)
		}
		out = append(out, p)
	}
	return out
}

func TestOldViewers(t *testing.T) {
	for _, version := range []string{"RFB 003.003\n", "RFB 003.007\n", "RFB 003.889\n"} {
		s := newServer(t, ServerOptions{})
		if version == "RFB 003.889\n" { // Apple's; it is 3.8
			ours, theirs := net.Pipe()
			go s.Serve(theirs)
			v := &rawViewer{t, &server{t, ours}}
			v.read(12)
			v.write([]byte(version))
			v.read(2)
			v.write(byte(1))
			if got := v.read(4); !bytes.Equal(got, make([]byte, 4)) {
				t.Errorf("security result % x", got)
			}
			ours.Close()
			continue
		}
		v := newRawViewer(t, s, version)
		v.ask(false)
		if got := v.update(4); len(got) != 1 {
			t.Errorf("%q: %d rectangles", version, len(got))
		}
		// It knows no change of size: what fits is sent.
		pic := newCanvas(200, 10)
		pic.fill(image.Rect(0, 0, 200, 10), 5, 5, 5)
		if err := s.Show(pic); err != nil {
			t.Fatal(err)
		}
		v.ask(true)
		if got := v.update(4); len(got) != 1 || got[0].r != image.Rect(0, 0, 64, 10) {
			t.Errorf("%q: after a change of size %v", version, got)
		}
	}
}

func TestPixelFormats(t *testing.T) {
	s := newServer(t, ServerOptions{Size: image.Pt(1, 1)})
	pic := newCanvas(1, 1)
	pic.fill(image.Rect(0, 0, 1, 1), 0x40, 0x80, 0xff)
	if err := s.Show(pic); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		format []byte
		want   []byte
	}{
		{"native", []byte{32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0}, []byte{0x40, 0x80, 0xff, 0}},
		{"RGBX", []byte{32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 0, 8, 16}, []byte{0xff, 0x80, 0x40, 0}},
		{"big endian", []byte{32, 24, 1, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0}, []byte{0, 0xff, 0x80, 0x40}},
		{"565", []byte{16, 16, 0, 1, 0, 31, 0, 63, 0, 31, 11, 5, 0}, []byte{0x08, 0xfc}},
		{"565 big endian", []byte{16, 16, 1, 1, 0, 31, 0, 63, 0, 31, 11, 5, 0}, []byte{0xfc, 0x08}},
		{"233", []byte{8, 8, 0, 1, 0, 7, 0, 7, 0, 3, 0, 3, 6}, []byte{1<<6 | 4<<3 | 7}},
	} {
		v := newRawViewer(t, s, version38)
		v.write(msgSetPixelFormat, []byte{0, 0, 0}, c.format, []byte{0, 0, 0})
		v.ask(false)
		if got := v.update(int(c.format[0]) / 8); len(got) != 1 || !bytes.Equal(got[0].pix, c.want) {
			t.Errorf("%s: %v, want % x", c.name, got, c.want)
		}
	}

	v := newRawViewer(t, s, version38)
	v.write(msgSetPixelFormat, []byte{0, 0, 0}, []byte{8, 8, 0, 0}, make([]byte, 12))
	v.ask(false)
	if head := v.read(6); !bytes.Equal(head, []byte{1, 0, 0, 0, 1, 0}) {
		t.Fatalf("no palette: % x", head)
	}
	colours := v.read(256 * 6)
	got := v.update(1)
	if len(got) != 1 {
		t.Fatal(got)
	}
	if rgb := colours[6*int(got[0].pix[0]):][:6]; rgb[0] != 0xff || rgb[2] < 0x80 || rgb[2] > 0x98 || rgb[4] != 0x55 {
		t.Errorf("the pixel has the palette's colour % x", rgb)
	}
}

// pressed records a server's input in words.
type pressed struct{ c chan any }

type (
	keyPress struct {
		code uint16
		down bool
	}
	pointing struct {
		at, size image.Point
		buttons  Buttons
	}
	movement struct {
		delta   image.Point
		buttons Buttons
	}
)

func recorder() (*pressed, ServerOptions) {
	p := &pressed{make(chan any, 64)}
	return p, ServerOptions{
		Key:     func(code uint16, down bool) { p.c <- keyPress{code, down} },
		Pointer: func(at, size image.Point, b Buttons) { p.c <- pointing{at, size, b} },
		Motion:  func(d image.Point, b Buttons) { p.c <- movement{d, b} },
	}
}

func (p *pressed) want(t *testing.T, all ...any) {
	t.Helper()
	for _, want := range all {
		select {
		case got := <-p.c:
			if got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
		case <-time.After(hang):
			t.Fatalf("%+v never came", want)
		}
	}
}

func TestInputOfViewers(t *testing.T) {
	p, o := recorder()
	s := newServer(t, o)
	w := watch(t, s)
	w.Key(0x1e, true)
	w.Key(0x1e, false)
	w.Key(0x9d, true)
	w.Key(0x9d, false)
	p.want(t, keyPress{30, true}, keyPress{30, false}, keyPress{97, true}, keyPress{97, false})
	w.Pointer(image.Pt(5, 6), Left)
	p.want(t, pointing{image.Pt(5, 6), image.Pt(64, 32), Left})
	w.Key(0x2a, true)
	p.want(t, keyPress{42, true})
	w.Close() // lets go of Shift and of the button
	p.want(t, keyPress{42, false})
	for got := range p.c { // after nudges that repeat the pointer
		if got == (pointing{image.Pt(5, 6), image.Pt(64, 32), 0}) {
			break
		}
	}

	v := newRawViewer(t, s, version38)
	sym := func(s uint32, down byte) { v.write(msgKey, down, []byte{0, 0}, u32(s)) }
	for _, k := range []struct {
		sym  uint32
		code uint16
	}{{'a', 30}, {'A', 30}, {'|', 43}, {'~', 41}, {'1', 2}, {'/', 53}, {' ', 57}, {0xff0d, 28}, {0xffc4, 65}, {0xff51, 105}, {0xffe9, 56}} {
		sym(k.sym, 1)
		sym(k.sym, 0)
		p.want(t, keyPress{k.code, true}, keyPress{k.code, false})
	}
	sym(0x1000000, 1) // no key of a US board
	sym('b', 0)       // never pressed
	v.write(msgClientCutText, []byte{0, 0, 0}, u32(3), []byte("abc"))
	v.write(msgPointer, byte(0), u16(9999), u16(3))
	p.want(t, pointing{image.Pt(63, 3), image.Pt(64, 32), 0})
}

func TestRelativePointers(t *testing.T) {
	p, o := recorder()
	s := newServer(t, o)
	s.SetAbsolute(false)
	v := newRawViewer(t, s, version38) // it does not know of relative pointers
	v.write(msgPointer, byte(0), u16(10), u16(10))
	v.write(msgPointer, byte(1), u16(13), u16(8))
	p.want(t, movement{image.Pt(0, 0), 0}, movement{image.Pt(3, -2), Left})

	w := watch(t, s)
	for w.Absolute() {
		time.Sleep(time.Millisecond) // the mode comes with the first update
	}
	w.Move(image.Pt(-7, 4), 0)
	p.want(t, movement{image.Pt(-7, 4), 0})
}

// Every scan code that our window sends is known by its Linux number; the table
// of the window is compared in app/desktop/screen.
func TestScanCodes(t *testing.T) {
	for xt, want := range map[uint32]uint16{0x01: 1, 0x1e: 30, 0x53: 83, 0x54: 99, 0x56: 86, 0x58: 88, 0xb8: 100, 0xdd: 127, 0x55: 0, 0xff: 0, 0x130: 0} {
		if got := KeyCode(xt); got != want {
			t.Errorf("scan code %#x is key %d, want %d", xt, got, want)
		}
	}
}

func TestTooManyViewers(t *testing.T) {
	s := newServer(t, ServerOptions{})
	for range maxViewers {
		newRawViewer(t, s, version38)
	}
	ours, theirs := net.Pipe()
	go s.Serve(theirs)
	if _, err := Connect(t.Context(), ours, Options{}); err == nil || !strings.Contains(err.Error(), "16 viewers look at this guest already") {
		t.Errorf("one too many is told %v", err)
	}
}

// A viewer that reads nothing holds up neither the others nor Close.
func TestViewerThatStopsReading(t *testing.T) {
	s := newServer(t, ServerOptions{})
	pic := newCanvas(300, 300)
	if err := s.Show(pic); err != nil {
		t.Fatal(err)
	}
	stuck := newRawViewer(t, s, version38)
	stuck.ask(false)
	w := watch(t, s)
	pic.fill(image.Rect(0, 0, 300, 300), 1, 2, 3)
	s.Damage(image.Rect(0, 0, 300, 300))
	w.sees(t, pic.image())
	s.Close()
	stuck.SetReadDeadline(time.Now().Add(hang))
	if _, err := io.Copy(io.Discard, stuck.Conn); err != nil {
		t.Errorf("after Close the stuck viewer is told %v", err)
	}
	if err := s.Serve(nopConn{}); !errors.Is(err, errServerClosed) {
		t.Errorf("a viewer after Close is told %v", err)
	}
}

type nopConn struct{}

func (nopConn) Read([]byte) (int, error)    { return 0, io.EOF }
func (nopConn) Write(b []byte) (int, error) { return len(b), nil }
func (nopConn) Close() error                { return nil }

func TestPicturesOfNoSize(t *testing.T) {
	s := newServer(t, ServerOptions{})
	for _, size := range []image.Point{{}, {1, 0}, {maxSide + 1, 1}, {maxSide, maxSide}} {
		if err := s.Show(&canvas{size: size}); err == nil {
			t.Errorf("a picture of %v is shown", size)
		}
	}
}

func TestTiles(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		size := image.Pt(1+rnd.IntN(2500), 1+rnd.IntN(300))
		tl := newTiles(size)
		want := map[image.Point]bool{}
		for range rnd.IntN(12) {
			x, y := rnd.IntN(size.X+100)-50, rnd.IntN(size.Y+100)-50
			r := image.Rect(x, y, x+rnd.IntN(400), y+rnd.IntN(100))
			tl.mark(r)
			r = r.Intersect(image.Rectangle{Max: size})
			for y := r.Min.Y / tileSize; y*tileSize < r.Max.Y; y++ {
				for x := r.Min.X / tileSize; x*tileSize < r.Max.X; x++ {
					want[image.Pt(x, y)] = true
				}
			}
		}
		got := map[image.Point]bool{}
		for _, r := range tl.take() {
			if r.Empty() || !r.In(image.Rectangle{Max: size}) {
				t.Fatalf("%v in %v", r, size)
			}
			for y := r.Min.Y; y < r.Max.Y; y += tileSize {
				for x := r.Min.X; x < r.Max.X; x += tileSize {
					p := image.Pt(x/tileSize, y/tileSize)
					if got[p] || !want[p] {
						t.Fatalf("square %v of %v: twice or not changed", p, size)
					}
					got[p] = true
				}
			}
		}
		if len(got) != len(want) || tl.some || tl.take() != nil {
			t.Fatalf("%d squares of %d", len(got), len(want))
		}
	}
	chess := newTiles(image.Pt(4096, 4096))
	for y := range 256 {
		for x := range 256 {
			if (x+y)%2 == 0 {
				chess.set(x, y)
			}
		}
	}
	if got := chess.take(); len(got) != 1 || got[0] != image.Rect(0, 0, 4096, 4096) {
		t.Errorf("a chessboard is %d rectangles", len(got))
	}
}

// FuzzViewer feeds whole viewer streams, handshake and all.
func FuzzViewer(f *testing.F) {
	hello := []byte(version38 + "\x01\x01")
	seed := func(parts ...any) { f.Add(appendParts(bytes.Clone(hello), parts...)) }
	seed(msgSetEncodings, byte(0), u16(3), encDesktopSize, encExtKey, encPointerMode, msgUpdateRequest, byte(0), u16(0), u16(0), u16(9), u16(9))
	seed(msgSetPixelFormat, []byte{0, 0, 0}, byte(16), byte(16), byte(1), byte(1), u16(31), u16(63), u16(31), byte(11), byte(5), byte(0), []byte{0, 0, 0},
		msgUpdateRequest, byte(0), u16(0), u16(0), u16(9), u16(9))
	seed(msgSetPixelFormat, []byte{0, 0, 0}, byte(8), byte(8), byte(0), byte(0), make([]byte, 12), msgUpdateRequest, byte(0), u16(0), u16(0), u16(9), u16(9))
	seed(msgKey, byte(1), []byte{0, 0}, u32('a'), msgQEMU, qemuKey, u16(1), u32(0), u32(0x1e), msgPointer, byte(1), u16(3), u16(4))
	seed(msgClientCutText, []byte{0, 0, 0}, int32(-5), []byte("abcde"), msgPointer, byte(0), u16(3), u16(4))
	f.Add([]byte("RFB 003.003\n\x01\x03\x00\x00\x00\x00\x00\x00\x09\x00\x09"))
	f.Fuzz(func(t *testing.T, b []byte) {
		down := map[uint16]bool{}
		var held Buttons
		s := NewServer(ServerOptions{Size: image.Pt(20, 20),
			Key: func(code uint16, d bool) {
				if code == 0 || code > 255 {
					t.Fatalf("key %d", code)
				}
				down[code] = d
			},
			Pointer: func(at, size image.Point, b Buttons) {
				if !at.In(image.Rectangle{Max: size}) {
					t.Fatalf("pointer at %v of %v", at, size)
				}
				held = b
			}})
		if err := s.Show(newCanvas(40, 40)); err != nil {
			t.Fatal(err)
		}
		_ = s.Serve(&script{bytes.NewReader(b)})
		for code, d := range down {
			if d {
				t.Fatalf("key %d stays down", code)
			}
		}
		if held != 0 {
			t.Fatalf("buttons %d stay down", held)
		}
	})
}

func BenchmarkServer(b *testing.B) {
	const w, h = 1280, 800
	s := NewServer(ServerOptions{Size: image.Pt(w, h)})
	pics := [2]*canvas{newCanvas(w, h), newCanvas(w, h)}
	rnd := rand.New(rand.NewPCG(5, 6))
	for _, p := range pics {
		p.noise(rnd, image.Rect(0, 0, w, h))
	}
	v := newViewer(s, nopConn{})
	if err := s.join(v); err != nil {
		b.Fatal(err)
	}
	v.size = image.Pt(w, h)
	buf := make([]byte, 0, chunkBytes+64<<10)
	b.SetBytes(w * h * 4)
	for i := 0; b.Loop(); i++ {
		if err := s.Show(pics[i%2]); err != nil {
			b.Fatal(err)
		}
		v.want, v.next = true, time.Time{}
		u, _ := v.take(time.Now())
		if len(u.rects) != 1 {
			b.Fatal(u.rects)
		}
		if err := v.send(buf, u); err != nil {
			b.Fatal(err)
		}
	}
}
