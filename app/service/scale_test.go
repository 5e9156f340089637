package service

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hxen-project/hxen/app/api"
	"github.com/hxen-project/hxen/hv"
	"github.com/hxen-project/hxen/platform/proc"
)

// fill writes guests into the store as copies of a real one's settings.
func fill(t testing.TB, guests string, n int) {
	t.Helper()
	for i := range n {
		spec := &hv.Spec{
			Version: 1, UUID: newUUID(), Name: fmt.Sprintf("guest %04d", i), Type: hv.HVM, VCPUs: 2, Memory: 2 * hv.GiB,
			Disks: []hv.Disk{ownDisk(hv.QCOW2), {UUID: newUUID(), Mode: hv.ReadOnly, Kind: hv.KindCDROM}},
			NICs:  []hv.NIC{{UUID: newUUID(), MAC: newMAC(), Network: newUUID()}},
		}
		dir := filepath.Join(guests, spec.UUID)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		b, err := spec.MarshalJSON()
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, "spec.json"), b, 0o600)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, spec.Disks[0].Path), make([]byte, 4096), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// BenchmarkThousandGuests measures a service with 1,000 defined guests: how soon
// it serves, how fast it lists, and how much memory it takes.
func BenchmarkThousandGuests(b *testing.B) {
	bench := newBench(b)
	fill(b, bench.opt.Store.Guests(), 1000)
	began := time.Now()
	c, p := bench.daemon()
	started := time.Since(began)
	var rows []api.ListRow
	var hosts []api.Ref
	c.must(&hosts, "host.get_all")
	if err := c.plugin(&rows, api.FnList, nil); err != nil || len(rows) != 1000 {
		b.Fatal(len(rows), err)
	}
	for b.Loop() {
		var text string
		c.must(&text, "host.call_plugin", hosts[0], api.Plugin, api.FnList, map[string]string{})
	}
	b.ReportMetric(float64(started.Milliseconds()), "start-ms")
	b.ReportMetric(float64(rss(b, p.PID()))/(1<<20), "rss-MiB")
	var all api.EventBatch
	began = time.Now()
	c.must(&all, "event.from", []string{"*"}, "", 0.0)
	b.ReportMetric(float64(time.Since(began).Milliseconds()), "snapshot-ms")
	b.ReportMetric(float64(rss(b, p.PID()))/(1<<20), "rss-after-snapshot-MiB")
}

func rss(t testing.TB, pid int) uint64 {
	t.Helper()
	u, err := proc.Use(pid)
	if err != nil {
		t.Fatal(err)
	}
	return u.RSS
}

// TestManyGuestsAreListed holds the shape of the list; the figures are the
// benchmark's.
func TestManyGuestsAreListed(t *testing.T) {
	b := newBench(t)
	fill(t, b.opt.Store.Guests(), 200)
	c := b.up()
	var rows []api.ListRow
	if err := c.plugin(&rows, api.FnList, nil); err != nil || len(rows) != 200 {
		t.Fatal(len(rows), err)
	}
	if r := rows[7]; r.Name != "guest 0007" || r.DomID != -1 || r.Memory != 2048 || r.State != "------" {
		t.Errorf("%+v", r)
	}
}
