package service

import (
	"path/filepath"
	"testing"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/hv/disk"
)

// TestPlug: a running guest gets a disk and a card, and lets go of them.
func TestPlug(t *testing.T) {
	b := newBench(t)
	withNative(&b.opt)
	c := b.up()
	ref := c.create(api.NewGuest{Name: "web", Type: "pvh", Memory: 256 << 20, Kernel: kernelFile(t)})
	path := filepath.Join(t.TempDir(), "data.img")
	if err := disk.CreateRaw(path, 1<<20); err != nil {
		t.Fatal(err)
	}
	var vdi api.Ref
	none := map[string]string{}
	var srs []api.Ref
	c.must(&srs, "SR.get_all")
	for _, sr := range srs {
		if c.call(&vdi, "VDI.introduce", "", "data", "", sr, "user", false, true, none, path, none, none) == nil {
			break
		}
	}
	c.must(nil, "VM.start", ref, false, false)
	for _, class := range []string{"VBD", "VIF"} {
		var made api.Ref
		c.must(&made, class+".create", map[string]any{"VM": ref, "VDI": vdi, "mode": "RW", "type": "Disk", "MAC": "52:54:00:00:99:01"})
		attached := func() (on bool) {
			c.must(&on, class+".get_currently_attached", made)
			return on
		}
		if attached() {
			t.Errorf("%s: a new one is attached", class)
		}
		wantCode(t, c.call(nil, class+".unplug", made), api.ErrDeviceDetached)
		c.must(nil, class+".plug", made)
		if !attached() {
			t.Errorf("%s: it is not attached", class)
		}
		wantCode(t, c.call(nil, class+".plug", made), api.ErrDeviceAttached)
		wantCode(t, c.call(nil, class+".destroy", made), api.ErrOperationNotAllowed)
		// The next service knows.
		b.stop()
		c = b.up()
		if !attached() {
			t.Errorf("%s: after a restart of the service it is not attached", class)
		}
		c.must(nil, class+".unplug", made)
		if attached() {
			t.Errorf("%s: it is attached still", class)
		}
		c.must(nil, class+".destroy", made)
		wantCode(t, c.call(nil, class+".get_record", made), api.ErrHandleInvalid)
	}
	own := c.create(api.NewGuest{Name: "clinging", Type: "pvh", Memory: 256 << 20, Kernel: kernelFile(t), DiskSize: 1 << 20})
	c.must(nil, "VM.start", own, false, false)
	wantCode(t, c.call(nil, "VBD.unplug", c.vm(own).VBDs[0]), api.ErrRefused, "let go")
	c.must(nil, "VM.hard_shutdown", own)
	wantCode(t, c.call(nil, "VBD.destroy", c.vm(own).VBDs[0]), api.ErrOperationNotAllowed, "lost")
}
