package fb

import (
	"bytes"
	"context"
	"encoding/binary"
	"image"
	"image/color"
	"image/png"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hxen-project/hxen/hv/backend"
	"github.com/hxen-project/hxen/hv/hvtest"
	"github.com/hxen-project/hxen/hv/rfb"
	"github.com/hxen-project/hxen/hv/xenabi"
)

const (
	vfbFront  = "/local/domain/1/device/vfb/0"
	vfbBack   = "/local/domain/0/backend/vfb/1/0"
	vkbdFront = "/local/domain/1/device/vkbd/0"
	vkbdBack  = "/local/domain/0/backend/vkbd/1/0"
)

// setUp has a guest with a screen, which tells drivers what it hears of them.
func setUp(t testing.TB) (f *hvtest.Front, s *Screen, drivers chan Drivers) {
	t.Helper()
	f = hvtest.NewFront(t)
	drivers = make(chan Drivers, 1000)
	s = New("web", slog.New(slog.DiscardHandler), func(d Drivers) { drivers <- d })
	t.Cleanup(s.Close)
	g := &backend.Guest{Domid: 1, Domain: f.Domain, Store: f.Client, Log: f.Log}
	for _, dev := range []interface {
		Attach(*backend.Guest) (*backend.Device, error)
	}{Framebuffer{s}, Keyboard{s}} {
		d, err := dev.Attach(g)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(d.Close)
	}
	return f, s, drivers
}

// front is a front end of vfb that paints.
type front struct {
	*hvtest.Front
	page   uint64   // gfn of the shared page
	pd     []uint64 // gfns of the directory's pages
	frames []uint64
	long   int // bytes
	port   uint32
	head   xenabi.XenfbPage
	prod   uint32
}

// newPicture lays out a picture's memory as xen-fbfront does.
func newPicture(f *hvtest.Front, w, h, long int) *front {
	p := &front{Front: f, page: f.Alloc(), long: long, port: f.Port()}
	p.head = xenabi.XenfbPage{Width: int32(w), Height: int32(h), LineLength: uint32(w * 4), MemLength: uint32(w * h * 4), Depth: 32}
	for range (w*h*4 + 4095) / 4096 {
		p.frames = append(p.frames, f.Alloc())
	}
	for i := 0; i < len(p.frames); i += 4096 / long {
		p.pd = append(p.pd, f.Alloc())
	}
	p.lay()
	return p
}

// lay writes head, directory and frame numbers to where the back end finds them.
func (p *front) lay() {
	p.Write(p.page<<12, xenabi.Bytes(&p.head))
	at := uint64(xenabi.XenfbPD64)
	if p.long == 4 {
		at = xenabi.XenfbPD32
	}
	for i, gfn := range p.pd {
		p.Write(p.page<<12+at+uint64(i*p.long), p.number(gfn))
		for j := range 4096 / p.long {
			if gfn >= hvtest.FrontPages {
				break
			}
			if n := i*4096/p.long + j; n < len(p.frames) {
				p.Write(gfn<<12+uint64(j*p.long), p.number(p.frames[n]))
			}
		}
	}
}

func (p *front) number(v uint64) []byte {
	return binary.LittleEndian.AppendUint64(nil, v)[:p.long]
}

func (p *front) nodes() map[string]string {
	n := map[string]string{"page-ref": strconv.FormatUint(p.page, 10), "event-channel": strconv.Itoa(int(p.port)), "feature-update": "1", "protocol": "x86_64-abi"}
	if p.long == 4 {
		n["protocol"] = "x86_32-abi"
	}
	return n
}

func (p *front) publish() {
	p.Helper()
	p.Publish(vfbFront, xenabi.XenbusStateInitialised, p.nodes())
}

func (p *front) connect() {
	p.Helper()
	p.publish()
	p.Await(vfbBack+"/state", "4")
}

// paint gives pixels of the memory one colour each.
func (p *front) paint(colour func(x, y int) uint32) {
	for y := range int(p.head.Height) {
		for x := range int(p.head.Width) {
			p.pixel(x, y, colour(x, y))
		}
	}
}

