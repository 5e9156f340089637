// Package screen is the widget that shows a guest's screen and sends keys and
// pointer to it. It knows RFB and Fyne; it does not know what a guest is, how
// its stream is reached (dial) or what window it is in.
//
// screen.go is the widget and what a window may ask of it; stream.go dials,
// reads and dials again; paint.go brings pixels to the window, pane.go and texture.go do it quicker; geometry.go is
// the arithmetic of scaling; keys.go and pointer.go are input; native.go is what
// Fyne does not tell (minimised, Wayland or X11); loop.go paces Fyne's loop.
//
// Two kinds of goroutine meet here: Fyne's, which runs every method that Fyne
// calls, and the stream's. What both use is under Screen.mu.
package screen

import (
	"context"
	"errors"
	"image"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/widget"

	"github.com/hxen-project/hxen/hv/rfb"
	"github.com/hxen-project/hxen/platform/keymap"
)

// Dial opens a new RFB stream to the guest's screen.
type Dial func(context.Context) (io.ReadWriteCloser, error)

// Screen shows one guest's screen. Make it with New, set the On fields, put
// View into a window, call Start and, when the window closes, Close. Methods and
// fields belong to Fyne's goroutine unless they say otherwise.
type Screen struct {
	widget.BaseWidget

	// OnConnection tells that the picture is live, or that it is not and why;
	// the screen goes on trying by itself.
	OnConnection func(live bool, err error)
	// OnGrab tells that keys now go to the guest, or to the window again.
	OnGrab func(grabbed bool)
	// OnSize tells the size of the guest's screen in its pixels.
	OnSize func(guest image.Point)
	// OnClipboard tells text that the guest put on its clipboard.
	OnClipboard func(text string)
	// OnLEDs tells the lights of the guest's keyboard.
	OnLEDs func(rfb.LEDs)
	// OnPointerMode tells whether the guest takes absolute positions.
	OnPointerMode func(absolute bool)

	dial Dial
	stop context.CancelFunc
	done chan struct{} // closed when the stream's goroutine is gone

	picture picture // the one permanent one
	bars    [4]*canvas.Rectangle
	scroll  *container.Scroll // around the whole, for pictures larger than the window

	mode    Mode
	guest   image.Point     // size of the picture that is laid out
	place   image.Rectangle // of the picture in the widget, in device pixels
	release keymap.Code
	keys    keyboard
	pointer pointer
	cursor  cursor
	native  native
	sizer   *time.Timer // runs while the window changes its size

	do     func(func()) // runs something on Fyne's goroutine; tests have one of their own
	paints atomic.Uint64

	mu      sync.Mutex
	client  *rfb.Client     // guarded by mu; nil when not connected
	frame   *rfb.Frame      // guarded by mu: of the last client that sent a picture
	size    image.Point     // guarded by mu: of frame
	damage  image.Rectangle // guarded by mu: what the painter does not have yet
	pending bool            // guarded by mu: a paint has been asked for
	visible bool            // guarded by mu: the window is not minimised
}

// New makes a screen that is not connected yet.
func New(dial Dial) *Screen {
	s := &Screen{dial: dial, release: keymap.RightCtrl, visible: true, do: Do}
	s.native.system = keymap.Host(false)
	s.initPicture()
	for i := range s.bars {
		s.bars[i] = canvas.NewRectangle(barColour)
	}
	s.ExtendBaseWidget(s)
	s.scroll = container.NewScroll(s)
	return s
}

// View is what goes into the window: the screen, which can be scrolled when the
// mode makes it larger than the window.
func (s *Screen) View() fyne.CanvasObject { return s.scroll }

// Start begins to show the guest's screen.
func (s *Screen) Start() {
	if s.stop != nil {
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	s.stop, s.done = stop, make(chan struct{})
	go s.stream(ctx)
}

// Close ends the stream. The callbacks are not called any more.
func (s *Screen) Close() {
	if s.stop == nil {
		return
	}
	s.releaseKeys()
	if s.sizer != nil {
		s.sizer.Stop()
	}
	s.stop()
	if c := s.connection(); c != nil {
		c.Close()
	}
	<-s.done
}

// connection is the live client or nil; from any goroutine.
func (s *Screen) connection() *rfb.Client {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.client
}

// SetMode changes how the picture is fitted into the window.
func (s *Screen) SetMode(m Mode) {
	s.mode = m
	s.Refresh()
	s.scroll.Refresh()
	s.settle()
}

// Mode is how the picture is fitted.
func (s *Screen) Mode() Mode { return s.mode }

// ReleaseKeys are the keys that can be chosen to give the keyboard back, the usual
// one first: few that guests have little use for, of which any keyboard has one.
func ReleaseKeys() []keymap.Code {
	return []keymap.Code{keymap.RightCtrl, keymap.RightAlt, keymap.RightSuper, keymap.Menu, keymap.F12}
}

// SetReleaseKey changes the key that gives the keyboard back to the window.
func (s *Screen) SetReleaseKey(k keymap.Code) {
	s.releaseKeys()
	s.release = k
}

// GuestSize is the size of the guest's screen in its pixels; zero before the
// first picture.
func (s *Screen) GuestSize() image.Point { return s.guest }

// Snapshot is a copy of the picture, or nil if there never was one. From any
// goroutine.
func (s *Screen) Snapshot() image.Image {
	s.mu.Lock()
	frame := s.frame
	s.mu.Unlock()
	if frame == nil {
		return nil
	}
	return frame.CopyTo(nil, image.Rectangle{})
}

var errNotConnected = errors.New("the guest's screen is not connected")

// SetClipboard offers text to the guest's clipboard. From any goroutine.
func (s *Screen) SetClipboard(text string) error {
	c := s.connection()
	if c == nil {
		return errNotConnected
	}
	return c.SetClipboard(text)
}

// Paints counts the pictures handed to the painter. From any goroutine.
func (s *Screen) Paints() uint64 { return s.paints.Load() }
