package desktop

import (
	"slices"
	"strings"
	"testing"

	"fyne.io/fyne/v2/test"

	"github.com/hxen-project/hxen/app/api"
)

// TestMend repairs a broken folder and finds a moved image again.
func TestMend(t *testing.T) {
	svc := scene("main")
	s := newStage(t, svc)
	l := s.open(1000, 700)
	broken := s.pick(l, "old-copy")
	if b := l.details.broken; !b.Visible() || b.act.Text != "Show its folder" {
		t.Errorf("a folder that nothing can be done about offers %q", b.act.Text)
	}
	svc.Change(broken.Ref, func(v *api.VM) {
		v.OtherConfig[api.KeyRepair] = `take back the settings of "old-copy" as HXEN wrote them last`
	})
	s.until("the offer", func() bool { return l.details.broken.act.Text == "Repair…" })
	test.Tap(l.details.broken.act)
	top := l.win.Canvas().Overlays().Top()
	if all := words(top); !strings.Contains(all, "take back the settings") || !strings.Contains(all, "Nothing is deleted") {
		t.Errorf("the question says:\n%s", all)
	}
	tapButton(t, top, "Repair")
	s.until("the repair", func() bool { return broken.Broken() == "" && !l.details.broken.Visible() })

	vm := s.pick(l, "alpine")
	disk := vm.Disks()[0].Path
	svc.Lose(disk)
	s.until("the loss", func() bool { return l.details.broken.Visible() })
	if b := l.details.broken; b.act.Text != "Find it…" || !strings.Contains(b.label.Text, disk) {
		t.Errorf("a lost image: %q, %q", b.label.Text, b.act.Text)
	}
	test.Tap(l.details.broken.act)
	if l.win.Canvas().Overlays().Top() == nil {
		t.Fatal("nobody asks where the image is")
	}
	l.win.Canvas().Overlays().Remove(l.win.Canvas().Overlays().Top())
	moved, _ := vm.Moved()
	vm.Relink(moved, "/elsewhere/alpine.qcow2", func(err error) {
		if err != nil {
			t.Error(err)
		}
	})
	s.until("it is found", func() bool { return !l.details.broken.Visible() })
	if got := svc.Calls(); !slices.Contains(got, "Relink "+disk+" /elsewhere/alpine.qcow2") || !slices.Contains(got, "Repair") {
		t.Errorf("the service was asked %q", got)
	}
}
