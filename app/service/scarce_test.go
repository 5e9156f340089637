package service

import (
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/hv"
)

// TestHostShortOfMemory: the largest guest stands still while the host is short of
// memory, says why, and goes on when it is told to; the next one only follows if
// that was not enough.
func TestHostShortOfMemory(t *testing.T) {
	b := newBench(t)
	var short atomic.Bool
	b.opt.Host.MemoryShort = func() (bool, uint64, error) { return short.Load(), 100 * hv.MiB, nil }
	c := b.up()
	small := c.create(api.NewGuest{Name: "small", Memory: 1 << 30})
	large := c.create(api.NewGuest{Name: "large", Memory: 2 << 30})
	for _, ref := range []api.Ref{small, large} {
		c.must(nil, "VM.start", ref, false, false)
	}
	short.Store(true)
	r := c.until(large, "paused", func(r api.VM) bool {
		return r.PowerState == "Paused" && strings.Contains(r.OtherConfig[api.KeyNotice], "100 MiB of memory left")
	})
	short.Store(false)
	if r = c.vm(small); r.PowerState == "Paused" {
		t.Log("this computer was slow: the small guest was paused too")
		c.must(nil, "VM.unpause", small)
	}
	c.must(nil, "VM.unpause", large)
	c.until(large, "going on", func(r api.VM) bool { return r.PowerState == "Running" && r.OtherConfig[api.KeyNotice] == "" })
}

// TestDiskSoonFull: a running guest's user is told while there is still time.
func TestDiskSoonFull(t *testing.T) {
	b := newBench(t)
	var free atomic.Uint64
	free.Store(100 << 30)
	b.opt.Host.DiskFree = func(string) (uint64, error) { return free.Load(), nil }
	c := b.up()
	ref := c.create(api.NewGuest{Name: "web", Memory: 1 << 30, DiskSize: 1 << 30})
	c.must(nil, "VM.start", ref, false, false)
	free.Store(50 << 20)
	c.until(ref, "warned", func(r api.VM) bool {
		return r.PowerState == "Running" && strings.Contains(r.OtherConfig[api.KeyNotice], "less than 256 MiB are free")
	})
}