func (p *front) pixel(x, y int, colour uint32) {
	at := y*int(p.head.LineLength) + x*4
	p.Write(p.frames[at/4096]<<12+uint64(at%4096), binary.LittleEndian.AppendUint32(nil, colour))
}

func (p *front) event(e []byte) {
	at := xenabi.XENFB_OUT_RING_OFFS + p.prod%xenabi.XENFB_OUT_RING_LEN*xenabi.XENFB_OUT_EVENT_SIZE
	p.Write(p.page<<12+uint64(at), e)
	p.prod++
}

func (p *front) push() {
	p.Write(p.page<<12+xenabi.XenfbOutProd, binary.LittleEndian.AppendUint32(nil, p.prod))
	p.Send(p.port)
}

func (p *front) taken() uint32 {
	var b [4]byte
	p.Read(p.page<<12+xenabi.XenfbOutCons, b[:])
	return binary.LittleEndian.Uint32(b[:])
}

func (p *front) update(x, y, w, h int32) {
	p.event(xenabi.Bytes(&xenabi.XenfbUpdate{Type: xenabi.XENFB_TYPE_UPDATE, X: x, Y: y, Width: w, Height: h}))
	p.push()
}

// viewer is an RFB client of a Screen.
type viewer struct {
	*rfb.Client
	changed chan struct{}
}

func view(t testing.TB, s *Screen) *viewer {
	t.Helper()
	v := &viewer{changed: make(chan struct{}, 1)}
	c, err := rfb.Connect(context.Background(), s.Open(), rfb.Options{Handler: rfb.Handler{Updated: func(image.Rectangle) {
		select {
		case v.changed <- struct{}{}:
		default:
		}
	}}})
	if err != nil {
		t.Fatal(err)
	}
	v.Client = c
	go c.Run()
	t.Cleanup(func() { c.Close() })
	return v
}

// sees waits until the viewer's picture is right in every pixel.
func (v *viewer) sees(t testing.TB, size image.Point, colour func(x, y int) uint32) {
	t.Helper()
	guard := time.After(hvtest.Guard)
	for {
		v.Painted()
		img := v.Frame().CopyTo(nil, image.Rectangle{})
		if img.Rect.Max == size && same(img, colour) {
			return
		}
		select {
		case <-v.changed:
		case <-guard:
			t.Fatalf("the viewer's picture of %v is not the guest's of %v", img.Rect.Max, size)
		}
	}
}

func same(img *image.RGBA, colour func(x, y int) uint32) bool {
	for y := range img.Rect.Max.Y {
		for x := range img.Rect.Max.X {
			c := colour(x, y)
			if img.RGBAAt(x, y) != (color.RGBA{byte(c >> 16), byte(c >> 8), byte(c), 255}) {
				return false
			}
		}
	}
	return true
}

func pattern(seed uint32) func(x, y int) uint32 {
	return func(x, y int) uint32 { return (uint32(x)*2654435761 + uint32(y)*40503 + seed*97) & 0xffffff }
}

func black(int, int) uint32 { return 0 }

func TestPicture(t *testing.T) {
	for long, name := range map[int]string{8: "64 bit", 4: "32 bit"} {
		t.Run(name, func(t *testing.T) {
			f, s, drivers := setUp(t)
			v := view(t, s)
			if err := s.Screenshot(new(bytes.Buffer)); err == nil || !strings.Contains(err.Error(), "xen-fbfront") {
				t.Errorf("a picture of nothing: %v", err)
			}
			p := newPicture(f, 100, 60, long)
			p.paint(pattern(1))
			p.connect()
			if got := <-drivers; !got.Screen || got.Keyboard {
				t.Errorf("drivers %+v", got)
			}
			if got := f.ReadNode(vfbBack + "/request-update"); got != "1" {
				t.Errorf("request-update is %q", got)
			}
			v.sees(t, image.Pt(100, 60), pattern(1))
			for i := range uint32(200) { // the ring goes round
				p.pixel(7, 50, i)
				p.update(7, 50, 1, 1)
				f.Until("room", func() bool { return p.prod-p.taken() < xenabi.XENFB_OUT_RING_LEN || p.taken() == p.prod })
			}
			v.sees(t, image.Pt(100, 60), func(x, y int) uint32 {
				if x == 7 && y == 50 {
					return 199
				}
				return pattern(1)(x, y)
			})
			var shot bytes.Buffer
			if err := s.Screenshot(&shot); err != nil {
				t.Fatal(err)
			}
			if img, err := png.Decode(&shot); err != nil || img.Bounds().Max != image.Pt(100, 60) {
				t.Errorf("the screenshot: %v, %v", img.Bounds(), err)
			}
		})
	}
}

