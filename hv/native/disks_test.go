package native

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/hv/accel"
	"github.com/hxen-project/hxen/hv/hvtest"
)

// testFile stands in for the platform's files.
type testFile struct {
	hv.DiskFile
	size int64
	open *atomic.Int32
}

func (f testFile) Size() int64 { return f.size }

func (f testFile) Close() error {
	f.open.Add(-1)
	return nil
}

// opener opens files and counts those that are open.
func opener(open *atomic.Int32) func(string, bool) (hv.DiskFile, error) {
	return func(path string, readonly bool) (hv.DiskFile, error) {
		if strings.Contains(path, "locked") {
			return nil, errors.New("another program uses it")
		}
		st, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		open.Add(1)
		return testFile{size: st.Size(), open: open}, nil
	}
}

func imageFile(t *testing.T, name string, size int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
	return path
}

const (
	diskID = "11111111-2222-4333-8444-000000000001"
	cdID   = "11111111-2222-4333-8444-000000000002"
)

// TestDisks has a guest find its disks, changes a CD, and fills the host's disk.
func TestDisks(t *testing.T) {
	var open atomic.Int32
	s := testSpec(t)
	s.Disks = []hv.Disk{
		{UUID: diskID, Path: imageFile(t, "disk", 1<<20), Format: hv.Raw, Mode: hv.ReadWrite},
		{UUID: cdID, Mode: hv.ReadOnly, Kind: hv.KindCDROM},
	}
	engine := New(func() (accel.Hypervisor, error) {
		return &hvtest.FakeAccel{Programs: map[uint64]func(*hvtest.FakeCPU){entry: (*hvtest.FakeCPU).Halt}}, nil
	})
	hm, err := engine.Launch(t.Context(), s, hv.Host{Dir: t.TempDir(), Cache: t.TempDir(), OpenDisk: opener(&open)})
	if err != nil {
		t.Fatal(err)
	}
	g := hm.(*Guest)
	look := func(path, want string) {
		t.Helper()
		m, err := g.now("look")
		if err != nil {
			t.Fatal(err)
		}
		if got, err := m.client.Read("/local/domain/0/backend/vbd/1/" + path); err != nil || got != want {
			t.Errorf("%s is %q, %v; want %q", path, got, err, want)
		}
	}
	look("51712/dev", "xvda")
	look("51728/mode", "r")
	if err := g.ChangeMedia(t.Context(), cdID, hv.Disk{Path: imageFile(t, "cd", 4096)}); err != nil {
		t.Error(err)
	}
	look("51728/sectors", "8")
	if err := g.ChangeMedia(t.Context(), cdID, hv.Disk{Path: "/no/such/cd"}); err == nil || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("a CD that is not there: %v", err)
	}
	look("51728/sectors", "8")
	if err := g.ChangeMedia(t.Context(), diskID, hv.Disk{}); !errors.Is(err, hv.ErrUnavailable) {
		t.Errorf("a disk was ejected: %v", err)
	}
	if n := open.Load(); n != 2 {
		t.Errorf("%d images are open", n)
	}
	next := func(want hv.Event) {
		t.Helper()
		if e := <-g.Events(); e.Kind != want.Kind || e.State != want.State || e.Object != want.Object {
			t.Errorf("event %+v, want %+v", e, want)
		}
	}
	next(hv.Event{Kind: hv.EventMedia, Object: cdID})
	for range 3 { // many requests find out at once
		g.pauseFull(diskID)
	}
	next(hv.Event{Kind: hv.EventIOError, Object: diskID})
	next(hv.Event{Kind: hv.EventState, State: hv.Paused})
	if err := g.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	next(hv.Event{Kind: hv.EventState, State: hv.Running})
	stats, err := g.Stats(t.Context())
	if _, ok := stats.Disks[cdID]; err != nil || !ok || len(stats.Disks) != 2 {
		t.Errorf("counters %v, %v", stats.Disks, err)
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	if n := open.Load(); n != 0 {
		t.Errorf("%d images stay open", n)
	}
}

// TestDisksRefused has launches fail for their disks, and leave none open.
func TestDisksRefused(t *testing.T) {
	none := filepath.Join(t.TempDir(), "none")
	for _, c := range []struct{ path, format, want string }{
		{none, hv.Raw, "disk: the disk image " + none + " does not exist"},
		{imageFile(t, "locked", 512), hv.Raw, "another program uses it"},
		{imageFile(t, "disk.qcow2", 512), hv.QCOW2, "qemu-img convert -O raw"},
	} {
		var open atomic.Int32
		s := testSpec(t)
		s.Disks = []hv.Disk{
			{UUID: cdID, Path: imageFile(t, "good", 512), Format: hv.Raw, Mode: hv.ReadWrite},
			{UUID: diskID, Path: c.path, Format: c.format, Mode: hv.ReadWrite},
		}
		m, err := New(nil).Launch(t.Context(), s, hv.Host{Dir: t.TempDir(), Cache: t.TempDir(), OpenDisk: opener(&open)})
		if err == nil {
			m.Close()
		}
		var se *hv.StageError
		if !errors.As(err, &se) || se.Stage != "disk" || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want words of %q", c.path, err, c.want)
		}
		if n := open.Load(); n != 0 {
			t.Errorf("%s: %d images stay open", c.path, n)
		}
	}
}
