// Package fb is a guest's screen, keyboard and pointer: the back ends of Xen's vfb
// and vkbd (io/fbif.h, io/kbdif.h) behind a server of RFB.
//
// It does not know who looks or types, nor what a guest shows. Front ends are
// hostile: what they name is checked before it is read, and read by copying.
//
// fb.go is the Screen, which outlives the guest's machines; vfb.go reads pictures
// out of guests; vkbd.go brings keys and pointer into them; input.go is what
// waits to be brought.
package fb

import (
	"context"
	"fmt"
	"image"
	"image/png"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/rfb"
)

// The screen that guests are offered. Linux takes it only if its driver is told:
// by itself it uses 2 MiB and 800 x 600.
const (
	Width, Height = 1280, 800
	// KernelOption is how xen-fbfront is told, in MiB and pixels.
	KernelOption = "xen_fbfront.video=4,1280,800"
)

// Drivers says what of a Screen the guest's kernel has a driver for, as far as it
// has connected to it.
type Drivers struct{ Screen, Keyboard bool }

// Screen is a guest's screen, keyboard and pointer from its launch to its end. Its
// methods may be called from any goroutine.
type Screen struct {
	log     *slog.Logger
	server  *rfb.Server
	changed func(Drivers)
	input   input

	mu      sync.Mutex
	drivers Drivers // guarded by mu
}

// New makes a screen that viewers see by name. changed is told of the guest's
// drivers as they come and go; it must not wait.
func New(name string, log *slog.Logger, changed func(Drivers)) *Screen {
	s := &Screen{log: log, changed: changed}
	s.server = rfb.NewServer(rfb.ServerOptions{
		Name: name, Size: image.Pt(Width, Height),
		Key: s.input.key, Pointer: s.input.point, Motion: s.input.move,
	})
	return s
}

// has tells which drivers there are now.
func (s *Screen) has(change func(*Drivers)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.drivers
	change(&s.drivers)
	if s.drivers != was {
		s.changed(s.drivers)
	}
}

// Drivers are those that are connected now.
func (s *Screen) Drivers() Drivers {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.drivers
}

// Open gives a stream of RFB to a new viewer, which closes it.
func (s *Screen) Open() io.ReadWriteCloser {
	ours, theirs := net.Pipe()
	go func() {
		if err := s.server.Serve(ours); err != nil {
			s.log.Warn("a viewer of the screen left with an error", "err", err)
		}
	}()
	return theirs
}

// Screenshot writes what the screen shows as PNG.
func (s *Screen) Screenshot(w io.Writer) error {
	if !s.Drivers().Screen {
		return fmt.Errorf("take a picture of the screen: the guest's kernel shows none (yet): it needs the driver xen-fbfront: %w", hv.ErrUnavailable)
	}
	enc := png.Encoder{CompressionLevel: png.BestSpeed}
	if err := enc.Encode(w, s.server.Image()); err != nil {
		return fmt.Errorf("take a picture of the screen: %w", err)
	}
	return nil
}

const (
	keyHold = 100 * time.Millisecond
	maxKeys = 16
)

// SendKeys presses the keys (Linux KEY_*) together, in order, and lets them go.
func (s *Screen) SendKeys(ctx context.Context, keys []uint16) error {
	if len(keys) == 0 || len(keys) > maxKeys {
		return fmt.Errorf("press %d keys: 1 to %d at a time: %w", len(keys), maxKeys, hv.ErrUnsupported)
	}
	if !s.Drivers().Keyboard {
		return fmt.Errorf("press keys: the guest's kernel has no keyboard (yet): it needs the driver xen-kbdfront; the serial console takes text: %w", hv.ErrUnavailable)
	}
	for _, k := range keys {
		s.input.key(k, true)
	}
	held := time.NewTimer(keyHold)
	defer held.Stop()
	select {
	case <-held.C:
	case <-ctx.Done():
	}
	for _, k := range slices.Backward(keys) {
		s.input.key(k, false)
	}
	return nil
}

// Close ends all viewers.
func (s *Screen) Close() { s.server.Close() }