// A guest that finds the ring full is told when there is room again.
func TestFullRing(t *testing.T) {
	f, s, _ := setUp(t)
	p := newPicture(f, 64, 32, 8)
	p.connect()
	before := f.Events(p.port)
	for range xenabi.XENFB_OUT_RING_LEN {
		p.event(xenabi.Bytes(&xenabi.XenfbUpdate{Type: xenabi.XENFB_TYPE_UPDATE, Width: 1, Height: 1}))
	}
	p.paint(pattern(9))
	p.push()
	for f.Events(p.port) == before {
		time.Sleep(time.Millisecond) // Until would ask while it holds what Events needs
	}
	if p.taken() != p.prod {
		t.Errorf("%d of %d events taken", p.taken(), p.prod)
	}
	p.update(0, 0, 64, 32)
	view(t, s).sees(t, image.Pt(64, 32), pattern(9))
}

func TestResizeAndRestart(t *testing.T) {
	f, s, drivers := setUp(t)
	v := view(t, s)
	p := newPicture(f, 64, 48, 8)
	p.paint(pattern(2))
	p.connect()
	v.sees(t, image.Pt(64, 48), pattern(2))
	p.head.Width, p.head.Height = 32, 16 // in lines as long as before
	p.paint(pattern(3))
	p.event(xenabi.Bytes(&xenabi.XenfbResize{Type: xenabi.XENFB_TYPE_RESIZE, Width: 32, Height: 16, Stride: 64 * 4, Depth: 32}))
	p.push()
	v.sees(t, image.Pt(32, 16), pattern(3))

	for _, state := range []int{xenabi.XenbusStateClosing, xenabi.XenbusStateClosed, xenabi.XenbusStateInitialising} {
		f.Publish(vfbFront, state, nil)
	}
	f.Await(vfbBack+"/state", "2")
	v.sees(t, image.Pt(32, 16), black)
	q := newPicture(f, 40, 40, 8)
	q.paint(pattern(4))
	q.connect()
	v.sees(t, image.Pt(40, 40), pattern(4))
	var last Drivers
	for len(drivers) > 0 {
		last = <-drivers
	}
	if !last.Screen {
		t.Errorf("drivers %+v", last)
	}
}

// A picture that ends anywhere but in the guest's memory is not shown, and the
// next front end is served again.
func TestHostilePictures(t *testing.T) {
	far := uint64(1) << 40
	for name, attack := range map[string]func(*front){
		"no memory":         func(p *front) { p.head.MemLength = 0 },
		"too much memory":   func(p *front) { p.head.MemLength = 1 << 31 },
		"no width":          func(p *front) { p.head.Width = 0 },
		"negative":          func(p *front) { p.head.Width, p.head.LineLength = -1, 1<<32-4 },
		"too wide":          func(p *front) { p.head.Width = 1 << 30 },
		"too high":          func(p *front) { p.head.Height = 49 },
		"short lines":       func(p *front) { p.head.LineLength = 4 },
		"long lines":        func(p *front) { p.head.LineLength = 1 << 31 },
		"depth":             func(p *front) { p.head.Depth = 16 },
		"directory":         func(p *front) { p.pd[0] = far },
		"frame":             func(p *front) { p.frames[1] = far },
		"frame of all ones": func(p *front) { p.frames[2] = 1<<64 - 1 },
		"shared page":       func(p *front) { p.page = far },
		"events":            func(p *front) { p.head.OutProd = 60 },
		"port":              func(p *front) { p.port = 4000 },
	} {
		t.Run(name, func(t *testing.T) {
			f, s, _ := setUp(t)
			p := newPicture(f, 64, 48, 8)
			attack(p)
			if p.page < far {
				p.lay()
			}
			p.publish()
			f.Await(vfbBack+"/state", "5")
			if s.Drivers().Screen {
				t.Error("the driver is said to work")
			}
			f.Publish(vfbFront, xenabi.XenbusStateInitialising, nil)
			f.Await(vfbBack+"/state", "2")
			q := newPicture(f, 20, 20, 8)
			q.paint(pattern(5))
			q.connect()
			view(t, s).sees(t, image.Pt(20, 20), pattern(5))
		})
	}
	for name, r := range map[string]xenabi.XenfbResize{
		"beyond its memory": {Width: 64, Height: 49, Stride: 256, Depth: 32},
		"offset":            {Width: 64, Height: 48, Stride: 256, Depth: 32, Offset: 4},
		"negative offset":   {Width: 64, Height: 48, Stride: 256, Depth: 32, Offset: -4},
		"overflow":          {Width: 1 << 14, Height: 1 << 14, Stride: 1<<31 - 1, Depth: 32},
	} {
		t.Run("resize "+name, func(t *testing.T) {
			f, _, _ := setUp(t)
			p := newPicture(f, 64, 48, 8)
			p.connect()
			r.Type = xenabi.XENFB_TYPE_RESIZE
			p.event(xenabi.Bytes(&r))
			p.push()
			f.Await(vfbBack+"/state", "5")
		})
	}
}

