package model

import (
	"bytes"
	"context"
	"errors"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hxen-project/hxen/app/api"
)

// figuresOnly is a Service of which only figures and screenshots are asked.
type figuresOnly struct {
	Service
	sources []api.DataSource
	screen  func() ([]byte, error)
}

func (f figuresOnly) DataSources(context.Context, api.Ref) ([]api.DataSource, error) {
	return f.sources, nil
}
func (f figuresOnly) Screenshot(context.Context, api.Ref) ([]byte, error) { return f.screen() }

func turnUntil(t *testing.T, turn chan func(), what string, ok func() bool) {
	t.Helper()
	for !ok() {
		select {
		case f := <-turn:
			f()
		case <-time.After(5 * time.Minute):
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

func TestMonitorCollectsOnlyWhileShown(t *testing.T) {
	turn := make(chan func(), 64)
	svc := figuresOnly{sources: []api.DataSource{{Name: "cpu_usage", Value: 1.5}, {Name: "memory", Value: 100}, {Name: "memory_rss", Value: 40},
		{Name: "vbd_vda_read", Value: 1}, {Name: "vbd_vdb_read", Value: 2}, {Name: "vbd_vda_write", Value: 4}, {Name: "vif_0_rx", Value: 8}, {Name: "vif_0_tx", Value: 16}}}
	lib := NewLibrary(svc, func(f func()) { turn <- f })
	beats := 0
	m := lib.NewMonitor(func() { beats++ })
	tick := make(chan time.Time)
	m.tick = func(context.Context) <-chan time.Time { return tick }
	m.Show(&VM{Ref: "a", lib: lib})
	for range Points + 5 {
		had := beats
		turnUntil(t, turn, "a beat", func() bool { return beats > had })
		tick <- time.Time{}
	}
	f := m.Figures()
	if f.CPU.Last() != 1 || f.Memory.Last() != 40 || f.MemoryMax != 100 || f.DiskRead.Last() != 3 || f.DiskWrite.Last() != 4 || f.NetIn.Last() != 8 || f.NetOut.Last() != 16 {
		t.Errorf("figures %+v", f)
	}
	if f.CPU.Len != Points || f.DiskRead.Max() != 3 {
		t.Errorf("%d points, most read %v", f.CPU.Len, f.DiskRead.Max())
	}
	m.Show(nil)
	if m.Showing() || m.Figures().CPU.Len != 0 {
		t.Error("the monitor goes on or keeps another guest's figures")
	}
}

func screenOf(t *testing.T, w, h int, c color.Color) []byte {
	t.Helper()
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	for i := range w * h {
		img.Set(i%w, i/w, c)
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestThumbsFetchWhatIsSeen(t *testing.T) {
	turn := make(chan func(), 64)
	shot, fetched := screenOf(t, 1280, 720, color.RGBA{200, 10, 10, 255}), 0
	svc := figuresOnly{screen: func() ([]byte, error) { fetched++; return shot, nil }}
	lib := NewLibrary(svc, func(f func()) { turn <- f })
	lib.state = Online
	on := &VM{Ref: "on", lib: lib, Record: api.VM{PowerState: Running}}
	off := &VM{Ref: "off", lib: lib, Record: api.VM{PowerState: Halted}}
	lib.vms["on"], lib.vms["off"] = on, off
	told := 0
	lib.Listen(func(n News) {
		if n.VMs["on"] {
			told++
		}
	})
	seen, rounds := true, 0
	th := lib.NewThumbs(func() []*VM {
		rounds++
		if !seen {
			return nil
		}
		return []*VM{on, off}
	})
	tick := make(chan time.Time)
	th.tick = tick
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); th.Run(ctx) }()
	round := func() {
		had := rounds
		turnUntil(t, turn, "a round", func() bool { return rounds > had })
		tick <- time.Time{}
	}
	turnUntil(t, turn, "the picture", func() bool { return on.Thumbnail() != nil })
	tick <- time.Time{}
	if b := on.Thumbnail().Bounds(); b.Dx() != 144 || b.Dy() != 81 {
		t.Errorf("thumbnail of %v", b)
	}
	if r, g, _, a := on.Preview().At(100, 100).RGBA(); r>>8 != 200 || g>>8 != 10 || a>>8 != 255 {
		t.Errorf("the preview has another colour: %d %d %d", r>>8, g>>8, a>>8)
	}
	round()
	round()
	if told != 1 {
		t.Errorf("an unchanged screen was told %d times", told)
	}
	seen = false
	round()
	had := fetched
	round()
	if fetched != had {
		t.Error("fetched for a window that nobody sees")
	}
	if off.Thumbnail() != nil {
		t.Error("a guest that is off has a picture")
	}
	cancel()
	<-done
}

func TestScreenThatIsNoPicture(t *testing.T) {
	for name, b := range map[string][]byte{"empty": nil, "text": []byte("hello"), "cut": screenOf(t, 40, 40, color.White)[:60]} {
		if _, err := decodeScreen(b); err == nil {
			t.Errorf("%s was taken for a screen", name)
		}
	}
}

func TestShrinkKeepsShape(t *testing.T) {
	for _, c := range []struct{ w, h, ww, wh int }{{1280, 800, 144, 90}, {720, 400, 144, 80}, {400, 1600, 22, 90}, {10, 10, 10, 10}, {5000, 1, 144, 1}} {
		got := shrink(image.NewRGBA(image.Rect(0, 0, c.w, c.h)), ThumbWidth, ThumbHeight).Bounds()
		if got.Dx() != c.ww || got.Dy() != c.wh {
			t.Errorf("%dx%d becomes %v", c.w, c.h, got)
		}
	}
}

func TestPrefs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "window.json")
	p := LoadPrefs(path)
	p.Width, p.Dismissed = 900, "notice"
	p.Consoles["u"] = Console{Width: 640, Scaling: "fit"}
	if err := p.Save(); err != nil {
		t.Fatal(err)
	}
	if q := LoadPrefs(path); q.Width != 900 || q.Dismissed != "notice" || q.Consoles["u"].Scaling != "fit" {
		t.Errorf("read back %+v", q)
	}
	if err := os.WriteFile(path, []byte("{broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	if q := LoadPrefs(path); q.Width != 0 || q.Consoles == nil {
		t.Errorf("a broken file gives %+v", q)
	}
}

func TestRemoteBeforeItConnected(t *testing.T) {
	r := &Remote{}
	if _, err := r.Host(t.Context()); !errors.Is(err, errNotYet) {
		t.Errorf("error %v", err)
	}
	if err := r.Do(t.Context(), "x", OpStart); !errors.Is(err, errNotYet) {
		t.Errorf("error %v", err)
	}
}

func TestChangeOfEvents(t *testing.T) {
	for class, snapshot := range map[string]string{"vm": `{"name_label":"x"}`, "vm_metrics": `{}`, "vm_guest_metrics": `{}`, "vbd": `{}`, "vdi": `{}`, "vif": `{}`, "task": `{}`} {
		c, ok := changeOf(api.Event{Class: class, Operation: api.EventMod, Ref: "r", Snapshot: []byte(snapshot)})
		if !ok || c.Ref != "r" || c.Record == nil {
			t.Errorf("%s: %+v %v", class, c, ok)
		}
	}
	if c, ok := changeOf(api.Event{Class: "vm", Operation: api.EventDel, Ref: "r"}); !ok || !c.Gone {
		t.Errorf("a deletion is %+v", c)
	}
	if _, ok := changeOf(api.Event{Class: "vm", Operation: api.EventMod, Snapshot: []byte("{")}); ok {
		t.Error("a record that cannot be read was taken")
	}
	if _, ok := changeOf(api.Event{Class: "host", Operation: api.EventMod, Snapshot: []byte("{}")}); ok {
		t.Error("a class that the library does not hold was taken")
	}
}
