package service

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/hxen-project/hxen/app/api"
)

// TestTrash: what was deleted comes back as it was, or goes for good only when
// that was asked for by its name.
func TestTrash(t *testing.T) {
	b := newBench(t)
	c := b.up()
	ref := c.create(api.NewGuest{Name: "web", DiskSize: 1 << 30, NoNetwork: true})
	disks, _ := filepath.Glob(filepath.Join(b.opt.Store.Guest(ref.UUID(), "").Dir, "disk-*"))
	if len(disks) != 1 {
		t.Fatal(disks)
	}
	before, err := os.ReadFile(disks[0])
	if err != nil {
		t.Fatal(err)
	}
	c.must(nil, "VM.destroy", ref)
	other := c.create(api.NewGuest{Name: "web", NoNetwork: true})
	var list []api.Trashed
	if err := c.plugin(&list, api.FnTrash, nil); err != nil || len(list) != 1 || list[0].Name != "web" || list[0].UUID != ref.UUID() || list[0].Size == 0 || list[0].Deleted.IsZero() || list[0].Problem != "" {
		t.Fatalf("%+v, %v", list, err)
	}
	var made api.Created
	if err := c.plugin(&made, api.FnUntrash, api.TrashArg{ID: list[0].ID}); err != nil || made.VM != ref {
		t.Fatalf("%+v, %v", made, err)
	}
	if r := c.vm(ref); r.NameLabel != "web (2)" || len(r.VBDs) != 2 { // and its CD drive
		t.Errorf("restored as %q with %d disks", r.NameLabel, len(r.VBDs))
	}
	if after, err := os.ReadFile(disks[0]); err != nil || !bytes.Equal(before, after) {
		t.Errorf("its disk is not what it was: %v", err)
	}
	c.must(nil, "VM.start", ref, false, false)
	c.must(nil, "VM.hard_shutdown", ref)
	// Nothing leads out of the trash, and nothing but the trash is erased.
	for _, id := range []string{"..", "../guests", ".", "/etc", "nothing"} {
		wantCode(t, c.plugin(nil, api.FnEmpty, api.TrashArg{ID: id}), api.ErrRefused)
		wantCode(t, c.plugin(nil, api.FnUntrash, api.TrashArg{ID: id}), api.ErrRefused)
	}
	c.must(nil, "VM.destroy", other)
	var freed int64
	if err := c.plugin(&freed, api.FnEmpty, api.TrashArg{}); err != nil || freed == 0 {
		t.Errorf("%d bytes freed, %v", freed, err)
	}
	if err := c.plugin(&list, api.FnTrash, nil); err != nil || len(list) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
	if c.vm(ref).PowerState != "Halted" {
		t.Error("the guest went with the trash")
	}
}

// TestRelink: a disk that was moved is found again, and only it.
func TestRelink(t *testing.T) {
	b := newBench(t)
	c := b.up()
	old, moved, foreign := filepath.Join(b.home, "a.img"), filepath.Join(b.home, "b.img"), filepath.Join(b.home, "c.img")
	for path, size := range map[string]int{old: 1 << 20, foreign: 2 << 20} {
		if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ref := c.create(api.NewGuest{Name: "web", Disk: old, NoNetwork: true})
	if err := os.Rename(old, moved); err != nil {
		t.Fatal(err)
	}
	wantCode(t, c.call(nil, "VM.start", ref, false, false), api.ErrStartFailed)
	for _, path := range []string{foreign, old, "b.img"} {
		wantCode(t, c.plugin(nil, api.FnRelink, api.Relink{VM: ref, Disk: "a.img", Path: path}), api.ErrRefused)
	}
	wantCode(t, c.plugin(nil, api.FnRelink, api.Relink{VM: ref, Disk: "vdz", Path: moved}), api.ErrRefused)
	if err := c.plugin(nil, api.FnRelink, api.Relink{VM: ref, Disk: "a.img", Path: moved}); err != nil {
		t.Fatal(err)
	}
	c.must(nil, "VM.start", ref, false, false)
}

func TestRestartPauses(t *testing.T) {
	for n, want := range map[int]int{1: 0, 2: 2, 3: 4, 5: 16} {
		if got := restartPause(n); int(got.Seconds()) != want {
			t.Errorf("restart %d waits %v, want %d s", n, got, want)
		}
	}
}