// Rectangles may be any: they are cut to the picture.
func TestHostileUpdates(t *testing.T) {
	f, s, _ := setUp(t)
	p := newPicture(f, 64, 48, 8)
	p.connect()
	const most, least = 1<<31 - 1, -1 << 31
	for _, r := range [][4]int32{{0, 0, -1, -1}, {least, least, most, most}, {most, most, most, most}, {63, 47, most, most}, {-5, -5, 9, 9}} {
		p.update(r[0], r[1], r[2], r[3])
	}
	p.event([]byte{77}) // of no known type
	p.paint(pattern(6))
	p.update(0, 0, 64, 48)
	view(t, s).sees(t, image.Pt(64, 48), pattern(6))
}

// FuzzFramebuffer has a front end with any shared page, any directory and any
// event.
func FuzzFramebuffer(f *testing.F) {
	head := xenabi.XenfbPage{OutProd: 2, Width: 64, Height: 48, LineLength: 256, MemLength: 64 * 48 * 4, Depth: 32}
	page := make([]byte, 4096)
	copy(page, xenabi.Bytes(&head))
	copy(page[xenabi.XENFB_OUT_RING_OFFS:], xenabi.Bytes(&xenabi.XenfbUpdate{Type: xenabi.XENFB_TYPE_UPDATE, X: 1, Y: 2, Width: 3, Height: 4}))
	copy(page[xenabi.XENFB_OUT_RING_OFFS+xenabi.XENFB_OUT_EVENT_SIZE:], xenabi.Bytes(&xenabi.XenfbResize{Type: xenabi.XENFB_TYPE_RESIZE, Width: 32, Height: 16, Stride: 256, Depth: 32}))
	page[xenabi.XenfbPD64], page[xenabi.XenfbPD32] = 20, 20
	f.Add(page, []byte{16, 0, 0, 0, 0, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0, 0, 18}, true)
	f.Add(page, []byte{16, 0, 0, 0, 17, 0, 0, 0, 18}, false)
	f.Fuzz(func(t *testing.T, page, directory []byte, wide bool) {
		front, s, _ := setUp(t)
		p := newPicture(front, 64, 48, 8)
		front.Write(p.page<<12, page[:min(len(page), 4096)])
		front.Write(20<<12, directory[:min(len(directory), 4096)])
		nodes := p.nodes()
		if !wide {
			nodes["protocol"] = "x86_32-abi"
		}
		front.Publish(vfbFront, xenabi.XenbusStateInitialised, nodes)
		front.AwaitOther(vfbBack+"/state", "2")
		front.Send(p.port)
		if img := s.server.Image(); img.Rect.Empty() {
			t.Fatal("no picture")
		}
		front.Publish(vfbFront, xenabi.XenbusStateInitialising, nil)
		front.Await(vfbBack+"/state", "2")
	})
}
