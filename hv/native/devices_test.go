package native

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/backend"
	"github.com/hxen-project/hxen/hv/backend/fb"
	"github.com/hxen-project/hxen/hv/hvtest"
	"github.com/hxen-project/hxen/hv/xenabi"
)

// stubDevice is found by guests, and connects to none.
type stubDevice struct {
	refuse   error
	attached []*backend.Device
}

func (d *stubDevice) Attach(g *backend.Guest) (*backend.Device, error) {
	if d.refuse != nil {
		return nil, d.refuse
	}
	b, err := g.Add(backend.Config{Type: "vstub", ID: 3, Back: map[string]string{"what": "stub"}}, d)
	d.attached = append(d.attached, b)
	return b, err
}

// Connect is called if the guest says that it has a driver for it.
func (*stubDevice) Connect(*backend.Link) (map[string]string, error) {
	return nil, errors.New("it is a stub")
}
func (*stubDevice) Work() error { return nil }
func (*stubDevice) Disconnect() {}

func (*stubDevice) Count(*hv.Stats) {}
func (*stubDevice) Close() error    { return nil }

func TestDevices(t *testing.T) {
	config, stub := testConfig(t, nil), &stubDevice{}
	config.Devices = []Device{stub}
	for range 2 { // one machine after the other
		m := start(t, config, func(c *hvtest.FakeCPU) {
			c.Halt()
			shutdown(c, xenabi.SHUTDOWN_reboot)
		})
		if got, err := m.client.Read("/local/domain/0/backend/vstub/1/3/what"); err != nil || got != "stub" {
			t.Errorf("the device says %q, %v", got, err)
		}
		m.end(hv.ExitReboot, nil)
		wait(t, m)
		if err := stub.attached[len(stub.attached)-1].Unplug(t.Context()); err != nil { // nobody serves it
			t.Error(err)
		}
	}
	if len(stub.attached) != 2 {
		t.Errorf("attached %d times", len(stub.attached))
	}
	stub.refuse = errors.New("no such file")
	if _, err := Start(&hvtest.FakeAccel{Programs: map[uint64]func(*hvtest.FakeCPU){entry: (*hvtest.FakeCPU).Halt}}, config); err == nil || !strings.Contains(err.Error(), "device 0: no such file") {
		t.Errorf("a machine without its device: %v", err)
	}
}

// TestPlugLate: a device that comes when the others were closed already is refused:
// nobody would close it before the guest's memory goes.
func TestPlugLate(t *testing.T) {
	m, stub := start(t, testConfig(t, nil), (*hvtest.FakeCPU).Halt), &stubDevice{}
	if err := m.use(); err != nil { // as plug does before it waits for its turn
		t.Fatal(err)
	}
	m.end(hv.ExitPoweroff, nil)
	<-m.release
	if err := m.attach(stub); !errors.Is(err, hv.ErrUnavailable) || len(stub.attached) != 0 {
		t.Errorf("attached %d times: %v", len(stub.attached), err)
	}
	m.servers.Done()
	wait(t, m)
}

// TestPlug: a running machine gets a device, and gives it back.
func TestPlug(t *testing.T) {
	m := start(t, testConfig(t, nil), (*hvtest.FakeCPU).Halt)
	stub := &stubDevice{}
	if err := m.plug(stub); err != nil {
		t.Fatal(err)
	}
	const node = "/local/domain/0/backend/vstub/1/3/what"
	if got, err := m.client.Read(node); err != nil || got != "stub" {
		t.Errorf("the device says %q, %v", got, err)
	}
	const front = "/local/domain/1/device/vstub/3/state"
	if err := m.client.Write(front, "4"); err != nil { // it is in use
		t.Fatal(err)
	}
	short, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.unplug(short, stub); !errors.Is(err, errHeld) {
		t.Errorf("a device in use: %v", err)
	}
	if err := m.client.Write(front, "6"); err != nil {
		t.Fatal(err)
	}
	if err := m.unplug(t.Context(), stub); err != nil {
		t.Error(err)
	}
	if _, err := m.client.Read(node); err == nil {
		t.Error("the device is still there")
	}
	if err := m.unplug(t.Context(), stub); !errors.Is(err, hv.ErrUnavailable) {
		t.Errorf("a device that is gone: %v", err)
	}
	m.end(hv.ExitDestroyed, nil)
	wait(t, m)
	if err := m.plug(stub); !errors.Is(err, hv.ErrUnavailable) {
		t.Errorf("into a machine that has ended: %v", err)
	}
}

func TestDriverOptions(t *testing.T) {
	const disk, screen = "xen_blkfront.max_indirect_segments=256", "xen_fbfront.video=4,1280,800"
	long := strings.Repeat("x", 2040)
	for cmdline, want := range map[string]string{
		"":                                     disk + " " + screen,
		"console=hvc0":                         "console=hvc0 " + disk + " " + screen,
		"xen_fbfront.video=16,1920,1080 a":     "xen_fbfront.video=16,1920,1080 a " + disk,
		"a xen-fbfront.video=16,1920,1080":     "a xen-fbfront.video=16,1920,1080 " + disk,
		"xen_blkfront.max_indirect_segments=9": "xen_blkfront.max_indirect_segments=9 " + screen,
		long:                                   long,
	} {
		if got := (&Guest{screen: &fb.Screen{}}).driverOptions(cmdline); got != want {
			t.Errorf("%q becomes %q", cmdline, got)
		}
	}
	if got := (&Guest{}).driverOptions(""); got != disk {
		t.Errorf("of a guest without a screen: %q", got)
	}
}
