package native

import (
	"context"
	"errors"
	"log/slog"
	gonet "net"
	"path/filepath"
	"testing"
	"time"

	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/backend/net"
	"github.com/hxen-project/hxen/hv/hvtest"
	"github.com/hxen-project/hxen/hv/xenstore"
)

// generation is a machine's generation id.
func generation(t *testing.T, m *Machine) (id [16]byte) {
	t.Helper()
	if err := m.mem.Read(genIDAt, id[:]); err != nil || id == [16]byte{} {
		t.Fatalf("the generation id is %x, %v", id, err)
	}
	return id
}

// TestClone has machines go on from one file, each as another guest, whose memory
// none shares with any other once it has written to it.
func TestClone(t *testing.T) {
	path, n := savedFile(t)
	ids := map[[16]byte]bool{}
	for i := range 2 {
		c := testConfig(t, nil)
		c.VCPUs, c.Hold, c.Name = 2, true, "clone"
		c.UUID[0] ^= byte(i + 1)
		m, err := restored(t, c, path)
		if err != nil {
			t.Fatal(err)
		}
		if got := word(t, m, countAt); got != n {
			t.Errorf("clone %d goes on at %d, and its template was saved at %d", i, got, n)
		}
		home := xenstore.Home(domid)
		vm := "/vm/" + uuidText(c.UUID)
		for node, want := range map[string]string{
			home + "/vm": vm, home + "/name": "clone", home + "/vm-data/hostname": "clone", vm + "/uuid": uuidText(c.UUID), vm + "/name": "clone",
		} {
			if got, err := m.client.Read(node); err != nil || got != want {
				t.Errorf("%s is %q, %v; want %q", node, got, err, want)
			}
		}
		if all, err := m.client.Directory("/vm"); err != nil || len(all) != 1 {
			t.Errorf("XenStore knows the machines %q, %v", all, err)
		}
		ids[generation(t, m)] = true
		m.Resume()
		counts(t, m, countAt, n+10)
		counts(t, m, grownAt+0x1000, n+10)
	}
	if len(ids) != 2 {
		t.Errorf("2 clones have %d generation ids", len(ids))
	}
	c := testConfig(t, nil)
	c.VCPUs, c.Hold = 2, true
	m, err := restored(t, c, path)
	if err != nil {
		t.Fatal(err)
	}
	same := generation(t, m)
	if ids[same] {
		t.Error("a clone has its template's generation id")
	}
}

// until waits for a node to be as wanted; "" is that it is gone.
func until(t *testing.T, m *Machine, path, want string) {
	t.Helper()
	w, err := m.client.Watch(path)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for guard := time.After(hvtest.Guard); ; {
		if got, _ := m.client.Read(path); got == want {
			return
		}
		select {
		case <-w.C:
			w.Paths()
		case <-guard:
			got, err := m.client.Read(path)
			t.Fatalf("%s is %q, %v; want %q", path, got, err, want)
		}
	}
}

// TestCloneCard: a clone's guest sees its template's network card go and another one
// come, and never reaches a network through the first.
func TestCloneCard(t *testing.T) {
	card := func(id int, mac string) *net.Card {
		k := net.New(net.Config{ID: id, NIC: hv.NIC{UUID: mac, MAC: mac}, Log: slog.New(slog.DiscardHandler),
			Dial: func(context.Context) (gonet.Conn, error) { return nil, errors.New("no network") }})
		t.Cleanup(func() { k.Close() })
		return k
	}
	c := testConfig(t, nil)
	c.Devices = []Device{card(0, "52:54:00:00:00:01")}
	c.Outside = func() (outside, error) { return outside{Places: places{NICs: []int{0}}}, nil }
	m := start(t, c, count)
	counts(t, m, countAt, 1)
	const front, back = "/local/domain/1/device/vif/", "/local/domain/0/backend/vif/1/"
	for path, v := range map[string]string{front + "0/state": "4", back + "0/state": "4"} {
		if err := m.client.Write(path, v); err != nil {
			t.Fatal(err)
		}
	}
	m.Pause()
	path := filepath.Join(t.TempDir(), "guest.save")
	if err := m.Save(t.Context(), path, nil); err != nil {
		t.Fatal(err)
	}
	c.Devices, c.Hold = []Device{card(8, "52:54:00:00:00:02")}, true
	c.UUID[0] ^= 1
	clone, err := restored(t, c, path)
	if err != nil {
		t.Fatal(err)
	}
	until(t, clone, back+"0/state", "5") // the guest is asked to let go
	if _, err := clone.client.Read(front + "8/mac"); err == nil {
		t.Error("the new card is there before the old one has gone")
	}
	if err := clone.client.Write(front+"0/state", "6"); err != nil {
		t.Fatal(err)
	}
	until(t, clone, front+"0/state", "")
	until(t, clone, front+"8/mac", "52:54:00:00:00:02")
	until(t, clone, back+"8/state", "2")
	if _, err := clone.client.Read(back + "0/state"); err == nil {
		t.Error("the old card is still there")
	}
}
