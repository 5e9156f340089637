package screen

import (
	"context"
	"errors"
	"image"
	"time"

	"github.com/hxen-project/hxen/hv/rfb"
)

const (
	dialTimeout = 5 * time.Second
	firstRetry  = 50 * time.Millisecond
	lastRetry   = 800 * time.Millisecond
	sizeQuiet   = 200 * time.Millisecond
)

// stream keeps a connection until ctx ends.
func (s *Screen) stream(ctx context.Context) {
	defer close(s.done)
	retry := firstRetry
	for {
		err := s.connect(ctx, func() { retry = firstRetry })
		if ctx.Err() != nil {
			return
		}
		s.tell(ctx, func() {
			s.keys.forget()
			s.pointer.buttons = 0
			if s.OnConnection != nil {
				s.OnConnection(false, err)
			}
		})
		select {
		case <-ctx.Done():
			return
		case <-time.After(retry):
			retry = min(2*retry, lastRetry)
		}
	}
}

var errStreamEnded = errors.New("the guest's screen was closed")

// connect runs one connection to its end and says why it ended.
func (s *Screen) connect(ctx context.Context, live func()) error {
	shake, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	rwc, err := s.dial(shake)
	if err != nil {
		return err
	}
	h := s.handler(ctx)
	var c *rfb.Client // the handler is not called before Run
	h.Updated = func(r image.Rectangle) { s.damaged(c.Frame(), r) }
	c, err = rfb.Connect(shake, rwc, rfb.Options{Handler: h})
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { c.Close() })()
	s.setClient(c)
	live()
	s.tell(ctx, func() {
		if s.OnConnection != nil {
			s.OnConnection(true, nil)
		}
		s.settle()
	})
	err = c.Run()
	s.setClient(nil)
	if err == nil {
		err = errStreamEnded
	}
	return err
}

// setClient changes the connection; the last picture stays until the new one
// sends another.
func (s *Screen) setClient(c *rfb.Client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.client = c
	if c != nil {
		c.SetActive(s.visible)
	}
}

// handler turns what the guest says into work for Fyne's goroutine.
func (s *Screen) handler(ctx context.Context) rfb.Handler {
	return rfb.Handler{
		Cursor: func(shape *image.RGBA, hot image.Point) {
			s.tell(ctx, func() { s.cursor.set(shape, hot) })
		},
		PointerMode: func(absolute bool) {
			s.tell(ctx, func() {
				s.pointer.relative = !absolute
				if s.OnPointerMode != nil {
					s.OnPointerMode(absolute)
				}
			})
		},
		LEDs: func(l rfb.LEDs) {
			s.tell(ctx, func() {
				if s.OnLEDs != nil {
					s.OnLEDs(l)
				}
			})
		},
		Clipboard: func(text string) {
			s.tell(ctx, func() {
				if s.OnClipboard != nil {
					s.OnClipboard(text)
				}
			})
		},
	}
}

// tell runs f on Fyne's goroutine, not after Close. Callers are rare events;
// pixels go by damaged.
func (s *Screen) tell(ctx context.Context, f func()) {
	s.do(func() {
		if ctx.Err() == nil {
			f()
		}
	})
}

// show tells whether anybody can see the window.
func (s *Screen) show(visible bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.visible = visible
	if s.client != nil {
		s.client.SetActive(visible)
	}
}

// settle does, once the window has kept its size for a moment, what a changed
// size asks for: the guest is asked to take it, and all is painted again. The
// latter is for X11: Fyne 2.8 paints a resized window before the X server has
// resized it, and a still picture would stay cut off.
func (s *Screen) settle() {
	if s.sizer != nil {
		s.sizer.Stop()
	}
	s.sizer = time.AfterFunc(sizeQuiet, func() { s.do(s.settled) })
}

func (s *Screen) settled() {
	s.sizer = nil
	s.repaint()
	if c := s.connection(); c != nil && s.mode == ResizeGuest {
		box := s.box(s.scroll.Size())
		c.RequestSize(box.X, box.Y)
	}
}
