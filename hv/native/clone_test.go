package native

import (
	"testing"

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
