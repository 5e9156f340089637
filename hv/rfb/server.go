package rfb

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"io"
	"sync"
	"time"
)

// ServerOptions are what a Server is made with.
type ServerOptions struct {
	Name string
	Size image.Point // of the black picture before the first Show
	// Key is a key that a viewer presses or lets go, by its Linux KEY_* number. A
	// viewer that leaves lets go of its keys and buttons first.
	Key func(code uint16, down bool)
	// Pointer is a viewer's pointer, at a pixel of a picture of some size.
	Pointer func(at, size image.Point, buttons Buttons)
	// Motion is a viewer's pointer while SetAbsolute(false) holds: how far it went.
	Motion func(delta image.Point, buttons Buttons)
}

// Picture is what a Server shows, in memory that may change at any time.
type Picture interface {
	// Size is the same for the picture's life.
	Size() image.Point
	// Read copies pixels of row y from column x on, which are inside: four bytes
	// of blue, green, red and nothing each, as many as fit into dst. It may not
	// call the Server.
	Read(dst []byte, x, y int)
}

// Bounds of what viewers can cost.
const (
	maxViewers = 16
	// frameTime is the least time between two updates of one viewer.
	frameTime = 15 * time.Millisecond
	// chunkBytes is how much is converted before it is written.
	chunkBytes = 256 << 10
)

// Server shows one picture to any number of viewers and takes their keys and
// pointers; its methods may be called from any goroutine. While nothing changes,
// or nobody looks, it does nothing.
//
// It looks at the picture only where Damage says, and only when a viewer wants to
// see: what has really changed it copies and sends.
type Server struct {
	opt ServerOptions

	mu       sync.Mutex
	picture  Picture              // guarded by mu; nil: what was seen last stays
	seen     tiled                // guarded by mu; the picture as it was when it was last looked at
	stale    tiles                // guarded by mu; where it may have changed since
	changed  tiles                // guarded by mu; scratch
	row      []byte               // guarded by mu; scratch
	viewers  map[*viewer]struct{} // guarded by mu
	relative bool                 // guarded by mu
	closed   bool                 // guarded by mu
}

// tiled is a picture of the Server's own, in the same form.
type tiled struct {
	size image.Point
	pix  []byte
}

// NewServer makes a server; Close ends it.
func NewServer(o ServerOptions) *Server {
	s := &Server{opt: o, viewers: map[*viewer]struct{}{}}
	s.resizeLocked(o.Size)
	return s
}

// Show shows another picture, which may not be larger than a mebipixel times 64.
// With nil the screen goes black and keeps its size. The picture before is not
// read any more when Show returns.
func (s *Server) Show(p Picture) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	size := s.seen.size
	if p != nil {
		size = p.Size()
		if size.X < 1 || size.Y < 1 || size.X > maxSide || size.Y > maxSide || size.X*size.Y > maxArea {
			return fmt.Errorf("show a picture of %dx%d pixels: at most %d on a side and %d in all are possible", size.X, size.Y, maxSide, maxArea)
		}
	}
	s.picture = p
	if size != s.seen.size {
		s.resizeLocked(size)
	}
	if p == nil {
		clear(s.seen.pix)
		for v := range s.viewers {
			v.dirty.mark(image.Rectangle{Max: size})
		}
	}
	s.stale.mark(image.Rectangle{Max: size})
	s.wakeLocked()
	return nil
}

func (s *Server) resizeLocked(size image.Point) {
	s.seen = tiled{size: size}
	s.stale, s.changed = newTiles(size), newTiles(size)
	s.row = nil
	for v := range s.viewers {
		v.resizedLocked()
	}
}

// pixelsLocked is what was seen last. It is made when somebody looks: most screens
// are never looked at, and this one may be of megabytes.
func (s *Server) pixelsLocked() []byte {
	if s.seen.pix == nil {
		s.seen.pix = make([]byte, s.seen.size.X*s.seen.size.Y*bytesPerPixel)
		s.row = make([]byte, s.seen.size.X*bytesPerPixel)
	}
	return s.seen.pix
}

