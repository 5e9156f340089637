package service

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/platform/hostsvc"
)

// autostart makes a guest that starts with the host.
func (c *caller) autostart(name string, order, delay int64, other map[string]string) api.Ref {
	c.t.Helper()
	ref := c.create(api.NewGuest{Name: name, NoNetwork: true, Autostart: true})
	all := map[string]string{"auto_poweron": "true"}
	for k, v := range other {
		all[k] = v
	}
	c.must(nil, "VM.set_other_config", ref, all)
	c.must(nil, "VM.set_order", ref, order)
	c.must(nil, "VM.set_start_delay", ref, delay)
	return ref
}

// TestBoot: guests start once per boot of the host, in their order, and one waits
// for what it needs while the others go on.
func TestBoot(t *testing.T) {
	b := newBench(t)
	c := b.up()
	path := filepath.Join(b.home, "there")
	last := c.autostart("a last", 3, 0, nil)
	first := c.autostart("z first", 1, 1, nil)
	waits := c.autostart("waits", 2, 0, map[string]string{api.KeyWaitFor: path})
	bad := c.autostart("refused", 0, 0, nil)
	off := c.create(api.NewGuest{Name: "off", NoNetwork: true})
	r := c.vm(waits)
	if r.Order != 2 || r.StartDelay != 0 || r.OtherConfig[api.KeyWaitFor] != path || r.OtherConfig[api.KeyOnHostStop] != hv.StopShutdown {
		t.Errorf("%d %d %v", r.Order, r.StartDelay, r.OtherConfig)
	}
	b.stop()
	b.opt.Boot = "boot 1"
	c = b.up()
	c.until(last, "running", isState(hv.Running))
	if c.vm(first).PowerState != "Running" || c.vm(first).DomID >= c.vm(last).DomID {
		t.Error("they did not start in their order")
	}
	if r := c.vm(bad); r.PowerState != "Halted" || r.OtherConfig[api.KeyLastText] == "" {
		t.Errorf("one that cannot start: %s %v", r.PowerState, r.OtherConfig)
	}
	c.until(waits, "waiting", func(r api.VM) bool {
		return r.PowerState == "Halted" && r.OtherConfig[api.KeyWaiting] == path+" is not there yet"
	})
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c.until(waits, "running", func(r api.VM) bool { return r.PowerState == "Running" && r.OtherConfig[api.KeyWaiting] == "" })
	if c.vm(off).PowerState != "Halted" {
		t.Error("one that is not to start did")
	}
	c.must(nil, "VM.hard_shutdown", first)
	// Another service of the same boot starts nothing.
	b.untilBooted()
	b.stop()
	c = b.up()
	if c.vm(first).PowerState != "Halted" {
		t.Error("it was started again although the host was not")
	}
}

// untilBooted waits until the boot is known to be done.
func (b *bench) untilBooted() {
	b.t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if got, err := os.ReadFile(b.opt.Store.Boot()); err == nil && string(got) == b.opt.Boot+"\n" {
			return
		}
	}
	b.t.Fatal("the boot was never done")
}

// TestHostStops: every guest stops by its policy, and those that were saved go on
// with the next boot.
func TestHostStops(t *testing.T) {
	b := newBench(t)
	b.opt.Boot = "boot 1"
	stops := false
	b.opt.Stops = func() bool { return stops }
	var busy []string
	b.opt.Busy = func(s string) { busy = append(busy, s) }
	c := b.up()
	saves := c.create(api.NewGuest{Name: "saves", NoNetwork: true})
	c.must(nil, "VM.set_other_config", saves, map[string]string{api.KeyOnHostStop: hv.StopSave})
	unsavable := c.create(api.NewGuest{Name: "unsavable", NoNetwork: true})
	c.must(nil, "VM.set_other_config", unsavable, map[string]string{api.KeyOnHostStop: hv.StopSave})
	obeys := c.autostart("obeys", 1, 0, nil)
	off := c.create(api.NewGuest{Name: "off", NoNetwork: true})
	c.must(nil, "VM.set_other_config", off, map[string]string{api.KeyOnHostStop: hv.StopPoweroff})
	wantCode(t, c.call(nil, "VM.set_other_config", off, map[string]string{api.KeyOnHostStop: "explode"}), api.ErrRefused)
	mine := c.create(api.NewGuest{Name: "mine", NoNetwork: true})
	all := []api.Ref{saves, unsavable, obeys, off, mine}
	for _, ref := range all {
		c.must(nil, "VM.start", ref, false, false)
	}
	c.must(nil, "VM.suspend", mine) // by hand: it stays saved
	b.untilBooted()
	// A service that is only replaced leaves them alone.
	b.stop()
	c = b.up()
	for _, ref := range all[:4] {
		c.until(ref, "running", isState(hv.Running))
	}
	stops = true
	b.stop()
	stops = false
	if len(busy) == 0 {
		t.Error("the service manager was not told")
	}
	b.opt.Boot = ""
	c = b.up()
	for ref, want := range map[api.Ref]string{saves: "Suspended", mine: "Suspended", unsavable: "Halted", obeys: "Halted", off: "Halted"} {
		if r := c.vm(ref); r.PowerState != want {
			t.Errorf("%s is %s, want %s", r.NameLabel, r.PowerState, want)
		}
	}
	for ref, want := range map[api.Ref]string{unsavable: "destroyed", obeys: "poweroff", off: "destroyed"} {
		if r := c.vm(ref); r.OtherConfig[api.KeyLastExit] != want {
			t.Errorf("%s ended as %s, want %s", r.NameLabel, r.OtherConfig[api.KeyLastExit], want)
		}
	}
	b.stop()
	b.opt.Boot = "boot 1" // not even another number is needed: the host has stopped
	c = b.up()
	c.until(obeys, "running", isState(hv.Running))
	if c.vm(saves).PowerState != "Running" || c.vm(mine).PowerState != "Suspended" {
		t.Errorf("saves is %s, mine is %s", c.vm(saves).PowerState, c.vm(mine).PowerState)
	}
}

// TestStopOrder: the reverse of the start order, and who was started by hand first.
func TestStopOrder(t *testing.T) {
	s := &Service{guests: map[string]*guest{}}
	for name, order := range map[string]int{"a": 1, "b": 2, "c": 2, "hand": -1} {
		spec := &hv.Spec{Name: name, Order: max(order, 0), Autostart: order >= 0}
		s.guests[name] = &guest{name: name, uuid: name, spec: spec, link: &link{}}
	}
	var got []string
	for _, group := range s.stopOrder() {
		names := ""
		for _, g := range group {
			names += g.name
		}
		got = append(got, names)
	}
	if want := []string{"hand", "bc", "a"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestHostTells: the host says that it stops before it ends the service, and
// nothing starts any more.
func TestHostTells(t *testing.T) {
	b := newBench(t)
	tell := make(chan func(hostsvc.HostEvent), 1)
	b.opt.Watch = func(_ context.Context, f func(hostsvc.HostEvent)) (*hostsvc.Inhibitor, error) {
		tell <- f
		return &hostsvc.Inhibitor{}, nil
	}
	c := b.up()
	ref := c.create(api.NewGuest{Name: "web", NoNetwork: true})
	c.must(nil, "VM.start", ref, false, false)
	happens := <-tell
	happens(hostsvc.HostWakes)
	happens(hostsvc.HostStops)
	c.until(ref, "halted", isState(hv.Halted))
	wantCode(t, c.call(nil, "VM.start", ref, false, false), api.ErrStartFailed)
}
