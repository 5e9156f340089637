package native

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/hvtest"
	"github.com/hxen-project/hxen/hv/rfb"
	"github.com/hxen-project/hxen/hv/xenabi"
)

// The screen is there from the launch to the end, whatever the guest does.
func TestScreenOutlastsMachines(t *testing.T) {
	starts := make(chan struct{}, 2)
	end := make(chan struct{})
	m, ended := launchFake(t, testSpec(t), false, func(c *hvtest.FakeCPU) {
		starts <- struct{}{}
		select {
		case <-end:
			shutdown(c, xenabi.SHUTDOWN_poweroff)
		default:
			c.Halt()
		}
	})
	stream, err := m.(hv.Displayer).OpenDisplay(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	viewer, err := rfb.Connect(t.Context(), stream, rfb.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if size := viewer.Frame().Size(); size.X != 1280 || size.Y != 800 || viewer.Name() != "test" {
		t.Errorf("a screen of %v called %q", size, viewer.Name())
	}
	closed := make(chan error, 1)
	go func() { closed <- viewer.Run() }()
	<-starts
	for what, err := range map[string]error{
		"keys":       m.(hv.Keyer).SendKeys(t.Context(), []uint16{30}),
		"screenshot": m.(hv.Screenshotter).Screenshot(t.Context(), io.Discard),
	} {
		if !errors.Is(err, hv.ErrUnavailable) || !strings.Contains(err.Error(), "needs the driver") {
			t.Errorf("%s of a guest without drivers: %v", what, err)
		}
	}
	close(end)
	if err := m.Reset(t.Context()); err != nil {
		t.Fatal(err)
	}
	if reason, _ := ended(); reason != hv.ExitPoweroff {
		t.Errorf("the guest ended by %s", reason)
	}
	if err := <-closed; err == nil {
		t.Error("the viewer was not told of the end")
	}
	if _, err := m.(hv.Displayer).OpenDisplay(context.Background()); !errors.Is(err, hv.ErrUnavailable) {
		t.Errorf("the screen of a guest that has ended: %v", err)
	}
}

func TestNoScreen(t *testing.T) {
	s := testSpec(t)
	s.Display.Adapter = "none"
	m, ended := launchFake(t, s, false, func(c *hvtest.FakeCPU) { c.Halt() })
	if _, err := m.(hv.Displayer).OpenDisplay(t.Context()); !errors.Is(err, hv.ErrUnavailable) || !strings.Contains(err.Error(), "settings") {
		t.Errorf("the screen of a guest without one: %v", err)
	}
	m.Close()
	ended()
}
