package native

import (
	"context"
	"fmt"
	"io"

	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/backend/fb"
)

var (
	_ hv.Displayer     = (*Guest)(nil)
	_ hv.Keyer         = (*Guest)(nil)
	_ hv.Screenshotter = (*Guest)(nil)
)

// openScreen makes the guest's screen and keyboard, unless it is to have none.
func (g *Guest) openScreen() {
	if g.spec.Display.Adapter == "none" {
		return
	}
	g.screen = fb.New(g.spec.Name, g.host.Log, g.displayChanged)
	g.config.Devices = append(g.config.Devices, fb.Framebuffer{Screen: g.screen}, fb.Keyboard{Screen: g.screen})
}

// displayChanged tells what of the screen the guest's drivers have taken up.
func (g *Guest) displayChanged(d fb.Drivers) {
	state := hv.DisplayNone
	switch {
	case d.Screen && d.Keyboard:
		state = hv.DisplayFull
	case d.Screen:
		state = hv.DisplayView
	}
	g.events.Put(hv.Event{Kind: hv.EventDisplay, Display: state})
}

// display is the guest's screen, or why there is none.
func (g *Guest) display(verb string) (*fb.Screen, error) {
	if g.screen == nil {
		return nil, fmt.Errorf("%s: the guest has none: give it one in its settings: %w", verb, hv.ErrUnavailable)
	}
	if _, err := g.now(verb); err != nil {
		return nil, err
	}
	return g.screen, nil
}

// OpenDisplay opens a stream of RFB to the guest's screen. Any number of viewers
// share it, and it outlasts the guest's restarts.
func (g *Guest) OpenDisplay(context.Context) (io.ReadWriteCloser, error) {
	s, err := g.display("open the screen")
	if err != nil {
		return nil, err
	}
	return s.Open(), nil
}

// SendKeys presses the keys together, in order, and lets them go.
func (g *Guest) SendKeys(ctx context.Context, keys []uint16) error {
	s, err := g.display("press keys on the guest's keyboard")
	if err != nil {
		return err
	}
	return s.SendKeys(ctx, keys)
}

// Screenshot writes the guest's screen as PNG.
func (g *Guest) Screenshot(_ context.Context, w io.Writer) error {
	s, err := g.display("take a picture of the screen")
	if err != nil {
		return err
	}
	return s.Screenshot(w)
}
