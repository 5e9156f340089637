package qemu

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/hxen-project/hxen/hv"
)

// dumpTime is how long writing a crashed guest's memory may take, beside a time
// that grows with it.
const dumpTime = time.Minute

// crashed begins what on_crash asks for and says what happens.
func (m *Machine) crashed() string {
	switch {
	case m.spec.OnCrash == hv.EndPreserve:
		return "the guest's system has crashed and was kept, paused, as it is (on_crash); power it off when you have looked at it"
	case m.spec.Dumps():
		path := filepath.Join(m.host.Dir, "crash-"+time.Now().UTC().Format("20060102T150405")+".core")
		go m.dump(path)
		return "the guest's system has crashed; its memory is being written to " + path
	}
	return "the guest's system has crashed"
}

// dump writes the guest's memory as an ELF core, for crash(8) and gdb, and ends
// the guest. A dump that fails leaves nothing but the word of it.
func (m *Machine) dump(path string) {
	limit := dumpTime + time.Duration(m.spec.Memory/restoreRate)*time.Second
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	part := path + ".part"
	err := m.mon.Do(ctx, "dump-guest-memory", map[string]any{"paging": false, "protocol": "file:" + part}, nil)
	if err == nil {
		err = os.Rename(part, path)
	}
	if err != nil {
		_ = os.Remove(part)
		m.host.Log.Error("write the memory of a crashed guest", "err", err)
		m.events.Put(hv.Event{Kind: hv.EventNotice, Text: fmt.Sprintf("the guest's system has crashed, and its memory could not be written: %v", err)})
	}
	end, done := context.WithTimeout(context.Background(), 2*quitTime)
	defer done()
	if err := m.endQEMU(end); err != nil {
		m.host.Log.Error("end a crashed guest", "err", err)
	}
}
