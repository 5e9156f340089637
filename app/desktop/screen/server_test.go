package screen

import (
	"image"
	"image/color"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/hxen-project/hxen/hv/hvtest"
	"github.com/hxen-project/hxen/hv/rfb"
)

// painted is a picture of one colour with a square of another.
type painted struct {
	size, square image.Point

	mu     sync.Mutex
	colour color.RGBA // guarded by mu; of the square
}

const squareSide = 64

func (c *painted) Size() image.Point { return c.size }

func (c *painted) Read(dst []byte, x, y int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	square := image.Rectangle{c.square, c.square.Add(image.Pt(squareSide, squareSide))}
	for ; len(dst) >= 4; dst, x = dst[4:], x+1 {
		p := color.RGBA{40, 60, 80, 255}
		if image.Pt(x, y).In(square) {
			p = c.colour
		}
		dst[0], dst[1], dst[2], dst[3] = p.B, p.G, p.R, 0
	}
}

// hand is what the server was told of its viewers' keys and pointers.
type hand struct {
	mu      sync.Mutex
	keys    []uint16    // guarded by mu; pressed
	at      image.Point // guarded by mu
	buttons rfb.Buttons // guarded by mu; all that were ever down
}

func (h *hand) typed(keys ...uint16) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.keys) < len(keys) {
		return false
	}
	for i, k := range h.keys[len(h.keys)-len(keys):] {
		if k != keys[i] {
			return false
		}
	}
	return true
}

// TestServerHalf has our window and TigerVNC's viewer look at the server half of
// hv/rfb: the picture and its changes, its change of size, keys and pointer.
func TestServerHalf(t *testing.T) {
	hvtest.Require(t, "display")
	if _, err := exec.LookPath("xtigervncviewer"); err != nil {
		hvtest.RequireThat(t, "display", "xtigervncviewer is not installed (tigervnc-viewer)")
	}
	for name, open := range map[string]func(*real){
		"window":   func(r *real) { r.open("1") },
		"TigerVNC": func(r *real) { r.show(viewer{args: []string{"-geometry", "1300x860"}}, r.sock) },
	} {
		t.Run(name, func(t *testing.T) {
			dir, err := os.MkdirTemp("", "scr")
			if err != nil {
				t.Fatal(err)
			}
			r := &real{TB: t, dir: dir, sock: filepath.Join(dir, "vnc"), lines: make(chan string, 100), events: make(chan string, 1000)}
			t.Cleanup(func() { os.RemoveAll(dir) })
			r.display = hvtest.NewDisplay(t, "1440x960")
			h := &hand{}
			s := h.serve(r)
			magenta, green := color.RGBA{250, 10, 240, 255}, color.RGBA{10, 230, 30, 255}
			pic := &painted{size: image.Pt(1280, 800), square: image.Pt(600, 300), colour: magenta}
			if err := s.Show(pic); err != nil {
				t.Fatal(err)
			}
			open(r)
			var square image.Rectangle
			r.eventually("the picture", func() bool { square = r.find(magenta); return full(square) })
			pic.mu.Lock()
			pic.colour = green
			pic.mu.Unlock()
			s.Damage(image.Rectangle{pic.square, pic.square.Add(image.Pt(squareSide, squareSide))})
			r.eventually("a change", func() bool { return r.find(green) == square })

			middle := square.Min.Add(square.Max).Div(2)
			r.run("xdotool", "mousemove", "--sync", strconv.Itoa(middle.X), strconv.Itoa(middle.Y), "click", "3")
			r.eventually("the pointer", func() bool {
				h.mu.Lock()
				defer h.mu.Unlock()
				off := h.at.Sub(image.Pt(600+squareSide/2, 300+squareSide/2))
				return h.buttons&rfb.Right != 0 && max(off.X, -off.X) <= 1 && max(off.Y, -off.Y) <= 1
			})
			r.run("xdotool", "mousemove", "--sync", strconv.Itoa(middle.X), strconv.Itoa(middle.Y), "click", "1")
			r.run("xdotool", "key", "a", "shift+b", "KP_Enter", "Right")
			r.eventually("keys", func() bool { return h.typed(30, 42, 48, 96, 106) })

			if err := s.Show(&painted{size: image.Pt(640, 400), square: image.Pt(10, 10), colour: magenta}); err != nil {
				t.Fatal(err)
			}
			r.eventually("a smaller picture", func() bool { return full(r.find(magenta)) })
			r.keep(strings.ToLower(name))
		})
	}
}

// serve has a Server listen at r.sock.
func (h *hand) serve(r *real) *rfb.Server {
	s := rfb.NewServer(rfb.ServerOptions{
		Name: "square", Size: image.Pt(1280, 800),
		Key: func(code uint16, down bool) {
			h.mu.Lock()
			defer h.mu.Unlock()
			if down {
				h.keys = append(h.keys, code)
			}
		},
		Pointer: func(at, _ image.Point, b rfb.Buttons) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.at, h.buttons = at, h.buttons|b
		},
		Motion: func(image.Point, rfb.Buttons) { r.Error("motion of an absolute pointer") },
	})
	l, err := net.Listen("unix", r.sock)
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { l.Close(); s.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				if err := s.Serve(c); err != nil {
					r.Error(err)
				}
			}()
		}
	}()
	return s
}

// full reports whether a square was found, whole, at no less than half its size.
func full(r image.Rectangle) bool {
	return r.Dx() >= squareSide/2 && r.Dx() == r.Dy()
}

// find is where on the X screen a colour is.
func (r *real) find(c color.RGBA) (found image.Rectangle) {
	r.Helper()
	path := filepath.Join(r.dir, "root.png")
	r.run("import", "-window", "root", path)
	img := load(r, path)
	for y := img.Rect.Min.Y; y < img.Rect.Max.Y; y++ {
		for x := img.Rect.Min.X; x < img.Rect.Max.X; x++ {
			if img.RGBAAt(x, y) == c {
				found = found.Union(image.Rect(x, y, x+1, y+1))
			}
		}
	}
	return found
}