// Damage tells where the picture may have changed; r may be any rectangle.
func (s *Server) Damage(r image.Rectangle) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stale.mark(r)
	s.wakeLocked()
}

// SetAbsolute tells viewers whether the guest takes positions of the pointer (as
// it does at first) or only motion.
func (s *Server) SetAbsolute(absolute bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.relative = !absolute
	s.wakeLocked()
}

func (s *Server) wakeLocked() {
	for v := range s.viewers {
		v.wake()
	}
}

// Image is what is to be seen now.
func (s *Server) Image() *image.RGBA {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lookLocked()
	img := image.NewRGBA(image.Rectangle{Max: s.seen.size})
	swizzle(img.Pix, s.pixelsLocked())
	return img
}

// lookLocked looks at the picture where it may have changed, and tells every
// viewer where it has.
func (s *Server) lookLocked() {
	if s.picture == nil || !s.stale.some {
		return
	}
	seen := s.pixelsLocked()
	s.stale.each(func(r image.Rectangle) {
		line := s.row[:r.Dx()*bytesPerPixel]
		for y := r.Min.Y; y < r.Max.Y; y++ {
			s.picture.Read(line, r.Min.X, y)
			at := (y*s.seen.size.X + r.Min.X) * bytesPerPixel
			s.compareLocked(line, seen[at:at+len(line)], r.Min.X, y)
		}
	})
	if !s.changed.some {
		return
	}
	for v := range s.viewers {
		v.dirty.add(&s.changed)
	}
	s.changed.reset()
}

// compareLocked takes over what differs in part of row y from x on.
func (s *Server) compareLocked(line, seen []byte, x, y int) {
	if bytes.Equal(line, seen) {
		return
	}
	const step = tileSize * bytesPerPixel
	for len(line) > 0 { // x begins a square
		n := min(step, len(line))
		if !bytes.Equal(line[:n], seen[:n]) {
			copy(seen[:n], line)
			s.changed.set(x/tileSize, y/tileSize)
		}
		line, seen, x = line[n:], seen[n:], x+tileSize
	}
}

// appendRowLocked adds pixels of row y to b as a viewer wants them. What is
// outside, as after a change of size, is black.
func (s *Server) appendRowLocked(b []byte, c *converter, x0, x1, y int) []byte {
	end := x0
	if y < s.seen.size.Y {
		if end = min(x1, s.seen.size.X); end > x0 {
			at := y * s.seen.size.X
			b = c.append(b, s.pixelsLocked()[(at+x0)*bytesPerPixel:(at+end)*bytesPerPixel])
		}
	}
	if rest := x1 - max(end, x0); rest > 0 {
		b = append(b, make([]byte, rest*c.size)...)
	}
	return b
}

// Close ends all viewers; no other can come.
func (s *Server) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed, s.picture = true, nil
	for v := range s.viewers {
		v.rwc.Close()
	}
}

var errServerClosed = errors.New("the guest has ended")

// join adds a viewer.
func (s *Server) join(v *viewer) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errServerClosed
	}
	if len(s.viewers) >= maxViewers {
		return fmt.Errorf("%d viewers look at this guest already; close one of them", maxViewers)
	}
	s.viewers[v] = struct{}{}
	v.resizedLocked()
	return nil
}

// leave takes a viewer out and lets go of what it holds.
func (s *Server) leave(v *viewer) {
	s.mu.Lock()
	delete(s.viewers, v)
	s.mu.Unlock()
	for code := range v.held {
		s.opt.Key(code, false)
	}
	if v.buttons != 0 {
		v.buttons = 0
		v.point()
	}
}

// Serve serves one viewer to its end, and closes rwc. The error says how a viewer
// went wrong; one that leaves is none.
func (s *Server) Serve(rwc io.ReadWriteCloser) error {
	defer rwc.Close()
	v := newViewer(s, rwc)
	if err := s.join(v); err != nil {
		v.refuse(err)
		return fmt.Errorf("show the guest's screen: %w", err)
	}
	defer s.leave(v)
	if err := v.run(); err != nil && !s.over() {
		return fmt.Errorf("show the guest's screen: %w", err)
	}
	return nil
}

func (s *Server) over() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}
